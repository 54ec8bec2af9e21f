"""The values that flow through the runtime. All are frozen; every sink renders a `FrameResult`."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ageinfer.errors import MissingDependencyError

if TYPE_CHECKING:
    import supervision

SCHEMA_VERSION = 1
# Where a source does not say how many frames a second it has.
DEFAULT_FPS = 25.0
HIGHEST_FPS = 1000.0  # more is a mistake of whoever says so
_LEAST_STD_YEARS = 0.01
_STANDARD_NORMAL = NormalDist()

Image = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
Point = tuple[float, float]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes ``(x, y, w, h)``."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    together = a[2] * a[3] + b[2] * b[3] - shared
    return shared / together if together > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture or one frame of a video.

    Attributes:
        source: the file, folder entry or camera that it came from, as written into the records.
        index: number within its source, from 0; the page of a TIFF, and 0 for any other picture.
        time_s: seconds since the start of the source; None for a picture.
        image: uint8 ``[height, width, 3]``, BGR as OpenCV reads it, turned upright.
        captured_s: when a live source took it, on the clock of `time.monotonic`; None for files.
        damaged: its file lacks data of it, so that what it shows must not be trusted.
    """

    source: str
    index: int
    time_s: float | None
    image: Image
    captured_s: float | None = None
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected face, in pixels of the frame.

    Attributes:
        box: ``(x, y, w, h)``, x and y being the top left corner. May reach beyond the frame.
        score: the detector's own confidence. YuNet: 0 to 1. dlib: a distance to a margin, unbounded, so a
            threshold for one detector means nothing for the other.
        landmarks: right eye, left eye, nose tip, right and left corner of the mouth (the person's own right,
            so at the left of the picture), or None when the detector gives none.
    """

    box: Box
    score: float
    landmarks: tuple[Point, ...] | None = None

    def moved(self, scale: tuple[float, float], shift: tuple[float, float]) -> "Detection":
        """The same face in the pixels of a picture of which its own picture is a scaled part.

        Args:
            scale: pixels of that picture for one of this, along x and y.
            shift: where this picture's top left corner lies in that one, ``(x, y)`` in pixels.
        """
        (sx, sy), (dx, dy), (x, y, w, h) = scale, shift, self.box
        points = self.landmarks
        return Detection(
            box=(x * sx + dx, y * sy + dy, w * sx, h * sy),
            score=self.score,
            landmarks=None if points is None else tuple((px * sx + dx, py * sy + dy) for px, py in points),
        )


@dataclass(frozen=True, slots=True)
class Age:
    """An estimate for one face: a normal distribution of the age in completed years.

    Models learn from completed years: whoever is 17 to the last day is 17. So at least 18 begins half-way, at 17.5.

    Attributes:
        age_years: the estimate, in years.
        std_years: its standard deviation, in years, as the model gives it.
        quality: how well the face was seen, 0 to 1, see `ageinfer.crop.quality`; None where nobody has looked.
    """

    age_years: float
    std_years: float
    quality: float | None = None

    def at_least(self, years: float) -> float:
        """The probability that the person has completed so many years.

        Example:
            >>> round(Age(20.0, 5.0).at_least(18), 3)
            0.691
        """
        return 1.0 - _STANDARD_NORMAL.cdf((years - 0.5 - self.age_years) / max(self.std_years, _LEAST_STD_YEARS))

    def quantile(self, share: float) -> float:
        """The age that the person has not reached with this probability, above 0 and below 1; at least 0 years.

        Example:
            >>> round(Age(20.0, 5.0).quantile(0.95), 2)
            28.22
        """
        return max(0.0, self.age_years + _STANDARD_NORMAL.inv_cdf(share) * self.std_years)


@dataclass(frozen=True, slots=True)
class Over:
    """Whether somebody has reached an age, see `ageinfer.over`. It verifies nobody's age.

    Attributes:
        years: the age that was asked about.
        p_at_least: the probability that the person has reached it, 0 to 1, as the model's own deviation gives it; None
            where no age is known.
        answer: ``over``, ``under``, or ``refer`` where neither may be said.
        why: somebody is referred: ``between`` (the estimate lies between the cut-offs of the model's operating point),
            ``quality`` (the face is seen worse than those it was measured on), ``no evidence`` (the file has no point
            for this age and detector), ``not held`` (its figures do not keep what it states), ``few estimates`` or
            ``no age`` (of a person who was hardly seen); empty else.
    """

    years: int
    p_at_least: float | None
    answer: Literal["over", "under", "refer"]
    why: str = ""

    def to_record(self) -> dict[str, Any]:
        """The answer as JSON values; the probability is rounded to 4 decimals."""
        chance = None if self.p_at_least is None else round(self.p_at_least, 4)
        return {"years": self.years, "p_at_least": chance, "answer": self.answer, "why": self.why or None}


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a frame with its estimated age.

    Attributes:
        detection: where it is.
        age: how old it looks in one frame alone: this one, or in video the last one in which that was estimated.
        track: identity over the frames of a video, or None where nothing is tracked.
        age_smoothed_years: the estimate over the whole track so far, in years, or None where nothing is tracked.
        age_lag_s: seconds since the frame in which ``age`` was estimated; 0 for this one.
        over: whether the person has reached an age, over the track where there is one; None where nobody asked.
    """

    detection: Detection
    age: Age
    track: int | None = None
    age_smoothed_years: float | None = None
    age_lag_s: float = 0.0
    over: Over | None = None

    @property
    def age_years(self) -> float:
        """The estimate of one frame, in years: ``age.age_years``."""
        return self.age.age_years

    @property
    def age_std_years(self) -> float:
        """The standard deviation of that estimate, in years: ``age.std_years``."""
        return self.age.std_years

    @property
    def shown_years(self) -> float:
        """What a person is shown, in years: the age over the track, or that of the frame where nothing is tracked."""
        return self.age.age_years if self.age_smoothed_years is None else self.age_smoothed_years

    def to_record(self) -> dict[str, Any]:
        """The face as JSON values. Pixels and years are rounded to 2 decimals, scores to 4."""
        landmarks = self.detection.landmarks
        record = {
            "box": [round(v, 2) for v in self.detection.box],
            "score": round(self.detection.score, 4),
            "landmarks": None if landmarks is None else [[round(x, 2), round(y, 2)] for x, y in landmarks],
            "track": self.track,
            "age": round(self.age.age_years, 2),
            "age_std": round(self.age.std_years, 2),
            "age_smoothed": None if self.age_smoothed_years is None else round(self.age_smoothed_years, 2),
            "age_lag_s": round(self.age_lag_s, 4),
            "quality": None if self.age.quality is None else round(self.age.quality, 3),
        }
        return record if self.over is None else record | {"over": self.over.to_record()}


@dataclass(frozen=True, slots=True)
class FrameResult:
    """All faces of one frame.

    Attributes:
        source, index, time_s: those of the `Frame`.
        size: ``(width, height)`` of the frame in pixels.
        faces: in the order of the detector, best score first.
        model: name and precision of the age model that answered, as ``age-small@int8``.
        damaged: the frame was damaged, so no face was looked for.

    Example:
        >>> result = FrameResult("photo.jpg", 0, None, (640, 480), faces=(), model="age-small@int8")
        >>> [face.age_years for face in result]
        []
    """

    source: str
    index: int
    time_s: float | None
    size: tuple[int, int]
    faces: tuple[Face, ...]
    model: str = ""
    damaged: bool = False

    def __iter__(self) -> Iterator[Face]:
        return iter(self.faces)

    def to_record(self) -> dict[str, Any]:
        """The frame as JSON values: one line of a JSONL output."""
        record = {
            "schema": SCHEMA_VERSION,
            "source": self.source,
            "frame": self.index,
            "time_s": None if self.time_s is None else round(self.time_s, 4),
            "size": list(self.size),
            "model": self.model,
            "faces": [face.to_record() for face in self.faces],
        }
        return record | {"damaged": True} if self.damaged else record

    def to_supervision(self) -> "supervision.Detections":
        """The faces as ``supervision.Detections``, for that package's annotators, zones and trackers.

        Boxes become ``xyxy`` in pixels and scores ``confidence``; tracks become ``tracker_id`` where all faces have
        one. ``data`` holds ``age_years``, ``age_std_years`` and ``age_smoothed_years`` (NaN where nothing is tracked),
        float64 ``[n]`` each.

        Raises:
            MissingDependencyError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingDependencyError("to_supervision needs the package: pip install supervision") from error
        boxes = np.array([face.detection.box for face in self.faces], np.float32).reshape(-1, 4)
        tracks = [face.track for face in self.faces if face.track is not None]
        smoothed = [np.nan if face.age_smoothed_years is None else face.age_smoothed_years for face in self.faces]
        return supervision.Detections(
            xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            confidence=np.array([face.detection.score for face in self.faces], np.float32),
            class_id=np.zeros(len(self.faces), int),
            tracker_id=np.array(tracks, int) if tracks and len(tracks) == len(self.faces) else None,
            data={
                "age_years": np.array([face.age_years for face in self.faces], float),
                "age_std_years": np.array([face.age_std_years for face in self.faces], float),
                "age_smoothed_years": np.array(smoothed, float),
            },
        )
