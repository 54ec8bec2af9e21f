"""Prints messages and ends commands with an exit status, for all three packages.

Standard output gets the results, standard error gets everything else. `guarded` is the only place where an error
becomes a line and an exit status.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ageinfer.errors import AgeError, ExitStatus, OutputError

_OWN_PACKAGES = ("ageinfer", "agetrain", "ageexport")


def guarded(
    name: str,
    command: Callable[[], ExitStatus | None],
    *,
    debug: bool,
    level: int = logging.WARNING,
    prefix: str = "",
    extra: str = "",
    interrupted: str | Callable[[], str] = "nothing was written",
) -> ExitStatus:
    """Runs a command and turns its errors into one line on standard error and an exit status.

    Args:
        name: the name of the command, which begins the line.
        command: does the work and returns the exit status; None means `ExitStatus.OK`.
        debug: whether an error is raised with its traceback instead.
        level: the lowest level of log messages that go to standard error.
        prefix: the beginning of these messages.
        extra: the extra of the distribution to install if a package is missing.
        interrupted: what the line after Ctrl-C says about the outputs, or a function that returns this text.

    Returns:
        The exit status, see `ageinfer.errors.STATUS_TEXTS`.

    Example:
        >>> guarded("ageinfer", lambda: None, debug=False)
        <ExitStatus.OK: 0>
    """
    try:
        with messages_on_stderr(level, prefix):
            return command() or ExitStatus.OK
    except AgeError as error:
        if debug:
            raise
        say(f"{name}: {' '.join(str(error).splitlines())}")
        return error.exit_status
    except ModuleNotFoundError as error:
        if debug or not extra or not error.name or error.name.partition(".")[0] in _OWN_PACKAGES:
            raise
        say(f"{name}: {error.name} is not installed: pip install 'ageinfer[{extra}]'")
        return ExitStatus.MISSING
    except BrokenPipeError:  # the reader of standard output has gone
        give_up_standard_output()
        return ExitStatus.OUTPUT
    except OSError as error:
        if debug or error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        say(f"{name}: {place}{error.strerror}; check the permissions and the space that is left")
        return ExitStatus.OUTPUT
    except KeyboardInterrupt:
        say(f"{name}: interrupted; {interrupted if isinstance(interrupted, str) else interrupted()}")
        return ExitStatus.INTERRUPTED


def say(text: str, *, end: str = "\n") -> None:
    """Prints a message on standard error; if that fails, the run goes on without it."""
    with suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Prints a result on standard output.

    Raises:
        OutputError: standard output cannot be written.
        BrokenPipeError: the reader of standard output has gone.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_standard_output()
        raise OutputError(
            f"standard output cannot be written: {error.strerror}; make room, or write to a file"
        ) from error


def give_up_standard_output() -> None:
    """Discards unwritten data for standard output; Python would try to write it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def messages_on_stderr(level: int, prefix: str = "") -> Iterator[None]:
    """Sends log messages to standard error inside a ``with`` block, each as one line without time and level.

    The handler is removed at the end, because it would go on writing to the standard error of that time.

    Args:
        level: the lowest level of the messages.
        prefix: the beginning of each line.
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
