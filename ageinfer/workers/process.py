"""A worker process: opens a pipeline of its own, and works on the tasks that come through its pipe."""

import json
import logging
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from ageinfer.errors import AgeError, SourceError
from ageinfer.images import cv2
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PictureListSource, open_source
from ageinfer.types import Frame, FrameResult, Image
from ageinfer.workers.images import send_image
from ageinfer.workers.messages import (
    DONE,
    FAILED,
    IMAGE,
    MORE,
    READY,
    SIZE,
    Counts,
    Event,
    Failure,
    Note,
    encoded,
)  # fmt: skip

# A terminal or a service manager sends them to all processes of a command.
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_FRAMES_AT_ONCE = 32  # of a film, in one message

log = logging.getLogger(__name__)


def work(connection: Connection, opener: Callable[[], Pipeline], level: int) -> None:
    """Runs the process until its pipe is closed.

    Args:
        connection: to the process that has started this one.
        opener: opens the pipeline.
        level: the lowest level of log messages that are handed on.
    """
    for name in ENDING_SIGNALS:  # they are meant for the process that has started this one, and ends it
        signal.signal(name, signal.SIG_IGN)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), name="tasks", daemon=True).start()
    cv2.setNumThreads(1)
    out = _Out(connection)
    logging.getLogger().addHandler(out.notes)
    logging.getLogger().setLevel(level)
    with out.failures(FAILED):
        pipeline = opener()
        out.send(READY)
        while True:
            task = json.loads(tasks.get())
            with out.failures(DONE):
                _do(task, pipeline, out)


def _listen(connection: Connection, tasks: "queue.SimpleQueue[bytes]") -> None:
    """Takes tasks off the pipe, so that nobody has to wait for the pipe, and ends the process when it is closed."""
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _do(task: dict[str, Any], pipeline: Pipeline, out: "_Out") -> None:
    pixels = task["pixels"]
    if task["is_film"]:
        [path] = task["files"]
        counts = Counts()
        try:
            with open_source(path) as film:
                try:
                    for frame, result in pipeline.run(film, in_threads=task["in_threads"]):
                        out.answer(frame, result, pixels=pixels)
                finally:
                    counts = Counts(film.failed, film.damaged, film.truncated)
        except SourceError as error:
            log.warning("%s; the others go on", error)
            counts = replace(counts, failed=counts.failed + 1)
        out.add(counts)
    else:
        pictures = PictureListSource("pictures", task["files"], len(task["files"]))
        for frame, result in pipeline.pictures(pictures.frames()):
            out.answer(frame, result, pixels=pixels)
        out.add(Counts(pictures.failed, pictures.damaged))
    out.send(DONE)


class _Out:
    """Collects what is to be told, and sends it.

    Attributes:
        notes: takes log messages from any thread.
    """

    def __init__(self, connection: Connection) -> None:
        self.notes = _Notes(self)
        self._connection = connection
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def add(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def answer(self, frame: Frame, result: FrameResult, *, pixels: bool) -> None:
        """Tells a result: at once with its image, or together with others."""
        self.add(result)
        if pixels:
            self.send(IMAGE + SIZE.pack(*frame.image.shape[:2]), frame.image)
        elif len(self._events) >= _FRAMES_AT_ONCE:
            self.send(MORE)

    def send(self, head: bytes, image: Image | None = None) -> None:
        """Sends what was collected."""
        with self._lock:
            events, self._events = self._events, []
        try:
            self._connection.send_bytes(head + encoded(events))
            if image is not None:
                send_image(self._connection, image)
        except OSError:  # nobody listens any longer
            os._exit(0)

    @contextmanager
    def failures(self, kind: bytes) -> Iterator[None]:
        """Tells an error of the block, which ends the run; without memory the process ends, as if by the system."""
        try:
            yield
        except MemoryError:
            os._exit(1)
        except AgeError as error:
            self.add(Failure(type(error).__name__, str(error)))
            self.send(kind)
        except Exception:
            self.add(Failure("", traceback.format_exc()))
            self.send(kind)


class _Notes(logging.Handler):
    def __init__(self, out: _Out) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        self._out.add(Note(record.name, record.levelno, self.format(record)))
