"""Every error that this project raises on purpose has its base here, and every exit status its meaning.

A message is one line: it names what was wrong, where, and what to do about it. The command lines of all three packages
print that line and exit with the status of the error.
"""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of all command lines; `STATUS_TEXTS` says what each one means."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SOURCE = 3
    MODEL = 4
    OUTPUT = 5
    MISSING = 6
    SOME_FAILED = 7
    TRUNCATED = 8
    DIVERGED = 9
    UNPROVED = 10
    DAMAGED = 11
    INTERRUPTED = 130


STATUS_TEXTS = {
    ExitStatus.OK: "done",
    ExitStatus.INTERNAL: "internal error",
    ExitStatus.USAGE: "wrong options",
    ExitStatus.SOURCE: "a source, a data set or its pictures cannot be read, or a live source is gone for good",
    ExitStatus.MODEL: "a model, a checkpoint or its weights are missing, broken, changed or not this project's",
    ExitStatus.OUTPUT: "a result cannot be written",
    ExitStatus.MISSING: "a package, a display or an execution provider is missing",
    ExitStatus.SOME_FAILED: "some pictures or videos could not be read; the others are done",
    ExitStatus.TRUNCATED: "the video is cut off; what can be decoded of it is done",
    ExitStatus.DIVERGED: "the loss of a training run is no longer a number",
    ExitStatus.UNPROVED: "a model answers otherwise than its checkpoint, or elsewhere, its 8 bits save too little, or "
    "a group of people is beyond the bounds of a gate",
    ExitStatus.DAMAGED: "parts of a video or of a picture are damaged; the rest is done",
    ExitStatus.INTERRUPTED: "interrupted; what was written is complete up to there",
}


# Of the commands that read pictures, train on them or measure.
DATA_STATUSES = (
    ExitStatus.OK, ExitStatus.INTERNAL, ExitStatus.USAGE, ExitStatus.SOURCE, ExitStatus.MODEL, ExitStatus.OUTPUT,
    ExitStatus.MISSING, ExitStatus.INTERRUPTED,
)  # fmt: skip


def status_table(*statuses: ExitStatus) -> str:
    """The exit statuses of a command for its ``--help``, one a line; without arguments all of them."""
    lines = (f"  {status:>3}  {STATUS_TEXTS[status]}" for status in statuses or STATUS_TEXTS)
    return "exit status:\n" + "\n".join(lines)


class AgeError(Exception):
    """Base of every error that ageinfer, agetrain and ageexport raise on purpose."""

    exit_status = ExitStatus.INTERNAL


AgeInferError = AgeError  # the name that it had when ageinfer had a family of its own


class UsageError(AgeError):
    """The arguments do not fit together."""

    exit_status = ExitStatus.USAGE


class SourceError(AgeError):
    """A picture, folder, video or camera cannot be read."""

    exit_status = ExitStatus.SOURCE


class ModelError(AgeError):
    """A model file is missing, broken, changed, or not one of this project's."""

    exit_status = ExitStatus.MODEL


class OutputError(AgeError):
    """A result cannot be written where it was asked for."""

    exit_status = ExitStatus.OUTPUT


class MissingDependencyError(AgeError):
    """An optional package, a display or an execution provider is not there."""

    exit_status = ExitStatus.MISSING
