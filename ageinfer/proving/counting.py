"""Counts of right and wrong answers among labelled pictures, with intervals.

The terms are those of NIST's Face Analysis Technology Evaluation of age estimation and verification (NIST IR 8525), as
in ``python -m agetrain.evaluate --report aev``: a false positive is somebody below the legal age who is answered as of
the cut-off or older, a false negative somebody of that age or older who is answered as younger.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ageinfer.engine.modelfile import ModelMetadata
from ageinfer.engine.operating import OperatingPoint
from ageinfer.over import AgeCheck
from ageinfer.proving.answers import Answer
from ageinfer.proving.labels import Label, Labels
from ageinfer.proving.terms import ADULTS_YEARS, CUTOFFS_YEARS, LEGAL_YEARS, MINORS_YEARS, wilson

FEWEST = 20  # people, that a share is judged on
_GROUP_VALUES = 50  # of a column; one with more, as names and addresses have, makes no groups


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that was looked at, with what is known of it; its label is None where it has none."""

    answer: Answer
    label: Label | None = None

    @property
    def person(self) -> str:
        """Who it is; a picture of nobody that is told counts as somebody of its own."""
        return f"person {self.label.subject}" if self.label and self.label.subject else f"file {self.answer.file}"

    def of_years(self, years: tuple[int, int]) -> bool:
        """Whether the person has completed so many years, first and last included."""
        return self.label is not None and years[0] <= math.floor(self.label.age_years) <= years[1]


def share(hit: Callable[[Answer], bool], among: Sequence[Seen]) -> dict[str, Any]:
    """How many pictures are hits. Several of one person are not independent: the interval is that of so many people."""
    n, hits, people = len(among), sum(hit(seen.answer) for seen in among), len({seen.person for seen in among})
    if not n:
        return {"n": 0, "people": 0, "hits": 0, "percent": None, "interval_95_percent": None}
    return {
        "n": n, "people": people, "hits": hits, "percent": round(100 * hits / n, 3),
        "interval_95_percent": [round(100 * end, 3) for end in wilson(hits / n, people)],
    }  # fmt: skip


def figures(
    answers: Sequence[Answer], labels: Labels, metadata: ModelMetadata, detector: str
) -> dict[str, Any]:  # fmt: skip
    """Counts what became of the pictures, and where there are labels, how right the answers are.

    Args:
        answers: to all pictures.
        labels: of some of them.
        metadata: of the model, for its operating points.
        detector: that found the faces.

    Returns:
        ``outcomes``, ``no_face`` and ``accuracy`` of the evidence, as JSON values.
    """
    seen = [Seen(answer, labels.of.get(answer.file)) for answer in answers]
    looked = [each for each in seen if each.answer.outcome in ("face", "no face")]
    outcomes = [answer.outcome for answer in answers]
    return {
        "outcomes": {name: outcomes.count(name) for name in ("face", "no face", "damaged", "unreadable")},
        "no_face": {"all": share(_no_face, looked), "groups": _by_groups(looked)},
        "accuracy": _accuracy(looked, metadata, detector) if labels.of else None,
    }


def _no_face(answer: Answer) -> bool:
    return answer.outcome == "no face"


def _with_face(people: Sequence[Seen]) -> list[Seen]:
    return [each for each in people if each.answer.outcome == "face"]


def _by_groups(looked: Sequence[Seen]) -> dict[str, dict[str, Any]]:
    """Shares without a face, of each value of each group."""
    groups: dict[str, dict[str, list[Seen]]] = {}
    for each in looked:
        for name, value in each.label.groups.items() if each.label else ():
            groups.setdefault(name, {}).setdefault(value, []).append(each)
    return {
        name: {value: share(_no_face, values[value]) for value in sorted(values)}
        for name, values in sorted(groups.items())
        if len(values) <= _GROUP_VALUES
    }


def _accuracy(looked: Sequence[Seen], metadata: ModelMetadata, detector: str) -> dict[str, Any]:
    minors, adults = ([each for each in looked if each.of_years(years)] for years in (MINORS_YEARS, ADULTS_YEARS))
    found = _with_face(looked)
    errors = [
        each.answer.age_years - each.label.age_years
        for each in found
        if each.label is not None and each.answer.age_years is not None
    ]
    return {
        "n": len(errors),
        "mae_years": round(fmean(map(abs, errors)), 4) if errors else None,
        "bias_years": round(fmean(errors), 4) if errors else None,
        "legal_years": LEGAL_YEARS, "minors_years": list(MINORS_YEARS), "adults_years": list(ADULTS_YEARS),
        "no_answer": {"minors": share(_no_face, minors), "adults": share(_no_face, adults)},
        "cutoffs": {
            str(years): _at_cutoff(years, *map(_with_face, (minors, adults)))
            for years in CUTOFFS_YEARS
        },
        "operating_points": [_at_point(point, found, metadata, detector) for point in metadata.operating_points],
    }  # fmt: skip


def _at_cutoff(years: int, minors: Sequence[Seen], adults: Sequence[Seen]) -> dict[str, Any]:
    """False positives and false negatives among those who got an answer."""

    def older(answer: Answer) -> bool:
        return answer.age_years is not None and answer.age_years >= years

    return {
        "false_positive": share(older, minors),
        "false_negative": share(lambda answer: not older(answer), adults),
    }


def _at_point(
    point: OperatingPoint, found: Sequence[Seen], metadata: ModelMetadata, detector: str
) -> dict[str, Any]:  # fmt: skip
    """An operating point of the model file: what it states, and what is found here, counted in the same way."""
    why = AgeCheck(point.years, metadata, detector).why
    below, above = (
        [each for each in found if each.of_years(years)] for years in (point.below_years, point.above_years)
    )
    return {
        "years": point.years, "over_from_years": point.over_from_years, "under_below_years": point.under_below_years,
        "least_quality": point.least_quality, "below_years": list(point.below_years),
        "above_years": list(point.above_years), "stated_percent": point.stated_percent, "over_held": point.over_held,
        "under_held": point.under_held,
        "why_referred": why,
        "stated": {
            "false_positive": asdict(point.false_positive), "false_negative": asdict(point.false_negative),
            "referred_below_percent": point.referred_below_percent,
            "referred_above_percent": point.referred_above_percent,
        },
        "here": {
            "false_positive": _judged(point, "over", below, why), "false_negative": _judged(point, "under", above, why),
            "referred_below_percent": _referred(point, below), "referred_above_percent": _referred(point, above),
        },
    }  # fmt: skip


def _judged(point: OperatingPoint, wrong: str, among: Sequence[Seen], why: str) -> dict[str, Any]:
    """The people who are answered wrongly, of those who are seen well enough; whoever has several pictures counts once.

    Args:
        point: that is looked at.
        wrong: answer.
        among: pictures with a face, of people who must not get it.
        why: everybody is referred; empty otherwise.
    """
    worst: dict[str, Seen] = {}
    for each in among:
        quality, least = each.answer.quality, point.least_quality
        if (least is None or (quality is not None and quality >= least)) and (
            each.person not in worst or _is(each.answer, point, wrong)
        ):
            worst[each.person] = each
    found = share(lambda answer: _is(answer, point, wrong), list(worst.values()))
    judged = found["people"] >= FEWEST and not why
    kept = judged and found["percent"] <= point.stated_percent
    return found | {"verdict": "kept" if kept else "not kept" if judged else "not judged"}


def _is(answer: Answer, point: OperatingPoint, wanted: str) -> bool:
    return answer.over.get(str(point.years)) == wanted


def _referred(point: OperatingPoint, among: Sequence[Seen]) -> float | None:
    """The share of pictures with a face that get neither answer, in percent."""
    return share(lambda answer: _is(answer, point, "refer"), among)["percent"]
