"""The exceptions of ageexport, and the exit status that each one gives ``python -m ageexport``."""


class AgeExportError(Exception):
    """Base of every error that ageexport raises on purpose; each message names the remedy."""

    exit_status = 1


class UsageError(AgeExportError):
    """The options do not fit together."""

    exit_status = 2


class EvidenceError(AgeExportError):
    """There are no real faces to prove the export on."""

    exit_status = 3


class CheckpointError(AgeExportError):
    """The checkpoint cannot be used."""

    exit_status = 4


class OutputError(AgeExportError):
    """The model cannot be written."""

    exit_status = 5


class ParityError(AgeExportError):
    """The exported model does not answer what the checkpoint answers."""

    exit_status = 6


class RungError(ParityError):
    """A rung of the parity ladder failed."""


class RefusedError(ParityError):
    """The runtime would not use the file."""
