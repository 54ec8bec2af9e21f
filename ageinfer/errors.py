"""The exceptions of ageinfer, and the exit status that each one gives the command line.

Every message names what was wrong, where, and what to do about it, in one line.
"""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the ``ageinfer`` command (listed in README.md and ``ageinfer --help``)."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SOURCE = 3
    MODEL = 4
    OUTPUT = 5
    MISSING = 6
    SOME_FAILED = 7
    TRUNCATED = 8
    INTERRUPTED = 130


class AgeInferError(Exception):
    """Base of every error that ageinfer raises on purpose."""

    exit_status = ExitStatus.INTERNAL


class UsageError(AgeInferError):
    """The arguments do not fit together."""

    exit_status = ExitStatus.USAGE


class SourceError(AgeInferError):
    """A picture, folder, video or camera cannot be read."""

    exit_status = ExitStatus.SOURCE


class ModelError(AgeInferError):
    """A model file is missing, broken, changed, or not one of this project's."""

    exit_status = ExitStatus.MODEL


class OutputError(AgeInferError):
    """A result cannot be written where it was asked for."""

    exit_status = ExitStatus.OUTPUT


class MissingDependencyError(AgeInferError):
    """An optional package, a display or an execution provider is not there."""

    exit_status = ExitStatus.MISSING
