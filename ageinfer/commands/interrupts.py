"""Handles Ctrl-C: the first one ends a run after the current frame, a second one a second later at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ageinfer.errors import ExitStatus

# A second Ctrl-C counts from here on. Less is one stop request that came twice: `timeout` signals the process and then
# its group, and a terminal that closes may send several signals.
_AT_ONCE_S = 1.0
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def ignore_signals() -> None:
    """Ignores the signals from now on, because all is done: ending by one would only look as if it was not."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Interrupts:
    """Handles SIGINT, SIGTERM and SIGHUP as Ctrl-C inside a ``with`` block.

    The first signal raises `KeyboardInterrupt`, or is only noted while the block is held. A SIGINT that comes a second
    or more after another SIGINT ends the process at once. Other signals never do: who sends them wants whole files.

    Attributes:
        requested: whether a signal has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = True
        self._first_sigint_s: float | None = None
        self._before: dict[signal.Signals, Any] = {}

    def begin(self) -> "Interrupts":
        """Handles the signals from now on, without a ``with`` block."""
        if threading.current_thread() is threading.main_thread():  # only it may set handlers, and it gets the signals
            for number in ENDING_SIGNALS:
                # Under nohup SIGHUP is ignored and stays so.
                if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __enter__(self) -> "Interrupts":
        return self.begin()

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

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            now_s = time.monotonic()
            if self._first_sigint_s is None:
                self._first_sigint_s = now_s
            elif now_s - self._first_sigint_s >= _AT_ONCE_S:
                # At once: clean-up or a blocked write could take for ever.
                os._exit(ExitStatus.INTERRUPTED)
        if self.requested:
            return
        self.requested = True
        if self._waiting:
            raise KeyboardInterrupt
