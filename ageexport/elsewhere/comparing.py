"""Compares what another runtime answers with what `ageinfer` answers here."""

import numpy as np

from ageexport.elsewhere.answers import Answers
from ageexport.ladder import Bounds, Rung, Status

LEVEL = "L5"
_WHAT = (
    "pictures in which other faces are found than here",
    "boxes of faces there and here",
    "values of crops that are within one level of those here",
    "ages there and here",
)


def compared(
    here: Answers, there: Answers, pictures: int, precision: str, provider: str, bounds: Bounds
) -> list[Rung]:  # fmt: skip
    """Compares faces, boxes, crops and ages.

    Args:
        here: of `ageinfer` on this processor.
        there: the same pictures elsewhere.
        pictures: how many there are, with those in which no face is.
        precision: of the model.
        provider: what the rungs say that it was run on.
        bounds: to be kept.
    """
    here_chosen, there_chosen, other = _paired(here, there)
    n = len(here_chosen)
    boxes = np.abs(here.boxes[here_chosen] - there.boxes[there_chosen]).max(initial=0)
    levels = np.abs(here.crops[here_chosen].astype(np.int16) - there.crops[there_chosen])
    percent = 100 * float((levels <= 1).mean()) if n else 0.0
    apart = np.abs(here.ages_years[here_chosen] - there.ages_years[there_chosen])
    largest = float(apart.max()) if n else np.nan

    def rung(i: int, figure: float, bound: float, unit: str, count: int, *, kept: bool, note: str = "") -> Rung:
        status: Status = "passed" if kept else "failed"
        return Rung(LEVEL, _WHAT[i], float(figure), bound, unit, count, status, provider, note)

    bound = bounds.elsewhere if precision == "fp32" else bounds.reduced_elsewhere
    return [
        rung(0, other, 0, "pictures", pictures, kept=other == 0 and n > 0),
        rung(1, boxes, bounds.box_px, "px", n, kept=boxes <= bounds.box_px),
        rung(2, percent, bounds.crop_percent, "percent", n, kept=percent >= bounds.crop_percent),
        rung(3, largest, bound, "years", n, kept=largest <= bound, note=f"mean {apart.mean():.3f}" if n else ""),
        Rung(
            LEVEL, "time of a face", there.face_ms, None, "ms", n, "reported", provider, f"here {here.face_ms:.1f} ms"
        ),
    ]


def not_measured(provider: str, why: str, bounds: Bounds) -> Rung:
    """Says that there is no such runtime here."""
    return Rung(LEVEL, _WHAT[3], None, bounds.elsewhere, "years", 0, "not measured", provider, why)


def refused(provider: str, why: str, bounds: Bounds) -> Rung:
    """Says that the other runtime does not take the file."""
    return Rung(LEVEL, _WHAT[3], None, bounds.elsewhere, "years", 0, "failed", provider, why)


def _paired(here: Answers, there: Answers) -> tuple[list[int], list[int], int]:
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
