"""Operating points: cut-offs that are chosen on one half of the people and measured on the other half.

Chosen is the lowest cut-off at which the share of people below an age who are answered as of the cut-off or older stays
within what is stated with 95 % confidence. People are counted, not pictures: whoever has several counts with the worst
one, so that the bounds for independent people hold.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ageinfer.engine.operating import OperatingPoint, Rate
from agetrain.evaluation.aev import ADULTS_YEARS, MINORS_YEARS
from agetrain.evaluation.calibrating import in_first_half
from agetrain.evaluation.figures import FEWEST, MOST_GROUPS
from agetrain.evaluation.records import Evaluation

YEARS = (13, 16, 18, 21, 25)
# So many years of age below an age, and from it on: for 18 these are 13-17 and 18-30.
BELOW_YEARS, ABOVE_YEARS = len(MINORS_YEARS), len(ADULTS_YEARS)
STATED_PERCENT = 5.0
LEAST_QUALITY = 0.5
_CONFIDENCE = 0.95
_HALVINGS = 60
_DIGITS = 2  # of the cut-offs
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Pictures with a face, whose ages are known exactly.

    Attributes:
        ages: ``[n]``, completed years.
        answers: ``[n]``, of the model, in years.
        quality: ``[n]``, of the views; NaN where nobody has looked.
        people: ``[n]``, who it is.
        first: ``[n]``, whether the person belongs to the half on which cut-offs are chosen.
        groups: by attribute, the values ``[n]``, empty where unknown.
        evidence: the data sets and parts, in words.
        sha256: over names, labels and answers.
    """

    ages: npt.NDArray[np.int64]
    answers: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]
    people: npt.NDArray[np.str_]
    first: Bools
    groups: dict[str, npt.NDArray[np.str_]]
    evidence: tuple[str, ...]
    sha256: str

    @classmethod
    def of(cls, evaluations: Iterable[Evaluation]) -> "Answered":
        """Takes the faces of evaluations of one model."""
        ages, answers, quality, people, first, evidence = [], [], [], [], [], []
        attributes: list[dict[str, str]] = []
        digest = hashlib.sha256()
        for evaluation in evaluations:
            record, told = evaluation.record, evaluation.answers
            views = told.views.get("quality", np.full(len(evaluation.samples), np.nan))
            usable = np.flatnonzero(told.exact & told.found)
            evidence.append(f"{record['dataset']} {record['part']}, {len(usable)} faces")
            for i in usable.tolist():
                sample, answer = evaluation.samples[i], float(told.answers[i])
                ages.append(math.floor(sample.age_years))
                answers.append(answer)
                quality.append(float(views[i]))
                people.append(f"{record['dataset']} {sample.subject or sample.path}")
                first.append(in_first_half(sample))
                attributes.append({"data set": record["dataset"], **dict(sample.attributes)})
                digest.update(f"{record['dataset']} {sample.path.name} {sample.age_years} {answer:.4f}\n".encode())
        names = sorted({name for each in attributes for name in each})
        groups = {name: np.array([each.get(name, "") for each in attributes], str) for name in names}
        return cls(
            np.array(ages, int), np.array(answers, float), np.array(quality, float), np.array(people, str),
            np.array(first, bool),
            {name: values for name, values in groups.items() if 1 < len(set(values.tolist())) <= MOST_GROUPS},
            tuple(evidence), digest.hexdigest(),
        )  # fmt: skip


def upper_share(hits: int, n: int, confidence: float = _CONFIDENCE) -> float:
    """The share that the true one does not exceed with this confidence (Clopper and Pearson, Biometrika 1934).

    Example:
        >>> round(upper_share(0, 59), 4), round(upper_share(3, 100), 4), upper_share(5, 5)
        (0.0495, 0.0757, 1.0)
    """
    if hits >= n:
        return 1.0
    low, high = hits / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(hits, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower_share(hits: int, n: int, confidence: float = _CONFIDENCE) -> float:
    """The share below which the true one does not lie with this confidence."""
    return 1 - upper_share(n - hits, n, confidence)


def _at_most(hits: int, n: int, share: float) -> float:
    """The probability of so many hits or fewer among n people."""
    if share >= 1:
        return float(hits >= n)
    if share <= 0:
        return 1.0
    ways = math.lgamma(n + 1)
    logs = (
        ways - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(share) + (n - k) * math.log1p(-share)
        for k in range(hits + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, logs))


def most_hits(n: int, stated_percent: float) -> int | None:
    """The most hits among n people with which a share is within what is stated; None: not even without a hit."""
    allowed = bisect_right(range(n), stated_percent, key=lambda hits: 100 * upper_share(hits, n))
    return allowed - 1 if allowed else None


def needed_people(stated_percent: float) -> int:
    """How many people are needed, so that a share can be within what is stated at all."""
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log1p(-stated_percent / 100))


class TooFewPeopleError(ValueError):
    """There are too few people to choose a cut-off, or to measure it."""


def operating_point(
    told: Answered, years: int, *, graph_sha256: str, detector: str, stated_percent: float = STATED_PERCENT,
    least_quality: float = LEAST_QUALITY,
) -> OperatingPoint:  # fmt: skip
    """Chooses the cut-offs of an age on the first half of the people, and measures them on the second half.

    Args:
        told: what the model answered.
        years: the age that is asked about.
        graph_sha256: of the model.
        detector: that found the faces.
        stated_percent: at most so many people below the age are to be answered ``over``, and of those from it on
            ``under``.
        least_quality: faces that are seen worse are left out, as the runtime refers them.

    Raises:
        TooFewPeopleError: there are too few.
    """
    below, above = (years - BELOW_YEARS, years - 1), (years, years + ABOVE_YEARS - 1)
    seen = np.isnan(told.quality) | (told.quality >= least_quality)
    young, old = _within(told.ages, below) & seen, _within(told.ages, above) & seen
    over = _cutoff(told, young & told.first, below, stated_percent, highest=True)
    under = _cutoff(told, old & told.first, above, stated_percent, highest=False)
    # Nobody who looks younger than the age is answered over, whatever these people allow.
    over_from, under_below = max(over, float(years)), min(under, float(years))
    held = ~told.first
    passed, refused = told.answers >= over_from, told.answers < under_below
    positive = _rate(told, passed, young & held, below)
    negative = _rate(told, refused, old & held, above)
    groups = [
        _rate(told, passed, young & held & (values == value), below, f"{name}: {value}")
        for name, values in told.groups.items()
        for value in sorted(set(values.tolist()))
        if value and len(set(told.people[young & held & (values == value)].tolist())) >= FEWEST
    ]
    surely_beyond = [g for g in groups if 100 * lower_share(g.hits, g.n) > stated_percent]
    between = ~passed & ~refused
    return OperatingPoint(
        years, over_from, under_below, stated_percent, None if np.isnan(told.quality).all() else least_quality,
        detector, graph_sha256, below, above, positive, negative,
        _percent(between, _within(told.ages, below) & held, seen),
        _percent(between, _within(told.ages, above) & held, seen),
        max(groups, key=lambda rate: rate.percent, default=None),
        positive.percent <= stated_percent and not surely_beyond, negative.percent <= stated_percent,
        told.evidence, told.sha256,
    )  # fmt: skip


def _within(ages: npt.NDArray[np.int64], years: tuple[int, int]) -> Bools:
    return (ages >= years[0]) & (ages <= years[1])


def _cutoff(told: Answered, chosen: Bools, years: tuple[int, int], stated_percent: float, *, highest: bool) -> float:
    """The cut-off beyond which there are as many people as what is stated allows, and no more."""
    sign = 1.0 if highest else -1.0
    worst = np.sort([*_worst(told.people[chosen], sign * told.answers[chosen]).values()])[::-1]
    allowed = most_hits(len(worst), stated_percent)
    if allowed is None:
        raise TooFewPeopleError(
            f"{len(worst)} people of {years[0]} to {years[1]} years to choose on; {needed_people(stated_percent)} are "
            f"needed for {stated_percent:g} %"
        )
    step = 10**_DIGITS
    if highest:  # the first who must not pass lies below it
        return (math.floor(worst[allowed] * step) + 1) / step
    return math.floor(-worst[allowed] * step) / step


def _worst(people: npt.NDArray[np.str_], answers: npt.NDArray[np.float64]) -> dict[str, float]:
    """The highest answer of each person."""
    found: dict[str, float] = {}
    for person, answer in zip(people.tolist(), answers.tolist(), strict=True):
        found[person] = max(answer, found.get(person, -math.inf))
    return found


def _rate(told: Answered, hit: Bools, among: Bools, years: Sequence[int], group: str = "") -> Rate:
    each = _worst(told.people[among], hit[among].astype(float))
    if len(each) < FEWEST:
        raise TooFewPeopleError(
            f"{len(each)} people of {years[0]} to {years[1]} years to measure on; {FEWEST} are needed"
        )
    hits = int(sum(each.values()))
    return Rate(len(each), hits, round(100 * upper_share(hits, len(each)), 3), group)


def _percent(between: Bools, among: Bools, seen: Bools) -> float:
    """The share of pictures that get no answer, in percent: between the cut-offs, or seen too badly."""
    return round(100 * float((between | ~seen)[among].mean()), 2) if among.any() else 0.0
