"""Working ahead: the next items are made in a thread while the present one is used, or are taken in groups."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Literal, TypeVar, overload

T = TypeVar("T")
_TICK_S = 0.5  # on Windows, Ctrl-C only comes through between two waits
# Items that come more slowly than that do not wait for each other.
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
    """Iterates in a thread of its own; items come in their order, and an error at its place among them.

    Nothing is made before the first item is asked for. Closing the iterator, or leaving it to be collected, ends the
    thread; one that hangs in its work is left to itself after half a second.

    Args:
        items: what is worked on; a generator is closed in the thread.
        limit: how many may wait, 1 or more. Beside them there are the one in use and the one being made.
        weight: of an item.
        most_weight: of the items that wait, together; one may always wait. 0: no limit.
        pauses: None comes before an item that must be waited for, so that what was put by can be done meanwhile.

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
        except BaseException as caught:  # goes to the one who asks for items
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
    """Takes items in groups, in their order: smaller groups of large items and of those that come slowly.

    Where the items end with an error, those before it come first.

    Args:
        items: to be grouped.
        most: items in a group, 1 or more.
        size: of an item.
        most_size: a group that has reached this size takes no more.

    Example:
        >>> list(in_groups("aab", 2, size=lambda _: 1, most_size=9))
        [['a'], ['a', 'b']]
    """
    following = iter(items)
    error: Exception | None = None
    more = True
    waited_s = math.inf  # for the last one
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
            del error  # it holds this call, which would hold it
