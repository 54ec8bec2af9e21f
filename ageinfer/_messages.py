"""How the commands of this project say what they log: on standard error, for as long as they run."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def messages_on_stderr(level: int, prefix: str = "") -> Iterator[None]:
    """Logs to standard error, one bare line a message, until the command ends.

    A handler that outlived its command would go on writing to what was standard error then.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
