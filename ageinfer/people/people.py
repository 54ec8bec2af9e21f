"""One record a person: when and how long somebody was there, and how old."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ageinfer.over import AgeCheck
from ageinfer.people.places import Crossing, Places
from ageinfer.people.visits import LEAST_ESTIMATES, Visit, Visits
from ageinfer.types import Age, FrameResult, Over

PERSON_SCHEMA_VERSION = 1
THRESHOLDS = (13, 16, 18, 21, 25)
_SHARES = (5, 50, 95)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was in view.

    Attributes:
        source: where, as results have it.
        model: name and precision of the age model.
        track: identity within the source. Somebody who comes back has another one.
        first_s, last_s: when the face was first and last seen, in seconds of the source.
        in_view_s: how long it was seen, without the time that it was hidden.
        frames: in which it was seen.
        estimates: of its age that count.
        age: over all of them, see `ageinfer.people.visits.FusedAge`; None where there is none.
        unsure: whether there were so few estimates that it may have been no person at all.
        largest_face_px: longest side of its box, in pixels.
        good_view_share: of its estimates, how many were of a face that was well seen: frontal, sharp, well lit; None
            where there is none.
        zones_s: zones that it was in, and for how many seconds.
        crossings: of lines, in the order of time.
        over: whether the person has reached an age; None where nobody asked.
    """

    source: str
    model: str
    track: int
    first_s: float
    last_s: float
    in_view_s: float
    frames: int
    estimates: int
    age: Age | None
    unsure: bool
    largest_face_px: float
    good_view_share: float | None
    zones_s: tuple[tuple[str, float], ...] = ()
    crossings: tuple[Crossing, ...] = ()
    over: Over | None = None

    def to_record(
        self, thresholds: Sequence[int] = THRESHOLDS, *, began: datetime | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """The person as JSON values: one line of a JSONL output.

        Args:
            thresholds: ages in years; the record has the probability that the person has reached each one.
            began: when time 0 of the source was, for a live source.
        """
        age = self.age
        record = {
            "schema": PERSON_SCHEMA_VERSION,
            "source": self.source,
            "track": self.track,
            "first_s": round(self.first_s, 3),
            "last_s": round(self.last_s, 3),
            "first_at": clock_time(began, self.first_s),
            "last_at": clock_time(began, self.last_s),
            "in_view_s": round(self.in_view_s, 3),
            "frames": self.frames,
            "estimates": self.estimates,
            "unsure": self.unsure,
            "age": None if age is None else round(age.age_years, 2),
            "age_std": None if age is None else round(age.std_years, 2),
            **{f"age_p{share}": None if age is None else round(age.quantile(share / 100), 2) for share in _SHARES},
            "at_least": {str(years): None if age is None else round(age.at_least(years), 4) for years in thresholds},
            "quality": None if age is None or age.quality is None else round(age.quality, 3),
            "good_view_share": None if self.good_view_share is None else round(self.good_view_share, 3),
            "largest_face_px": round(self.largest_face_px, 1),
            "zones": {name: round(seconds, 3) for name, seconds in self.zones_s},
            "crossings": [
                {"line": crossing.line, "to": crossing.to, "time_s": round(crossing.time_s, 3)}
                for crossing in self.crossings
            ],
            "model": self.model,
        }
        return record if self.over is None else record | {"over": self.over.to_record()}


class People:
    """Makes persons of the results of a video or a camera, in the order in which they leave.

    Args:
        places: zones and lines.
        least_quality: of a view, for its estimate to count, 0 to 1.
        least_estimates: persons with fewer are marked as unsure.
        check: is asked whether persons have reached an age, those who are unsure excepted; None: nobody asks.

    Attributes:
        places: zones and lines; they may be replaced at any time.

    Example:
        >>> people = People()
        >>> for frame, result in pipeline.run(source):  # doctest: +SKIP
        ...     for person in people.add(result):
        ...         print(person.age)
        >>> people.end()
        []
    """

    def __init__(
        self, places: Places | None = None, *, least_quality: float = 0.0, least_estimates: int = LEAST_ESTIMATES,
        check: AgeCheck | None = None,
    ) -> None:  # fmt: skip
        self._visits = Visits(places or Places(), least_quality)
        self._least_estimates = least_estimates
        self._check = check

    def anew(self) -> "People":
        """Makes one like this for another source."""
        return People(
            self.places, least_quality=self._visits.least_quality, least_estimates=self._least_estimates,
            check=self._check,
        )  # fmt: skip

    @property
    def places(self) -> Places:
        return self._visits.places

    @places.setter
    def places(self, places: Places) -> None:
        self._visits.places = places

    def add(self, result: FrameResult) -> list[Person]:
        """Takes the result of the next frame; returns those who have left before it.

        Faces without a track, as those of single pictures, are nobody.
        """
        return list(self._persons(self._visits.add(result)))

    def in_view(self) -> list[Person]:
        """Those in the newest frame, as far as they are known."""
        return list(self._persons(visit for visit in self._visits.present.values() if visit.seen))

    def end(self) -> list[Person]:
        """The source has ended; returns those who were still there."""
        return list(self._persons(self._visits.end()))

    def _persons(self, visits: Iterable[Visit]) -> Iterator[Person]:
        for visit in visits:
            fused = visit.fused
            unsure = fused.count < self._least_estimates
            yield Person(
                visit.source, visit.model, visit.track, visit.first_s, visit.last_s, visit.in_view_s, visit.frames,
                fused.count, fused.age, unsure, visit.largest_face_px,
                fused.good / fused.count if fused.count else None, tuple(visit.zones_s.items()),
                tuple(visit.crossings), self._over(fused.age, unsure=unsure),
            )  # fmt: skip

    def _over(self, age: Age | None, *, unsure: bool) -> Over | None:
        if self._check is None:
            return None
        over = self._check.of(age)
        return replace(over, answer="refer", why="few estimates") if unsure and not over.why else over


def clock_time(began: datetime | None, time_s: float) -> str | None:
    """The time of day, UTC, to the second; None where time 0 is not known."""
    if began is None:
        return None
    return datetime.fromtimestamp(began.timestamp() + time_s, UTC).isoformat(timespec="seconds")
