from __future__ import annotations

import io

from rich.console import Console, RenderableType

from edgekit.report.tables import (
    bundle_view,
    gate_table,
    profile_table,
    run_table,
    run_view,
    stage_table,
    verify_table,
)
from edgekit.schema.figure import Figure
from edgekit.schema.manifest import BundledArtifact, Manifest, Member, PackResult
from edgekit.schema.results import RunReport, VerifyReport


def draw(renderable: RenderableType, width: int = 200) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(renderable)
    return [" ".join(line.split()) for line in stream.getvalue().splitlines() if line.strip()]


def test_an_artifact_has_all_that_the_issue_asks_for_in_one_table(report: RunReport) -> None:
    lines = draw(run_table(report))
    assert lines[0] == "artifact format precision bytes accuracy parity on latency energy"
    assert lines[2] == "digits-int8.tflite tflite int8 2,048 97.5% 99.5% class host 21 µs -"
    assert lines[3] == "(-0.6 pp) 31.5 dB coral-usb ~400 µs ~900 µJ"


def test_each_figure_stands_beside_its_place_however_narrow(report: RunReport) -> None:
    for width in (70, 80, 100, 200):
        lines = draw(run_table(report), width)
        (coral,) = [number for number, line in enumerate(lines) if "coral" in line]
        (host,) = [number for number, line in enumerate(lines) if "host" in line]
        assert "21" in lines[host]
        assert "~400" in lines[coral]


def test_a_drone_shows_the_flight_that_energy_costs(report: RunReport) -> None:
    figure = Figure(value=0.42, unit="s", origin="estimated")
    drone = report.profiles[1].model_copy(update={"flight_s_per_h": figure})
    report = report.model_copy(update={"profiles": (report.profiles[0], drone)})
    lines = draw(run_table(report))
    assert lines[0].endswith("energy flight/h")
    assert lines[2].endswith("21 µs - -")
    assert lines[3].endswith("~400 µs ~900 µJ ~0.42 s")


def test_names_are_text_and_not_markup(report: RunReport) -> None:
    assert any("net[red]-<script>alert(1){x}.onnx" in line for line in draw(run_view(report)))


def test_the_view_of_a_run_says_what_went_wrong_and_why_figures_are_missing(
    report: RunReport,
) -> None:
    lines = draw(run_view(report))
    for line in (
        "no energy (host): no energy meter on this machine",
        "host (digits-int8.tflite): times are spread",
        "export-x: it died",
        "bundle: runs/digits-1/digits.zip",
    ):
        assert line in lines
    assert any("the SNR is 3 dB" in line for line in lines)
    assert any(line.startswith("bytes digits-int8.tflite 2,048 <= 1000 FAILED") for line in lines)


def test_nothing_is_cut_off_in_a_narrow_terminal(report: RunReport) -> None:
    for width in (60, 80, 100):
        narrow = "".join("".join(draw(run_table(report), width)).split())
        whole = "".join("".join(draw(run_table(report))).split())
        assert sorted(narrow.replace("─", "")) == sorted(whole.replace("─", ""))


def test_profiles_show_intervals_quantiles_and_methods(report: RunReport) -> None:
    lines = draw(profile_table(report.profiles))
    assert "digits-int8.tflite host 21 µs (20.9 to 21.1) - 1 MiB 22 µs 30 µs 340 ms" in lines
    assert "digits-int8.tflite coral-usb ~400 µs ~900 µJ ~4 KiB - - -" in lines
    assert "host: Some CPU, 2 cores" in lines
    assert "digits-int8.tflite on coral-usb: fitted to 12" in lines
    assert "p90" not in draw(profile_table(report.profiles[1:]))[0]


def test_parity_and_its_verdict(report: RunReport) -> None:
    results = tuple(one.parity for one in report.artifacts if one.parity is not None)
    lines = draw(verify_table(VerifyReport(results=results)))
    assert lines[2] == "digits-int8.tflite keras 360 0.25 1 31.5 99.5% accuracy 97.5% ok"
    assert lines[3].endswith("keras 360 0 - identical - - FAILED")
    assert lines[-1].endswith("the SNR is 3 dB, the least is 10 dB")


def test_budgets_and_stages(report: RunReport) -> None:
    assert report.gate is not None
    assert draw(gate_table(report.gate))[-1] == "snr_db * - >= 3 FAILED why"
    assert draw(stage_table(report.stages))[-2:] == ["train cached", "bench 2.0 s"]


def test_a_bundle() -> None:
    entry = BundledArtifact(path="a", files=("a",), sidecar="s", format="onnx", precision="fp32")
    names = ("a", "s", "run.json", "MODEL_CARD.md")
    members = {name: Member(bytes=1024, sha256="ab" * 32) for name in names}
    manifest = Manifest(name="n", edgekit="1", artifacts=(entry,), members=members)
    result = PackResult(bundle="n.zip", bytes=9999, sha256="cd" * 32, manifest=manifest)
    lines = draw(bundle_view(result))
    assert "a 1 KiB abababababababab" in lines
    assert lines[-1] == f"n.zip: 9.76 KiB, sha256 {'cd' * 32}"
