"""A report with everything in it, and some things missing."""

from __future__ import annotations

import pytest

from edgekit.schema.figure import Figure
from edgekit.schema.results import (
    ArtifactResult,
    BudgetResult,
    GateReport,
    Profile,
    RunReport,
    StageFailure,
    StageResult,
    VerifyResult,
)

HOSTILE = "net[red]-<script>alert(1){x}.onnx"


@pytest.fixture
def report() -> RunReport:
    int8 = "digits-int8.tflite"
    passed = VerifyResult(
        artifact=int8,
        reference="keras",
        samples=360,
        max_abs_diff=0.25,
        max_step_diff=1,
        snr_db=31.52,
        top1_agreement=0.995,
        metrics={"accuracy": 0.975},
    )
    failed = VerifyResult(
        artifact=HOSTILE,
        reference="keras",
        samples=360,
        max_abs_diff=0,
        passed=False,
        failures=("the SNR is 3 dB, the least is 10 dB",),
    )
    return RunReport(
        recipe="digits & <co> {x}",
        run="runs/digits-1",
        artifacts=(
            ArtifactResult(
                path=f"artifacts/{int8}",
                format="tflite",
                precision="int8",
                bytes=2048,
                sha256="0" * 64,
                metrics={"accuracy": 0.975},
                parity=passed,
            ),
            ArtifactResult(
                path=f"artifacts/{HOSTILE}",
                format="onnx",
                precision="fp32",
                bytes=8192,
                sha256="0" * 64,
                metrics={"mse": 0.5},
                parity=failed,
            ),
        ),
        profiles=(
            Profile(
                artifact=int8,
                device="Some CPU, 2 cores",
                latency_ms=Figure(
                    value=0.021,
                    low=0.0209,
                    high=0.0211,
                    unit="ms",
                    origin="measured",
                    method="median of 900 runs",
                ),
                energy_mj=Figure.missing("no energy meter on this machine"),
                peak_memory_bytes=Figure(value=2**20, unit="bytes", origin="measured"),
                warnings=("times are spread",),
                details={"p90_ms": 0.022, "p99_ms": 0.03, "cold_start_ms": {"total": 340.0}},
            ),
            Profile(
                artifact=int8,
                target="coral-usb",
                device="Coral USB",
                latency_ms=Figure(value=0.4, unit="ms", origin="estimated", method="fitted to 12"),
                energy_mj=Figure(value=0.9, unit="mJ", origin="estimated"),
                peak_memory_bytes=Figure(value=4096.0, unit="bytes", origin="estimated"),
            ),
        ),
        gate=GateReport(
            passed=False,
            results=(
                BudgetResult(
                    budget="bytes", artifact=int8, value=2048, limit="<= 1000", passed=False
                ),
                BudgetResult(
                    budget="snr_db",
                    artifact="*",
                    value=None,
                    limit=">= 3",
                    passed=False,
                    reason="why",
                ),
            ),
        ),
        reference_metrics={"accuracy": 0.981},
        stages=(
            StageResult(name="train", key="a", cached=True, seconds=3.0),
            StageResult(name="bench", key="b", cached=False, seconds=2.04),
        ),
        failures=(
            StageFailure(stage="export-x", error={"type": "ToolError", "message": "it died"}),
        ),
        passed=False,
        bundle="digits.zip",
        versions={"numpy": "2.4"},
    )
