"""Makes the next items of an iterator in a thread while the current one is used."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Literal, TypeVar, overload

T = TypeVar("T")
_TICK_S = 0.5  # on Windows, Ctrl-C is only noticed between two waits


@overload
def ahead(
    items: Iterable[T], limit: int, *, weight: Callable[[T], int] = ..., most_weight: int = ...
) -> Iterator[T]: ...
@overload
def ahead(
    items: Iterable[T], limit: int, *, weight: Callable[[T], int] = ..., most_weight: int = ..., pauses: Literal[True]
) -> Iterator[T | None]: ...
def ahead(
    items: Iterable[T], limit: int, *, weight: Callable[[T], int] = lambda _: 0, most_weight: int = 0,
    pauses: bool = False,
) -> Iterator[T | None]:  # fmt: skip
    """Iterates in a thread of its own, so that the next items are made while one is used.

    Items come in their order. An error of `items` is raised after the items before it. The thread starts when the
    first item is asked for and ends when the iterator is closed or collected. A thread that hangs in its work is left
    behind after 0.5 s.

    Args:
        items: makes the items; a generator is closed in the thread.
        limit: the number of finished items that may wait, 1 or more. One more is in use and one more is being made.
        weight: gives the weight of an item, for example its bytes.
        most_weight: the largest total weight of the waiting items; one item may always wait. 0: no limit.
        pauses: whether to yield None before an item that is not finished yet, so that the caller can do other work.

    Example:
        >>> list(ahead(range(4), 2))
        [0, 1, 2, 3]
    """
    changed = threading.Condition()
    waiting: deque[tuple[T, int]] = deque()
    ended: list[BaseException | None] = []
    stopped = begun = False

    def full() -> bool:
        heavy = most_weight and sum(w for _, w in waiting) >= most_weight
        return len(waiting) >= limit or bool(waiting and heavy)

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                with changed:
                    while full() and not stopped:
                        changed.wait()
                    if stopped:
                        break
                    waiting.append((item, weight(item)))
                    changed.notify_all()
        except BaseException as caught:  # raised again in the consumer
            error = caught
        if isinstance(items, Generator):
            with suppress(Exception):
                items.close()
        with changed:
            ended.append(error)
            changed.notify_all()

    thread = threading.Thread(target=work, name="working ahead", daemon=True)
    thread.start()
    try:
        while True:
            if pauses and begun and not waiting and not ended:
                yield None
            begun = True
            with changed:
                while not waiting and not ended:
                    changed.wait(_TICK_S)
                if not waiting:
                    break
                item, _ = waiting.popleft()
                changed.notify_all()
            yield item
    finally:
        with changed:
            stopped = True
            waiting.clear()
            changed.notify_all()
        thread.join(_TICK_S)
    if ended[0] is not None:
        raise ended[0]
