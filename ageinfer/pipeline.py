"""From frames to faces with ages: detect, track, crop, estimate, smooth."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Semaphore
from typing import Literal

import numpy as np

from ageinfer.ahead import ahead, in_groups
from ageinfer.crop.cut import crop_faces
from ageinfer.crop.quality import view_of
from ageinfer.detect import FaceDetector, WholePicture, detect_as_told, open_detector
from ageinfer.detect.looking import Looking
from ageinfer.engine.cores import usable_cores
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.sessions import GPU_PROVIDERS
from ageinfer.errors import SourceError
from ageinfer.over import AgeCheck
from ageinfer.side_by_side import side_by_side
from ageinfer.sources import LiveGroup, SequenceSource, Source
from ageinfer.sources.given import Picture, checked, frame_of
from ageinfer.tracking.follower import FaceFollower
from ageinfer.tracking.track import Track
from ageinfer.types import Age, Detection, Face, Frame, FrameResult, Image

__all__ = ["Located", "Looking", "Pipeline", "VideoTracker", "largest_look"]

# Pictures wait for each other until so many faces fill a batch, but not longer than their pixels are few.
_BATCH_FACES, _BATCH_PIXELS = 16, 24_000_000
# Decoded frames that wait, and what waits between the two halves of the work on a video, each in its own thread.
_FRAMES_AHEAD, _STEPS_AHEAD, _BYTES_AHEAD = 8, 4, 48 << 20
# Frames of a video file whose faces are estimated one after the other, on a GPU together; more where one thread does
# all of the work, so that the weights of each network stay in the cache for longer.
_FRAMES_AT_ONCE, _FRAMES_AT_ONCE_ALONE = 4, 8
# The largest search of a whole frame; what only a larger one finds is too small for an age. (At 8 megapixels, a run
# took 1.1 GB instead of 0.7, and 1.5 times as long.)
_LIVE_SIDE_PX, _FILE_SIDE_PX = 960, 2560

# Is entered around the stages "detect", "crop" and "age" (which contains crop and network); for measuring.
StageTimer = Callable[[str], AbstractContextManager[object]]


class Pipeline:
    """Finds the faces of a frame and estimates the age of each, all faces together.

    Called with a picture, it looks at that picture alone. `pictures` does so for many, with the faces of several in one
    batch. `run` takes a whole source. `start` takes the frames of a video or a camera one by one; every face then has a
    track, and every track one steady age.

    Args:
        detector: finds the faces.
        estimator: estimates their ages; its metadata say how faces are cropped.
        looking: how faces are looked for.
        over_years: faces are asked whether they have reached this age, see `ageinfer.over`; None: they are not.
        timer: is entered around each stage, see `StageTimer`.

    Example:
        >>> import numpy as np
        >>> pipeline = Pipeline.default()
        >>> pipeline(np.zeros((120, 160, 3), np.uint8)).faces
        ()
    """

    def __init__(
        self,
        detector: FaceDetector,
        estimator: AgeEstimator,
        looking: Looking | None = None,
        *,
        over_years: int | None = None,
        timer: StageTimer = nullcontext,
    ) -> None:
        self.detector = detector
        self.estimator = estimator
        self.looking = looking or Looking()
        self.check = None if over_years is None else AgeCheck(over_years, estimator.metadata, detector.identifier)
        self.timer = timer

    @classmethod
    def default(
        cls,
        model: str | Path | bytes | None = None,
        detector: str = "yunet",
        *,
        detector_file: str | Path | None = None,
        looking: Looking | None = None,
        over_years: int | None = None,
        precision: str = "auto",
        provider: str = "auto",
        threads: int | None = None,
    ) -> "Pipeline":
        """Opens a detector and an age model, each by name or path; without arguments, those that are shipped.

        A model that was trained on whole pictures (crop kind ``resize``) gets `ageinfer.detect.WholePicture` instead of
        the detector that was named.

        Args:
            model: path, bytes or name of an age model, see `ageinfer.engine.estimator.AgeEstimator`.
            detector: name or file, see `ageinfer.detect.open_detector`.
            detector_file: the network of ``dlib-cnn``.
            looking: how faces are looked for.
            over_years: see `Pipeline`.
            precision: of the age model; ``auto``: 8 bits on a CPU, 32 bits on a GPU.
            provider: of both networks, see `ageinfer.engine.sessions.open_session`.
            threads: of each network; None: half of the cores, at most 4.

        Raises:
            AgeError: one of them cannot be opened; the message says why.
        """
        estimator = AgeEstimator(model, precision=precision, provider=provider, threads=threads)
        if estimator.metadata.crop.kind == "resize":
            return cls(WholePicture(), estimator, over_years=over_years)
        opened = open_detector(detector, file=detector_file, provider=provider, threads=threads)
        return cls(opened, estimator, looking, over_years=over_years)

    def __call__(self, picture: Frame | Picture, *, color: Literal["bgr", "rgb"] = "bgr") -> FrameResult:
        """Processes one picture by itself.

        Args:
            picture: a path, the bytes of a picture file, a PIL image, an array uint8 ``[height, width, 3]``, or a
                `Frame`.
            color: the order of an array's colours; a `Frame` is always BGR.

        Raises:
            SourceError: a file cannot be read or decoded.
            ValueError: an array has another type or shape.

        Example:
            >>> result = Pipeline.default()("samples/astronaut.jpg")
            >>> [20 < face.age_years < 60 for face in result]
            [True]
        """
        frame = picture if isinstance(picture, Frame) else frame_of(picture, color)
        [(_, result)] = self.pictures([frame])
        return result

    def start(self, source: str = "", *, largest_side: int | None = None) -> "VideoTracker":
        """Begins a video or a camera whose frames are then given one by one.

        Args:
            source: name of the source, as results have it.
            largest_side: of a search of a whole frame in pixels, where ``looking`` does not say it; None for the
                frame's own.

        Example:
            >>> import numpy as np
            >>> tracker = Pipeline.default().start("camera:0")
            >>> tracker(np.zeros((120, 160, 3), np.uint8), time_s=0.0).faces
            ()
        """
        return VideoTracker(self, source, largest_side=largest_side)

    def run(self, source: Source, *, in_threads: bool = True) -> Generator[tuple[Frame, FrameResult]]:
        """Processes a source as its kind needs it: `pictures` or `video`, ahead of whoever takes the results.

        Nothing is done ahead for a live source, so that its newest frame is the one that is shown. Those of a
        `LiveGroup` each have a thread, and share the networks. On a CPU the faces of one frame form a batch, so that no
        other frame changes the last digits of an age. Where ``looking`` leaves the choice, searches of whole
        frames are reduced as `largest_look` says.

        Args:
            source: a picture, pictures, a film, or what is live.
            in_threads: whether a film is decoded and searched in threads of their own. Where every core has a pipeline
                of its own, that costs more than it brings.

        Yields:
            Each frame with its result.

        Raises:
            SourceError: the source ends with an error.
        """
        if isinstance(source, LiveGroup):
            turns = Semaphore(max(1, int(usable_cores())))
            return side_by_side([self._watched(member, turns) for member in source.members])
        if isinstance(source, SequenceSource):
            return source.each(self.run)
        tracker = self.start(largest_side=largest_look(source))
        if source.kind == "camera":
            return tracker.estimated(map(tracker.locate, source))
        if source.kind != "video":
            pictures = ahead(source, _FRAMES_AHEAD, weight=_bytes_of, most_weight=_BYTES_AHEAD, pauses=True)
            return self.pictures(pictures)
        if not in_threads:
            return tracker.estimated(map(tracker.locate, source), at_once=_FRAMES_AT_ONCE_ALONE)
        frames = ahead(source, _FRAMES_AHEAD, weight=_bytes_of, most_weight=_BYTES_AHEAD)
        located = ahead(
            (tracker.locate(frame) for frame in frames),
            _STEPS_AHEAD,
            weight=lambda step: _bytes_of(step.frame),
            most_weight=_BYTES_AHEAD,
        )
        return tracker.estimated(located, at_once=_FRAMES_AT_ONCE)

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
            image = checked(frame.image)
            detections = [] if frame.damaged else self.find(image)  # whatever a network found would be made up
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
        tracker = self.start()
        return tracker.estimated(map(tracker.locate, frames))

    def _watched(self, source: Source, turns: Semaphore) -> Generator[tuple[Frame, FrameResult]]:
        """Processes one of several live sources; it asks for a turn for each frame, so that none waits for long."""
        tracker = self.start(largest_side=largest_look(source))
        for frame in source:
            with turns:
                result = tracker(frame)
            yield frame, result

    def find(self, image: Image) -> list[Detection]:
        """The faces of a uint8 BGR picture that stands by itself, best score first."""
        with self.timer("detect"):
            found = detect_as_told(self.detector, image, self.looking.max_side)
            return [d for d in found if max(d.box[2:]) >= self.looking.least_face_px]

    def crop(self, image: Image, detections: Sequence[Detection]) -> Image:
        """The faces of a uint8 BGR picture as the model wants them: uint8 ``[n, size, size, 3]``, RGB."""
        with self.timer("crop"):
            crop = self.estimator.metadata.crop
            return crop_faces(image, [d.box for d in detections], crop, [d.landmarks for d in detections])

    def ages(self, crops: Image, detections: Sequence[Detection]) -> list[Age]:
        """The ages of faces, each with its quality.

        Args:
            crops: of all of them, as `crop` gives them.
            detections: the same faces in their frames.
        """
        spec = self.estimator.metadata.crop
        ages = self.estimator.estimate(crops)
        if spec.kind == "resize":  # of whole pictures nothing is known of a face
            return ages
        views = (view_of(crop, spec, detection) for crop, detection in zip(crops, detections, strict=True))
        return [replace(age, quality=view.quality) for age, view in zip(ages, views, strict=True)]

    def ages_of(self, frames: Sequence[tuple[Image, Sequence[Detection]]]) -> list[Age]:
        """The ages of the faces of several frames, in their order; on a GPU in one batch.

        On a CPU each frame is a batch, so that no other frame changes the last digits of an age. One after the other
        they take less time than each after the search for its faces, which has other weights in the cache.

        Args:
            frames: the crops of each, as `crop` gives them, and its faces.
        """
        if self.estimator.provider in GPU_PROVIDERS:
            return self.ages(
                np.concatenate([crops for crops, _ in frames]), [face for _, some in frames for face in some]
            )
        return [age for crops, some in frames for age in self.ages(crops, some)]

    def face(self, detection: Detection, age: Age) -> Face:
        """A face of which no other frame tells anything."""
        return Face(detection, age, over=None if self.check is None else self.check.of(age))

    def followed(self, detection: Detection, track: Track, time_s: float) -> Face:
        """A face of a frame, whose time is in seconds, once an age of its track was estimated."""
        age, steady = track.age.newest, track.age.steady
        if age is None:
            raise RuntimeError("no age of this face was ever estimated")
        over = None if self.check is None else self.check.of(steady)
        return Face(detection, age, track.number, steady.age_years, time_s - track.age.estimated_s, over)

    def result(self, frame: Frame, faces: Iterable[Face]) -> FrameResult:
        """The result of a frame with these faces."""
        height, width = frame.image.shape[:2]
        model = self.estimator.identifier
        size = (width, height)
        return FrameResult(frame.source, frame.index, frame.time_s, size, tuple(faces), model, frame.damaged)

    def _estimated(self, waiting: list[tuple[Frame, list[Detection], Image]]) -> Iterator[tuple[Frame, FrameResult]]:
        if not waiting:
            return
        with self.timer("age"):
            ages = iter(self.ages_of([(crops, detections) for _, detections, crops in waiting]))
        for frame, detections, _ in waiting:
            yield frame, self.result(frame, [self.face(d, next(ages)) for d in detections])


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """A frame of a video on its way: its faces are found, their ages are not estimated.

    Attributes:
        frame: as it came.
        detections: its faces.
        tracks: that they belong to, or None where nothing is followed.
        time_s: of the frame, in seconds; where faces are followed, later than that of the frame before.
    """

    frame: Frame
    detections: list[Detection]
    tracks: list[Track] | None = None
    time_s: float = 0.0


class VideoTracker:
    """Takes the frames of one video or camera one by one; made by `Pipeline.start`.

    A call is `locate` and then `estimate`. A program that wants detection and ages side by side calls the two in two
    threads, as `Pipeline.run` does.
    """

    def __init__(self, pipeline: Pipeline, source: str = "", *, largest_side: int | None = None) -> None:
        look = pipeline.looking
        self._pipeline = pipeline
        self._source = source
        self._index = 0
        self._follower: FaceFollower | None = None
        if not isinstance(pipeline.detector, WholePicture):  # else there is nothing to follow
            self._follower = FaceFollower(
                pipeline.detector,
                detect_every=look.every,
                max_side=look.max_side,
                largest_side=look.largest_side or largest_side,
                least_face_px=look.least_face_px,
            )

    def __call__(
        self, picture: Frame | Image, time_s: float | None = None, *, color: Literal["bgr", "rgb"] = "bgr"
    ) -> FrameResult:
        """Processes the next frame.

        Args:
            picture: uint8 ``[height, width, 3]``, or a `Frame`.
            time_s: of the frame, in seconds since the first one; None: 25 frames a second are assumed.
            color: the order of an array's colours; a `Frame` is always BGR.

        Raises:
            ValueError: the picture has another type or shape.
        """
        frame = picture
        if not isinstance(frame, Frame):
            frame = Frame(self._source, self._index, time_s, frame_of(frame, color).image)
        self._index += 1
        [result] = self.estimate([self.locate(frame)])
        return result

    def locate(self, frame: Frame) -> Located:
        """Finds the faces of the next frame and the track of each one.

        Raises:
            ValueError: the picture has another type or shape.
        """
        image = checked(frame.image)
        if frame.damaged:  # whatever a network found in it would be made up
            return Located(frame, [], None if self._follower is None else [])
        if self._follower is None:
            return Located(frame, self._pipeline.find(image))
        with self._pipeline.timer("detect"):
            detections, tracks = self._follower(frame)
        return Located(frame, detections, tracks, self._follower.time_s)

    def estimated(self, steps: Iterable[Located], *, at_once: int = 1) -> Generator[tuple[Frame, FrameResult]]:
        """Estimates the ages of the faces of frames, of several frames together.

        Args:
            steps: from `locate`, in the order of time.
            at_once: the faces of so many frames are estimated together, of fewer where frames are large or come slowly.
                The results are the same, but for the last digits of what a network computes in batches.

        Yields:
            Each frame with its result.
        """
        for group in in_groups(steps, at_once, size=lambda step: step.frame.image.size, most_size=_BATCH_PIXELS):
            yield from zip((step.frame for step in group), self.estimate(group), strict=True)

    def estimate(self, steps: Sequence[Located]) -> list[FrameResult]:
        """Estimates the ages that are due in some frames, together.

        Args:
            steps: from `locate`, in the order of time; none is given twice.
        """
        with self._pipeline.timer("age"):
            return [self._result(step, ages) for step, ages in zip(steps, self._due_ages(steps), strict=True)]

    def _result(self, step: Located, ages: dict[int, Age]) -> FrameResult:
        if step.tracks is None:
            faces = [self._pipeline.face(d, ages[i]) for i, d in enumerate(step.detections)]
            return self._pipeline.result(step.frame, faces)
        interval_s = self._pipeline.looking.age_interval_s
        due = [i for i, track in enumerate(step.tracks) if track.age.due(step.time_s, interval_s)]
        late = [i for i in due if i not in ages]  # of a track whose age began anew in this group
        if late:
            ages |= zip(late, self._ages_of([(step, late)]), strict=True)
        for i in due:
            step.tracks[i].age.take(ages[i], step.time_s)
        pairs = zip(step.detections, step.tracks, strict=True)
        faces = [self._pipeline.followed(d, track, step.time_s) for d, track in pairs]
        return self._pipeline.result(step.frame, faces)

    def _due_ages(self, steps: Sequence[Located]) -> list[dict[int, Age]]:
        """The ages that will be due in each frame, by the place of the face, if no age begins anew in them."""
        interval_s = self._pipeline.looking.age_interval_s
        asked_s: dict[int, float] = {}  # by track
        due: list[tuple[Located, list[int]]] = []
        for step in steps:
            places = list(range(len(step.detections)))
            if step.tracks is not None:
                tracks = step.tracks
                places = [
                    i for i in places if tracks[i].age.due(step.time_s, interval_s, asked_s.get(tracks[i].number))
                ]
                asked_s |= {tracks[i].number: step.time_s for i in places}
            due.append((step, places))
        ages = iter(self._ages_of(due))
        return [{i: next(ages) for i in places} for _, places in due]

    def _ages_of(self, faces: Sequence[tuple[Located, list[int]]]) -> list[Age]:
        chosen = [[step.detections[i] for i in places] for step, places in faces]
        crops = [self._pipeline.crop(step.frame.image, some) for (step, _), some in zip(faces, chosen, strict=True)]
        return self._pipeline.ages_of(list(zip(crops, chosen, strict=True)))


def largest_look(source: Source) -> int | None:
    """The side in pixels to which searches of whole frames of a source are reduced; None: not at all."""
    return {"camera": _LIVE_SIDE_PX, "video": _FILE_SIDE_PX}.get(source.kind)


def _bytes_of(frame: Frame) -> int:
    return frame.image.nbytes
