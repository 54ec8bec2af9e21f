"""Lets several threads share one network: what they ask at the same time is answered in one batch."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from ageinfer.types import Image

T = TypeVar("T")


class Batches(Generic[T]):
    """Asks a function for the rows of several threads together.

    Nobody waits for a batch to fill: whoever asks while as many batches run as may comes into the next one. As long as
    one more may run, each call is a batch of its own: two cores do more than one core that is given twice as much.

    Args:
        answer: takes rows and gives one answer for each, in their order.
        most_rows: no further call joins a batch that has so many; None: all that wait join.
        side_by_side: so many batches may run at the same time.

    Example:
        >>> doubled = Batches(lambda rows: [2 * row for row in rows.tolist()])
        >>> doubled(np.array([1, 2]))
        [2, 4]
    """

    def __init__(
        self, answer: Callable[[Image], Sequence[T]], *, most_rows: int | None = None, side_by_side: int = 1
    ) -> None:
        self._answer = answer
        self._most_rows = most_rows
        self._turns = threading.Semaphore(side_by_side)
        self._lock = threading.Lock()
        self._waiting: deque[_Call[T]] = deque()

    def __call__(self, rows: Image) -> Sequence[T]:
        """The answers for some rows.

        Raises:
            Exception: what the function raised for the batch that they were in.
        """
        call: _Call[T] = _Call(rows)
        with self._lock:
            self._waiting.append(call)
        while not call.done.is_set():
            is_free = self._turns.acquire(blocking=False)
            if not is_free:
                self._turns.acquire()
            try:
                batch = self._next_batch(most_calls=1 if is_free else None)
                self._run(batch)
            finally:
                self._turns.release()
            if not batch:  # another thread has taken the call, and answers it
                call.done.wait()
        if call.error is not None:
            raise call.error
        return call.answers

    def _next_batch(self, most_calls: int | None) -> "list[_Call[T]]":
        batch: list[_Call[T]] = []
        size = 0
        with self._lock:
            while self._waiting and len(batch) != most_calls and (self._most_rows is None or size < self._most_rows):
                batch.append(self._waiting.popleft())
                size += len(batch[-1].rows)
        return batch

    def _run(self, batch: "list[_Call[T]]") -> None:
        if not batch:
            return
        try:
            answers = self._answer(batch[0].rows if len(batch) == 1 else np.concatenate([c.rows for c in batch]))
            start = 0
            for call in batch:
                call.answers = answers[start : start + len(call.rows)]
                start += len(call.rows)
        except BaseException as error:  # every thread raises it
            for call in batch:
                call.error = error
            if not isinstance(error, Exception):  # Ctrl-C, perhaps in a batch of others
                raise
        finally:
            for call in batch:
                call.done.set()


class _Call(Generic[T]):
    """What one thread asks."""

    def __init__(self, rows: Image) -> None:
        self.rows = rows
        self.answers: Sequence[T] = ()
        self.error: BaseException | None = None
        self.done = threading.Event()
