"""The documents by name, for `edgekit schema`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from edgekit.base.registry import Registry

DOCUMENTS = {
    "artifact": "edgekit.schema.artifact:Sidecar",
    "bench": "edgekit.schema.results:ProfileReport",
    "calibrate": "edgekit.schema.calibration:CalibrationReport",
    "check": "edgekit.schema.results:CheckReport",
    "debug": "edgekit.schema.debugging:DebugReport",
    "gate": "edgekit.schema.results:GateReport",
    "inspect": "edgekit.schema.inspection:Inspection",
    "manifest": "edgekit.schema.manifest:Manifest",
    "memory": "edgekit.schema.memory:MemoryReport",
    "package": "edgekit.schema.manifest:PackResult",
    "profile": "edgekit.schema.results:ProfileReport",
    "recipe": "edgekit.schema.recipe:Recipe",
    "rules": "edgekit.schema.rules:TargetRules",
    "run": "edgekit.schema.results:RunReport",
    "target": "edgekit.schema.target:Target",
    "verify": "edgekit.schema.results:VerifyReport",
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one document.

    Raises:
        InputError: there is no document of that name.
    """
    registry: Registry[type[BaseModel]] = Registry("document", DOCUMENTS, group="documents")
    return registry.get(name).model_json_schema()
