"""One source on its way through worker processes: hands out tasks, and gives the results in order."""

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator
from multiprocessing.connection import wait
from typing import Protocol

import numpy as np

from ageinfer.engine.cores import usable_cores
from ageinfer.errors import AgeError, SourceError
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PictureListSource, SequenceSource
from ageinfer.types import Frame, FrameResult, Image
from ageinfer.workers.handle import Worker
from ageinfer.workers.held import Held
from ageinfer.workers.images import receive_image
from ageinfer.workers.messages import (
    DONE,
    FAILED,
    IMAGE,
    READY,
    SIZE,
    Counts,
    Event,
    Failure,
    Note,
    decoded,
    encoded,
)  # fmt: skip
from ageinfer.workers.tasks import Task, tasks_of

# One that a worker works on and one that waits, so that no worker waits for this process.
_TASKS_OF_WORKER = 2
# Between the oldest task that is not done and the newest one; and bytes of images that are not due.
_MOST_TASKS, _MOST_IMAGE_BYTES = 1024, 64 << 20
_FAILED_STARTS = 3
_TICK_S = 0.01  # where the next path is not there yet
# Workers are there about a second after their start, and work that is done by then needs none.
_ALONE_S = 0.5
_NO_IMAGE: Image = np.zeros((0, 0, 3), np.uint8)

log = logging.getLogger(__name__)


class Pool(Protocol):
    """The processes."""

    running: list[Worker]
    count: int

    def start(self) -> None:
        """Starts all of them that are not running."""

    def start_one(self) -> Worker:
        """Starts a further process."""


class Run:
    """Passes a source through worker processes.

    Args:
        pool: of the processes.
        source: films and pictures; it is not iterated, but gets the counts.
        pixels: whether the images come back.
        meanwhile: works on pictures in this process until the first worker is ready.
    """

    def __init__(
        self, pool: Pool, source: PictureListSource | SequenceSource, *, pixels: bool, meanwhile: Pipeline | None = None
    ) -> None:
        self._pool, self._source, self._pixels, self._meanwhile = pool, source, pixels, meanwhile
        self._tasks: Iterator[Task | None] = tasks_of(source, pixels=pixels)
        self._outstanding: deque[Task] = deque()  # those that are not taken, in order
        self._again: deque[Task] = deque()  # those of workers that have died, in order
        self._held = Held()
        self._in_threads = pool.count < usable_cores()
        self._ended = self._awaits_path = False
        self._error: SourceError | None = None
        self._failed_starts = 0

    def results(self) -> Generator[tuple[Frame, FrameResult]]:
        """Yields each frame with its result, in the order of the source; see `ageinfer.workers.Workers.run`."""
        done = 0
        try:
            for item in self._alone(self._meanwhile) if self._meanwhile is not None else ():
                done += 1
                yield item
            while True:
                self._give()
                if not self._outstanding and self._ended:
                    break
                task = self._outstanding[0] if self._outstanding else None
                if task is None or not (task.messages or task.done):
                    self._receive(_TICK_S if self._awaits_path else None)
                    continue
                if not task.messages:
                    self._outstanding.popleft()
                    continue
                kept = task.messages.popleft()
                for event in decoded(self._held.take(kept)):
                    if isinstance(event, FrameResult):
                        if task.skip:
                            task.skip -= 1
                            continue
                        task.taken += 1
                        done += 1
                        image = _NO_IMAGE if kept.image is None else kept.image
                        yield Frame(event.source, event.index, event.time_s, image, damaged=event.damaged), event
                    else:
                        self._heed(event)
                self._receive(0)
        finally:
            self._held.close()
        if self._error is not None:
            raise self._error
        self._source.refuse_none(done)

    def _alone(self, pipeline: Pipeline) -> Generator[tuple[Frame, FrameResult]]:
        """Works on pictures in this process, at first alone, and then until a worker is ready."""
        worked_s = 0.0
        while not any(worker.ready for worker in self._pool.running):
            began_s = time.monotonic()
            task = self._next_task()
            if task is not None and task.is_film:
                self._again.append(task)
            if self._ended or self._again:
                return
            if task is None:
                time.sleep(_TICK_S)
                continue
            self._outstanding.pop()
            pictures = PictureListSource("pictures", task.files, len(task.files))
            yield from pipeline.pictures(pictures.frames())
            self._heed(Counts(pictures.failed, pictures.damaged))
            worked_s += time.monotonic() - began_s
            if worked_s >= _ALONE_S:
                self._pool.start()
                self._receive(0)

    def _heed(self, event: Event) -> None:
        if isinstance(event, Note):
            event.tell()
        elif isinstance(event, Counts):
            self._source.failed += event.failed
            self._source.damaged += event.damaged
            self._source.truncated |= event.truncated
        elif isinstance(event, Failure):
            raise event.error()

    def _give(self) -> None:
        """Gives tasks to workers as long as one has room."""
        self._awaits_path = False
        while self._again or (not self._ended and len(self._outstanding) < _MOST_TASKS):
            if not self._has_room():
                return
            task = self._again.popleft() if self._again else self._next_task()
            if task is None:
                return
            worker = self._free_worker()
            worker.tasks.append(task)
            try:
                worker.connection.send_bytes(task.encoded(pixels=self._pixels, in_threads=self._in_threads))
            except OSError:
                self._lose(worker)

    def _has_room(self) -> bool:
        running = self._pool.running
        return len(running) < self._pool.count or any(len(worker.tasks) < _TASKS_OF_WORKER for worker in running)

    def _free_worker(self) -> Worker:
        running = self._pool.running
        worker = min(running, key=lambda one: len(one.tasks), default=None)
        if worker is None or (worker.tasks and len(running) < self._pool.count):
            return self._pool.start_one()
        return worker

    def _next_task(self) -> Task | None:
        try:
            task = next(self._tasks)
        except StopIteration:
            self._ended = True
            return None
        except SourceError as error:  # the results before it come first
            self._ended, self._error = True, error
            return None
        if task is None:
            self._awaits_path = True
        else:
            self._outstanding.append(task)
        return task

    def _receive(self, timeout_s: float | None) -> None:
        """Takes a message of each worker that has one; not images that wait for others, where there are many."""
        full = self._held.image_bytes >= _MOST_IMAGE_BYTES
        due = self._outstanding[0] if self._outstanding else None
        heard = {
            worker.connection: worker
            for worker in self._pool.running
            if not full or (worker.tasks and worker.tasks[0] is due)
        }
        for connection in wait(list(heard), timeout_s):
            self._take(heard[connection])  # type: ignore[index]

    def _take(self, worker: Worker) -> None:
        try:
            data, image = worker.connection.recv_bytes(), None
            kind, data = data[:1], data[1:]
            if kind == IMAGE:
                image = receive_image(worker.connection, *SIZE.unpack_from(data))
                data = data[SIZE.size :]
        except (EOFError, OSError):
            self._lose(worker)
            return
        if kind == READY:
            worker.ready, self._failed_starts = True, 0
            return
        if kind == FAILED:
            for event in decoded(data):
                self._heed(event)
            return
        task = worker.tasks[0]
        task.messages.append(self._held.keep(data, image))
        if kind == DONE:
            worker.tasks.popleft()
            task.done = True

    def _lose(self, worker: Worker) -> None:
        """A worker has died: others get its tasks.

        Raises:
            AgeError: no worker can be started.
        """
        self._pool.running.remove(worker)
        reason = worker.end()
        log.warning("a worker process has ended (%s); another one takes its place", reason)
        again = list(worker.tasks)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise AgeError(f"a worker process cannot be started (it ended by {reason}); use --workers 1")
        elif again:
            again[:1] = self._after_death(again[0], reason)
        self._again = deque(sorted([*self._again, *again], key=self._outstanding.index))

    def _after_death(self, task: Task, reason: str) -> list[Task]:
        """What is to be given again of a task whose worker has died over it."""
        task.deaths += 1
        task.skip = task.taken
        while task.messages:
            self._held.take(task.messages.popleft())
        if task.deaths == 1:
            return [task]
        if len(task.files) > 1:
            singles = task.singly()
            place = self._outstanding.index(task)
            self._outstanding.remove(task)
            for i, single in enumerate(singles):
                self._outstanding.insert(place + i, single)
            return singles
        text = f"{task.files[0]}: the process that read it died twice ({reason}); it is left out"
        events: list[Event] = [Note(__name__, logging.WARNING, text), Counts(failed=1)]
        task.messages.append(self._held.keep(encoded(events)))
        task.skip, task.done = 0, True
        return []
