"""The manifest of a bundle: every member with its size and SHA-256, and what each one is."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from edgekit.schema.artifact import Preprocessing
from edgekit.schema.base import Document
from edgekit.schema.names import Format, Precision

MANIFEST = "manifest.json"
REPORT = "run.json"
RECIPE = "recipe.lock.yaml"
CARD = "MODEL_CARD.md"
LABELS = "labels.txt"

# Control characters, and what Windows does not take in a file name.
_RESERVED = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


def check_member_name(name: str) -> str:
    """`name`, if it is a relative path that is safe to extract on any system.

    Raises:
        ValueError: it is absolute, leaves the directory, or no file system would keep it.
    """
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"member {name!r} has an absolute path")
    parts = name.split("/")
    if ".." in parts:
        raise ValueError(f"member {name!r} leads out of the bundle with '..'")
    if _RESERVED.search(name) or any(not part or part.endswith((".", " ")) for part in parts):
        raise ValueError(f"member {name!r} is not a portable file name")
    return name


class Member(Document):
    """One file of a bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BundledArtifact(Document):
    """One model of a bundle.

    Attributes:
        path: member that a runtime opens.
        files: all members that belong to it (.xml and .bin).
        sidecar: member with its inputs, outputs, quantization and preprocessing.
    """

    path: str
    files: tuple[str, ...]
    sidecar: str
    format: Format
    precision: Precision


class Manifest(Document):
    """`manifest.json`: what a bundle holds. All members but itself are listed.

    Attributes:
        name: of the recipe, or of the first model.
        edgekit: version that wrote the bundle.
        versions: of the libraries that made the artifacts.
        preprocessing: what the device does to a raw sample.
        labels: names of the classes, in order; also in labels.txt.
        golden: member arrays (.npy): inputs, and the outputs that they must give.
        members: name to size and hash.
    """

    edgekit_bundle: Literal[1] = 1
    name: str
    edgekit: str
    artifacts: tuple[BundledArtifact, ...] = Field(min_length=1)
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    golden: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    members: dict[str, Member]

    @field_validator("members")
    @classmethod
    def _safe_names(cls, members: dict[str, Member]) -> dict[str, Member]:
        folded = {check_member_name(name).casefold() for name in members}
        if len(folded) < len(members):
            raise ValueError("two members differ only in upper and lower case")
        for name in folded:
            for parent in PurePosixPath(name).parents:
                if str(parent) in folded:
                    raise ValueError(f"member {str(parent)!r} is a file and a directory")
        if MANIFEST in folded:
            raise ValueError("the manifest cannot list itself")
        return members

    @model_validator(mode="after")
    def _all_there(self) -> Manifest:
        named = [REPORT, CARD, *self.golden]
        for artifact in self.artifacts:
            named += [artifact.path, *artifact.files, artifact.sidecar]
        for name in named:
            if name not in self.members:
                raise ValueError(f"{name!r} is named and is not a member")
        return self


class PackResult(Document):
    """`edgekit package --json`."""

    bundle: str
    bytes: int
    sha256: str
    manifest: Manifest
