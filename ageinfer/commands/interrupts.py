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
    """Takes SIGINT, SIGTERM and SIGHUP while it is entered: a supervisor's stop, or a lost connection, is a Ctrl-C.

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
            # Under nohup it is ignored, and is to be.
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self.hold()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """From now on an interrupt is only noted: what was written is being completed."""
        self._waiting = False

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
