"""Notes in the archive of who works at which shard, so that what kills a worker is found and left out."""

import os
from collections import Counter
from types import TracebackType
from typing import Self

from ageinfer.archive.items import Item
from ageinfer.archive.store import HIDDEN, Store
from ageinfer.errors import OutputError

ATTEMPTS = f"{HIDDEN}attempts"
_DEATHS = 2
_MOST_ATTEMPTS = 20


class Attempt:
    """One try of a worker to do a shard.

    From the second one on, each item is noted before it is looked at. An item that was noted when two workers died is
    left out. One death may be anybody's: the machine's, or that of an operator. Notes are kept for one run.

    Args:
        store: the archive.
        shard: the hash of the shard.

    Raises:
        OutputError: a note cannot be written, or 20 workers have died at this shard.

    Attributes:
        careful: whether items are looked at one by one, because a worker has died.
    """

    def __init__(self, store: Store, shard: str) -> None:
        self._store = store
        self._notes = [name for name in store.names(ATTEMPTS) if name.startswith(f"{shard}-")]
        if len(self._notes) >= _MOST_ATTEMPTS:
            raise OutputError(f"shard {shard}: {len(self._notes)} workers have died at it; look into their logs")
        noted = Counter(os.fsdecode(store.read(f"{ATTEMPTS}/{name}")) for name in self._notes)
        self._deadly = {path for path, deaths in noted.items() if path and deaths >= _DEATHS}
        self._notes.append(f"{shard}-{len(self._notes) + 1:02d}")
        self.careful = len(self._notes) > 1
        self._note("")

    def _note(self, text: str) -> None:
        self._store.put(f"{ATTEMPTS}/{self._notes[-1]}", os.fsencode(text))

    def begins(self, item: Item) -> str | None:
        """Notes that an item is looked at next; returns why it must not be, or None.

        Raises:
            OutputError: the note cannot be written.
        """
        if item.path in self._deadly:
            return f"{_DEATHS} workers died at it"
        if self.careful:
            self._note(item.path)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the notes of a shard that is done, and of one that failed with an error: nobody has died."""
        for name in self._notes if kind is None else self._notes[-1:]:
            self._store.remove(f"{ATTEMPTS}/{name}")
