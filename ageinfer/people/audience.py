"""Counts the people of a source by age, over stretches of time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ageinfer.errors import UsageError
from ageinfer.people.bands import BANDS, Band, BandCount, expected_count
from ageinfer.people.places import Places, Side
from ageinfer.people.visits import LEAST_ESTIMATES, Visit, Visits, time_of
from ageinfer.people.windows import Tally, Window, hidden
from ageinfer.types import Age, Face, FrameResult


@dataclass(slots=True)
class _Place:
    """What is known of a place in the window that goes on."""

    present: dict[int, Visit] = field(default_factory=dict)  # people whose age may still change, by track
    ages: list[Age] = field(default_factory=list)  # of those who have left, and of faces that nobody follows
    seconds: float = 0.0
    in_view: int = 0  # summed over frames
    most_in_view: int = 0

    def see(self, count: int, seconds: float) -> None:
        self.seconds += seconds
        self.in_view += count
        self.most_in_view = max(self.most_in_view, count)

    def leave(self, visit: Visit) -> None:
        """Keeps no more of somebody who has left than the age."""
        if self.present.pop(visit.track, None) is not None and (age := visit.fused.age) is not None:
            self.ages.append(age)

    def tally(self, bands: Sequence[Band], frames: int) -> Tally:
        ages = [age for visit in self.present.values() if (age := visit.fused.age) is not None] + self.ages
        counts = tuple(BandCount(band, *expected_count(ages, band)) for band in bands)
        return Tally(len(ages), self.seconds, self.in_view / max(frames, 1), self.most_in_view, counts)


class Audience:
    """Makes windows of the results of a source: who was there, by age.

    A person is counted once, in the window in which the least number of estimates is reached, with the age that is
    known when the window ends. Faces without a track, as those of single pictures, each count as a person.

    Args:
        every_s: length of a window, in seconds; None: one window for the whole source.
        bands: of ages.
        places: zones and lines.
        least_people: numbers below it are hidden, and with a single hidden band the next smallest one, which would give
            it away.
        least_quality: of a view, for its estimate to count, 0 to 1.
        least_estimates: tracks with fewer are not counted as people.
        clock_s: seconds of the clock at time 0 of the source, so that windows begin with the quarter of an hour.

    Attributes:
        every_s, bands: as they were given.
        places: zones and lines; they may be replaced at any time.

    Raises:
        UsageError: the length is not above 0.

    Example:
        >>> audience = Audience(every_s=900)
        >>> for frame, result in pipeline.run(source):  # doctest: +SKIP
        ...     for window in audience.add(result):
        ...         print(window.everywhere.people)
        >>> audience.end()
        []
    """

    def __init__(
        self, every_s: float | None = None, bands: Sequence[Band] = BANDS, places: Places | None = None, *,
        least_people: int = 0, least_quality: float = 0.0, least_estimates: int = LEAST_ESTIMATES, clock_s: float = 0.0,
    ) -> None:  # fmt: skip
        if every_s is not None and not 0 < every_s < math.inf:
            raise UsageError(f"windows of {every_s} s; use a length above 0")
        self.clock_s = clock_s
        self.every_s = every_s
        self.bands = tuple(bands)
        self._least_people = least_people
        self._least_quality = least_quality
        self._least_estimates = least_estimates
        self._visits = Visits(places or Places(), least_quality)
        self._counted: dict[int, set[str]] = {}  # by track: the places that it was counted in
        self._source = self._model = ""
        self._last_s = 0.0
        self._seen_before = False  # whether there was a frame of this source
        self._of_pictures = False  # and not of a video
        self._begin(-math.inf)

    def anew(self) -> "Audience":
        """Makes one like this for another source."""
        return Audience(
            self.every_s, self.bands, self.places, least_people=self._least_people, least_quality=self._least_quality,
            least_estimates=self._least_estimates,
        )  # fmt: skip

    @property
    def places(self) -> Places:
        return self._visits.places

    @places.setter
    def places(self, places: Places) -> None:
        self._visits.places = places

    def add(self, result: FrameResult) -> list[Window]:
        """Takes the result of the next frame; returns the windows that have ended before it."""
        time_s, windows = time_of(result), []
        other = result.source != self._source or time_s < self._last_s
        if self._frames and other and not (self._of_pictures and result.time_s is None):  # pictures are of one kind
            windows += self.end()
        elif self._frames and self._from_s != self._window_of(time_s):
            windows.append(self._window(self._from_s + (self.every_s or 0.0)))
        if not self._frames:
            self._begin(self._window_of(time_s))
        self._take(result, time_s)
        return windows

    def end(self) -> list[Window]:
        """The source has ended; returns the window that had not."""
        for visit in self._visits.end():
            self._leave(visit)
        self._seen_before = False
        return [self._window(self._last_s)] if self._frames else []

    def so_far(self) -> Window | None:
        """The window that goes on; None before the first frame."""
        return self._made(self._last_s) if self._frames else None

    def _begin(self, from_s: float) -> None:
        self._from_s = from_s
        self._frames = self._unsure = 0
        self._watched_s = 0.0
        self._everywhere = _Place()
        self._zones: dict[str, _Place] = {}
        self._lines: dict[str, dict[Side, int]] = {}

    def _window_of(self, time_s: float) -> float:
        """When the window began that a time belongs to."""
        if self.every_s is None:
            return self._from_s if self._frames else time_s
        return math.floor((self.clock_s + time_s) / self.every_s) * self.every_s - self.clock_s

    def _take(self, result: FrameResult, time_s: float) -> None:
        for visit in self._visits.add(result):
            self._leave(visit)
        if self._seen_before:
            self._watched_s += max(0.0, min(time_s - self._last_s, time_s - self._from_s))
        self._frames += 1
        self._source, self._model, self._last_s, self._seen_before = result.source, result.model, time_s, True
        self._of_pictures = result.time_s is None
        alone = [face.age for face in result.faces if face.track is None and self._is_good(face)]
        here = [visit for visit in self._visits.present.values() if visit.seen]
        self._everywhere.see(len(here) + len(alone), sum(visit.step_s for visit in here))
        self._everywhere.ages += alone
        for zone in self.places.zones:
            inside = [visit for visit in here if zone.name in visit.zones]
            self._zones.setdefault(zone.name, _Place()).see(len(inside), sum(visit.step_s for visit in inside))
        for line in self.places.lines:
            self._lines.setdefault(line.name, {"left": 0, "right": 0})
        for visit in here:
            for crossing in visit.crossed:
                self._lines[crossing.line][crossing.to] += 1
            if visit.fused.count >= self._least_estimates:
                self._count(visit)

    def _count(self, visit: Visit) -> None:
        places = {"": self._everywhere} | {name: self._zones[name] for name in visit.zones_s if name in self._zones}
        counted = self._counted.setdefault(visit.track, set())
        for name in places.keys() - counted:
            counted.add(name)
            places[name].present[visit.track] = visit

    def _leave(self, visit: Visit) -> None:
        if not self._counted.pop(visit.track, None):
            self._unsure += 1
        for place in (self._everywhere, *self._zones.values()):
            place.leave(visit)

    def _is_good(self, face: Face) -> bool:
        return face.age.quality is None or face.age.quality >= self._least_quality

    def _window(self, to_s: float) -> Window:
        made = self._made(to_s)
        self._begin(-math.inf)
        return made

    def _made(self, to_s: float) -> Window:
        tallies = {name: place.tally(self.bands, self._frames) for name, place in self._zones.items()}
        source = f"{self._frames} pictures" if self._of_pictures and self._frames > 1 else self._source
        window = Window(
            source, self._model, self._from_s, to_s, self._watched_s, self._frames,
            self._everywhere.tally(self.bands, self._frames), tuple(tallies.items()),
            tuple((name, dict(sides)) for name, sides in self._lines.items()), self._unsure,
        )  # fmt: skip
        return hidden(window, self._least_people)
