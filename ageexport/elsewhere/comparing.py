"""Compares what another runtime answers with what `ageinfer` answers here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ageexport.elsewhere.answers import Answers
from ageexport.ladder import LAST_LEVEL, Bounds, Rung, Status

_FACES = "pictures in which other faces are found than here"
_BOXES = "boxes of faces there and here"
_CROPS = "values of crops within one level of those here"
_AGES = "ages there and here"
_MEAN = "ages there and here, mean difference"
_TIME = "time of a face, the fastest call"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A model file and pictures that another runtime is compared on.

    Attributes:
        model: the bytes of the file.
        precision: of it.
        paths: the pictures.
        here: gives what `ageinfer` answers to them on this processor; asked only where there is another runtime.
        bounds: to be kept.
        seconds: for which another runtime is given pictures.
    """

    model: bytes
    precision: str
    paths: Sequence[Path]
    here: Callable[[], Answers]
    bounds: Bounds
    seconds: float

    def rungs(self, there: Answers, provider: str) -> list[Rung]:
        """Compares faces, boxes, crops and ages.

        Args:
            there: the answers of another runtime to the pictures, or to the first of them.
            provider: what the rungs say that it was run on.
        """
        here, bounds = self.here().first(there.looked), self.bounds
        mine, theirs, other = paired(here, there)
        n = len(mine)
        boxes = float(np.abs(here.boxes[mine] - there.boxes[theirs]).max()) if n else np.nan
        levels = np.abs(here.crops[mine].astype(np.int16) - there.crops[theirs])
        within = 100 * float((levels <= 1).mean()) if n else np.nan
        apart = np.abs(here.ages_years[mine] - there.ages_years[theirs])
        largest, mean = (float(apart.max()), float(apart.mean())) if n else (np.nan, np.nan)

        def rung(what: str, figure: float, bound: float | None, unit: str, count: int = n, note: str = "") -> Rung:
            kept = bound is None or (figure >= bound if what is _CROPS else figure <= bound)  # NaN keeps none
            status: Status = "failed" if not kept else "reported" if bound is None else "passed"
            return Rung(LAST_LEVEL, what, figure, bound, unit, count, status, provider, note)

        fp32 = self.precision == "fp32"
        return [
            rung(_FACES, float(other), 0, "pictures", there.looked),
            rung(_BOXES, boxes, bounds.box_px, "px"),
            rung(_CROPS, within, bounds.crop_percent, "percent", note=f"at most {levels.max(initial=0)} apart"),
            rung(_AGES, largest, bounds.elsewhere if fp32 else bounds.reduced_elsewhere, "years"),
            rung(_MEAN, mean, bounds.elsewhere if fp32 else bounds.reduced_elsewhere_mean, "years"),
            rung(_TIME, there.face_ms, None, "ms", note=f"here {here.face_ms:.1f} ms on one thread"),
        ]

    def not_measured(self, provider: str, why: str) -> Rung:
        """Says that there is no such runtime here."""
        return Rung(LAST_LEVEL, _AGES, None, self.bounds.elsewhere, "years", 0, "not measured", provider, why)

    def refused(self, provider: str, why: str) -> Rung:
        """Says that the other runtime does not take the file, or does not answer."""
        return Rung(LAST_LEVEL, _AGES, None, self.bounds.elsewhere, "years", 0, "failed", provider, why)


def paired(here: Answers, there: Answers) -> tuple[list[int], list[int], int]:
    """Pairs the faces of each picture by their boxes.

    Returns:
        Places of the faces here and of their partners there, and in how many pictures there are others.
    """
    mine: list[int] = []
    theirs: list[int] = []
    other = 0
    for picture in sorted({*here.pictures.tolist(), *there.pictures.tolist()}):
        a, b = np.flatnonzero(here.pictures == picture), np.flatnonzero(there.pictures == picture)
        apart = np.abs(here.boxes[a][:, None] - there.boxes[b]).max(axis=-1)
        nearest = apart.argmin(axis=1) if len(a) and len(b) else np.empty(0, int)
        if len(a) != len(b) or len(set(nearest.tolist())) != len(a):
            other += 1
            continue
        mine += a.tolist()
        theirs += b[nearest].tolist()
    return mine, theirs, other
