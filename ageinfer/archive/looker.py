"""Looks at the items of a shard, one after the other, and keeps the rows of what is found in them."""

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ageinfer.archive.attempts import Attempt
from ageinfer.archive.items import Item, kind_of
from ageinfer.archive.reading import as_file, members_of, read_ahead
from ageinfer.archive.rows import person_row, person_schema, row_schema, rows_of, unreadable
from ageinfer.archive.store import shown
from ageinfer.errors import SourceError
from ageinfer.people import People
from ageinfer.pipeline import Pipeline
from ageinfer.sources import Source, open_source
from ageinfer.sources.decoding import decode, decode_page, pages_of
from ageinfer.sources.formats import Page
from ageinfer.types import Frame, FrameResult

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 4096  # of Python's dictionaries; then they become columns

# One file in memory, with the name of its source and, in a tar file, its own; or why it cannot be read.
_File = tuple[str, str | None, "bytes | SourceError"]


class Rows:
    """The rows of a shard, in their order."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._batches: list[Any] = []
        self._people: list[dict[str, Any]] = []
        self._outcomes: Counter[str] = Counter()
        self._frames = 0

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows of `ageinfer.archive.rows`."""
        for row in rows:
            self._outcomes[row["outcome"]] += 1
            self._frames += row["outcome"] != "unreadable" and not row["face"]  # the first row of each frame
            self._rows.append(row)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._pack()

    def add_people(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows of people."""
        self._people += rows

    def _pack(self) -> None:
        import pyarrow as pa

        self._batches.append(pa.RecordBatch.from_pylist(self._rows, row_schema()))
        self._rows = []

    def table(self) -> "pa.Table":
        """All rows of faces, and of what has none."""
        import pyarrow as pa

        self._pack()
        return pa.Table.from_batches(self._batches, row_schema())

    def people_table(self) -> "pa.Table":
        """All rows of people."""
        import pyarrow as pa

        return pa.Table.from_pylist(self._people, person_schema())

    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind, and how many pictures and frames were looked at."""
        found = self._outcomes
        return {
            "rows": found.total(), "frames": self._frames, "faces": found["face"], "no_face": found["no face"],
            "damaged": found["damaged"], "unreadable": found["unreadable"], "people": len(self._people),
        }  # fmt: skip


class Looker:
    """Looks at the items of one shard.

    Args:
        pipeline: finds faces and ages.
        shard: its number.
        every_s: see `ageinfer.archive.shard.Work`.
        people: whether rows of people are made, too.
        in_threads: see `ageinfer.pipeline.Pipeline.run`.

    Attributes:
        rows: of what was looked at so far.
    """

    def __init__(
        self, pipeline: Pipeline, shard: int, *, every_s: float | None = None, people: bool = False,
        in_threads: bool = False,
    ) -> None:  # fmt: skip
        self.rows = Rows()
        self._pipeline, self._shard, self._every_s, self._people = pipeline, shard, every_s, people
        self._in_threads = in_threads

    def look_at(self, items: Iterable[Item], attempt: Attempt | None = None) -> None:
        """Looks at items, in their order.

        Args:
            items: pictures, films and tar files.
            attempt: is told of each item, and may say that one is left out.

        Raises:
            StoreError: an object store does not answer.
            OutputError: the attempt cannot be noted.
        """

        def pictures(group: Iterable[Item]) -> Iterator[_File]:
            for item, data in read_ahead(group):
                why = attempt.begins(item) if attempt else None
                yield item.name, None, SourceError(why) if why else data

        # Each by itself where one kills workers: in a batch nobody could tell which.
        alone = itertools.count() if attempt and attempt.careful else itertools.repeat(0)
        for (kind, _), group in itertools.groupby(items, key=lambda item: (item.kind, next(alone))):
            if kind == "picture":
                self._look_at_files(pictures(group))
                continue
            for item in group:
                if why := attempt.begins(item) if attempt else None:
                    self.rows.add([unreadable(item.name, self._shard, why)])
                elif kind == "tar":
                    self._look_at_files(_files_in(item))
                else:
                    self._film(item)

    def _look_at_files(self, files: Iterable[_File]) -> None:
        """Looks at pictures, the faces of several in one batch; rows come in the order of the files."""
        names: list[tuple[str, str | None]] = []
        failed: deque[tuple[int, int, SourceError]] = deque()  # number of the file, page

        def frames() -> Iterator[Frame]:
            for number, (source, member, data) in enumerate(files):
                names.append((source, member))
                pages: list[Page] = []
                try:
                    if isinstance(data, SourceError):
                        raise data
                    pages = pages_of(data, source)
                except SourceError as error:
                    failed.append((number, 0, error))
                    continue
                for page in range(max(len(pages), 1)):
                    try:
                        picture = decode_page(data, pages[page], source) if len(pages) > 1 else decode(data, source)
                    except SourceError as error:
                        failed.append((number, page, error))
                    else:
                        # The row finds the file by its number.
                        yield Frame(str(number), page, None, picture.image, damaged=picture.damaged)

        def add_failed(before: tuple[float, int]) -> None:
            while failed and failed[0][:2] < before:
                number, page, error = failed.popleft()
                source, member = names[number]
                reason = str(error).removeprefix(f"{source}: ")
                self.rows.add([unreadable(source, self._shard, reason, member, page)])

        for frame, result in self._pipeline.pictures(frames()):
            number = int(frame.source)
            add_failed((number, frame.index))
            source, member = names[number]
            self.rows.add(rows_of(replace(result, source=source), self._shard, member))
        add_failed((math.inf, 0))

    def _film(self, item: Item) -> None:
        people = People(check=self._pipeline.check)
        frames = 0
        prefix = f"{item.name}: "
        try:
            with as_file(item) as path:
                prefix = f"{path}: "  # of a copy, where it comes from an object store
                with open_source(path) as source:
                    for _, found in self._results(source):
                        result = replace(found, source=item.name)
                        frames = result.index + 1
                        self.rows.add(rows_of(result, self._shard))
                        if self._people:
                            self.rows.add_people(person_row(person, self._shard) for person in people.add(result))
                    if source.truncated:
                        raise SourceError("the film is cut off here; copy or record it again")
        except SourceError as error:
            self.rows.add([unreadable(item.name, self._shard, str(error).removeprefix(prefix), frame=frames)])
        self.rows.add_people(person_row(person, self._shard) for person in people.end())

    def _results(self, source: Source) -> Iterator[tuple[Frame, FrameResult]]:
        if self._every_s is None:
            return self._pipeline.run(source, in_threads=self._in_threads)
        return self._pipeline.pictures(_thinned(source, self._every_s))


def _thinned(source: Source, every_s: float) -> Iterator[Frame]:
    """The first frame of a film, and each that comes ``every_s`` or more after the one before; their times are kept."""
    due_s = 0.0
    for frame in source:
        if (frame.time_s or 0.0) >= due_s:
            yield frame
            due_s = (frame.time_s or 0.0) // every_s * every_s + every_s


def _files_in(item: Item) -> Iterator[_File]:
    """The pictures in a tar file; from where it is broken on, one file that cannot be read stands for the rest."""
    try:
        for member, data in members_of(item, lambda name: kind_of(name) == "picture"):
            yield item.name, shown(member), data
    except SourceError as error:
        yield item.name, None, error
