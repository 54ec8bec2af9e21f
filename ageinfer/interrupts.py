"""Ctrl-C: the first one ends a run after the frame at hand, the second one at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ageinfer.errors import ExitStatus


class Interrupts:
    """Takes SIGINT and SIGTERM while it is entered: a supervisor's stop is a person's Ctrl-C.

    Attributes:
        requested: somebody wants the run to end.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # no other one may; interrupts go to that one anyway
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, an interrupt is noted and nothing is broken off: records and pictures are written whole."""
        self._waiting = False
        try:
            yield
        finally:
            self._waiting = True

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            # At once: neither clean-up nor a blocked write may hold it up.
            os._exit(ExitStatus.INTERRUPTED)
        self.requested = True
        if self._waiting:
            raise KeyboardInterrupt
