"""How many cores this process may use: by its affinity, and by the share that a container gives it."""

import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Returns how many cores this process may use, such as 1.5.

    Threads beyond a quota wait for each other: with a quota of one core, two threads take twice as long as one.

    Args:
        cgroup: the folder in which Linux has the limits of control groups, of version 2 or 1.
        membership: the file that names the groups of this process.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _groups(cgroup, membership):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            cores = min(cores, quota / period)
    return cores


def _groups(cgroup: Path, membership: Path) -> list[Path]:
    """The folders of the groups that limit this process: its own and all above it, as far as they are seen here."""
    folders = [cgroup, cgroup / "cpu", cgroup / "cpu,cpuacct"]
    for line in _text(membership).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        bases = folders[1:] if controllers else folders[:1]
        folders += [base.joinpath(*parts[:depth]) for base in bases for depth in range(1, len(parts) + 1)]
    return folders


def _quota(folder: Path) -> tuple[int, int]:
    """Quota and period of a group in microseconds; zeros where there is no limit."""
    words = _text(folder / "cpu.max").split()  # version 2: "50000 100000", or "max 100000"
    if not words:
        words = [*_text(folder / "cpu.cfs_quota_us").split(), *_text(folder / "cpu.cfs_period_us").split()]
    if len(words) != 2 or not all(word.isdecimal() for word in words):  # "max", or -1: no limit
        return 0, 0
    return int(words[0]), int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
