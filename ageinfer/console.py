"""How the commands of all three packages speak and end.

Standard output gets what was asked for, standard error all else. `guarded` is the one place where an error becomes a
line and an exit status.
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
    """Runs a command; an error of this project becomes one line on standard error and an exit status.

    Args:
        name: of the command, before the line.
        command: does the work; what it returns is the exit status, None is `ExitStatus.OK`.
        debug: lets the traceback of an error through.
        level: of the log messages that go to standard error.
        prefix: of those messages.
        extra: of the distribution, named where a package is not installed.
        interrupted: what Ctrl-C leaves, or what says it then.

    Returns:
        The exit status, see `ageinfer.errors.STATUS_TEXTS`.
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
    except BrokenPipeError:  # the reader of our standard output has seen enough
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
