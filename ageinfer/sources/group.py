"""Several live sources in one process."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from ageinfer.errors import SourceError
from ageinfer.side_by_side import side_by_side
from ageinfer.sources.base import Source
from ageinfer.types import Frame

_TICK_S = 0.5  # on Windows, Ctrl-C is only noticed between two waits
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 10.0

log = logging.getLogger(__name__)


class Member(Source):
    """A live source that may come later: it is opened again and again until it is there.

    Args:
        name: of the source in messages and records.
        opened: opens it.
        patience_s: it is tried for this many seconds; None: for ever.

    Attributes:
        source: the one that is open; None until it is there.
        error: why the last try has failed.
    """

    kind = "camera"

    @property
    def lost(self) -> bool:  # type: ignore[override]
        return self.source is None or self.source.lost

    def __init__(self, name: str, opened: Callable[[], Source], patience_s: float | None) -> None:
        self.name = name
        self.source: Source | None = None
        self.error: SourceError | None = None
        self._opened, self._patience_s = opened, patience_s
        self._ended = threading.Event()

    def try_once(self) -> None:
        """Opens the source, or notes in `error` why that has failed."""
        try:
            source = self._opened()
        except SourceError as error:
            text = str(error)
            self.error = error if text.startswith(f"{self.name}: ") else SourceError(f"{self.name}: {text}")
            return
        if source.kind != "camera":
            source.close()
            self.error = SourceError(f"{source.name}: not a live source; give several cameras and streams, or one file")
            return
        source.name = self.name  # as records have it
        self.source, self.error = source, None
        if self._closed:
            source.close()

    def close(self) -> None:
        self._closed = True
        self._ended.set()
        if self.source is not None:
            self.source.close()

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        self._await_source()
        if self.source is not None and not self._closed:
            yield from self.source

    def _await_source(self) -> None:
        """Opens the source again and again.

        Raises:
            SourceError: it was not there in time.
        """
        began_s, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while self.source is None and not self._ended.wait(pause_s):
            self.try_once()
            if self.source is not None:
                log.warning("%s: there after %.1f s", self.name, time.monotonic() - began_s)
            elif self._patience_s is not None and time.monotonic() - began_s >= self._patience_s:
                raise SourceError(f"{self.error}; tried for {self._patience_s:g} s")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class LiveGroup(Source):
    """Several cameras and streams that are read side by side.

    All are opened at once. One that is not there, or is lost, does not stop the others: it is tried again.

    Args:
        openers: opens each source, by the name that messages and records will have for it.
        patience_s: a source that is not there at first is tried for this many seconds; None: for ever.

    Attributes:
        members: the sources, in the order given.

    Raises:
        SourceError: none of them can be opened.
    """

    kind = "camera"

    @property
    def lost(self) -> bool:  # type: ignore[override]
        return all(member.lost for member in self.members)

    def __init__(self, openers: Mapping[str, Callable[[], Source]], *, patience_s: float | None = None) -> None:
        self.name = f"{len(openers)} sources"
        self.members = [Member(name, opened, patience_s) for name, opened in openers.items()]
        try:
            self._open_all()
        except BaseException:  # Ctrl-C among them
            self.close()
            raise

    def close(self) -> None:
        self._closed = True
        end_s = time.monotonic() + _TICK_S
        for thread in _at_once(member.close for member in self.members):
            thread.join(max(0.0, end_s - time.monotonic()))

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        yield from side_by_side(self.members)

    def _open_all(self) -> None:
        for thread in _at_once(member.try_once for member in self.members):
            while thread.is_alive():
                thread.join(_TICK_S)
        errors = [member.error for member in self.members if member.error is not None]
        if len(errors) == len(self.members):
            raise errors[0]
        for error in errors:
            log.warning("%s; it is tried again, the others go on", error)


def _at_once(calls: Iterable[Callable[[], None]]) -> list[threading.Thread]:
    """Makes calls in threads of their own, which may outlive the process."""
    threads = [threading.Thread(target=call, name="several sources", daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads
