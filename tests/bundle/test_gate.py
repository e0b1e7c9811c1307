from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.base.errors import InputError
from edgekit.bundle.gate import gate, gate_path, parse_budget
from edgekit.bundle.pack import pack_run
from edgekit.schema.recipe import Budget
from edgekit.schema.results import BudgetResult, RunReport

INT8 = "digits-int8.tflite"
FP32 = "digits-fp32.xml"


def judge(report: RunReport, text: str) -> list[BudgetResult]:
    return list(gate(report, [parse_budget(text)]).results)


@pytest.mark.parametrize(
    ("budget", "value", "passed"),
    [
        ("accuracy>=0.97", 0.975, True),
        ("accuracy>=0.976", 0.975, False),
        ("accuracy_drop<=0.6", 0.6, True),
        ("accuracy_drop<=0.59", 0.6, False),
        ("bytes<=2000", 2000, True),
        ("bytes<=1999", 2000, False),
        ("latency_ms@host<=0.02", 0.02, True),
        ("latency_ms@host<=0.0199", 0.02, False),
        ("latency_ms@coral-usb<=0.5", 0.4, True),
        ("energy_mj@coral-usb<=0.5", 0.9, False),
        ("peak_memory_bytes@coral-usb<=4096", 4096, True),
        ("snr_db>=30", 31.5, True),
        ("snr_db>=32", 31.5, False),
        ("top1_agreement>=0.99", 0.995, True),
        ("max_step_diff<=1", 1, True),
        ("max_step_diff<=0", 1, False),
    ],
)
def test_a_value_is_held_against_its_limit(
    report: RunReport, budget: str, value: float, passed: bool
) -> None:
    metric, sign, limit = budget.replace("<=", " <= ").replace(">=", " >= ").split()
    (result,) = judge(report, f"{metric}:*int8*{sign}{limit}")
    assert result.value == pytest.approx(value)
    assert result.passed is passed
    assert result.artifact == INT8
    assert result.limit == f"{sign} {limit}"
    assert result.reason is None


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ("bytes:*.onnx<=1", f"no artifact matches '*.onnx' (there are: {INT8}, {FP32})"),
        ("latency_ms@nowhere:*int8*<=1", "it was not profiled on 'nowhere'"),
        ("latency_ms:*fp32*<=1", "it was not profiled at all"),
        ("energy_mj@host:*int8*<=1", "no energy meter on this machine"),
        ("max_step_diff:*fp32*<=1", "its output is not quantized"),
    ],
)
def test_what_is_not_known_does_not_pass(report: RunReport, budget: str, reason: str) -> None:
    (result,) = judge(report, budget)
    assert not result.passed
    assert result.value is None
    assert result.reason == reason


def test_what_was_not_measured_does_not_pass(report: RunReport) -> None:
    bare = report.artifacts[0].model_copy(update={"metrics": {}, "parity": None})
    report = report.model_copy(update={"artifacts": (bare,)})
    for metric in ("accuracy>=0", "accuracy_drop<=100", "snr_db>=0", "top1_agreement>=0"):
        (result,) = judge(report, metric)
        assert not result.passed
        assert result.reason in ("its accuracy was not measured", "its parity was not checked")


def test_a_drop_needs_the_reference(report: RunReport) -> None:
    report = report.model_copy(update={"reference_metrics": {}})
    assert not any(result.passed for result in judge(report, "accuracy_drop<=1"))


def test_an_identical_artifact_has_any_signal_to_noise_ratio(report: RunReport) -> None:
    (result,) = judge(report, "snr_db:*fp32*>=60")
    assert result.passed
    assert result.reason == "identical to the reference"


def test_without_a_pattern_each_artifact_is_judged(report: RunReport) -> None:
    results = judge(report, "bytes<=5000")
    assert [(result.artifact, result.passed) for result in results] == [(INT8, True), (FP32, False)]


def test_without_a_target_each_place_is_judged(report: RunReport) -> None:
    results = judge(report, "latency_ms:*int8*<=0.1")
    assert [(result.budget, result.passed) for result in results] == [
        ("latency_ms on host", True),
        ("latency_ms on coral-usb", False),
    ]


def test_the_gate_passes_only_if_all_budgets_do(report: RunReport) -> None:
    kept, broken = Budget(metric="accuracy", min=0.9), Budget(metric="bytes", max=1)
    assert gate(report, [kept]).passed
    assert not gate(report, [kept, broken]).passed
    assert gate(report, []).passed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", "is not a budget"),
        ("accuracy=1", "is not a budget"),
        ("<=1", "is not a budget"),
        ("acuracy<=1", "did you mean 'accuracy'"),
        ("accuracy<=much", "'max'"),
        ("accuracy<=nan", "'max'"),
    ],
)
def test_a_bad_budget_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_budget(text)
    assert caught.value.where is not None
    assert text in caught.value.where


def test_the_short_form() -> None:
    assert parse_budget("latency_ms @ coral-usb : *int8*.tflite <= 0.5") == Budget(
        metric="latency_ms", target="coral-usb", artifact="*int8*.tflite", max=0.5
    )
    assert parse_budget("snr_db>=1e1") == Budget(metric="snr_db", min=10)


def test_a_run_and_its_bundle_bring_their_own_budgets(run_directory: Path, tmp_path: Path) -> None:
    bundle = Path(pack_run(run_directory, tmp_path / "bundle.zip").bundle)
    for path in (run_directory, run_directory / "run.json", bundle):
        found = gate_path(path)
        assert [result.budget for result in found.results] == ["accuracy_drop"] * 2
        assert found.passed


def test_budgets_from_a_file(run_directory: Path, tmp_path: Path) -> None:
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("budgets: [{metric: bytes, max: 1}]")
    assert not gate_path(run_directory, budgets_file=budgets).passed
    recipe = run_directory / "recipe.lock.yaml"
    assert gate_path(run_directory, budgets_file=recipe).passed
    found = gate_path(run_directory, budgets_file=recipe, budgets=["accuracy>=0.99"])
    # Those of the command line come first.
    assert [result.passed for result in found.results] == [False, False, True, True]


def test_a_fault_in_a_budget_file_has_its_place(run_directory: Path, tmp_path: Path) -> None:
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("budgets:\n  - metric: bites\n    max: 1\n")
    with pytest.raises(InputError, match="did you mean 'bytes'") as caught:
        gate_path(run_directory, budgets_file=budgets)
    assert str(caught.value.where).startswith(f"{budgets}:2:")


def test_no_budget_at_all_is_not_a_pass(run_directory: Path) -> None:
    (run_directory / "recipe.lock.yaml").unlink()
    with pytest.raises(InputError, match="there is no budget"):
        gate_path(run_directory)
