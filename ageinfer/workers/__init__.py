"""Worker processes: many pictures, or several films, side by side, with the results in their order."""

import atexit
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Self

from ageinfer.engine.cores import usable_cores
from ageinfer.errors import UsageError
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PictureListSource, SequenceSource, Source
from ageinfer.types import Frame, FrameResult
from ageinfer.workers.handle import Worker
from ageinfer.workers.run import Run

__all__ = ["Workers"]


class Workers:
    """Worker processes that read many pictures, or several films, side by side, each with a pipeline of its own.

    The results are those of `Pipeline.run`, in the same order. Processes start with the first source and stay for the
    next one. The pictures of a worker that dies are given to another one; a picture that ends two workers is named in a
    warning and counted as one that cannot be read. A script must do this under ``if __name__ == "__main__":``, as
    all that starts processes.

    Args:
        opener: opens the pipeline of a worker: a function that can be imported, or a `functools.partial` of one. None:
            the default pipeline, with one thread a network.
        count: of processes; None: one for each core that this process may use.
        undisturbed: is entered while a process is started, for example to put off Ctrl-C.

    Example:
        >>> from functools import partial
        >>> opener = partial(Pipeline.default, "age-accurate", threads=1)
        >>> with open_source("photos/") as source, Workers(opener) as workers:  # doctest: +SKIP
        ...     for frame, result in workers.run(source):
        ...         print(result.source, len(result.faces))
    """

    def __init__(
        self, opener: Callable[[], Pipeline] | None = None, count: int | None = None, *,
        undisturbed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:  # fmt: skip
        self.count = max(1, int(usable_cores())) if count is None else count
        self.running: list[Worker] = []
        self._undisturbed = undisturbed
        self._opener = opener or partial(Pipeline.default, threads=1)

    def run(
        self, source: Source, *, pixels: bool = False, meanwhile: Pipeline | None = None
    ) -> Generator[tuple[Frame, FrameResult]]:
        """Processes a source as `Pipeline.run` does; one source at a time.

        Args:
            source: several pictures, or films and pictures; it is not iterated, but its counts are kept.
            pixels: whether the frames have their images; else they are empty, which saves the time to hand them over.
            meanwhile: begins with the pictures in this process. Processes are started if that takes longer than half a
                second, and take over when the first is ready.

        Yields:
            Each frame with its result.

        Raises:
            SourceError: none of the pictures and films can be read.
            UsageError: the source is something else.
            AgeError: a worker cannot be started, or its pipeline fails.
        """
        if not isinstance(source, PictureListSource | SequenceSource):
            raise UsageError(f"{source.name}: workers read several pictures or films; give it to Pipeline.run")
        whole = False
        try:
            yield from Run(self, source, pixels=pixels, meanwhile=meanwhile).results()
            whole = True
        finally:
            if not whole:  # they are still at work
                self.close()

    def start(self) -> None:
        """Starts all processes that are not running, and not only as they are needed."""
        while len(self.running) < self.count:
            self.start_one()

    def start_one(self) -> Worker:
        """Starts a further process."""
        if not self.running:  # multiprocessing would wait for them at the end of the program
            atexit.register(self.close)
        with self._undisturbed():
            self.running.append(Worker.start(self._opener))
        return self.running[-1]

    def close(self) -> None:
        """Ends the processes."""
        atexit.unregister(self.close)
        while self.running:
            self.running.pop().end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
