"""The errors of training, with those that all packages share; `ageinfer.errors` lists their exit statuses."""

from ageinfer.errors import AgeError, ExitStatus, MissingDependencyError, ModelError, OutputError, UsageError

__all__ = [
    "AgeError", "CheckpointError", "DatasetError", "DivergedError", "MissingDependencyError", "OutputError",
    "UsageError", "WeightsError",
]  # fmt: skip


class DatasetError(AgeError):
    """A data set is missing, incomplete or broken."""

    exit_status = ExitStatus.SOURCE


class WeightsError(ModelError):
    """There are no starting weights, or they belong to another network."""


class CheckpointError(ModelError):
    """A checkpoint cannot be used."""


class DivergedError(AgeError):
    """The loss is no longer a number."""

    exit_status = ExitStatus.DIVERGED
