"""``ageinfer bench``: where the time goes, stage by stage, and how far that is from the bare networks."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ageinfer.console import as_message, put
from ageinfer.detect import FaceDetector, WholePicture
from ageinfer.engine.sessions import Network
from ageinfer.engine.speed import compare_precisions, in_words
from ageinfer.errors import ExitStatus, SourceError, UsageError
from ageinfer.images import cv2
from ageinfer.pipeline import Pipeline, largest_look
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sources import Source, open_source
from ageinfer.types import DEFAULT_FPS, Detection, Frame, Image

STAGES = (
    "decode", "detect network", "detect rest", "crop", "age network", "age rest", "record", "draw", "encode",
)  # fmt: skip
# What a run to JSONL does; drawing and encoding are for pictures and video.
_NEEDED = STAGES[:7]
_NETWORKS = ("decode", "detect network", "age network")
# The pipeline's names of stages whose networks are apart here.
_IN_TABLE = {"detect": "detect rest", "age": "age rest"}


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured. Times are milliseconds a frame unless the name says otherwise.

    Attributes:
        source, frames, faces, size: what was processed; width and height in pixels.
        model, precision, detector, provider, threads: with what; threads of each network.
        ms_by_precision: four faces at once in each precision of the age model; empty where there is only one.
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
    ms_by_precision: dict[str, float]
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

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Puts the time within on the stage's account; its name as the pipeline or the table has it."""
        account, before_ms = self.frames[-1], self._accounted_ms
        start = time.perf_counter()
        try:
            yield
        finally:
            took_ms = (time.perf_counter() - start) * 1e3
            account[_IN_TABLE.get(name, name)] += took_ms - (self._accounted_ms - before_ms)
            self._accounted_ms = before_ms + took_ms

    def add(self, name: str, seconds: float) -> None:
        """Puts time that has passed within a stage on another one's account."""
        self.frames[-1][name] += seconds * 1e3
        self._accounted_ms += seconds * 1e3


class _Watch:
    """What a network does while it is watched: its time on the account of a stage, and the sizes it is given."""

    def __init__(self, network: Network, clock: _Clock, stage: str) -> None:
        self._network, self._clock, self._stage = network, clock, stage
        self._fed: list[tuple[int, ...]] = []

    def __enter__(self) -> "_Watch":
        self._network.on_run = self._take
        return self

    def __exit__(self, *_: object) -> None:
        self._network.on_run = None

    def _take(self, shape: tuple[int, ...], seconds: float) -> None:
        self._fed.append(shape)
        self._clock.add(self._stage, seconds)

    def alone_ms(self) -> float:
        """How long the network takes for all that it was given, alone: the mean at each size, times their number."""
        [(name, kind, _)] = self._network.inputs
        total = 0.0
        for shape in set(self._fed):
            values = np.random.default_rng(0).integers(0, 255, shape)
            feed = {name: values.astype(np.uint8 if kind == "tensor(uint8)" else np.float32)}
            self._network.run(None, feed)
            times = []
            for _ in range(20):
                start = time.perf_counter()
                self._network.run(None, feed)
                times.append((time.perf_counter() - start) * 1e3)
            total += float(np.mean(times)) * self._fed.count(shape)
        return total


class _TimedDetector:
    """A detector without a network of ONNX Runtime (dlib's), all of whose time counts as its network's."""

    def __init__(self, detector: FaceDetector, clock: _Clock) -> None:
        self.identifier, self._detector, self._clock = detector.identifier, detector, clock

    def detect(self, image: Image) -> list[Detection]:
        with self._clock.stage("detect network"):
            return self._detector.detect(image)


def measure(
    source: Callable[[], Source], pipeline: Pipeline, frames: int, ms_by_precision: dict[str, float] | None = None
) -> Bench:
    """Measures a source stage by stage: a video as it is followed, pictures one by one.

    Args:
        source: opens it; called again whenever it has ended before ``frames``.
        pipeline: its detector is timed apart from its network where it has a network of ONNX Runtime.
        frames: how many to process; 1 or more.
        ms_by_precision: of the age model, to be told with the rest.

    Raises:
        AgeError: the source cannot be read.
    """
    first = _Loop(source, 1)
    next(iter(pipeline.run(first)))  # caches and pages are warm from here on
    clock, networks, detector = _Clock(), ExitStack(), pipeline.detector
    watches = []
    with networks:
        watches.append(networks.enter_context(_Watch(pipeline.estimator.network, clock, "age network")))
        if isinstance(network := getattr(detector, "network", None), Network):
            watches.append(networks.enter_context(_Watch(network, clock, "detect network")))
        elif not isinstance(detector, WholePicture):  # which has nothing to time, and must be recognised
            detector = _TimedDetector(detector, clock)
        timed = Pipeline(detector, pipeline.estimator, pipeline.looking, timer=clock.stage)
        faces, size = _process(_Loop(source, frames), timed, clock, largest_side=largest_look(first))
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
    bound = mean_ms["decode"] + sum(watch.alone_ms() for watch in watches) / len(clock.frames)
    needed = sum(mean_ms[stage] for stage in _NEEDED)
    return Bench(
        source=first.name,
        frames=len(clock.frames),
        faces=faces,
        size=size,
        model=pipeline.estimator.metadata.name,
        precision=pipeline.estimator.metadata.precision,
        ms_by_precision=ms_by_precision or {},
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


def _process(
    source: Source, pipeline: Pipeline, clock: _Clock, *, largest_side: int | None
) -> tuple[int, tuple[int, int]]:
    """Passes the frames through, one after the other; returns the number of faces and the size of the last frame."""
    tracker = pipeline.start(largest_side=largest_side) if source.kind in ("video", "camera") else pipeline
    faces, size = 0, (0, 0)
    stream = iter(source)
    clock.begin()
    while True:
        with clock.stage("decode"):
            frame = next(stream, None)
        if frame is None:
            break
        result = tracker(frame)
        with clock.stage("record"):
            json.dumps(result.to_record())
        with clock.stage("draw"):
            drawn = AnnotatedFrame(frame, result).image
        with clock.stage("encode"):
            cv2.imencode(".jpg", drawn)
        faces, size = faces + len(result.faces), result.size
        clock.begin()
    clock.frames.pop()
    return faces, size


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
        f"{as_message(bench.source)}: {bench.frames} frames of {bench.size[0]} x {bench.size[1]}, {bench.faces} faces",
        f"{as_message(bench.model)} ({bench.precision}) and {bench.detector} on {bench.provider}, "
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
            *filter(None, [in_words(bench.precision, bench.ms_by_precision)]),
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
    compared = compare_precisions(options.model, provider=options.provider, threads=options.threads)
    bench = measure(lambda: open_source(Path(options.source)), pipeline, options.frames, compared)
    put(json.dumps(asdict(bench)) if options.json else rendered(bench))
    return ExitStatus.OK
