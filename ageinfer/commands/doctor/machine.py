"""Examines the machine: system, processor, cores and memory."""

import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

from ageinfer.commands.doctor.findings import Finding, State
from ageinfer.commands.doctor.processor import examine_processor
from ageinfer.engine.cores import usable_cores

_AREA = "machine"


def examine_machine(
    version: str, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> Iterator[Finding]:
    """Examines system, processor, cores and memory of this machine.

    Args:
        version: the version of ageinfer.
        proc: the folder ``/proc`` of Linux; without it, Python gives less.
        cgroup: the folder in which Linux has the limits of a container.
    """
    python = f"{platform.python_implementation()} {platform.python_version()}, {struct.calcsize('P') * 8} bit"
    yield _fact("ageinfer", version, version=version)
    yield _fact("Python", python, version=platform.python_version())
    yield _fact("system", platform.platform(), system=platform.system(), architecture=platform.machine())

    processor = examine_processor(proc)
    yield _fact("processor", processor.name, model=processor.name)
    usable, there = usable_cores(cgroup), os.cpu_count() or 1
    yield _fact("cores", f"{usable:g} usable of {there}", usable=usable, there=there)

    found, absent = list(processor.found), list(processor.absent)
    if found or absent:
        text = (", ".join(found) or "none") + (f" (not {', '.join(absent)})" if absent else "")
        yield _fact("instructions", text, found=found, absent=absent)
    memory = _memory(proc, cgroup)
    if memory is not None:
        yield _fact("memory", f"{memory / 2**30:.1f} GiB", bytes=memory)


def _fact(name: str, text: str, **values: object) -> Finding:
    return Finding(_AREA, name, State.OK, text, values=values)


def _memory(proc: Path, cgroup: Path) -> int | None:
    """Returns the memory in bytes that this process may use, or None if it is unknown."""
    there = None
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                there = int(line.split()[1]) * 1024
    except OSError:
        pass
    limit = _first_line(cgroup / "memory.max")
    if limit.isdigit():
        there = min(there or int(limit), int(limit))
    return there


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0]
    except OSError:
        return ""
