"""Prints messages and ends commands with an exit status, for all three packages.

Standard output gets the results, standard error gets everything else. `guarded` is the only place where an error
becomes a line and an exit status.
"""

import io
import json
import logging
import os
import select
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from ageinfer.errors import AgeError, ExitStatus, OutputError

_LONGEST_MESSAGE = 1000  # characters; a path may have four times as many bytes, and a text on standard input any number
_UNREAD_MS = 2000  # a message that nobody takes is left out then
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
        say(f"{name}: {' '.join(str(error).splitlines())}", logging.ERROR)
        return error.exit_status
    except ModuleNotFoundError as error:
        if debug or not extra or not error.name or error.name.partition(".")[0] in _OWN_PACKAGES:
            raise
        say(f"{name}: {error.name} is not installed: pip install 'ageinfer[{extra}]'", logging.ERROR)
        return ExitStatus.MISSING
    except BrokenPipeError:  # the reader of standard output has gone
        give_up_standard_output()
        return ExitStatus.OUTPUT
    except OSError as error:
        if debug or error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        say(f"{name}: {place}{error.strerror}; check the permissions and the space that is left", logging.ERROR)
        return ExitStatus.OUTPUT
    except KeyboardInterrupt:
        say(f"{name}: interrupted; {interrupted if isinstance(interrupted, str) else interrupted()}")
        return ExitStatus.INTERRUPTED


def printable(text: str) -> str:
    r"""Returns a text as one line that does nothing to a terminal or a log: what cannot be printed becomes an escape.

    Names of files and of models come from others. They may hold commands to the terminal, line breaks that would begin
    a line of their own, or marks that turn the direction of the text.

    Example:
        >>> print(printable("a\x1b[2J\nb.jpg"))
        a\x1b[2J\nb.jpg
    """
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else repr(character)[1:-1]


def as_message(text: str) -> str:
    """Returns a text as a message of one printable line, without the middle of what is very long.

    Example:
        >>> len(as_message(f"{'a' * 5_000_000}.jpg: no such file; check the path"))
        1000
    """
    if len(text) > _LONGEST_MESSAGE:
        half = _LONGEST_MESSAGE // 2
        text = f"{text[: half - 2]} ... {text[3 - half :]}"
    return printable(text)


def say(text: str, level: int = logging.INFO) -> None:
    """Prints a message on standard error, see `as_message`; if that fails, the run goes on without it."""
    draw(as_message(text) + "\n", level)


def draw(text: str, level: int = logging.INFO) -> None:
    """Writes a text to standard error as it is, with what it tells the terminal; failing does no harm.

    Where nobody reads standard error and its pipe is full, the text is left out after 2 s: no run waits for ever.
    """
    stream: Any = sys.stderr
    if isinstance(stream, JsonLog):
        text, stream = stream.lines_of(text, level), stream.stream
    with suppress(OSError):
        if _takes_more(stream):
            print(text, end="", file=stream, flush=True)


class JsonLog(io.TextIOBase):
    """Stands for standard error, and writes each line as ``{"at": ..., "level": ..., "message": ...}``.

    Args:
        stream: standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._rest = ""

    def write(self, text: str) -> int:
        """Writes what nobody has given a level: a traceback, or the line of another library."""
        lines, newline, self._rest = (self._rest + text).rpartition("\n")
        self.stream.write(self.lines_of(lines + newline, logging.ERROR))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def lines_of(self, text: str, level: int) -> str:
        """The lines of a text as lines of JSON."""
        head = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": logging.getLevelName(level).lower(),
        }
        lines = (json.dumps(head | {"message": line}, ensure_ascii=False) for line in text.splitlines())
        return "".join(f"{line}\n" for line in lines)


@contextmanager
def json_on_stderr() -> Iterator[None]:
    """Writes every line on standard error as JSON inside a ``with`` block, see `JsonLog`."""
    with redirect_stderr(JsonLog(sys.stderr)):
        yield


def _takes_more(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):
        return True
    waiting = select.poll()
    try:
        waiting.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # no file descriptor
        return True
    return bool(waiting.poll(_UNREAD_MS))


def put(text: str) -> None:
    """Prints a result of one or more lines on standard output, see `printable`.

    Raises:
        OutputError: standard output cannot be written.
        BrokenPipeError: the reader of standard output has gone.
    """
    try:
        print("\n".join(map(printable, text.split("\n"))), flush=True)
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


class _StandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        draw(f"{self.format(record)}\n", record.levelno)


class _Messages(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name that logging calls
        return as_message(super().formatMessage(record))


@contextmanager
def messages_on_stderr(level: int, prefix: str = "") -> Iterator[None]:
    """Sends log messages to standard error inside a ``with`` block, each as one line without time and level.

    Args:
        level: the lowest level of the messages.
        prefix: the beginning of each line.
    """
    handler = _StandardError()
    handler.setFormatter(_Messages(f"{prefix}%(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
