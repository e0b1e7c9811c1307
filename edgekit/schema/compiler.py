"""The compiler that a target's accelerator needs."""

from __future__ import annotations

from pydantic import Field

from edgekit.schema.base import Document


class CompilerSpec(Document):
    """A vendor's compiler, and the hardware that it is told to compile for.

    Its answer takes the place of a prediction: what runs where and, for a processor without costs,
    in how many cycles and bytes.
    """

    name: str = Field(description="a name of edgekit's compilers, such as vela")
    options: dict[str, str] = Field(
        default_factory=dict,
        description="the hardware in the compiler's own words; for vela: accelerator-config, "
        "system-config and memory-mode",
    )
