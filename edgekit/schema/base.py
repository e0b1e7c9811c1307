"""The base of all document models: unknown keys are errors, values do not change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A model that forbids unknown keys and is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
