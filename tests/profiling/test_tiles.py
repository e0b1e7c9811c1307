"""Tiles of products, against the test that ruy has of its own: ruy/block_map_test.cc."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.profiling.cost import kernel_terms, op_time
from edgekit.profiling.fit.design import Design
from edgekit.profiling.fit.samples import sample
from edgekit.profiling.targets import load_target
from edgekit.profiling.tiles import Tiles, tiles_log2, tiles_of
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Gemm, works
from edgekit.schema.fitting import Cores
from edgekit.schema.target import KernelCosts, MemorySpec, Processor, Term
from tests.profiling.graphs import GraphMaker, small_cnn

CACHE = 1 << 17  # bytes, of a Cortex-A55 with a level 2 of its own, which ruy's test is tuned on


@pytest.mark.parametrize(
    ("rows", "columns", "depth", "value_bytes", "threads", "base", "along"),
    [
        *((side, side, side, 1, 1, 0, 0) for side in (32, 48, 64, 96, 128, 192)),
        *((side, side, side, 1, 1, 1, 0) for side in (256, 384)),
        *((side, side, side, 1, 4, 1, 0) for side in (32, 48, 64, 96, 128, 192)),
        *((side, side, side, 1, 4, 2, 0) for side in (256, 384)),
        (256, 256, 256, 4, 4, 3, 0),
        (4096, 4096, 4096, 4, 4, 7, 0),
        (256, 16, 256, 1, 1, 0, 3),
        (24, 2400, 256, 1, 1, 0, 6),
    ],
)
def test_as_many_tiles_as_ruy_makes(
    rows: int, columns: int, depth: int, value_bytes: int, threads: int, base: int, along: int
) -> None:
    narrow, wide = sorted((rows, columns))
    assert tiles_log2(narrow, wide, depth, threads, CACHE // value_bytes) == 2 * base + along


def test_threads_wait_for_the_last_tiles() -> None:
    gemm = Gemm(m=256, k=256, n=256)
    assert tiles_of(gemm, Cores(threads=4, cache_bytes=CACHE), 1).macs == 256**3
    twelve = Cores(threads=12, cache_bytes=CACHE)
    assert tiles_of(gemm, twelve, 1).macs == pytest.approx(256**3 * 12 * 2 / 16)


def test_a_product_is_as_many_tiles_as_ruy_makes() -> None:
    """Sides of 256 in eight by eight tiles of floats and in four by four of integers (above)."""
    cores = Cores(threads=4, cache_bytes=CACHE)
    gemm = Gemm(m=256, k=256, n=256)
    assert tiles_of(gemm, cores, 4) == Tiles(8 * 8, 256**3, 256**3 // 64)
    assert tiles_of(gemm, cores, 1) == Tiles(4 * 4, 256**3, 256**3 // 16)
    assert tiles_of(replace(gemm, groups=3), cores, 4) == Tiles(
        3 * 64, 3 * 256**3, 3 * 256**3 // 64
    )


def test_a_small_product_runs_on_one_thread() -> None:
    assert tiles_of(Gemm(m=32, k=32, n=32), Cores(), 1).macs == 32**3
    assert tiles_of(Gemm(m=32, k=32, n=32), Cores(threads=4), 1).macs == 4 * 32**3
    assert tiles_of(Gemm(m=32, k=32, n=32, groups=3), Cores(threads=4), 1).macs == 3 * 4 * 32**3


def test_kernels_compute_results_beyond_the_matrix() -> None:
    assert tiles_of(Gemm(m=49, k=32, n=30), Cores(), 1).macs == 56 * 32 * 32


def test_a_product_with_a_vector_has_no_tiles() -> None:
    assert tiles_of(Gemm(m=1, k=1024, n=1001), Cores(threads=4), 1) == Tiles(
        0, 1024 * 1001, 1024 * 1001
    )


def test_to_take_a_tile_costs_time() -> None:
    view = GraphView(small_cnn().graph())
    cores = Cores(threads=4)
    ns: dict[Term, float] = {"tile_mac": 0.5, "tile": 200.0}
    costs = KernelCosts(origin="assumed", ns=ns, cores=cores)
    cpu = Processor(name="cpu", kind="cpu", rules="litert-cpu", costs={"int8": costs})
    memory = MemorySpec(ram_bytes=1 << 30, bandwidth_gb_s=1e6)
    load = next(load for load in works(view) if load.kind == "conv")
    assert load.gemm
    tiles = tiles_of(load.gemm, cores, 1)
    assert tiles.count > 0
    found = op_time(load, cpu, costs, memory).kernel
    assert found == pytest.approx(tiles.macs * 0.5e-9 + tiles.count * 200e-9)


def test_where_cores_are_uneven_all_wait_for_the_last_tile_of_a_slow_one() -> None:
    view = GraphView(small_cnn().graph())
    even, uneven = (Cores(threads=4, uneven=uneven) for uneven in (False, True))
    load = next(load for load in works(view) if load.kind == "conv")
    assert load.gemm
    assert "last_tile_mac" not in kernel_terms(load, cores=even)
    found = kernel_terms(load, cores=uneven)
    tiles = tiles_of(load.gemm, uneven, 1)
    assert found.pop("last_tile_mac") == tiles.last == load.macs / tiles.count
    assert found == kernel_terms(load, cores=even)


def test_a_product_without_a_rate_is_not_thought_faster_than_tiles() -> None:
    make = GraphMaker((1, 8, 8))
    make.op("BATCH_MATMUL", "matmul", (1, 8, 8), macs=512)
    (load,) = works(GraphView(make.graph()))
    ns: dict[Term, float] = {"tile_mac": 0.5, "mac.depthwise": 0.1}
    costs = KernelCosts(origin="assumed", ns=ns)
    cpu = Processor(name="cpu", kind="cpu", rules="litert-cpu", costs={"int8": costs})
    time = op_time(load, cpu, costs, MemorySpec(ram_bytes=1 << 30, bandwidth_gb_s=1e6))
    assert time.kernel == pytest.approx(512 * 0.5e-9)
    assert time.extrapolated


def test_tiles_take_the_place_of_the_rates_of_products() -> None:
    view = GraphView(small_cnn().graph())
    cores = Cores(threads=4)
    costs = KernelCosts(origin="assumed", ns={"tile_mac": 0.5, "mac.depthwise": 3.0}, cores=cores)
    cpu = Processor(name="cpu", kind="cpu", rules="litert-cpu", costs={"int8": costs})
    memory = MemorySpec(ram_bytes=1 << 30, bandwidth_gb_s=1e6)
    found = [load for load in works(view) if load.gemm and load.kind in ("conv", "depthwise")]
    assert {load.kind for load in found} == {"conv", "depthwise"}
    for load in found:
        assert load.gemm
        terms = kernel_terms(load, cores=cores)
        time = op_time(load, cpu, costs, memory)
        if load.kind == "depthwise":
            assert "tile_mac" not in terms
            assert time.kernel == pytest.approx(load.macs * 3e-9)
        else:
            assert terms["tile_mac"] == tiles_of(load.gemm, cores, 1).macs
            assert time.kernel == pytest.approx(terms["tile_mac"] * 0.5e-9)


def test_each_board_has_tiles_for_its_own_cores() -> None:
    target = load_target("raspberry-pi-4")
    spec = next(one for one in target.fit if one.precision == "int8")
    here, there = (
        sample(small_cnn().graph(), target, model="m", family="f", latency_s=1e-3, cores=cores)
        for cores in (None, Cores(threads=8))
    )
    amounts = Design.of([here], target, spec, [[there]]).amounts
    for found, cores in zip(amounts, (spec.cores, Cores(threads=8)), strict=True):
        terms = (kernel_terms(load, cores=cores) for load in here.loads)
        assert found["tile_mac"] == sum(one.get("tile_mac", 0.0) for one in terms)
    assert amounts[0]["tile_mac"] < amounts[1]["tile_mac"]
