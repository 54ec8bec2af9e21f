"""Handles Ctrl-C: the first one ends a run after the current frame, the second one at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ageinfer.errors import ExitStatus


class Interrupts:
    """Handles SIGINT, SIGTERM and SIGHUP as Ctrl-C inside a ``with`` block.

    The first signal raises `KeyboardInterrupt`, or is only noted while the block is held. The second one ends the
    process at once.

    Attributes:
        requested: whether a signal has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # only it may set handlers, and it gets the signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)
            # Under nohup SIGHUP is ignored and stays so.
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self.hold()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Only notes signals from now on, because the outputs are being completed."""
        self._waiting = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Only notes signals inside the block, so that records and pictures are written as a whole."""
        self._waiting = False
        try:
            yield
        finally:
            self._waiting = True

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            # At once: clean-up or a blocked write could take for ever.
            os._exit(ExitStatus.INTERRUPTED)
        self.requested = True
        if self._waiting:
            raise KeyboardInterrupt
