"""Flash of a microcontroller: the file, and the code that runs it.

No source separates the code by operator, so this is one number for TensorFlow Lite Micro with all
of its kernels linked, between two builds whose images were taken apart:

- reference kernels, interpreter, schema and newlib for a Cortex-M7 (arm-none-eabi-gcc; the four
  networks of MLPerf Tiny): 77.0 to 77.1 kB besides file and input, whatever the network;
- whole Arduino sketches for a Nucleo-F746ZG (EloquentTinyML; TinyML Benchmark, IEEE WF-IoT 2022):
  120.2 to 121.7 kB besides the file, over six fully connected networks.

CMSIS-NN adds 15 to 19 kB, 18 in the median: six networks on an STM32F746 with and without it
(mit-han-lab/tinyengine README, TFLite Micro 713b6ed and CMSIS-NN 011bf32).
"""

from __future__ import annotations

from statistics import fmean

from edgekit.schema.figure import Figure
from edgekit.schema.target import MicroKernels

_SMALLEST, _LARGEST = 77_000, 121_700
_CMSIS_NN = (15_000, 18_000, 19_000)


def runtime_code(kernels: MicroKernels) -> Figure:
    """Bytes of TensorFlow Lite Micro's code; the interval is between the two builds."""
    low, more, high = (0, 0, 0) if kernels == "reference" else _CMSIS_NN
    return Figure(
        value=round(fmean((_SMALLEST, _LARGEST))) + more,
        low=_SMALLEST + low,
        high=_LARGEST + high,
        unit="bytes",
        origin="estimated",
        method=f"TensorFlow Lite Micro with all of its {kernels} kernels: between a bare build and "
        "an Arduino sketch, both published or taken apart",
    )
