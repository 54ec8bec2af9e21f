"""What the commands of agetrain share: messages on standard error, and an error in one line with its exit status."""

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any

from ageinfer.console import messages_on_stderr
from ageinfer.errors import AgeInferError
from agetrain.errors import AgeTrainError, DatasetError, MissingDependencyError

INTERRUPTED = 130


def add_debug(parser: argparse.ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def guarded(
    name: str,
    command: Callable[[Any], object],
    options: argparse.Namespace,
    *,
    unwritten: type[AgeTrainError] = DatasetError,
    interrupted: str | Callable[[], str] = "nothing was written",
) -> int:
    """Runs a command and says an error in one line.

    Args:
        name: of the command, before every message of this function.
        command: to be run.
        options: for it; ``debug`` lets the traceback through, ``out`` is named where an error names no file.
        unwritten: the error that a disk or a permission counts as.
        interrupted: what Ctrl-C leaves, or what says it then.

    Returns:
        The exit status.
    """
    try:
        with messages_on_stderr(logging.INFO):
            command(options)
    except (AgeTrainError, AgeInferError) as error:
        if options.debug:
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, AgeTrainError) else MissingDependencyError.exit_status
    except OSError as error:
        if options.debug:
            raise
        place = error.filename or getattr(options, "out", None) or "results"
        remedy = "check the permissions and the space that is left, or choose another place"
        print(f"{name}: {place}: {error.strerror or error}; {remedy}", file=sys.stderr)
        return unwritten.exit_status
    except KeyboardInterrupt:
        left = interrupted if isinstance(interrupted, str) else interrupted()
        print(f"\n{name}: interrupted; {left}", file=sys.stderr)
        return INTERRUPTED
    return 0
