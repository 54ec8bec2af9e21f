"""What is told of a stretch of time, and what of it is hidden."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ageinfer.people.bands import BandCount
from ageinfer.people.people import clock_time
from ageinfer.people.places import Side

AUDIENCE_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Tally:
    """Who was in the picture, or in a zone of it.

    Attributes:
        people: how many came; None where that is hidden. Each counts once, so that the numbers of windows add up.
        seconds: that people were seen, all together; None where ``people`` is hidden.
        mean_in_view, most_in_view: faces at the same time; None where ``people`` is hidden.
        bands: their ages.
    """

    people: int | None
    seconds: float | None
    mean_in_view: float | None
    most_in_view: int | None
    bands: tuple[BandCount, ...]

    def to_record(self) -> dict[str, Any]:
        """The tally as JSON values."""
        return {
            "people": self.people,
            "seconds": _rounded(self.seconds),
            "mean_in_view": _rounded(self.mean_in_view, 3),
            "most_in_view": self.most_in_view,
            "bands": [
                {
                    "ages": str(band.band),
                    "count": _rounded(band.count),
                    "low": _rounded(band.low),
                    "high": _rounded(band.high),
                }
                for band in self.bands
            ],
        }


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time.

    Attributes:
        source: where, as results have it.
        model: name and precision of the age model.
        from_s, to_s: its beginning and end, in seconds of the source.
        watched_s: how long there were frames in it.
        frames: how many.
        everywhere: all of the picture.
        zones: each zone by name.
        lines: how many have crossed each line, by name and side; None where that is hidden.
        unsure: tracks with too few estimates to be counted as people; None where that is hidden.
    """

    source: str
    model: str
    from_s: float
    to_s: float
    watched_s: float
    frames: int
    everywhere: Tally
    zones: tuple[tuple[str, Tally], ...] = ()
    lines: tuple[tuple[str, dict[Side, int | None]], ...] = ()
    unsure: int | None = 0

    def to_record(self, *, began: datetime | None = None) -> dict[str, Any]:
        """The window as JSON values: one line of a JSONL output.

        Args:
            began: when time 0 of the source was, for a live source.
        """
        return {
            "schema": AUDIENCE_SCHEMA_VERSION,
            "source": self.source,
            "from_s": round(self.from_s, 3),
            "to_s": round(self.to_s, 3),
            "from_at": clock_time(began, self.from_s),
            "to_at": clock_time(began, self.to_s),
            "watched_s": round(self.watched_s, 3),
            "frames": self.frames,
            **self.everywhere.to_record(),
            "unsure": self.unsure,
            "zones": [{"zone": name, **tally.to_record()} for name, tally in self.zones],
            "lines": [{"line": name, **sides} for name, sides in self.lines],
            "model": self.model,
        }


def hidden(window: Window, least: int) -> Window:
    """The window without numbers of fewer people than that, and without what gives them away."""
    if least <= 1:
        return window
    unsure = window.unsure if window.unsure is None or window.unsure >= least else None
    sides = tuple(
        (name, {side: count if count is not None and count >= least else None for side, count in counts.items()})
        for name, counts in window.lines
    )
    zones = tuple((name, _hidden_tally(tally, least)) for name, tally in window.zones)
    return replace(
        window, everywhere=_hidden_tally(window.everywhere, least), zones=zones, lines=sides, unsure=unsure
    )  # fmt: skip


def _hidden_tally(tally: Tally, least: int) -> Tally:
    if tally.people is None or tally.people < least:
        bands = tuple(BandCount(band.band, None, None, None) for band in tally.bands)
        return Tally(None, None, None, None, bands)
    sizes = [band.count or 0.0 for band in tally.bands]
    small = {i for i, size in enumerate(sizes) if size < least}
    # A single hidden band is what is missing in the sum of all others; several could be, too, if nearly nobody is in
    # them all together.
    for i in sorted(range(len(sizes)), key=sizes.__getitem__):
        if not small or (len(small) > 1 and sum(sizes[k] for k in small) >= least):
            break
        small.add(i)
    bands = tuple(
        BandCount(band.band, None, None, None) if i in small else band for i, band in enumerate(tally.bands)
    )  # fmt: skip
    return replace(tally, bands=bands)


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
