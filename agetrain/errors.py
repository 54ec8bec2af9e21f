"""The exceptions of agetrain, and the exit status that each one gives ``python -m agetrain``."""


class AgeTrainError(Exception):
    """Base of every error that agetrain raises on purpose; each message names the remedy."""

    exit_status = 1


class UsageError(AgeTrainError):
    """The options do not fit together."""

    exit_status = 2


class DatasetError(AgeTrainError):
    """A data set is missing, incomplete or broken."""

    exit_status = 3


class WeightsError(AgeTrainError):
    """No starting weights, or weights of another network."""

    exit_status = 4


class CheckpointError(AgeTrainError):
    """A checkpoint cannot be read or written."""

    exit_status = 5


class MissingDependencyError(AgeTrainError):
    """An optional package that was asked for is not installed."""

    exit_status = 6


class DivergedError(AgeTrainError):
    """The loss is no longer a number."""

    exit_status = 7
