"""What a worker process is given at once: a film, or a few pictures."""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ageinfer.sources import PictureListSource, SequenceSource
from ageinfer.workers.held import Kept

# The pictures of a task: not so many that the last one holds up the end, and little time beside what a message takes.
_GROUP_FILES, _GROUP_BYTES, _GROUP_LETTERS = 16, 4 << 20, 1 << 14


@dataclass(slots=True, eq=False)
class Task:
    """A film, or a few pictures.

    Attributes:
        files: paths of pictures, or the path of the film alone.
        is_film: which of both.
        deaths: workers that have died over it.
        taken: results of it that were taken.
        skip: results that were taken before a worker died, and come again.
        messages: that have come and were not taken.
        done: whether all have come.
    """

    files: list[str]
    is_film: bool = False
    deaths: int = 0
    taken: int = 0
    skip: int = 0
    messages: deque[Kept] = field(default_factory=deque)
    done: bool = False

    def encoded(self, *, pixels: bool, in_threads: bool) -> bytes:
        """As a worker is told it: with images or without, and whether it may use several threads."""
        told = {"files": self.files, "is_film": self.is_film, "pixels": pixels, "in_threads": in_threads}
        return json.dumps(told).encode()

    def singly(self) -> "list[Task]":
        """A task for each picture, which a further death will end."""
        return [Task([file], deaths=1) for file in self.files]


def tasks_of(source: PictureListSource | SequenceSource, *, pixels: bool) -> Iterator[Task | None]:
    """Makes the tasks of a source, in its order; None where the next one is not there yet.

    Args:
        source: films and pictures; it is not read itself.
        pixels: whether the images come back; then each picture is a task.

    Raises:
        SourceError: while iterating: the paths cannot be read.
    """
    if isinstance(source, PictureListSource):
        yield from _groups(source.coming.or_none() if source.coming else source.files, pixels=pixels)
        return
    for part in source.parts:
        if isinstance(part, tuple):
            yield from _groups(part, pixels=pixels)
        else:
            yield Task([str(part)], is_film=True)


def _groups(files: Iterable[str | Path | None], *, pixels: bool) -> Iterator[Task | None]:
    group: list[str] = []
    size = letters = 0
    for file in files:
        if file is not None:
            group.append(str(file))
            letters += len(group[-1])
            with suppress(OSError, ValueError):  # whoever reads it says what is wrong
                size += os.stat(file).st_size  # noqa: PTH116, making a Path is slower, for many pictures
        full = pixels or len(group) >= _GROUP_FILES or size >= _GROUP_BYTES or letters >= _GROUP_LETTERS
        if group and (full or file is None):
            yield Task(group)
            group, size, letters = [], 0, 0
        elif file is None:
            yield None
    if group:
        yield Task(group)
