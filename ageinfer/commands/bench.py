"""``ageinfer bench``: where the time goes, stage by stage, and how far that is from the bare networks."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.console import put
from ageinfer.detect import FaceDetector, WholePicture
from ageinfer.engine.fastest import told
from ageinfer.errors import ExitStatus, SourceError, UsageError
from ageinfer.images import cv2
from ageinfer.pipeline import Followed, Pipeline, largest_look
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sources import Source, open_source
from ageinfer.types import DEFAULT_FPS, Detection, Frame, FrameResult, Image

STAGES = (
    "decode", "detect network", "detect rest", "crop", "age network", "age rest", "record", "draw", "encode",
)  # fmt: skip
# What a run to JSONL does; drawing and encoding are for pictures and video.
_NEEDED = STAGES[:7]
_NETWORKS = ("decode", "detect network", "age network")


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured. Times are milliseconds a frame unless the name says otherwise.

    Attributes:
        source, frames, faces, size: what was processed; width and height in pixels.
        model, precision, detector, provider, threads: with what; threads of each network.
        times_as_fast: as the same age model in other precisions, where that was measured to choose among them.
        p50_ms, p95_ms, mean_ms: of each stage, one frame after the other in one thread.
        fps_sequential: frames a second of the stages up to the record, from their means.
        fps: frames a second as ``ageinfer SOURCE --jsonl F`` works: decoding and detection ahead, in threads, and the
            faces of several frames of a file estimated together.
        bound_ms: decoding and the two bare networks at the same sizes, measured alone in the same run.
        overhead: what the stages up to the record take, in units of that.
        share_outside: of the time up to the record, what is neither decoding nor a network.
        memory_mb: largest resident memory of the process; None where the system does not say.
    """

    source: str
    frames: int
    faces: int
    size: tuple[int, int]
    model: str
    precision: str
    times_as_fast: dict[str, float]
    detector: str
    provider: str
    threads: int
    p50_ms: dict[str, float]
    p95_ms: dict[str, float]
    mean_ms: dict[str, float]
    fps_sequential: float
    fps: float
    bound_ms: float
    overhead: float
    share_outside: float
    memory_mb: float | None


class _Clock:
    """The time of every stage in milliseconds, frame by frame; what other stages take inside of one is taken out."""

    def __init__(self) -> None:
        self.frames: list[dict[str, float]] = []
        self._accounted_ms = 0.0

    def begin(self) -> None:
        self.frames.append(dict.fromkeys(STAGES, 0.0))

    def run(self, stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Does the work on the stage's account."""
        account, before_ms = self.frames[-1], self._accounted_ms
        start = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            took_ms = (time.perf_counter() - start) * 1e3
            account[stage] += took_ms - (self._accounted_ms - before_ms)
            self._accounted_ms = before_ms + took_ms


class _TimedSession:
    """An ONNX Runtime session on the account of a stage; remembers the sizes that it was given."""

    def __init__(self, session: Any, clock: _Clock, stage: str) -> None:
        self._session, self._clock, self._stage = session, clock, stage
        self.fed: list[tuple[int, ...]] = []

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        self.fed.append(next(iter(feed.values())).shape)
        return self._clock.run(self._stage, self._session.run, outputs, feed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _TimedPipeline(Pipeline):
    clock: _Clock

    def crop(self, image: Image, detections: Any) -> Image:
        return self.clock.run("crop", super().crop, image, detections)

    def _find(self, image: Image) -> list[Detection]:  # of pictures; in video the steps of `followed` are timed
        return self.clock.run("detect rest", super()._find, image)


def measure(source: Callable[[], Source], pipeline: Pipeline, frames: int) -> Bench:
    """Measures a source stage by stage: a video as it is followed, pictures one by one.

    Args:
        source: opens it; called again whenever it has ended before ``frames``.
        pipeline: its detector is timed apart from its network where it has a network of ONNX Runtime.
        frames: how many to process; 1 or more.

    Raises:
        AgeError: the source cannot be read.
    """
    first = _Loop(source, 1)
    next(iter(pipeline.run(first)))  # caches and pages are warm from here on
    clock = _Clock()
    timed, sessions = _timed(pipeline, clock)
    faces, size = 0, (0, 0)

    def feed() -> Iterator[Frame]:
        stream = iter(_Loop(source, frames))
        while (frame := clock.run("decode", next, stream, None)) is not None:
            yield frame

    def follow() -> Iterator[Followed]:
        steps = timed.followed(feed(), largest_side=largest_look(first))
        while (step := clock.run("detect rest", next, steps, None)) is not None:
            yield step

    def one_by_one() -> Iterator[tuple[Frame, FrameResult]]:
        for frame in feed():
            yield from timed.pictures([frame])

    # Of a video one for all frames: it remembers the tracks.
    results = timed.aged(follow()) if first.kind in ("video", "camera") else one_by_one()
    clock.begin()
    while (done := clock.run("age rest", next, results, None)) is not None:
        frame, result = done
        clock.run("record", lambda r: json.dumps(r.to_record()), result)
        drawn = clock.run("draw", lambda f, r: AnnotatedFrame(f, r).image, frame, result)
        clock.run("encode", cv2.imencode, ".jpg", drawn)
        faces, size = faces + len(result.faces), result.size
        clock.begin()
    clock.frames.pop()
    if not clock.frames:
        raise SourceError(f"{first.name}: no frame to measure; give a picture or a video that can be decoded")
    p50_ms, p95_ms = (
        {stage: float(np.percentile([f[stage] for f in clock.frames], q)) for stage in STAGES} for q in (50, 95)
    )

    began = time.perf_counter()
    written = sum(1 for _, result in pipeline.run(_Loop(source, frames)) if json.dumps(result.to_record()))
    fps = written / (time.perf_counter() - began)
    # Means: where only some frames are looked at whole, medians do not add up.
    mean_ms = {stage: float(np.mean([f[stage] for f in clock.frames])) for stage in STAGES}
    bound = mean_ms["decode"] + sum(map(_alone_ms, sessions)) / len(clock.frames)
    needed = sum(mean_ms[stage] for stage in _NEEDED)
    return Bench(
        source=first.name,
        frames=len(clock.frames),
        faces=faces,
        size=size,
        model=pipeline.estimator.metadata.name,
        precision=pipeline.estimator.metadata.precision,
        times_as_fast=pipeline.estimator.times_as_fast,
        detector=pipeline.detector.identifier,
        provider=pipeline.estimator.provider,
        threads=pipeline.estimator.threads,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        mean_ms=mean_ms,
        fps_sequential=1000 / needed,
        fps=fps,
        bound_ms=bound,
        overhead=needed / bound,
        share_outside=1 - sum(mean_ms[stage] for stage in _NETWORKS) / needed,
        memory_mb=largest_memory_mb(),
    )


class _Loop(Source):
    """A source from the beginning again and again, up to a number of frames; its times go on."""

    def __init__(self, source: Callable[[], Source], frames: int) -> None:
        self._open, self._frames = source, frames
        with source() as first:
            self.kind, self.name, self.fps = first.kind, first.name, first.fps

    def __iter__(self) -> Iterator[Frame]:
        index, begins_s, time_s = 0, 0.0, 0.0
        while index < self._frames:
            before = index
            with self._open() as source:
                for frame in source:
                    if frame.time_s is not None:
                        time_s = begins_s + frame.time_s
                    yield replace(frame, index=index, time_s=None if frame.time_s is None else time_s)
                    index += 1
                    if index == self._frames:
                        return
            if index == before:
                return
            begins_s = time_s + 1 / (self.fps or DEFAULT_FPS)


def _timed(pipeline: Pipeline, clock: _Clock) -> tuple[_TimedPipeline, list[_TimedSession]]:
    """The same pipeline, its networks and crops on the clock's accounts; the original is left as it is."""
    sessions = []

    def timed(part: Any, stage: str) -> Any:
        if isinstance(part, WholePicture):  # has nothing to time, and the pipeline must recognise it
            return part
        if not hasattr(part, "_session"):  # dlib's
            return _TimedDetector(part, clock)
        copy = object.__new__(type(part))
        copy.__dict__.update(part.__dict__)
        copy._session = _TimedSession(part._session, clock, stage)
        sessions.append(copy._session)
        return copy

    detector, estimator = timed(pipeline.detector, "detect network"), timed(pipeline.estimator, "age network")
    made = _TimedPipeline(detector, estimator, pipeline.looking)
    made.clock = clock
    return made, sessions


class _TimedDetector:
    def __init__(self, detector: FaceDetector, clock: _Clock) -> None:
        self.identifier, self._detector, self._clock = detector.identifier, detector, clock

    def detect(self, image: Image) -> list[Detection]:
        return self._clock.run("detect network", self._detector.detect, image)


def _alone_ms(timed: _TimedSession) -> float:
    """How long the session takes for all that it was given, alone: the mean at each size, times their number."""
    session = timed._session
    [entry] = session.get_inputs()
    kind = np.uint8 if entry.type == "tensor(uint8)" else np.float32
    total = 0.0
    for shape in set(timed.fed):
        feed = {entry.name: np.random.default_rng(0).integers(0, 255, shape).astype(kind)}
        session.run(None, feed)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
        total += float(np.mean(times)) * timed.fed.count(shape)
    return total


def largest_memory_mb() -> float | None:
    """The largest resident memory of this process so far, in megabytes; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e3)


def rendered(bench: Bench) -> str:
    """The measurement as a table for people."""
    lines = [
        f"{bench.source}: {bench.frames} frames of {bench.size[0]} x {bench.size[1]}, {bench.faces} faces",
        f"{bench.model} ({told(bench.precision, bench.times_as_fast)}) and {bench.detector} on {bench.provider}, "
        f"{bench.threads} thread(s) a network",
        "",
        f"{'stage':<16}{'p50 ms':>9}{'p95 ms':>9}",
    ]
    for stage in STAGES:
        lines.append(
            f"{stage:<16}{bench.p50_ms[stage]:>9.2f}{bench.p95_ms[stage]:>9.2f}"
            + ("" if stage in _NEEDED else "  (with --output alone)")
        )
    return "\n".join(
        [
            *lines,
            "",
            f"one after the other: {bench.fps_sequential:.0f} frames a second",
            f"as ageinfer works:   {bench.fps:.0f} frames a second",
            f"bound: decoding and the bare networks, {bench.bound_ms:.2f} ms a frame; all stages to the record take "
            f"{bench.overhead:.2f} times that",
            f"outside decoding and networks: {bench.share_outside:.0%} of the time to the record",
            "" if bench.memory_mb is None else f"largest resident memory: {bench.memory_mb:.0f} MB",
        ]
    )


def run(options: argparse.Namespace, pipeline: Pipeline) -> ExitStatus:
    """Measures ``options.source`` and prints the result; as JSON with ``options.json``.

    Raises:
        AgeError: the source cannot be read.
    """
    if options.frames < 1:
        raise UsageError(f"--frames {options.frames}: use 1 or more")
    bench = measure(lambda: open_source(Path(options.source)), pipeline, options.frames)
    put(json.dumps(asdict(bench)) if options.json else rendered(bench))
    return ExitStatus.OK
