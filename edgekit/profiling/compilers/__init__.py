"""Vendors' compilers, one file a compiler: what it takes, places and says about cycles and bytes.

A target names its compiler (`edgekit.schema.compiler.CompilerSpec`).
"""

from edgekit.base.registry import Registry
from edgekit.profiling.compilers.base import Compiled, CompiledOp, Compiler

COMPILERS: Registry[Compiler] = Registry(
    "compiler",
    {
        "edgetpu": "edgekit.profiling.compilers.edgetpu:compile_file",
        "vela": "edgekit.profiling.compilers.vela:compile_file",
    },
    group="compilers",
)

__all__ = ["COMPILERS", "Compiled", "CompiledOp", "Compiler"]
