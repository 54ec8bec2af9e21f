"""Writes one record a person, or one a stretch of time, as JSON Lines or CSV."""

import json
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ageinfer.people import Audience, People
from ageinfer.people.board import Board
from ageinfer.people.people import THRESHOLDS
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks.records import TextSink, cell, harmless
from ageinfer.sinks.summaries import AudienceRecords, PersonRecords

AUDIENCE_COLUMNS = (
    "source", "from_s", "to_s", "from_at", "to_at", "watched_s", "frames", "zone", "people", "seconds", "mean_in_view",
    "most_in_view", "unsure", "ages", "count", "low", "high", "line", "left", "right", "model",
)  # fmt: skip
# The window that goes on is shown once in so long, and of a large crowd more seldom: it takes one part in so many.
_SHOWN_EVERY_S, _PAUSES = 1.0, 50
_PERSON_COLUMNS = (
    "source", "track", "first_s", "last_s", "first_at", "last_at", "in_view_s", "frames", "estimates", "unsure", "age",
    "age_std", "age_p5", "age_p50", "age_p95",
)  # fmt: skip
_PERSON_END = ("quality", "good_view_share", "largest_face_px", "zones", "crossings", "model")


def person_columns(thresholds: Sequence[int] = THRESHOLDS) -> tuple[str, ...]:
    """Names of the columns of a table of persons."""
    return (*_PERSON_COLUMNS, *(f"at_least_{years}" for years in thresholds), *_PERSON_END)


class _SummarySink(TextSink):
    """Writes records that a few frames or many give together: JSON Lines, or a table where the file ends in .csv."""

    def __init__(
        self, path: str, *, untouchable: Iterable[str | Path] = (), should_end: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(path, untouchable=untouchable, should_end=should_end)
        self._as_table = path.lower().endswith(".csv")

    def write(self, annotated: AnnotatedFrame) -> None:
        """Takes the next frame, and writes the records that it completes.

        Raises:
            OutputError: they cannot be written.
        """
        self._put(self._taken(annotated))

    def close(self) -> None:
        """Writes the records that are not complete yet.

        Raises:
            OutputError: they cannot be written.
        """
        try:
            self._put(self._rest())
        finally:
            super().close()

    @abstractmethod
    def _taken(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]: ...

    @abstractmethod
    def _rest(self) -> list[dict[str, Any]]: ...

    @abstractmethod
    def _columns(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _rows(self, record: dict[str, Any]) -> list[dict[str, Any]]: ...

    def _put(self, records: list[dict[str, Any]]) -> None:
        if not self._as_table:
            self._write("".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records))
            return
        columns = self._columns()
        lines: list[tuple[Any, ...]] = [] if self._begun else [columns]
        for record in records:
            lines += [tuple(row.get(name) for name in columns) for row in self._rows(record)]
        self._write("".join(",".join(map(cell, line)) + "\r\n" for line in lines))


class PeopleSink(_SummarySink):
    """Writes one record for each person, when the person has left, and the others at the end.

    Args:
        path: of the file, ``.csv`` for a table, or ``-`` for JSON Lines on standard output.
        people: makes the persons.
        thresholds: ages in years; each record has the probability that they have been reached.
        untouchable, should_end: as of `ageinfer.sinks.JsonlSink`.

    Raises:
        OutputError: the file cannot be opened for writing, or must not be overwritten.
    """

    def __init__(
        self, path: str, people: People, thresholds: Sequence[int] = THRESHOLDS, *,
        untouchable: Iterable[str | Path] = (), should_end: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, untouchable=untouchable, should_end=should_end)
        self._records = PersonRecords(people, thresholds)

    def _taken(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        return self._records.add(annotated)

    def _rest(self) -> list[dict[str, Any]]:
        return self._records.end()

    def _columns(self) -> tuple[str, ...]:
        return person_columns(self._records.thresholds)

    def _rows(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        zones = ";".join(f"{name}={seconds:g}" for name, seconds in record["zones"].items())
        crossings = ";".join(f"{c['line']}:{c['to']}@{c['time_s']:g}" for c in record["crossings"])
        chances = {f"at_least_{years}": chance for years, chance in record["at_least"].items()}
        return [harmless(record) | chances | {"zones": zones, "crossings": crossings}]


class AudienceSink(_SummarySink):
    """Writes one record for each stretch of time.

    A table has a row for each band of ages in the picture and in each zone, and a row for each line.

    Args:
        path: of the file, ``.csv`` for a table, or ``-`` for JSON Lines on standard output.
        audience: makes the windows.
        source: name of the source where that is more than one picture; empty: as results have it.
        board: shows the windows that have ended, and about once a second the one that goes on.
        only_ended: the board does not show the one that goes on.
        untouchable, should_end: as of `ageinfer.sinks.JsonlSink`.

    Raises:
        OutputError: the file cannot be opened for writing, or must not be overwritten.
    """

    def __init__(
        self, path: str, audience: Audience, *, source: str = "", board: Board | None = None,
        only_ended: bool = False, untouchable: Iterable[str | Path] = (), should_end: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, untouchable=untouchable, should_end=should_end)
        self._records = AudienceRecords(audience, source)
        self._board, self._only_ended = board, only_ended
        self._due_s = -math.inf  # when the window that goes on is shown again

    def _taken(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        records = self._shown(self._records.add(annotated))
        began_s = time.monotonic()
        if self._board is not None and not self._only_ended and began_s >= self._due_s:
            record = self._records.so_far()
            if record is not None:
                self._board.show_current(record)
                now_s = time.monotonic()
                self._due_s = now_s + max(_SHOWN_EVERY_S, _PAUSES * (now_s - began_s))
        return records

    def _rest(self) -> list[dict[str, Any]]:
        return self._shown(self._records.end())

    def _shown(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._board is not None:
            for record in records:
                self._board.show_ended(record)
        return records

    def _columns(self) -> tuple[str, ...]:
        return AUDIENCE_COLUMNS

    def _rows(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        window = {name: value for name, value in harmless(record).items() if name not in ("zones", "lines", "bands")}
        rows = [window | band for band in record["bands"]]
        alone = {name: window[name] for name in ("source", "from_s", "to_s", "from_at", "to_at", "watched_s", "frames")}
        for tally in record["zones"]:
            rows += [alone | tally | band | {"model": window["model"]} for band in tally["bands"]]
        return rows + [alone | sides | {"model": window["model"]} for sides in record["lines"]]
