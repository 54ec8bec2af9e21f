"""Runs ``ageinfer archive`` in a process of its own, with Ray, and looks for what it leaves behind."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "ageinfer", "archive")


@dataclass(frozen=True)
class Ran:
    """What a run has left.

    Attributes:
        pid: of its process.
        status: its exit status.
        out, err: what it has printed.
    """

    pid: int
    status: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """The environment of a run, which imports what the tests import."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def started(*arguments) -> subprocess.Popen:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment()
    )  # fmt: skip


def ended(process: subprocess.Popen, timeout_s: float = 120) -> Ran:
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return Ran(process.pid, process.returncode, out, err)


def run(*arguments) -> Ran:
    return ended(started(*arguments))


def parts(out) -> list[str]:
    folder = Path(out, "faces")
    return sorted(path.name for path in folder.glob("part-*")) if folder.is_dir() else []


def wait_for_parts(process: subprocess.Popen, out, count: int, timeout_s: float = 90) -> int:
    """Waits until so many shards are done or the run has ended; returns how many are."""
    deadline = time.monotonic() + timeout_s
    while len(parts(out)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return len(parts(out))


def left_behind(pid: int) -> list[str]:
    """The processes of the session of Ray that a process has started: they hold its logs open. Linux."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            texts = [(folder / "cmdline").read_text(), *(str(fd.readlink()) for fd in (folder / "fd").iterdir())]
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and any(f"_{pid}/" in text and "/session_" in text for text in texts):
            found.append(texts[0].replace("\0", " ")[:60])
    return found


def wait_for_nobody(pid: int, timeout_s: float) -> list[str]:
    """Waits until nothing of a session is there any more; returns what still is."""
    deadline = time.monotonic() + timeout_s
    while (found := left_behind(pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
