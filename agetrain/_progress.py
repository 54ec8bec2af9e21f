"""How far long work is: a bar on a terminal, a line now and then elsewhere."""

import importlib.util
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

_FIRST_S, _SECOND_S, _GROWTH, _RAREST_S = 10.0, 30.0, 1.5, 300.0
Item = TypeVar("Item")

log = logging.getLogger(__name__)


def progress(items: Iterable[Item], title: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """Yields the same items and shows how many were taken.

    On a terminal that is a bar of tqdm on standard error. Elsewhere, and where tqdm is not installed, it is a line of
    the log after 10 s, then every 30 s, more and more rarely down to every 5 min. What takes less than 10 s says
    nothing.

    Args:
        items: to be yielded.
        title: what is done.
        unit: of the items.
        total: how many there are; None for the length of ``items``, where they have one.
    """
    if sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None:
        from tqdm import tqdm

        return tqdm(items, desc=title, unit=unit, total=total, leave=False)
    return _logged(items, title, unit, len(items) if total is None and isinstance(items, Sized) else total)


def _logged(items: Iterable[Item], title: str, unit: str, total: int | None) -> Iterator[Item]:
    began_s = time.monotonic()
    due_s, wait_s = began_s + _FIRST_S, _SECOND_S
    for done, item in enumerate(items, 1):
        yield item
        now_s = time.monotonic()
        if now_s < due_s or done == total:
            continue
        rate = done / (now_s - began_s)
        of_all, left = "", ""
        if total is not None:
            of_all, left = f" of {total:,}", f", {_duration((total - done) / rate)} left"
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        log.info("%s: %s%s %s, %s %s/s%s", title, f"{done:,}", of_all, unit, speed, unit, left)
        due_s, wait_s = now_s + wait_s, min(wait_s * _GROWTH, _RAREST_S)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
