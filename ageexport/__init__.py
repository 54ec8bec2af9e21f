"""Turns a checkpoint of agetrain into one model file, and proves on real faces that it answers the same.

`export_model` does both.

Names are loaded when they are first used, so that ``import ageexport`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import ageinfer  # noqa: F401 - before any import of ONNX Runtime, whose telemetry it switches off

if TYPE_CHECKING:
    from ageexport.files import ExportResult, ModelFile, export_model
    from ageexport.original import Description

_HOMES = {
    "Description": "original",
    "ExportResult": "files",
    "ModelFile": "files",
    "export_model": "files",
}

__all__ = [
    "Description",
    "ExportResult",
    "ModelFile",
    "export_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ageexport' has no attribute {name!r}")
    return getattr(import_module(f"ageexport.{_HOMES[name]}"), name)
