"""Several films and pictures, one after the other."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ageinfer.errors import SourceError
from ageinfer.sources.base import Source
from ageinfer.sources.pictures import PictureListSource
from ageinfer.types import Frame

T = TypeVar("T")

log = logging.getLogger(__name__)

# The path of a film, or those of pictures that stand between two films.
Part = str | Path | tuple[str | Path, ...]


class SequenceSource(Source):
    """Several films and pictures in the order given, each film as if it was read alone.

    A film that cannot be read is named in a warning and counted in ``failed``; the others go on.

    Args:
        parts: the path of each film, and the paths of the pictures between two films.
        opened: opens a film.
        frame_count: of all of them, or None if it is unknown.

    Attributes:
        files: all paths.
        films: the paths of the films.

    Raises:
        SourceError: while iterating: none of them can be read.
    """

    kind = "video"

    def __init__(self, parts: Sequence[Part], opened: Callable[[str | Path], Source], frame_count: int | None) -> None:
        self.parts = tuple(parts)
        self.films = [part for part in self.parts if not isinstance(part, tuple)]
        self.files = [file for part in self.parts for file in (part if isinstance(part, tuple) else (part,))]
        self.name = f"{len(self.files)} sources"
        self.frame_count = frame_count
        self._opened = opened
        self._open: Source | None = None

    def close(self) -> None:
        super().close()
        if self._open is not None:
            self._open.close()

    def __iter__(self) -> Iterator[Frame]:
        return self.each(lambda source: source)

    def each(self, work: Callable[[Source], Iterable[T]]) -> Generator[T]:
        """Yields what comes of each source, one after the other.

        Args:
            work: takes a source that is open.

        Raises:
            SourceError: none of them can be read.
        """
        self._begin()
        done = 0
        for part in self.parts:
            if self._closed:
                return
            try:
                with self._opened_part(part) as source:
                    for item in work(source):
                        done += 1
                        yield item
            except SourceError as error:
                if not isinstance(part, tuple):  # each picture was named
                    self.fail(error)
            finally:
                self._count(self._open)
        if not self._closed:
            self.refuse_none(done)

    def fail(self, error: SourceError) -> None:
        """Notes that a film cannot be read."""
        self.failed += 1
        log.warning("%s; the others go on", error)

    def refuse_none(self, done: int) -> None:
        """Refuses sources of which nothing could be read.

        Raises:
            SourceError: ``done``, the number of frames, is 0.
        """
        if done == 0:
            raise SourceError(f"none of the {self.name} can be read; copy them again")

    def _opened_part(self, part: Part) -> Source:
        if isinstance(part, tuple):
            self._open = PictureListSource(f"{len(part)} pictures", part, len(part))
        else:
            self._open = self._opened(part)
        return self._open

    def _count(self, source: Source | None) -> None:
        if source is not None:
            self.failed += source.failed
            self.damaged += source.damaged
            self.truncated |= source.truncated
        self._open = None
