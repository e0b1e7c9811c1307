"""The table of kernels that were measured by shape on a device (`edgekit calibrate`)."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, field_serializer, field_validator, model_validator

from edgekit.schema.base import Document

Row = tuple[float, ...]


class KernelRows(Document):
    """One kernel at the shapes that were measured.

    Attributes:
        typical: factor where no row is near.
        lengths: correlation length of each feature, in natural logarithms.
        spread: standard deviation of the logarithm of what depends on the shape.
        rows: in text one line each: the features in the order of
            `edgekit.profiling.kernels.shapes`, and the factor.
    """

    typical: float = Field(default=1.0, gt=0)
    lengths: tuple[float, ...] = Field(min_length=1)
    spread: float = Field(gt=0)
    rows: tuple[Row, ...] = Field(min_length=1)

    @property
    def features(self) -> int:
        """How many features a row has."""
        return len(self.rows[0]) - 1

    @field_validator("rows", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(
                tuple(map(float, line.split())) for line in value.splitlines() if line.strip()
            )
        except ValueError:
            raise ValueError("a line of the table is not numbers") from None

    @field_validator("rows")
    @classmethod
    def _sound(cls, value: tuple[Row, ...]) -> tuple[Row, ...]:
        if len({len(row) for row in value}) != 1 or len(value[0]) < 2:
            raise ValueError("each row needs the same features and a factor")
        if any(not 0 < number < math.inf for row in value for number in row):
            raise ValueError("all numbers must be positive")
        return value

    @model_validator(mode="after")
    def _a_length_for_each_feature(self) -> KernelRows:
        if len(self.lengths) != len(self.rows[0]) - 1:
            raise ValueError(
                f"{len(self.lengths)} lengths for {len(self.rows[0]) - 1} features of the rows"
            )
        return self

    @field_serializer("rows")
    def _text(self, value: tuple[Row, ...]) -> str:
        return rows_text(value)


class KernelTable(Document):
    """How many times longer than the linear costs say a kernel takes, by its shape.

    Between the shapes a Gaussian process of the logarithms interpolates (Rasmussen and Williams
    2006, chapter 2): prior variance `offset` squared for a kernel as a whole and `spread` squared
    for what depends on the shape, with a Matern covariance of smoothness 3/2.
    """

    feature_version: int = Field(
        1,
        ge=1,
        description="version of the features of its rows; only tables of the present one are used",
    )
    offset: float = Field(gt=0)
    kernels: dict[str, KernelRows]


def rows_text(rows: tuple[Row, ...]) -> str:
    """Rows as text, one line each, to four digits."""
    return "".join(" ".join(f"{number:.4g}" for number in row) + "\n" for row in rows)
