"""Which precision of a shipped model is the fastest here: measured once, then remembered.

No rule answers that: what 8 bits gain depends on the processor's instructions, on the threads and on the provider.
"""

import hashlib
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import onnxruntime as ort

from ageinfer.engine.processor import examine_processor
from ageinfer.engine.sessions import default_threads, first_provider

CACHE_VARIABLE = "AGEINFER_CACHE"
BATCH = 4  # faces, as a picture or a video may have them
_FEWEST_TURNS, _MOST_TURNS, _PATIENCE_S = 5, 15, 0.15

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that the answer depends on, as far as it can be told without measuring.

    Attributes:
        graphs: SHA-256 of the graph of each file, by precision. Names, sizes and times of files would do until the next
            installation, and then measure the same files anew.
        onnxruntime: its version.
        processor, instructions: virtual machines call processors that differ by one name.
        provider: that is tried first.
        threads: of the network.
        batch: faces at once.
    """

    graphs: dict[str, str]
    onnxruntime: str
    processor: str
    instructions: list[str]
    provider: str
    threads: int
    batch: int

    @classmethod
    def here(cls, graphs: Mapping[str, str], provider: str, threads: int | None) -> "Circumstances":
        """Those of this machine.

        Args:
            graphs: SHA-256 by precision.
            provider: as `ageinfer.engine.sessions.open_session` is given it.
            threads: likewise.
        """
        processor = examine_processor()
        return cls(
            graphs=dict(graphs),
            onnxruntime=ort.__version__,
            processor=processor.name,
            instructions=list(processor.found),
            provider=first_provider(provider),
            threads=threads or default_threads(),
            batch=BATCH,
        )


def measure(
    calls: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Times calls against each other.

    They take turns, so that whatever else the machine does strikes all of them: 15 turns; from the fifth on no more
    where the slowest run of one was faster than all runs of the others, or after 0.15 s.

    Args:
        calls: by name.
        clock: in seconds.

    Returns:
        The median of each in milliseconds.
    """
    for call in calls.values():  # the first one allocates
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = clock()
    for turn in range(1, _MOST_TURNS + 1):
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append(clock() - start)
        if turn >= _FEWEST_TURNS and (_is_clear(list(times.values())) or clock() - began > _PATIENCE_S):
            break
    return {name: statistics.median(taken) * 1e3 for name, taken in times.items()}


def _is_clear(times: Sequence[Sequence[float]]) -> bool:
    fastest, *others = sorted(times, key=statistics.median)
    return max(fastest) < min(map(min, others))


def winner(ms: Mapping[str, float]) -> str:
    """The name with the fewest milliseconds; of equals the first."""
    return min(ms, key=ms.__getitem__)


def times_as_fast(ms: Mapping[str, float]) -> dict[str, float]:
    """How many times as fast as each of the others the fastest is.

    Args:
        ms: milliseconds of each, by name.
    """
    fastest = winner(ms)
    return {name: taken / ms[fastest] for name, taken in ms.items() if name != fastest}


def told(precision: str, ratios: Mapping[str, float]) -> str:
    """A precision and what its choice rests on, for people.

    Example:
        >>> told("int8", {"fp32": 1.64})
        'int8, 1.6 times as fast as fp32 here'
        >>> told("fp32", {})
        'fp32'
    """
    if not ratios:
        return precision
    return f"{precision}, {' and '.join(f'{ratio:.1f} times as fast as {name}' for name, ratio in ratios.items())} here"


def recall(circumstances: Circumstances) -> dict[str, float] | None:
    """What `remember` wrote under the same circumstances; None where there is nothing of the kind."""
    try:
        path = _place(circumstances)
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.debug("the fastest precision is not remembered: %s", error)
        return None
    if not isinstance(values, dict) or values.get("circumstances") != asdict(circumstances):
        return None
    ms = values.get("ms")
    if not isinstance(ms, dict) or set(ms) != set(circumstances.graphs):
        return None
    if not all(type(taken) in (int, float) and 0 < taken < 1e9 for taken in ms.values()):  # a NaN fails too
        return None
    return {name: float(ms[name]) for name in circumstances.graphs}


def remember(circumstances: Circumstances, ms: Mapping[str, float]) -> None:
    """Keeps a measurement for the next start; where that cannot be done, it will be made again.

    Args:
        circumstances: under which it was made.
        ms: milliseconds by precision.
    """
    values = {"circumstances": asdict(circumstances), "ms": dict(ms)}
    unfinished = None
    try:
        path = _place(circumstances)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".", suffix=path.suffix, delete=False
        ) as file:
            unfinished = Path(file.name)
            json.dump(values, file, indent=1)
        unfinished.replace(path)
    except OSError as error:
        log.debug("the fastest precision cannot be remembered: %s", error)
        if unfinished is not None:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def _place(circumstances: Circumstances) -> Path:
    """The file for these circumstances: one for each, so that processes at the same time have nothing to merge.

    Raises:
        OSError: there is no folder for it.
    """
    digest = hashlib.sha256(json.dumps(asdict(circumstances), sort_keys=True).encode()).hexdigest()
    return _cache_folder() / f"fastest-{digest[:16]}.json"


def _cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    folder = user_cache_path("ageinfer", appauthor=False)
    if not folder.is_absolute():  # a user without a home; not into whatever folder this is
        raise FileNotFoundError("this user has no home folder")
    return folder
