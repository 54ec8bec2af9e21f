"""The errors of export, with those that all packages share; `ageinfer.errors` lists their exit statuses."""

from ageinfer.errors import AgeError, ExitStatus, ModelError, OutputError, UsageError
from agetrain.errors import CheckpointError

__all__ = [
    "AgeError", "CheckpointError", "EvidenceError", "ExportError", "OutputError", "ParityError",
    "RungError", "UsageError", "WorthError",
]  # fmt: skip


class EvidenceError(AgeError):
    """There are no real faces to prove the export on."""

    exit_status = ExitStatus.SOURCE


class ExportError(ModelError):
    """The network cannot be converted."""


class ParityError(AgeError):
    """The exported model does not answer what the checkpoint answers."""

    exit_status = ExitStatus.UNPROVED


class RungError(ParityError):
    """A check of the proof failed."""


class WorthError(RungError):
    """A quantised file answers well, and saves too little to be worth its place."""
