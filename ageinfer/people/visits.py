"""Follows each face from its first frame to its last, and makes one age of its estimates."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ageinfer.people.places import Crossing, Path, Places
from ageinfer.tracking.age import AgeHistogram
from ageinfer.tracking.tracker import PATIENCE_S
from ageinfer.types import DEFAULT_FPS, Age, Face, FrameResult

# Tracks with fewer estimates are often no person: what a detector takes for a face for a moment.
LEAST_ESTIMATES = 5
# Estimates that are further apart than this are taken for independent, but for what all of a person's share.
_INDEPENDENT_S = 1.0
# However much the estimates of a person differ, their mean is not taken for more certain than this share of variance.
_LEAST_VARIANCE_SHARE = 0.5
_GOOD_VIEW = 0.8


class FusedAge:
    """One age from the estimates of one person, which are not independent.

    The deviation that a model gives an estimate covers what it gets wrong about this person in every frame, and what
    differs from frame to frame. The mean of many estimates averages the second away and leaves the first. The second is
    what is seen: the variance of the estimates round their mean. So the variance of the mean is the model's, less what
    is seen, but for one part in as many as there are seconds; and never less than half of the model's. Estimates count
    by their quality and by the inverse of their deviation; those far from the others do not (see
    `ageinfer.tracking.age.AgeHistogram`).
    """

    def __init__(self) -> None:
        self.count = self.good = 0
        self._histogram = AgeHistogram()
        self._weight = self._variance = self._quality = 0.0
        self._first_s = self._last_s = 0.0

    def add(self, age: Age, time_s: float) -> None:
        """Takes an estimate, made of the frame at this time in seconds."""
        quality = 1.0 if age.quality is None else age.quality
        weight = quality / max(age.std_years, 0.5)
        self._histogram.add(age.age_years, weight)
        self._weight += weight
        self._variance += weight * age.std_years**2
        self._quality += weight * quality
        self._first_s = self._first_s if self.count else time_s
        self._last_s = time_s
        self.count += 1
        self.good += quality >= _GOOD_VIEW

    @property
    def age(self) -> Age | None:
        """The age so far; None before the first estimate."""
        if not self._weight:
            return None
        mean, seen = self._histogram.mean_and_variance()
        variance = self._variance / self._weight
        independent = min(self.count, 1 + (self._last_s - self._first_s) / _INDEPENDENT_S)
        averaged_away = min(seen * (1 - 1 / independent), variance * (1 - _LEAST_VARIANCE_SHARE))
        return Age(mean, (variance - averaged_away) ** 0.5, self._quality / self._weight)


@dataclass(slots=True, eq=False)
class Visit:
    """One track from its first frame on.

    Attributes:
        source, model: those of its frames.
        track: its number.
        first_s, last_s: when the face was first and last seen, in seconds of the source.
        in_view_s: how long it was seen, without the time that it was hidden.
        frames: in which it was seen.
        fused: its age.
        largest_face_px: longest side of its box.
        zones_s: how long it was in each zone, in seconds.
        zones: that it is in now.
        crossings: of lines.
        seen: whether it is in the newest frame.
        step_s: how long it was seen between the last two frames.
    """

    source: str
    model: str
    track: int
    first_s: float
    last_s: float
    in_view_s: float = 0.0
    frames: int = 0
    fused: FusedAge = field(default_factory=FusedAge)
    largest_face_px: float = 0.0
    zones_s: dict[str, float] = field(default_factory=dict)
    zones: list[str] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    crossed: list[Crossing] = field(default_factory=list)
    seen: bool = False
    step_s: float = 0.0
    _missed: int = 0
    _path: Path = field(default_factory=Path)

    def see(self, face: Face, result: FrameResult, places: Places, time_s: float, least_quality: float) -> None:
        """Takes the face in the next frame."""
        box = face.detection.box
        self.step_s = time_s - self.last_s if self.seen else 0.0
        self.in_view_s += self.step_s
        for name in self.zones if self.seen else ():
            self.zones_s[name] += self.step_s
        self.zones = places.zones_at(box, result.size)
        for name in self.zones:
            self.zones_s.setdefault(name, 0.0)
        self.crossed = self._path.crossed(box, result.size, places.lines, time_s)
        self.crossings += self.crossed
        self.largest_face_px = max(self.largest_face_px, *box[2:])
        self.frames += 1
        if face.age_lag_s == 0 and (face.age.quality is None or face.age.quality >= least_quality):
            self.fused.add(face.age, time_s)
        self.last_s, self.seen, self._missed = time_s, True, 0

    def miss(self) -> None:
        """The face is not in the next frame."""
        self.seen, self.step_s, self.crossed = False, 0.0, []
        self._missed += 1

    def has_left(self, time_s: float) -> bool:
        """Whether no later frame can have this track: the tracker has ended it."""
        return self._missed >= 2 and time_s - self.last_s > PATIENCE_S


class Visits:
    """The tracks of a source that have not ended.

    Args:
        least_quality: of a view, for its estimate to count.

    Attributes:
        least_quality: as given.
        places: zones and lines; they may change at any time.
        present: the tracks, by number.
    """

    def __init__(self, places: Places, least_quality: float) -> None:
        self.places = places
        self.present: dict[int, Visit] = {}
        self.least_quality = least_quality
        self._before: tuple[str, float] | None = None

    def add(self, result: FrameResult) -> Iterator[Visit]:
        """Takes the next frame; yields the tracks that have ended before it. All of them must be taken."""
        time_s = time_of(result)
        if self._before is not None and (result.source != self._before[0] or time_s < self._before[1]):
            yield from self.end()
        self._before = result.source, time_s
        faces = {face.track: face for face in result.faces if face.track is not None}
        for track, visit in list(self.present.items()):
            if track not in faces:
                visit.miss()
                if visit.has_left(time_s):
                    yield self.present.pop(track)
        for track, face in faces.items():
            visit = self.present.setdefault(track, Visit(result.source, result.model, track, time_s, time_s))
            visit.see(face, result, self.places, time_s, self.least_quality)

    def end(self) -> Iterator[Visit]:
        """The source has ended; yields all tracks that are left."""
        left, self.present = self.present, {}
        yield from left.values()


def time_of(result: FrameResult) -> float:
    """The time of a frame in seconds of its source."""
    return result.index / DEFAULT_FPS if result.time_s is None else result.time_s
