"""Progress bars, shown where tqdm is installed and standard error is a terminal."""

import importlib.util
import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """Yields the same items, with a bar on standard error that shows how many were taken.

    Training on a bare machine has no tqdm, and a log file needs no bar.
    """
    if importlib.util.find_spec("tqdm") is None or not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, desc=title, unit=unit, total=total, leave=False)
