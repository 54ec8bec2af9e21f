"""Makes the next items of an iterator in a thread while the current one is used, or gives items in groups."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Literal, TypeVar, overload

T = TypeVar("T")
_TICK_S = 0.5  # on Windows, Ctrl-C is only noticed between two waits
# In seconds. An item that takes longer ends its group.
_LONGEST_WAIT_S = 0.05


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


def in_groups(items: Iterable[T], most: int, *, size: Callable[[T], int], most_size: int) -> Iterator[list[T]]:
    """Yields the items of an iterator in groups, in their order.

    A group is smaller if its items are large or come slowly (0.05 s or more apart). If the iterator raises an error,
    the items before it are yielded first.

    Args:
        items: makes the items.
        most: the largest number of items in a group, 1 or more.
        size: gives the size of an item.
        most_size: a group takes no more items when the sum of their sizes has reached this.

    Example:
        >>> list(in_groups("aab", 2, size=lambda _: 1, most_size=9))
        [['a', 'a'], ['b']]
    """
    following = iter(items)
    error: Exception | None = None
    more = True
    waited_s = math.inf  # the time that the last item took
    while more:
        group: list[T] = []
        total = 0
        try:
            while not group or (len(group) < most and total < most_size and waited_s < _LONGEST_WAIT_S):
                began_s = time.monotonic()
                group.append(next(following))
                waited_s = time.monotonic() - began_s
                total += size(group[-1])
        except StopIteration:
            more = False
        except Exception as caught:
            error, more = caught, False
        if group:
            yield group
        del group
    if error is not None:
        try:
            raise error
        finally:
            del error  # breaks the circle of references between the error and this call
