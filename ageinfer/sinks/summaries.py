"""Makes the records of people and of the audience of one source, for every sink that writes or sends them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

from ageinfer.people import Audience, People, Person, Window
from ageinfer.people.people import THRESHOLDS
from ageinfer.sinks.draw import AnnotatedFrame


class Summary(ABC):
    """Makes records of a source that many frames give together.

    Attributes:
        began: that time; None for a recording, and before the first frame.
    """

    began: datetime | None = None

    @abstractmethod
    def anew(self) -> Self:
        """Makes one like this for another source."""

    @abstractmethod
    def add(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        """Takes the next frame; returns the records that it completes."""

    @abstractmethod
    def end(self) -> list[dict[str, Any]]:
        """The source has ended; returns the records that were not complete."""

    def _see(self, annotated: AnnotatedFrame) -> None:
        captured_s, time_s = annotated.frame.captured_s, annotated.frame.time_s
        if self.began is None and captured_s is not None and time_s is not None:
            seconds_ago = time.monotonic() - captured_s + time_s
            self.began = datetime.fromtimestamp(time.time() - seconds_ago, UTC)


class PersonRecords(Summary):
    """Makes one record for each person of a source.

    Args:
        people: makes the persons.
        thresholds: ages in years; each record has the probability that they have been reached.
    """

    def __init__(self, people: People, thresholds: Sequence[int] = THRESHOLDS) -> None:
        self.thresholds = tuple(thresholds)
        self._people = people

    def anew(self) -> Self:
        return type(self)(self._people.anew(), self.thresholds)

    def add(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        """Takes the next frame; returns the records of those who have left before it."""
        self._see(annotated)
        self._people.places = annotated.places
        return self._records(self._people.add(annotated.result))

    def in_view(self) -> list[dict[str, Any]]:
        """The records of those in the newest frame, as far as they go."""
        return self._records(self._people.in_view())

    def end(self) -> list[dict[str, Any]]:
        """The source has ended; returns the records of those who were still there."""
        return self._records(self._people.end())

    def _records(self, persons: list[Person]) -> list[dict[str, Any]]:
        return [person.to_record(self.thresholds, began=self.began) for person in persons]


class AudienceRecords(Summary):
    """Makes one record for each stretch of time of a source.

    Args:
        audience: makes the windows.
        source: name of the source where that is more than one picture; empty: as results have it.
    """

    def __init__(self, audience: Audience, source: str = "") -> None:
        self._audience = audience
        self._source = source

    def anew(self) -> Self:
        return type(self)(self._audience.anew(), self._source)

    def add(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        """Takes the next frame; returns the records of the windows that have ended before it."""
        self._see(annotated)
        self._audience.places = annotated.places
        if self.began is not None:
            self._audience.clock_s = self.began.timestamp()
        return [self._record(window) for window in self._audience.add(annotated.result)]

    def so_far(self) -> dict[str, Any] | None:
        """The record of the window that goes on; None before the first frame."""
        window = self._audience.so_far()
        return None if window is None else self._record(window)

    def end(self) -> list[dict[str, Any]]:
        """The source has ended; returns the record of the window that had not."""
        return [self._record(window) for window in self._audience.end()]

    def _record(self, window: Window) -> dict[str, Any]:
        record = window.to_record(began=self.began)
        return record | {"source": self._source or record["source"]}
