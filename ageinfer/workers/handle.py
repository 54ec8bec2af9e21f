"""A worker process as the process sees it that has started it."""

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from ageinfer.pipeline import Pipeline
from ageinfer.workers.process import ENDING_SIGNALS, work
from ageinfer.workers.tasks import Task


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and the tasks that it has been given, in its order.

    Attributes:
        ready: whether its pipeline is open.
    """

    process: BaseProcess
    connection: Connection
    tasks: deque[Task] = field(default_factory=deque)
    ready: bool = False

    @classmethod
    def start(cls, opener: Callable[[], Pipeline]) -> "Worker":
        """Starts a process.

        Args:
            opener: opens its pipeline.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        process = context.Process(target=work, args=(theirs, opener, level), name="ageinfer worker", daemon=True)
        with theirs, _signals_blocked():  # which the process inherits: it would die of Ctrl-C while it is loaded
            process.start()
        return cls(process, ours)

    def end(self) -> str:
        """Ends the process, which has nothing that could be lost; returns how it ended, as in a message."""
        self.connection.close()
        self.process.join(0 if self.process.is_alive() else None)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        return f"signal {-code}, perhaps for want of memory" if code < 0 else f"status {code}"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
