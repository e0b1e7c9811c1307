"""An inspected file, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.tables import plain_table
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.inspection import Inspection, LayerInfo
from edgekit.schema.units import NOTHING, show_bytes, show_number


def inspection_view(found: Inspection, *, layers: bool) -> RenderableType:
    """The summary of a file, then its operators by name, or with `layers` one by one."""
    parts: list[RenderableType] = [Text(f"{found.file}: {found.format}, {found.name}")]
    parts.append(_summary(found))
    if found.inputs or found.outputs:
        parts.append(_tensors(found))
    if found.artifacts:
        parts.append(_artifacts(found.artifacts))
    if layers and found.layers:
        parts.append(_layers(found.layers))
    elif found.ops:
        parts.append(_ops(found))
    return Group(*parts)


def _summary(found: Inspection) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = [("file", show_bytes(found.file_bytes))]
    if found.parameters is not None and found.weight_bytes is not None:
        rows.append(("weights", f"{found.parameters:,} values, {show_bytes(found.weight_bytes)}"))
    if found.macs is not None:
        rows.append(("multiply-accumulates", f"{found.macs:,}"))
    if found.memory is not None:
        memory = found.memory
        peak = f"{show_bytes(memory.peak_bytes)} at operator {memory.peak_op}"
        rows.append(("peak of activations", peak))
        arenas = f"{show_bytes(memory.arena_bytes)} as TFLite packs it"
        if memory.micro_arena_bytes is not None:
            arenas += f", {show_bytes(memory.micro_arena_bytes)} as TFLite Micro"
        rows.append(("arena", arenas))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _tensors(found: Inspection) -> Table:
    table = plain_table("", "name", "shape", "dtype", "quantization")
    for side, infos in (("input", found.inputs), ("output", found.outputs)):
        for info in infos:
            cells = (side, info.name, _shape(info.shape), info.dtype, _quantization(info))
            table.add_row(*map(Text, cells))
    return table


def _shape(shape: Iterable[int | None] | None) -> str:
    if shape is None:
        return NOTHING
    return " x ".join("?" if size is None else str(size) for size in shape) or "scalar"


def _quantization(info: TensorInfo) -> str:
    quantization = info.quantization
    if quantization is None:
        return NOTHING
    if quantization.per_channel:
        return f"{len(quantization.scale)} channels, axis {quantization.axis}"
    scale = show_number(quantization.scale[0], digits=6)
    return f"scale {scale}, zero point {quantization.zero_point[0]}"


def _ops(found: Inspection) -> Table:
    table = plain_table("operator", "class", "count>", "MACs>")
    for op in found.ops:
        table.add_row(*map(Text, (op.op, op.kind, str(op.count), f"{op.macs:,}")))
    return table


def _layers(layers: Iterable[LayerInfo]) -> Table:
    table = plain_table("#>", "operator", "layer", "output", "dtype", "values>", "MACs>")
    for one in layers:
        numbers = (f"{one.parameters:,}", f"{one.macs:,}")
        shape, dtype = _shape(one.output_shape), one.dtype or NOTHING
        table.add_row(*map(Text, (str(one.index), one.op, one.layer, shape, dtype, *numbers)))
    return table


def _artifacts(artifacts: Iterable[Inspection]) -> Table:
    table = plain_table("artifact", "format", "precision", "size>", "inputs", "outputs")
    for one in artifacts:
        table.add_row(
            *map(
                Text,
                (
                    one.file,
                    one.format,
                    str(one.metadata.get("precision", NOTHING)),
                    show_bytes(one.file_bytes),
                    ", ".join(f"{info.name} {info.dtype}" for info in one.inputs),
                    ", ".join(f"{info.name} {info.dtype}" for info in one.outputs),
                ),
            )
        )
    return table
