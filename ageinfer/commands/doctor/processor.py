"""The processor: its name, and the instructions that decide how fast the networks are."""

import platform
from dataclasses import dataclass
from pathlib import Path

# Int8 above all is fast with some of them and slow without.
_INSTRUCTIONS = {"x86": ("avx2", "avx512_vnni", "avx_vnni"), "arm": ("asimd", "asimddp", "i8mm")}


@dataclass(frozen=True, slots=True)
class Processor:
    """What the system says of its processor.

    Attributes:
        name: its model, as far as that is known.
        found, absent: of the instructions that matter; both empty where the system does not say.
    """

    name: str
    found: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def examine_processor(proc: Path = Path("/proc")) -> Processor:
    """The processor of this machine.

    Args:
        proc: where Linux tells; where there is no such folder, Python is asked for what it knows.
    """
    info = _cpu_info(proc)
    name = next((info[key] for key in ("model name", "Model", "Hardware") if info.get(key)), "")
    name = name or platform.processor() or platform.machine() or "unknown"
    has = set((info.get("flags") or info.get("Features") or "").split())
    if not has:
        return Processor(name)
    wanted = _INSTRUCTIONS["arm" if platform.machine().lower().startswith(("arm", "aarch")) else "x86"]
    return Processor(name, tuple(i for i in wanted if i in has), tuple(i for i in wanted if i not in has))


def _cpu_info(proc: Path) -> dict[str, str]:
    """The last value of every key in cpuinfo."""
    try:
        lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}
