"""The latency of a model file on this machine."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ageinfer.engine.sessions import open_session
from ageinfer.types import Image

_WARM_UP, _FEWEST_CALLS = 5, 25


@dataclass(frozen=True, slots=True)
class Latency:
    """One timing of a model file.

    Attributes:
        batch: faces at once.
        threads: of the CPU.
        latency_ms: median of a call.
        fastest_ms: the fastest call, which a busy machine disturbs least.
        calls: that were timed.
    """

    batch: int
    threads: int
    latency_ms: float
    fastest_ms: float
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the timing as JSON values."""
        return asdict(self)


def compare(models: Sequence[bytes], faces: Image, *, seconds: float = 1.0) -> tuple[tuple[float, ...], int]:
    """Times model files in turns, call by call, on one CPU thread, so that a busy machine disturbs all alike.

    Args:
        models: the files.
        faces: uint8 ``[n, side, side, 3]``, RGB; one is given.
        seconds: to spend on each, after a warm-up.

    Returns:
        The median of a call of each in milliseconds, and how often each was called.
    """
    sessions = [open_session(model, "the model", "cpu", 1) for model in models]
    given = {"face": faces[:1]}
    times: list[list[float]] = [[] for _ in models]
    end = math.inf
    while len(times[0]) < _WARM_UP + _FEWEST_CALLS or time.perf_counter() < end:
        for session, of_session in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(["age"], given)
            of_session.append(time.perf_counter() - start)
        if len(times[0]) == _WARM_UP:
            end = time.perf_counter() + seconds * len(models)
    medians = tuple(1000 * statistics.median(of_session[_WARM_UP:]) for of_session in times)
    return medians, len(times[0]) - _WARM_UP


def time_model(
    model: bytes, faces: Image, *, batch: int = 1, threads: int = 1, seconds: float = 1.0, provider: str = "cpu"
) -> Latency:
    """Times a model file in ONNX Runtime, pixels in, years out.

    Args:
        model: the file.
        faces: uint8 ``[n, side, side, 3]``, RGB; repeated as far as the batch needs.
        batch: see `Latency`.
        threads: see `Latency`.
        seconds: to spend on it, after a warm-up.
        provider: see `ageinfer.engine.sessions.open_session`.
    """
    session = open_session(model, "the model", provider, threads)
    given = {"face": np.resize(faces, (batch, *faces.shape[1:]))}
    for _ in range(3):
        session.run(["age"], given)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(["age"], given)
        times.append(time.perf_counter() - start)
    return Latency(
        batch, threads, round(1000 * statistics.median(times), 3), round(1000 * min(times), 3), len(times)
    )  # fmt: skip
