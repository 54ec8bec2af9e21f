"""How many of each age were there, over stretches of time: sums of distributions, not a count of means."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ageinfer.errors import UsageError
from ageinfer.people.people import clock_time
from ageinfer.people.places import Places, Side
from ageinfer.people.visits import LEAST_ESTIMATES, Visit, Visits, time_of
from ageinfer.types import Age, Face, FrameResult

AUDIENCE_SCHEMA_VERSION = 1
# What a model gets wrong about a kind of faces that it has not learned from, it gets wrong about all of them: the root
# of the mean square of its mean errors on the sets that were left out (docs/results/comparison.md).
SHARED_STD_YEARS = 2.2
# Its values and their weights: Gauss-Hermite quadrature.
_SHIFTS = ((-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6))
_DEVIATIONS_OF_90_PERCENT = 1.645
MOST_BANDS = 40
_OLDEST_YEARS = 150


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of ages in completed years.

    Attributes:
        low: the youngest.
        high: the oldest; None: there is none.
    """

    low: int
    high: int | None

    def __str__(self) -> str:
        return f"{self.low}+" if self.high is None else f"{self.low}-{self.high}"

    def share(self, age: Age) -> float:
        """The probability that somebody's age is in it."""
        above = 0.0 if self.high is None else age.at_least(self.high + 1)
        return (1.0 if self.low == 0 else age.at_least(self.low)) - above

    @classmethod
    def parse_all(cls, text: str) -> "tuple[Band, ...]":
        """Reads ``0-12,13-17,18-24,25+``.

        Raises:
            UsageError: it is not that, or an age is in no band or in two.

        Example:
            >>> [str(band) for band in Band.parse_all("0-17,18+")]
            ['0-17', '18+']
        """
        bands = []
        for word in text.split(","):
            found = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})|\+)\s*", word)
            if not found:
                raise UsageError(f"--bands {text}: use ages such as 0-12,13-17,18-64,65+")
            bands.append(cls(int(found[1]), None if found[2] is None else int(found[2])))
        ends = [0, *(_OLDEST_YEARS if band.high is None else band.high + 1 for band in bands)]
        for band, begins, ends_before in zip(bands, ends[:-1], ends[1:], strict=True):
            if band.low != begins or band.low >= ends_before:
                raise UsageError(f"--bands {text}: {band} should begin at {begins}; each age needs one band")
        if bands[-1].high is not None:
            raise UsageError(f"--bands {text}: nobody older than {bands[-1].high} has a band; end with {ends[-1]}+")
        if len(bands) > MOST_BANDS:
            raise UsageError(f"--bands: {len(bands)} bands; use up to {MOST_BANDS}")
        return tuple(bands)


BANDS = Band.parse_all("0-12,13-17,18-24,25-34,35-44,45-54,55-64,65+")


@dataclass(frozen=True, slots=True)
class BandCount:
    """How many people were of an age.

    Attributes:
        band: of ages.
        count: expected number; None where it is hidden.
        low, high: 90 % interval of the true number.
    """

    band: Band
    count: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Who was in the picture, or in a zone of it.

    Attributes:
        people: how many came; None where that is hidden. Each counts once, so that the numbers of windows add up.
        seconds: that people were seen, all together; None where ``people`` is hidden.
        mean_in_view, most_in_view: faces at the same time; None where ``people`` is hidden.
        bands: their ages.
    """

    people: int | None
    seconds: float | None
    mean_in_view: float | None
    most_in_view: int | None
    bands: tuple[BandCount, ...]

    def to_record(self) -> dict[str, Any]:
        """The tally as JSON values."""
        return {
            "people": self.people,
            "seconds": _rounded(self.seconds),
            "mean_in_view": _rounded(self.mean_in_view, 3),
            "most_in_view": self.most_in_view,
            "bands": [
                {
                    "ages": str(band.band),
                    "count": _rounded(band.count),
                    "low": _rounded(band.low),
                    "high": _rounded(band.high),
                }
                for band in self.bands
            ],
        }


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time.

    Attributes:
        source: where, as results have it.
        model: name and precision of the age model.
        from_s, to_s: its beginning and end, in seconds of the source.
        watched_s: how long there were frames in it.
        frames: how many.
        everywhere: all of the picture.
        zones: each zone by name.
        lines: how many have crossed each line, by name and side; None where that is hidden.
        unsure: tracks with too few estimates to be counted as people; None where that is hidden.
    """

    source: str
    model: str
    from_s: float
    to_s: float
    watched_s: float
    frames: int
    everywhere: Tally
    zones: tuple[tuple[str, Tally], ...] = ()
    lines: tuple[tuple[str, dict[Side, int | None]], ...] = ()
    unsure: int | None = 0

    def to_record(self, *, began: datetime | None = None) -> dict[str, Any]:
        """The window as JSON values: one line of a JSONL output.

        Args:
            began: when time 0 of the source was, for a live source.
        """
        return {
            "schema": AUDIENCE_SCHEMA_VERSION,
            "source": self.source,
            "from_s": round(self.from_s, 3),
            "to_s": round(self.to_s, 3),
            "from_at": clock_time(began, self.from_s),
            "to_at": clock_time(began, self.to_s),
            "watched_s": round(self.watched_s, 3),
            "frames": self.frames,
            **self.everywhere.to_record(),
            "unsure": self.unsure,
            "zones": [{"zone": name, **tally.to_record()} for name, tally in self.zones],
            "lines": [{"line": name, **sides} for name, sides in self.lines],
            "model": self.model,
        }


@dataclass(slots=True)
class _Place:
    """What is known of a place in the window that goes on."""

    members: list[Visit] = field(default_factory=list)
    ages: list[Age] = field(default_factory=list)  # of faces that nobody follows
    seconds: float = 0.0
    in_view: int = 0  # summed over frames
    most_in_view: int = 0

    def see(self, count: int, seconds: float) -> None:
        self.seconds += seconds
        self.in_view += count
        self.most_in_view = max(self.most_in_view, count)

    def tally(self, bands: Sequence[Band], frames: int) -> Tally:
        ages = [age for visit in self.members if (age := visit.fused.age) is not None] + self.ages
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
        self._every_s = every_s
        self._bands = tuple(bands)
        self._least_people = least_people
        self._least_quality = least_quality
        self._least_estimates = least_estimates
        self._visits = Visits(places or Places(), least_quality)
        self._counted: dict[int, set[str]] = {}  # by track: the places that it was counted in
        self._source = self._model = ""
        self._last_s = 0.0
        self._seen_before = False  # whether there was a frame of this source
        self._begin(-math.inf)

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
        if self._frames and other and result.time_s is not None:  # pictures are all of one kind
            windows += self.end()
        elif self._frames and self._from_s != self._window_of(time_s):
            windows.append(self._window(self._from_s + (self._every_s or 0.0)))
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
        if self._every_s is None:
            return self._from_s if self._frames else time_s
        return math.floor((self.clock_s + time_s) / self._every_s) * self._every_s - self.clock_s

    def _take(self, result: FrameResult, time_s: float) -> None:
        for visit in self._visits.add(result):
            self._leave(visit)
        if self._seen_before:
            self._watched_s += max(0.0, min(time_s - self._last_s, time_s - self._from_s))
        self._frames += 1
        self._source, self._model, self._last_s, self._seen_before = result.source, result.model, time_s, True
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
            places[name].members.append(visit)

    def _leave(self, visit: Visit) -> None:
        if not self._counted.pop(visit.track, None):
            self._unsure += 1

    def _is_good(self, face: Face) -> bool:
        return face.age.quality is None or face.age.quality >= self._least_quality

    def _window(self, to_s: float) -> Window:
        made = self._made(to_s)
        self._begin(-math.inf)
        return made

    def _made(self, to_s: float) -> Window:
        tallies = {name: place.tally(self._bands, self._frames) for name, place in self._zones.items()}
        window = Window(
            self._source, self._model, self._from_s, to_s, self._watched_s, self._frames,
            self._everywhere.tally(self._bands, self._frames), tuple(tallies.items()),
            tuple((name, dict(sides)) for name, sides in self._lines.items()), self._unsure,
        )  # fmt: skip
        return hidden(window, self._least_people)


def expected_count(ages: Iterable[Age], band: Band) -> tuple[float, float, float]:
    """How many people are of an age: the sum of their probabilities, and a 90 % interval of the true number.

    Ages are independent, but for one error that a model makes about all of them: a shift with a deviation of
    `SHARED_STD_YEARS`. Without it, the number is a Poisson binomial one. The interval is that of a normal distribution
    with the variance of both, cut off at nobody and at everybody.

    Example:
        >>> [round(number, 2) for number in expected_count([Age(20.0, 5.0)] * 10, Band(18, None))]
        [6.91, 3.48, 10.0]
    """
    some = list(ages)
    count = sum(band.share(age) for age in some)
    own, shifted = 0.0, []
    for shift, weight in _SHIFTS:
        chances = [band.share(_shifted(age, shift * SHARED_STD_YEARS)) for age in some]
        own += weight * sum(chance * (1 - chance) for chance in chances)
        shifted.append((weight, sum(chances)))
    mean = sum(weight * total for weight, total in shifted)
    shared = sum(weight * (total - mean) ** 2 for weight, total in shifted)
    reach = _DEVIATIONS_OF_90_PERCENT * math.sqrt(own + shared)
    return count, max(0.0, count - reach), min(float(len(some)), count + reach)


def _shifted(age: Age, years: float) -> Age:
    """The age where the shared error is known to be so many years: its own deviation is what is left."""
    own = age.std_years**2 - SHARED_STD_YEARS**2
    return replace(age, age_years=age.age_years + years, std_years=math.sqrt(max(own, age.std_years**2 / 4)))


def hidden(window: Window, least: int) -> Window:
    """The window without numbers of fewer people than that, and without what gives them away."""
    if least <= 1:
        return window
    unsure = window.unsure if window.unsure is None or window.unsure >= least else None
    sides = tuple(
        (name, {side: count if count is not None and count >= least else None for side, count in counts.items()})
        for name, counts in window.lines
    )
    zones = tuple((name, _hidden_tally(tally, least)) for name, tally in window.zones)
    return replace(
        window, everywhere=_hidden_tally(window.everywhere, least), zones=zones, lines=sides, unsure=unsure
    )  # fmt: skip


def _hidden_tally(tally: Tally, least: int) -> Tally:
    if tally.people is None or tally.people < least:
        bands = tuple(BandCount(band.band, None, None, None) for band in tally.bands)
        return Tally(None, None, None, None, bands)
    sizes = [band.count or 0.0 for band in tally.bands]
    small = {i for i, size in enumerate(sizes) if size < least}
    # A single hidden band is what is missing in the sum of all others; several could be, too, if nearly nobody is in
    # them all together.
    for i in sorted(range(len(sizes)), key=sizes.__getitem__):
        if not small or (len(small) > 1 and sum(sizes[k] for k in small) >= least):
            break
        small.add(i)
    bands = tuple(
        BandCount(band.band, None, None, None) if i in small else band for i, band in enumerate(tally.bands)
    )  # fmt: skip
    return replace(tally, bands=bands)


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
