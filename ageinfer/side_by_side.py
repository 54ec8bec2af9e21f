"""Runs several iterators side by side, each in a thread of its own."""

import logging
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from ageinfer.errors import AgeError, SourceError

T = TypeVar("T")
_TICK_S = 0.5  # on Windows, Ctrl-C is only noticed between two waits

log = logging.getLogger(__name__)


def side_by_side(sources: Sequence[Iterable[T]]) -> Generator[T]:
    """Yields the items of several iterators as they come, each iterator in its own thread.

    An iterator makes its next item when the one before was taken. So a slow consumer gets new items, and each
    iterator has its turn. An iterator that ends with a `SourceError` is left out with a warning while others go on. A
    thread that hangs in its work is left behind.

    Args:
        sources: each makes items in its own thread; generators are closed there.

    Raises:
        SourceError: of the last iterator, where all have ended so.
        Exception: anything else that an iterator raises, at once.

    Example:
        >>> sorted(side_by_side([range(2), range(10, 12)]))
        [0, 1, 10, 11]
    """
    changed = threading.Condition()
    ready: deque[tuple[int, T]] = deque()
    waiting: set[int] = set()  # the iterators whose item was not taken
    errors: list[BaseException] = []
    running = len(sources)
    stopped = False

    def work(number: int, items: Iterable[T]) -> None:
        nonlocal running
        error: BaseException | None = None
        try:
            for item in items:
                with changed:
                    ready.append((number, item))
                    waiting.add(number)
                    del item  # only the consumer keeps it alive
                    changed.notify_all()
                    changed.wait_for(lambda: stopped or number not in waiting)
                    if stopped:
                        break
        except BaseException as caught:  # raised again in the consumer
            error = caught
        if isinstance(items, Generator):
            with suppress(AgeError):
                items.close()
        with changed:
            running -= 1
            if isinstance(error, SourceError) and running and not stopped:
                log.warning("%s; the others go on", error)
            elif error is not None:
                errors.append(error)
            changed.notify_all()

    threads = [
        threading.Thread(target=work, args=(number, items), name=f"side by side {number}", daemon=True)
        for number, items in enumerate(sources)
    ]
    for thread in threads:
        thread.start()
    try:
        while True:
            with changed:
                while not ready and not errors and running:
                    changed.wait(_TICK_S)
                if not ready:
                    break
                number, item = ready.popleft()
                waiting.discard(number)
                changed.notify_all()
            yield item
            del item
    finally:
        with changed:
            stopped = True
            ready.clear()
            changed.notify_all()
        for thread in threads:
            thread.join(_TICK_S / len(threads))
    if errors:
        raise errors[0]
