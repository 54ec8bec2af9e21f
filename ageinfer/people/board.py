"""What a run and its page share: places, which the page may change, and the newest counts."""

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

from ageinfer.people.places import Line, Places, Zone

WINDOWS_SHOWN = 96  # a day of quarters of an hour


class Board:
    """Holds places and counts; any thread may use it.

    Args:
        places: at the beginning.

    Attributes:
        version: grows with every change.
    """

    def __init__(self, places: Places) -> None:
        self.version = 0
        self._lock = threading.Lock()
        self._places = places
        self._windows: deque[dict[str, Any]] = deque(maxlen=WINDOWS_SHOWN)
        self._current: dict[str, Any] | None = None

    @property
    def places(self) -> Places:
        return self._places

    def add_place(self, kind: Literal["zone", "line"], text: str) -> None:
        """Adds a zone or a line, see `ageinfer.people.places.Zone.parse`.

        Raises:
            UsageError: it is none, or has the name of another place.
        """
        with self._lock:
            zones, lines = self._places.zones, self._places.lines
            if kind == "zone":
                self._places = Places((*zones, Zone.parse(text)), lines)
            else:
                self._places = Places(zones, (*lines, Line.parse(text)))
            self.version += 1

    def remove_place(self, name: str) -> None:
        """Removes the zone or the line of this name, if there is one."""
        with self._lock:
            self._places = Places(
                tuple(zone for zone in self._places.zones if zone.name != name),
                tuple(line for line in self._places.lines if line.name != name),
            )
            self.version += 1

    def show_ended(self, record: dict[str, Any]) -> None:
        """Shows a window that has ended."""
        with self._lock:
            self._current = None
            self._windows.append(record)
            self.version += 1

    def show_current(self, record: dict[str, Any]) -> None:
        """Shows a window that has not ended, until the next one comes."""
        with self._lock:
            self._current = record
            self.version += 1

    def state(self) -> dict[str, Any]:
        """Places as the options that set them, and windows, the oldest first, as JSON values."""
        with self._lock:
            places = self._places
            return {
                "zones": [str(zone) for zone in places.zones],
                "lines": [str(line) for line in places.lines],
                "windows": list(self._windows),
                "current": self._current,
            }


class Boards:
    """The boards of a run: one for each of several live sources, or a single one.

    Args:
        default: of every source that has no board of its own.
        by_source: by the name of the source, as results have it.
    """

    def __init__(self, default: Board, by_source: Mapping[str, Board] | None = None) -> None:
        self.default = default
        self.by_source = dict(by_source or {})

    @property
    def has_places(self) -> bool:
        """Whether there is a zone or a line."""
        return any(board.places for board in (self.default, *self.by_source.values()))

    def of(self, source: str) -> Board:
        """The board of a source."""
        return self.by_source.get(source, self.default)
