"""The figures of age verification: who is taken for an adult and is none, who is refused, and who gets no answer.

Legal age and cut-off are two numbers. With a cut-off above the legal age ("Challenge 25"), whoever looks younger is
asked for a document. The terms are those of NIST's Face Analysis Technology Evaluation of age estimation and
verification (NIST IR 8525): a false positive is somebody below the legal age who is answered as of the cut-off or
older, a false negative somebody of that age or older who is answered as younger.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ageinfer.proving import terms
from agetrain.evaluation.bootstrap import Bootstrap
from agetrain.evaluation.figures import FEWEST, MOST_GROUPS
from agetrain.evaluation.rows import Row

LEGAL_YEARS, CUTOFFS_YEARS = terms.LEGAL_YEARS, terms.CUTOFFS_YEARS
MINORS_YEARS = range(terms.MINORS_YEARS[0], terms.MINORS_YEARS[1] + 1)
MINORS_BELOW = len(MINORS_YEARS)  # years below the legal age; younger children are seldom taken for adults
ADULTS_YEARS = range(terms.ADULTS_YEARS[0], terms.ADULTS_YEARS[1] + 1)
FALSE_POSITIVES_PERCENT = (1, 5, 10)
_CURVE = np.arange(8.0, 60.01, 0.5)
_BANDS = ((0, 12), (13, 15), (16, 17), (18, 20), (21, 24), (25, 30), (31, 45), (46, 120))
_AGE, _SEX = "age", ("sex", "gender")
_STEP = 1e-4
Bools = npt.NDArray[np.bool_]
# How a face is seen, in stretches whose ends are where the costs of `ageinfer.crop.quality` begin, or near.
_VIEWS = {
    "size_px": (48, 96, 192), "sharpness": (0.12, 0.3), "yaw": (0.1, 0.2), "brightness": (60, 120, 210),
    "quality": (0.5, 0.8),
}  # fmt: skip
_VIEW_NAMES = {
    "size_px": "face, px", "sharpness": "sharpness", "yaw": "turn to the side", "brightness": "brightness",
    "quality": "quality",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Rows of an evaluation as arrays; pictures whose age is only known as an interval are left out.

    Attributes:
        ages: ``[n]``, completed years.
        answers: ``[n]`` years; NaN where there was no answer, because no face was found.
        subjects: ``[n]``, who it is.
        groups: by attribute, the values ``[n]``, empty where unknown.
    """

    ages: npt.NDArray[np.int64]
    answers: npt.NDArray[np.float64]
    subjects: npt.NDArray[np.str_]
    groups: dict[str, npt.NDArray[np.str_]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "People":
        """Takes the rows of one model on one part of a data set."""
        known = [row for row in rows if row.age_years is not None]
        names = sorted({name for row in known for name, _ in row.groups})
        groups = {name: np.array([dict(row.groups).get(name, "") for row in known], str) for name in names}
        for name, edges in _VIEWS.items():
            values = [dict(row.view).get(name, math.nan) for row in known]
            if not all(map(math.isnan, values)):
                groups[_VIEW_NAMES[name]] = np.array([_between(value, edges) for value in values], str)
        return cls(
            np.array([math.floor(row.age_years or 0) for row in known], int),
            np.array([row.answer_years if row.found else np.nan for row in known], float),
            np.array([row.subject or f"picture {i}" for i, row in enumerate(known)], str),
            {name: values for name, values in groups.items() if len(set(values.tolist())) <= MOST_GROUPS},
        )

    @property
    def answered(self) -> Bools:
        """Who got an answer."""
        return ~np.isnan(self.answers)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent people (Wilson, 1927).

    Example:
        >>> [round(end, 4) for end in wilson(0, 10)]
        [0.0, 0.2775]
    """
    return (0.0, 1.0) if n == 0 else terms.wilson(hits / n, n)


def share_interval(hits: Bools, subjects: npt.NDArray[np.str_], resamples: int) -> tuple[float, float]:
    """The 95 % interval of a share of pictures: Wilson's, or by resampling people where some have several pictures.

    Args:
        hits: ``[n]``, which pictures are meant.
        subjects: ``[n]``, who it is.
        resamples: of the bootstrap.
    """
    if len(set(subjects.tolist())) == len(hits):
        return wilson(int(hits.sum()), len(hits))
    low, high = Bootstrap(subjects, resamples, 0).of_mean(hits.astype(float))
    return low, high


class _Rates:
    """Shares of people with their intervals."""

    def __init__(self, people: People, resamples: int) -> None:
        self._people = people
        self._resamples = resamples

    def __call__(self, hits: Bools, of: Bools) -> dict[str, Any]:
        """The share of hits in those that are chosen, in percent; of fewer than 20 only how many there are."""
        n, k = int(of.sum()), int((hits & of).sum())
        found: dict[str, Any] = {"n": n, "hits": k}
        if n < FEWEST:
            return found | {"too_few": True}
        interval = share_interval(hits[of], self._people.subjects[of], self._resamples)
        return found | {"percent": round(100 * k / n, 3), "interval_95": [round(100 * end, 3) for end in interval]}


def report(rows: Sequence[Row], *, resamples: int = 1000) -> dict[str, Any]:
    """Computes the figures of age verification of one model on one part of a data set, as JSON values.

    Rates are of those who got an answer. Who got none is counted apart: a face that is not found is no adult.

    Args:
        rows: a row for each picture.
        resamples: of the bootstrap, where a person has several pictures.
    """
    people = People.of(rows)
    rates = _Rates(people, resamples)
    minors, adults = _within(people, MINORS_YEARS), _within(people, ADULTS_YEARS)
    by_cutoff = {str(years): _at_cutoff(people, rates, years, minors, adults) for years in CUTOFFS_YEARS}
    return {
        "model": rows[0].model, "dataset": rows[0].dataset, "part": rows[0].part,
        "legal_years": LEGAL_YEARS, "minors_years": [MINORS_YEARS[0], MINORS_YEARS[-1]],
        "adults_years": [ADULTS_YEARS[0], ADULTS_YEARS[-1]], "n": len(people.ages),
        "no_answer": _no_answer(people, rates, minors, adults), "cutoffs": by_cutoff,
        "at_false_positive_percent": {
            str(percent): _at_false_positive(people, rates, percent, minors, adults)
            for percent in FALSE_POSITIVES_PERCENT
        },
        "curve": _curve(people, minors & people.answered, adults & people.answered),
    }  # fmt: skip


def _between(value: float, edges: Sequence[float]) -> str:
    """The stretch between two edges that a value lies in, in words; empty where it is not known."""
    if math.isnan(value):
        return ""
    place = sum(value >= edge for edge in edges)
    if place == 0:
        return f"below {edges[0]:g}"
    return f"from {edges[place - 1]:g}" if place == len(edges) else f"{edges[place - 1]:g} to {edges[place]:g}"


def _within(people: People, years: range) -> Bools:
    return (people.ages >= years[0]) & (people.ages <= years[-1])


def _no_answer(people: People, rates: _Rates, minors: Bools, adults: Bools) -> dict[str, Any]:
    everybody = np.ones(len(people.ages), bool)
    return {
        "all": rates(~people.answered, everybody),
        "minors": rates(~people.answered, minors),
        "adults": rates(~people.answered, adults),
        "groups": _by_groups(people, everybody, lambda of: rates(~people.answered, of)),
    }


def _at_cutoff(people: People, rates: _Rates, years: float, minors: Bools, adults: Bools) -> dict[str, Any]:
    taken_for_older = np.nan_to_num(people.answers, nan=-1.0) >= years
    answered = people.answered

    def false_positive(of: Bools) -> dict[str, Any]:
        return rates(taken_for_older, of & answered)

    def false_negative(of: Bools) -> dict[str, Any]:
        return rates(~taken_for_older, of & answered)

    positives = _by_groups(people, people.ages < LEGAL_YEARS, false_positive)
    negatives = _by_groups(people, adults, false_negative)
    return {
        "false_positive": {
            "minors": false_positive(minors),
            "by_age": {str(age): false_positive(people.ages == age) for age in MINORS_YEARS},
            "groups": positives, "spread": spread(positives),
        },
        "false_negative": {
            "adults": false_negative(adults),
            "by_age": {str(age): false_negative(people.ages == age) for age in ADULTS_YEARS},
            "groups": negatives, "spread": spread(negatives),
        },
    }  # fmt: skip


def _by_groups(
    people: People, among: Bools, rate: Callable[[Bools], dict[str, Any]]
) -> dict[str, dict[str, dict[str, Any]]]:  # fmt: skip
    """Rates of each group, and of sex in each band of ages, among some of the people; empty groups are left out."""
    bands = np.array([_band(age) for age in people.ages.tolist()], str)
    groups = {_AGE: bands, **people.groups}
    for low, high in _BANDS:
        band = f"{low}-{high}"
        groups |= {
            f"{name} at {band}": np.where(bands == band, people.groups[name], "")
            for name in _SEX
            if name in people.groups
        }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, values in groups.items():
        of_name = {value: rate(among & (values == value)) for value in sorted(set(values.tolist())) if value}
        found[name] = {value: figures for value, figures in of_name.items() if figures["n"]}
    return {name: of_name for name, of_name in found.items() if of_name}


def _band(age: int) -> str:
    low, high = next((low, high) for low, high in _BANDS if age <= high)
    return f"{low}-{high}"


def spread(groups: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, float | None]]:
    """How much the rates of an attribute's groups differ, of groups with enough people.

    ``ratio``: the smallest rate over the largest, 1 where all are alike; ``gini``: the Gini coefficient, corrected for
    the number of groups, 0 where all are alike. None with fewer than two groups, or where nobody was a hit.
    """
    found: dict[str, dict[str, float | None]] = {}
    for name, of_name in groups.items():
        if name == _AGE:  # whose rates are meant to differ
            continue
        rates = [figures["percent"] for figures in of_name.values() if "percent" in figures]
        known = len(rates) > 1 and max(rates) > 0
        found[name] = {
            "ratio": round(min(rates) / max(rates), 4) if known else None,
            "gini": round(gini(rates), 4) if known else None,
        }
    return found


def gini(rates: Sequence[float]) -> float:
    """The Gini coefficient of rates, times n / (n - 1), as the fairness measures of biometrics take it.

    Example:
        >>> gini([1.0, 1.0]), gini([0.0, 1.0])
        (0.0, 1.0)
    """
    values = np.asarray(rates, float)
    n = len(values)
    differences = np.abs(values[:, None] - values).sum()
    return float(differences / (2 * n**2 * values.mean()) * n / (n - 1))


def _at_false_positive(
    people: People, rates: _Rates, percent: float, minors: Bools, adults: Bools
) -> dict[str, Any]:  # fmt: skip
    """The lowest cut-off at which at most so many of the minors are false positives, and what it costs adults."""
    of_minors = np.sort(people.answers[minors & people.answered])[::-1]
    if len(of_minors) < FEWEST:
        return {"cutoff_years": None, "n": len(of_minors), "too_few": True}
    allowed = math.floor(len(of_minors) * percent / 100)
    # Just above the answer of the first who must not pass; rows have answers of 4 decimals.
    cutoff = round(float(of_minors[allowed]) + _STEP, 4) if allowed < len(of_minors) else 0.0
    passes = np.nan_to_num(people.answers, nan=-1.0) >= cutoff
    return {
        "cutoff_years": cutoff,
        "false_positive": rates(passes, minors & people.answered),
        "false_negative": rates(~passes, adults & people.answered),
    }


def _curve(people: People, minors: Bools, adults: Bools) -> list[list[float | None]]:
    """The detection-error trade-off: cut-off, false positives and false negatives in percent, every half year."""
    if not minors.any() or not adults.any():
        return []
    young, old = people.answers[minors], people.answers[adults]
    return [
        [float(cutoff), round(100 * float((young >= cutoff).mean()), 3), round(100 * float((old < cutoff).mean()), 3)]
        for cutoff in _CURVE
    ]
