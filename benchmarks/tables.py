"""The tables of `compression.py`, as Markdown: mean and standard deviation over the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import Any

Row = dict[str, Any]
Rows = dict[str, list[Row]]

OURS = "edgekit"
FLOAT = "float"
_RUNTIMES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}

_POINT, _TIMES, _QAT_POINTS = 1.0, 10, 0.5  # the goals
_SLOWER = 1.05  # more than medians differ from run to run


def tables(rows: Rows) -> str:
    """The summary, for README.md; sections without rows are left out."""
    parts = (
        ("The networks", _networks, rows["train"]),
        ("int8 without training, beside the peer with the best SNR", _ptq, rows["ptq"]),
        ("8 and 4-bit weights in int8 files, rounded and trained (`qat`)", _qat, rows["qat"]),
        ("Half of the MACs (`shrink`); latency of the half by that of the whole", _structured,
         rows["structured"]),
        ("`qat`, and the chain `prune`, `cluster`, `qat`, beside tfmot", _trained,
         rows["chain"] + rows["tfmot"]),
    )  # fmt: skip
    return "\n\n".join(f"**{title}**\n\n{make(found)}" for title, make, found in parts if found)


def every_tool(rows: Rows) -> str:
    """Each tool at each setting, network by network, for docs/compression.md."""
    heads = ("tool", "score lost", "SNR dB", "bytes", "gzip", "latency µs", "seconds", "settings")
    parts = []
    for (network, runtime), files in _grouped(rows["ptq"], "network", "runtime"):
        lines = []
        for (tool,), found in _grouped(files, "tool"):
            lines.append(
                (
                    tool,
                    _points(found),
                    _spread(found, "snr_db"),
                    _spread(found, "bytes", digits=0),
                    _spread(found, "gzip_bytes", digits=0),
                    _spread(found, "latency_ms", scale=1000),
                    _spread(found, "seconds"),
                    _error(found) or found[0]["settings"],
                )
            )
        parts.append(f"### {network}, {_RUNTIMES[runtime]}\n\n{_table(heads, lines)}")
    return "\n\n".join(parts)


def _networks(rows: list[Row]) -> str:
    heads = ("network", "task", "linear model", "float network", "parameters", "MACs")
    lines = [
        (
            network,
            found[0]["task"],
            _spread(found, "linear", scale=100) + "%",
            _spread(found, "value", scale=100) + f"% {found[0]['metric']}",
            f"{found[0]['parameters']:,}",
            f"{found[0]['macs']:,}",
        )
        for (network,), found in _grouped(rows, "network")
    ]
    return _table(heads, lines)


def _ptq(rows: list[Row]) -> str:
    """Edgekit's best settings beside the peer with the best SNR, in each runtime."""
    heads = (
        "network",
        "runtime",
        "edgekit",
        "SNR dB",
        "lost",
        "best peer",
        "SNR dB",
        "lost",
        "latency, edgekit / peer",
    )
    lines, pairs = [], []
    for (network, runtime), files in _grouped(rows, "network", "runtime"):
        tools = {
            tool: found
            for (tool,), found in _grouped(files, "tool")
            if tool != FLOAT and not _error(found)
        }
        ours = _best({t: f for t, f in tools.items() if t.startswith(OURS)})
        peer = _best({t: f for t, f in tools.items() if not t.startswith(OURS)})
        if ours is None or peer is None:
            continue
        own, other = tools[ours], tools[peer]
        ahead = _mean(own, "snr_db") >= _mean(other, "snr_db")
        own_snr, other_snr = _spread(own, "snr_db"), _spread(other, "snr_db")
        pairs.append((own, other))
        lines.append(
            (
                network,
                _RUNTIMES[runtime],
                ours.removeprefix(f"{OURS} "),
                f"**{own_snr}**" if ahead else own_snr,
                _points(own),
                peer,
                other_snr if ahead else f"**{other_snr}**",
                _points(other),
                _ratio(own, other),
            )
        )
    return f"{_table(heads, lines)}\n\n{_against_peers(pairs)}"


def _against_peers(pairs: list[tuple[list[Row], list[Row]]]) -> str:
    """Where edgekit wins and loses, by the means."""
    count = len(pairs)
    snr = sum(_mean(own, "snr_db") > _mean(other, "snr_db") for own, other in pairs)
    more = [_mean(own, "drop") - _mean(other, "drop") for own, other in pairs]
    worse = [points for points in more if points > 0]
    slower = sum(_mean_ratio(own, other) > _SLOWER for own, other in pairs)
    return (
        f"By the means, edgekit has more SNR in {snr} of {count}; it loses more of the score in "
        f"{len(worse)}, by {max(worse, default=0):.2f} points at most; it is more than "
        f"{_SLOWER - 1:.0%} slower in {slower}."
    )


def _best(tools: dict[str, list[Row]]) -> str | None:
    return max(tools, key=lambda tool: _mean(tools[tool], "snr_db"), default=None)


def _qat(rows: list[Row]) -> str:
    heads = ("network", "int8 file", "points lost", "SNR dB")
    lines = [
        (network, tool, _error(found) or _points(found), _spread(found, "snr_db"))
        for (network, tool), found in _grouped(rows, "network", "tool")
    ]
    trained = [
        f"{network} {_mean(found, 'drop'):.2f}"
        for (network, tool), found in _grouped(rows, "network", "tool")
        if tool.startswith("QAT") and _mean(found, "drop") > _QAT_POINTS
    ]
    ends = f"; more on {', '.join(trained)}" if trained else " everywhere"
    return (
        f"{_table(heads, lines)}\n\nTrained where rounding loses more than 3 points (of each seed "
        f"alone); that ends within {_QAT_POINTS} points of float{ends}."
    )


def _structured(rows: list[Row]) -> str:
    """Each file of the halved network beside that of the whole one, of the same precision."""
    heads = ("network", "runtime", "precision", "MACs", "points lost", "latency")
    lines = []
    beyond: dict[str, float] = {}
    idle: dict[str, list[str]] = {}
    for (network, runtime), files in _grouped(rows, "network", "runtime"):
        for precision in ("fp32", "int8"):
            whole, half = (
                [row for row in files if row["tool"] == f"{name}, {precision}"]
                for name in ("whole", "half the MACs")
            )
            lines.append(
                (
                    network,
                    _RUNTIMES[runtime],
                    precision,
                    _ratio(half, whole, "macs"),
                    _error(half) or _points(half, against=whole),
                    _ratio(half, whole),
                )
            )
            lost = _mean(half, "drop") - _mean(whole, "drop")
            if lost > _POINT:
                beyond.setdefault(network, lost)
            if _mean_ratio(half, whole) >= 1:
                idle.setdefault(network, []).append(f"{_RUNTIMES[runtime]} {precision}")
    words = ", ".join(f"{network} ({lost:.2f})" for network, lost in beyond.items()) or "none"
    slow = "; ".join(f"{network} in {', '.join(where)}" for network, where in idle.items())
    ends = f"More than one point lost: {words}. Not faster: {slow or 'none'}."
    return f"{_table(heads, lines)}\n\n{ends}"


def _trained(rows: list[Row]) -> str:
    """QAT, and the chain of pruning, clustering and QAT, by edgekit and by tfmot."""
    heads = ("network", "tool", "points lost", "gzip bytes", "smaller than float", "latency µs")
    lines: list[tuple[str, ...]] = []
    reached: list[str] = []
    missed: list[str] = []
    for (network,), files in _grouped(rows, "network"):
        whole = [row for row in files if row["tool"] == FLOAT]
        for (tool,), found in _grouped(files, "tool"):
            lines.append(
                (
                    network,
                    tool,
                    _error(found) or _points(found),
                    _spread(found, "gzip_bytes", digits=0),
                    _ratio(whole, found, "gzip_bytes"),
                    _spread(found, "latency_ms", scale=1000),
                )
            )
            if tool == f"{OURS} chain" and not _error(found):
                times, lost = _mean_ratio(whole, found, "gzip_bytes"), _mean(found, "drop")
                words = f"{network} ({times:.1f} times, {lost:.2f} points)"
                (reached if times >= _TIMES and lost <= _POINT else missed).append(words)
    return (
        f"{_table(heads, lines)}\n\n{_TIMES} times smaller than float within one point: "
        f"{', '.join(reached) or 'none'}. Not: {', '.join(missed) or 'none'}."
    )


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    body = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in body)


def _grouped(rows: list[Row], *keys: str) -> list[tuple[tuple[str, ...], list[Row]]]:
    """Rows with the same values of some keys, in the order of their first row."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.items())


def _values(rows: list[Row], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def _mean(rows: list[Row], key: str) -> float:
    values = _values(rows, key)
    return mean(values) if values else float("nan")


def _spread(rows: list[Row], key: str, *, scale: float = 1, digits: int = 1) -> str:
    return _show([scale * value for value in _values(rows, key)], digits)


def _show(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):,.{digits}f}{spread}"


def _points(rows: list[Row], against: list[Row] | None = None) -> str:
    """Percentage points lost against the float network, or against other rows by seed."""
    base = {row["seed"]: row["drop"] or 0.0 for row in against or []}
    return _show([row["drop"] - base.get(row["seed"], 0.0) for row in _with(rows, "drop")], 2)


def _ratio(rows: list[Row], others: list[Row], key: str = "latency_ms") -> str:
    return _show(_ratios(rows, others, key), 2)


def _mean_ratio(rows: list[Row], others: list[Row], key: str = "latency_ms") -> float:
    values = _ratios(rows, others, key)
    return mean(values) if values else float("nan")


def _ratios(rows: list[Row], others: list[Row], key: str = "latency_ms") -> list[float]:
    """Of values measured in the same run, seed by seed."""
    by_seed = {row["seed"]: row[key] for row in _with(others, key)}
    pairs = [(row[key], by_seed[row["seed"]]) for row in _with(rows, key) if row["seed"] in by_seed]
    return [value / other for value, other in pairs]


def _with(rows: list[Row], key: str) -> list[Row]:
    return [row for row in rows if row.get(key) is not None]


def _error(rows: list[Row]) -> str:
    """The first exact error, if no file could be made."""
    errors = [row["error"] for row in rows if row.get("error")]
    return errors[0] if len(errors) == len(rows) else ""
