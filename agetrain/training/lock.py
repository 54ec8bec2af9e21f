"""One run a folder: whoever trains there holds a lock, which the system releases when its process ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agetrain.errors import OutputError, UsageError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "run.lock"


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Holds the folder of a run, which is made where it is not there and goes again if nothing is written.

    The file alone says nothing: one that a killed process left is not locked any more.

    Raises:
        UsageError: another process holds it.
        OutputError: the folder cannot be made.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        stream = _locked(out / LOCK_FILE)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made a folder: {error.strerror}; choose another --out") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (out / LOCK_FILE).unlink()  # while it is held: whoever waits for it finds that it is gone, see below
        stream.close()
        with suppress(OSError):  # one is not empty
            for folder in made:
                folder.rmdir()


def _locked(path: Path) -> IO[str]:
    """Opens and locks the file, and writes into it who holds it."""
    while True:
        stream = path.open("a+")
        if not _lock(stream):
            stream.seek(0)
            who = stream.read(200).strip() or "another process"
            stream.close()
            raise UsageError(
                f"{path.parent}: {who} is at work here; wait until it has ended, or use another folder (--out)"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                break
        stream.close()  # its holder has removed it since it was opened: it keeps nobody away
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    stream.flush()
    return stream


def _lock(stream: IO[str]) -> bool:
    """Locks a file until it is closed; tells whether no other process has it."""
    if fcntl is not None:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return True
