"""From frames to faces with ages: detect, track, crop, estimate, smooth."""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ageinfer.ahead import ahead
from ageinfer.crop.cut import crop_faces
from ageinfer.detect import FaceDetector, WholePicture, detect_closely, detect_reduced, open_detector
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.errors import SourceError, UsageError
from ageinfer.sources import Source
from ageinfer.tracking.age import AgeFusion
from ageinfer.tracking.follower import FULL_SIZE_EVERY_S, FaceFollower
from ageinfer.types import Age, Detection, Face, Frame, FrameResult, Image

# Pictures wait for each other until so many faces fill a batch, but not longer than their pixels are few.
_BATCH_FACES, _BATCH_PIXELS = 16, 24_000_000
# Decoded frames that wait, and what waits between the two halves of the work on a video, each in its own thread.
_FRAMES_AHEAD, _STEPS_AHEAD, _BYTES_AHEAD = 8, 4, 48 << 20
# Frames of a video file whose faces are estimated together: four faces at once take 0.85 of the time of four single
# ones (one thread, AMD EPYC, age-small), because the weights are read once.
_FRAMES_AT_ONCE = 4
# Frames that come more slowly than that do not wait for each other.
_LONGEST_WAIT_S = 0.05
# The largest look at a whole frame; what only a larger one finds is too small for an age. (At 8 megapixels, a run took
# 1.1 GB instead of 0.7, and 1.5 times as long.)
_LIVE_SIDE_PX, _FILE_SIDE_PX = 960, 2560
_TIME_ROUNDING_S = 1e-3  # of the times of frames, so that 0.2 s at 25 frames a second are five of them
# Beyond that, a track would no longer notice within a second that somebody else has taken the place.
_LONGEST_AGE_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class Looking:
    """How faces are looked for.

    Attributes:
        max_side: a frame is reduced to this side, in pixels, before detection; None: never; ``auto``: pictures as
            `ageinfer.detect.detect_closely` does, video as `ageinfer.tracking.follower.FaceFollower` does.
        every: in video, at every so-manieth whole frame, with tracking in between; None: as few as the scene allows.
        least_face_px: faces whose longer side is shorter are dropped.
        largest_side: with ``auto`` on video, the largest side of a look; None for the frame's own, and in
            `Pipeline.run` for what `largest_look` says.
        full_size_every_s: with ``auto`` on video, seconds between two looks at that size.
        age_interval_s: in video, seconds between two estimates of a face whose age has settled; 0 for every frame.
    """

    max_side: int | Literal["auto"] | None = "auto"
    every: int | None = None
    least_face_px: float = 0.0
    largest_side: int | None = None
    full_size_every_s: float = FULL_SIZE_EVERY_S
    age_interval_s: float = 0.2

    def __post_init__(self) -> None:
        if isinstance(self.max_side, int) and self.max_side < 32:
            raise UsageError(f"detection side {self.max_side} px is too small: use 32 or more")
        if self.every is not None and self.every < 1:
            raise UsageError(f"detection at every {self.every}th frame: use 1 or more")
        if not 0 <= self.age_interval_s <= _LONGEST_AGE_INTERVAL_S:  # a NaN fails too
            raise UsageError(f"an age every {self.age_interval_s:g} s: use 0 to {_LONGEST_AGE_INTERVAL_S:g}")


class Pipeline:
    """Finds the faces of a frame and estimates the age of each, all faces together.

    Called with a frame, it looks at that frame alone. `pictures` does so for many, with the faces of several in one
    batch; `video` follows faces from frame to frame and gives each track one age.

    Args:
        detector: finds the faces.
        estimator: estimates their ages; its metadata say how faces are cropped.
        looking: how faces are looked for.

    Example:
        >>> import numpy as np
        >>> pipeline = Pipeline.default()
        >>> pipeline(np.zeros((120, 160, 3), np.uint8)).faces
        ()
    """

    def __init__(self, detector: FaceDetector, estimator: AgeEstimator, looking: Looking | None = None) -> None:
        self.detector = detector
        self.estimator = estimator
        self.looking = looking or Looking()

    @classmethod
    def default(
        cls,
        model: str | Path | None = None,
        detector: str = "yunet",
        *,
        detector_file: str | Path | None = None,
        looking: Looking | None = None,
        precision: str = "auto",
        provider: str = "auto",
        threads: int | None = None,
    ) -> "Pipeline":
        """Opens a detector and an age model, each by name or path; without arguments, those that are shipped.

        ``model`` and ``precision`` are those of `ageinfer.engine.estimator.AgeEstimator`.

        A model that was trained on whole pictures (crop kind ``resize``) gets `ageinfer.detect.WholePicture`
        instead of the detector that was named.

        Raises:
            AgeError: one of them cannot be opened; the message says why.
        """
        estimator = AgeEstimator(model, precision=precision, provider=provider, threads=threads)
        if estimator.metadata.crop.kind == "resize":
            return cls(WholePicture(), estimator)
        opened = open_detector(detector, file=detector_file, provider=provider, threads=threads)
        return cls(opened, estimator, looking)

    def __call__(self, frame: Frame | Image) -> FrameResult:
        """Processes one frame by itself.

        Args:
            frame: a `Frame`, or its picture alone: uint8 BGR ``[height, width, 3]``.

        Raises:
            ValueError: the picture has another type or shape.
        """
        if not isinstance(frame, Frame):
            frame = Frame(source="", index=0, time_s=None, image=frame)
        [(_, result)] = self.pictures([frame])
        return result

    def run(self, source: Source) -> Generator[tuple[Frame, FrameResult]]:
        """Processes a source as its kind deserves: `pictures` or `video`, ahead of whoever takes the results.

        Of a live source nothing is done ahead, so that the newest frame is the one that is shown. Where ``looking``
        leaves the choice, looks at whole frames are reduced as `largest_look` says.

        Yields:
            Each frame with its result.

        Raises:
            SourceError: the source ends with an error.
        """
        side = largest_look(source)
        if source.kind == "camera":
            return self.aged(self.followed(source, largest_side=side))
        if source.kind != "video":
            pictures = ahead(source, _FRAMES_AHEAD, weight=_size, most_weight=_BYTES_AHEAD, pauses=True)
            return self.pictures(pictures)
        frames = ahead(source, _FRAMES_AHEAD, weight=_size, most_weight=_BYTES_AHEAD)
        steps = ahead(
            self.followed(frames, largest_side=side),
            _STEPS_AHEAD,
            weight=lambda s: s.frame.image.nbytes,
            most_weight=_BYTES_AHEAD,
        )
        return self.aged(steps, at_once=_FRAMES_AT_ONCE)

    def pictures(self, frames: Iterable[Frame | None]) -> Generator[tuple[Frame, FrameResult]]:
        """Processes frames that have nothing to do with each other, in their order.

        Args:
            frames: uint8 BGR pictures of any sizes. Some are taken before the first is given back; None among them asks
                for what was taken so far, because the next one is not there yet.

        Yields:
            Each frame with its result; where ``frames`` end with a `SourceError`, those before it come first.

        Raises:
            ValueError: a picture has another type or shape.
            SourceError: as ``frames`` raise it.
        """
        waiting: list[tuple[Frame, list[Detection], Image]] = []
        faces = pixels = 0
        pictures = iter(frames)
        ended: SourceError | None = None
        while True:
            try:
                frame = next(pictures)
            except StopIteration:
                break
            except SourceError as error:
                ended = error
                break
            if frame is None:
                yield from self._estimated(waiting)
                waiting, faces, pixels = [], 0, 0
                continue
            detections = self._find(_checked(frame.image))
            crops = self.crop(frame.image, detections)
            waiting.append((frame, detections, crops))
            faces, pixels = faces + len(crops), pixels + frame.image.size
            if faces >= _BATCH_FACES or pixels >= _BATCH_PIXELS:
                yield from self._estimated(waiting)
                waiting, faces, pixels = [], 0, 0
        yield from self._estimated(waiting)
        if ended is not None:
            raise ended

    def video(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        """Processes the frames of a video or of a camera: every face has a track, and an age over the track.

        Args:
            frames: uint8 BGR pictures, in the order of time.

        Yields:
            Each frame with its result.

        Raises:
            ValueError: a picture has another type or shape.
        """
        return self.aged(self.followed(frames))

    def followed(self, frames: Iterable[Frame], *, largest_side: int | None = None) -> Iterator["Followed"]:
        """The first half of `video`, which may run in a thread of its own: where the faces are, and whose they are.

        Args:
            frames: as there.
            largest_side: of a look, in pixels, where ``looking`` does not say it.
        """
        if isinstance(self.detector, WholePicture):  # there is nothing to follow
            for frame in frames:
                yield Followed(frame, self._find(_checked(frame.image)))
            return
        look = self.looking
        follower = FaceFollower(
            self.detector,
            detect_every=look.every,
            max_side=look.max_side,
            largest_side=look.largest_side or largest_side,
            full_size_every_s=look.full_size_every_s,
            least_face_px=look.least_face_px,
        )
        for frame in frames:
            _checked(frame.image)
            detections, numbers = follower(frame)
            yield Followed(frame, detections, numbers, follower.alive, follower.time_s)

    def aged(self, followed: Iterable["Followed"], *, at_once: int = 1) -> Generator[tuple[Frame, FrameResult]]:
        """The second half of `video`: the ages of the faces, and of their tracks.

        An age that has settled gains nothing from 25 estimates a second, so a face is then cropped and asked about now
        and then.

        Args:
            followed: from `followed`.
            at_once: the faces of so many frames are estimated together, of fewer where frames are large or come slowly.
                The results are the same, but for the last digits of what a network computes in batches.
        """
        tracks: dict[int, _AgedTrack] = {}
        for steps in _in_groups(followed, at_once):
            for step, ages in zip(steps, self._foreseen(steps, tracks), strict=True):
                if step.numbers is None:
                    yield step.frame, _result(step.frame, [Face(d, ages[i]) for i, d in enumerate(step.detections)])
                    continue
                tracks = {n: tracks.get(n) or _AgedTrack() for n in step.alive}
                faces_of = [tracks[n] for n in step.numbers]
                due = [i for i, t in enumerate(faces_of) if t.due(step.time_s, self.looking.age_interval_s)]
                late = [i for i in due if i not in ages]  # of a track that began anew in this group
                if late:
                    found = self.estimator.estimate(self.crop(step.frame.image, [step.detections[i] for i in late]))
                    ages.update(zip(late, found, strict=True))
                for i in due:
                    faces_of[i].take(ages[i], step.time_s)
                faces = [
                    t.face(detection, n, step.time_s)
                    for t, detection, n in zip(faces_of, step.detections, step.numbers, strict=True)
                ]
                yield step.frame, _result(step.frame, faces)

    def _foreseen(self, steps: Sequence["Followed"], tracks: "dict[int, _AgedTrack]") -> list[dict[int, Age]]:
        """The ages that will be due in some frames, each by the place of its face, if no track begins anew in them."""
        asked_s: dict[int, float] = {}
        due: list[list[int]] = []
        for step in steps:
            faces: Iterable[int] = range(len(step.detections))
            if step.numbers is not None:
                numbers, interval_s = step.numbers, self.looking.age_interval_s
                faces = [
                    i
                    for i, n in enumerate(numbers)
                    if n not in tracks or tracks[n].due(step.time_s, interval_s, asked_s.get(n))
                ]
                asked_s.update({numbers[i]: step.time_s for i in faces})
            due.append(list(faces))
        crops = [
            self.crop(step.frame.image, [step.detections[i] for i in faces])
            for step, faces in zip(steps, due, strict=True)
        ]
        ages = iter(self.estimator.estimate(np.concatenate(crops)))
        return [{i: next(ages) for i in faces} for faces in due]

    def _find(self, image: Image) -> list[Detection]:
        side = self.looking.max_side
        find = self.detector
        found = detect_closely(find, image) if side == "auto" else detect_reduced(find, image, side)
        return [d for d in found if max(d.box[2:]) >= self.looking.least_face_px]

    def crop(self, image: Image, detections: Sequence[Detection]) -> Image:
        """The faces of a uint8 BGR picture as the model wants them: uint8 ``[n, size, size, 3]``, RGB."""
        crop = self.estimator.metadata.crop
        return crop_faces(image, [d.box for d in detections], crop, [d.landmarks for d in detections])

    def _estimated(self, waiting: list[tuple[Frame, list[Detection], Image]]) -> Iterator[tuple[Frame, FrameResult]]:
        if not waiting:
            return
        ages: Iterator[Age] = iter(self.estimator.estimate(np.concatenate([crops for _, _, crops in waiting])))
        for frame, detections, _ in waiting:
            yield frame, _result(frame, [Face(d, next(ages)) for d in detections])


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """A frame of a video on its way: the faces are found, their ages are not estimated.

    Attributes:
        frame: as it came.
        detections: its faces.
        numbers: of their tracks, or None where nothing is followed.
        alive: numbers of the tracks that have not ended.
        time_s: of the frame, in seconds; where faces are followed, later than that of the frame before.
    """

    frame: Frame
    detections: list[Detection]
    numbers: list[int] | None = None
    alive: frozenset[int] = frozenset()
    time_s: float = 0.0


class _AgedTrack:
    """The newest age of a face that is followed, and the one over its track."""

    def __init__(self) -> None:
        self._fusion = AgeFusion()
        self._newest: tuple[Age, float] | None = None

    def due(self, time_s: float, interval_s: float, asked_s: float | None = None) -> bool:
        """Whether the face is to be asked about in this frame.

        Args:
            time_s: of the frame, in seconds.
            interval_s: between two answers of a face whose age has settled, in seconds.
            asked_s: time of a frame in which it will have been asked about by then, later than all that was taken.
        """
        if self._newest is None or not self._fusion.settled(time_s):
            return True
        newest_s = self._newest[1] if asked_s is None else asked_s
        return time_s - newest_s > interval_s - _TIME_ROUNDING_S

    def take(self, age: Age, time_s: float) -> None:
        """Keeps the answer."""
        self._newest = age, time_s
        self._fusion.add(age, time_s)

    def face(self, detection: Detection, number: int, time_s: float) -> Face:
        """The face of a frame, once anything was taken."""
        if self._newest is None:
            raise RuntimeError("no age of this face was ever estimated")
        age, estimated_s = self._newest
        return Face(detection, age, number, self._fusion.shown_years, time_s - estimated_s)


def largest_look(source: Source) -> int | None:
    """The side in pixels to which looks at whole frames of a source are reduced; None: not at all."""
    return {"camera": _LIVE_SIDE_PX, "video": _FILE_SIDE_PX}.get(source.kind)


def _in_groups(steps: Iterable[Followed], most: int) -> Iterator[list[Followed]]:
    """So many together, fewer of large pictures and of those that come slowly, down to one.

    Where they end with an error, those before it come first.
    """
    following = iter(steps)
    error: Exception | None = None
    more = True
    waited_s = math.inf  # for the last one
    while more:
        group: list[Followed] = []
        pixels = 0
        try:
            while not group or (len(group) < most and pixels < _BATCH_PIXELS and waited_s < _LONGEST_WAIT_S):
                began_s = time.monotonic()
                group.append(next(following))
                waited_s = time.monotonic() - began_s
                pixels += group[-1].frame.image.size
        except StopIteration:
            more = False
        except Exception as caught:
            error, more = caught, False
        if group:
            yield group
        del group
    if error is not None:
        try:
            raise error
        finally:
            del error  # it holds this call, which would hold it


def _size(frame: Frame) -> int:
    return frame.image.nbytes


def _result(frame: Frame, faces: list[Face]) -> FrameResult:
    height, width = frame.image.shape[:2]
    return FrameResult(frame.source, frame.index, frame.time_s, (width, height), tuple(faces))


def _checked(image: Image) -> Image:
    """The picture, if it is one.

    Raises:
        ValueError: it has another type or shape than uint8 BGR ``[height, width, 3]``, or no pixels.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or image.size == 0:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a frame must be a uint8 BGR array [height, width, 3], not {found}")
    return image
