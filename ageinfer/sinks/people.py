"""Writes one record a person, or one a stretch of time, as JSON Lines or CSV."""

import json
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ageinfer.people import Audience, People
from ageinfer.people.board import Board, Boards
from ageinfer.people.people import THRESHOLDS
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks.records import TextSink, cell, harmless, over_cells
from ageinfer.sinks.summaries import AudienceRecords, PersonRecords, Summary

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
_PERSON_END = (
    "quality", "good_view_share", "largest_face_px", "zones", "crossings", "model", "over_years", "p_at_least", "over",
    "over_why",
)  # fmt: skip


def person_columns(thresholds: Sequence[int] = THRESHOLDS) -> tuple[str, ...]:
    """Names of the columns of a table of persons."""
    return (*_PERSON_COLUMNS, *(f"at_least_{years}" for years in thresholds), *_PERSON_END)


R = TypeVar("R", bound=Summary)


class _SummarySink(TextSink, Generic[R]):
    """Writes records that a few frames or many give together: JSON Lines, or a table where the file ends in .csv."""

    def __init__(
        self, path: str, records: R, sources: Sequence[str], *, untouchable: Iterable[str | Path] = (),
        should_end: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, untouchable=untouchable, should_end=should_end)
        self._as_table = path.lower().endswith(".csv")
        self._records = records
        self._by_source = {source: records.anew() for source in sources}

    def _of(self, annotated: AnnotatedFrame) -> R:
        """What makes the records of the source of a frame."""
        return self._by_source.get(annotated.result.source, self._records)

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
            for records in (self._records, *self._by_source.values()):
                self._put(self._ended(records))
        finally:
            super().close()

    def _taken(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        return self._of(annotated).add(annotated)

    def _ended(self, records: R) -> list[dict[str, Any]]:
        return records.end()

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


class PeopleSink(_SummarySink[PersonRecords]):
    """Writes one record for each person, when the person has left, and the others at the end.

    Args:
        path: of the file, ``.csv`` for a table, or ``-`` for JSON Lines on standard output.
        people: makes the persons.
        thresholds: ages in years; each record has the probability that they have been reached.
        sources: the names of several live sources, as results have them, whose frames come in turn; empty: one source
            comes after the other.
        untouchable, should_end: as of `ageinfer.sinks.JsonlSink`.

    Raises:
        OutputError: the file cannot be opened for writing, or must not be overwritten.
    """

    def __init__(
        self, path: str, people: People, thresholds: Sequence[int] = THRESHOLDS, *, sources: Sequence[str] = (),
        untouchable: Iterable[str | Path] = (), should_end: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        records = PersonRecords(people, thresholds)
        super().__init__(path, records, sources, untouchable=untouchable, should_end=should_end)

    def _columns(self) -> tuple[str, ...]:
        return person_columns(self._records.thresholds)

    def _rows(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        zones = ";".join(f"{name}={seconds:g}" for name, seconds in record["zones"].items())
        crossings = ";".join(f"{c['line']}:{c['to']}@{c['time_s']:g}" for c in record["crossings"])
        chances = {f"at_least_{years}": chance for years, chance in record["at_least"].items()}
        return [harmless(record) | chances | over_cells(record) | {"zones": zones, "crossings": crossings}]


class AudienceSink(_SummarySink[AudienceRecords]):
    """Writes one record for each stretch of time.

    A table has a row for each band of ages in the picture and in each zone, and a row for each line.

    Args:
        path: of the file, ``.csv`` for a table, or ``-`` for JSON Lines on standard output.
        audience: makes the windows.
        source: name of the source where that is more than one picture; empty: as results have it.
        sources: as of `PeopleSink`.
        boards: show the windows that have ended, and about once a second the ones that go on.
        only_ended: the boards do not show those that go on.
        untouchable, should_end: as of `ageinfer.sinks.JsonlSink`.

    Raises:
        OutputError: the file cannot be opened for writing, or must not be overwritten.
    """

    def __init__(
        self, path: str, audience: Audience, *, source: str = "", sources: Sequence[str] = (),
        boards: Boards | None = None, only_ended: bool = False, untouchable: Iterable[str | Path] = (),
        should_end: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        records = AudienceRecords(audience, source)
        super().__init__(path, records, sources, untouchable=untouchable, should_end=should_end)
        self._boards, self._only_ended = boards, only_ended
        self._due_s: dict[Board, float] = {}  # when the window that goes on is shown again

    def _taken(self, annotated: AnnotatedFrame) -> list[dict[str, Any]]:
        records = self._of(annotated)
        made = self._shown(records.add(annotated))
        if self._boards is not None and not self._only_ended:
            self._show_current(self._boards.of(annotated.result.source), records)
        return made

    def _ended(self, records: AudienceRecords) -> list[dict[str, Any]]:
        return self._shown(records.end())

    def _show_current(self, board: Board, records: AudienceRecords) -> None:
        began_s = time.monotonic()
        if began_s < self._due_s.get(board, -math.inf):
            return
        record = records.so_far()
        if record is not None:
            board.show_current(record)
            now_s = time.monotonic()
            self._due_s[board] = now_s + max(_SHOWN_EVERY_S, _PAUSES * (now_s - began_s))

    def _shown(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._boards is not None:
            for record in records:
                self._boards.of(record["source"]).show_ended(record)
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
