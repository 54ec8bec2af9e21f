"""How fast a model is in each precision on this machine, for ``ageinfer doctor`` and ``ageinfer bench``.

No rule answers that: what 8 bits gain depends on the processor's instructions, on the threads and on the provider. It
never decides which file is opened, because the same picture must get the same answer on two machines.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ageinfer.engine.estimator import AgeEstimator, precisions_of

BATCH = 4  # faces, as a picture or a video may have them
_FEWEST_TURNS, _MOST_TURNS, _PATIENCE_S = 5, 15, 0.15


def compare_precisions(
    model: str | Path | None = None, *, provider: str = "auto", threads: int | None = None
) -> dict[str, float]:
    """Times the precisions of a model against each other, with four faces at once.

    Args:
        model: path of a file, or name of a shipped model; None for the default model.
        provider: see `ageinfer.engine.sessions.open_session`.
        threads: of the network; None: half of the cores, at most 4.

    Returns:
        The median time of each precision in milliseconds; empty where there is only one.

    Raises:
        ModelError: there is no such model, or one of its files is broken.
    """
    files = precisions_of(model)
    if len(files) < 2:
        return {}
    calls = {}
    for precision, path in files.items():
        estimator = AgeEstimator(path, provider=provider, threads=threads)
        size = estimator.metadata.crop.size
        faces = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
        calls[precision] = partial(estimator.estimate, faces)
    return measure(calls)


def measure(
    calls: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Times calls against each other.

    They take turns, so that whatever else the machine does strikes all of them: 15 turns. From the fifth on it stops
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


def in_words(used: str, ms: Mapping[str, float]) -> str:
    """What a comparison means for the precision that is used; empty where there was nothing to compare.

    Example:
        >>> in_words("int8", {"int8": 5.0, "fp32": 8.0})
        'int8 is 1.6 times as fast as fp32 here'
        >>> in_words("int8", {"int8": 9.0, "fp32": 6.0})
        'fp32 would be 1.5 times as fast as int8 here: --precision fp32'
    """
    if used not in ms or len(ms) < 2:
        return ""
    fastest = min(ms, key=ms.__getitem__)
    if fastest != used:
        return f"{fastest} would be {ms[used] / ms[fastest]:.1f} times as fast as {used} here: --precision {fastest}"
    ratios = (f"{taken / ms[used]:.1f} times as fast as {name}" for name, taken in ms.items() if name != used)
    return f"{used} is {' and '.join(ratios)} here"
