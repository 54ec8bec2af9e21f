"""How the commands of this project speak: to standard output what was asked for, to standard error all else."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ageinfer.errors import OutputError


def say(text: str, *, end: str = "\n") -> None:
    """Tells the person at the terminal, on standard error; a run goes on where nothing can be written there."""
    with suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Prints to standard output.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: its reader has seen enough.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_standard_output()
        raise OutputError(f"standard output cannot be written: {error.strerror}; make room, or use a file") from error


def give_up_standard_output() -> None:
    """What could not be written to it is forgotten: Python would try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def messages_on_stderr(level: int, prefix: str = "") -> Iterator[None]:
    """Logs to standard error, one bare line a message, until the command ends.

    A handler that outlived its command would go on writing to what was standard error then.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
