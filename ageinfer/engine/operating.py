"""Operating points: from which estimate on a model may say that somebody has reached an age, and what that was measured
to cost.

They lie in the model file, sealed with the rest of its metadata and bound to its graph. `ageexport.points` chooses them
on one half of people whom training did not see, and measures them on the other half.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

_MOST_PEOPLE = 10**9
_LONGEST_TEXT = 200
_OLDEST_YEARS = 150.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of some people were answered wrongly.

    Attributes:
        n: people.
        hits: of them, those who were.
        upper_percent: the share that the true one does not exceed with 95 % confidence (Clopper and Pearson, 1934).
        group: whose rate it is, as ``gender: female``; empty for everybody's.
    """

    n: int
    hits: int
    upper_percent: float
    group: str = ""

    @property
    def percent(self) -> float:
        """The share, in percent."""
        return 100 * self.hits / self.n if self.n else 0.0

    def __str__(self) -> str:
        return f"{self.percent:.1f} % ({self.hits} of {self.n}, at most {self.upper_percent:.1f} %)"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where a model answers that somebody has reached an age, that somebody has not, and where it refers.

    Attributes:
        years: the age that is asked about.
        over_from_years: estimates from here on are answered with ``over``.
        under_below_years: estimates below this are answered with ``under``; those between the two are referred.
        stated_percent: at most so many of those below the age were meant to be answered ``over``, and of those above it
            ``under``.
        least_quality: faces that are seen worse are referred; None where nobody has looked at the view.
        detector: that found the faces.
        graph_sha256: of the model that answered.
        below_years: ages, first and last, of those who must not be answered ``over``.
        above_years: of those who must not be answered ``under``.
        false_positive: share of the former, among people who had no part in the choice.
        false_negative: share of the latter, likewise.
        referred_below_percent, referred_above_percent: how many of them got neither answer.
        worst: the false positives of the group that has most of them, of those with 20 people or more; None where there
            is no such group.
        over_held, under_held: whether these figures keep what is stated: the rate does, and no group is surely beyond
            it. An answer that did not hold is not given.
        evidence: the pictures, by data set and part.
        evidence_sha256: over their names, labels and answers.
    """

    years: int
    over_from_years: float
    under_below_years: float
    stated_percent: float
    least_quality: float | None
    detector: str
    graph_sha256: str
    below_years: tuple[int, int]
    above_years: tuple[int, int]
    false_positive: Rate
    false_negative: Rate
    referred_below_percent: float
    referred_above_percent: float
    worst: Rate | None
    over_held: bool
    under_held: bool
    evidence: tuple[str, ...]
    evidence_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the point as JSON values."""
        values = asdict(self)
        return values | {name: list(values[name]) for name in ("below_years", "above_years", "evidence")}

    @classmethod
    def from_dict(cls, values: Any) -> "OperatingPoint":
        """Reads what `to_dict` returned, and believes nothing of it.

        Raises:
            ValueError: it is not that.
        """
        if not isinstance(values, dict) or set(values) != set(cls.__slots__):
            raise ValueError("an operating point of its metadata is none of this release")
        years = values["years"]
        if type(years) is not int or not 1 <= years <= _OLDEST_YEARS:
            raise ValueError(f"its metadata have an operating point for {str(years)[:40]!r} years")
        try:
            return cls(
                years, _number(values["over_from_years"], years, _OLDEST_YEARS),
                _number(values["under_below_years"], 0, years), _number(values["stated_percent"], 0, 100),
                None if values["least_quality"] is None else _number(values["least_quality"], 0, 1),
                _text(values["detector"]), _text(values["graph_sha256"]),
                _ages(values["below_years"]), _ages(values["above_years"]),
                _rate(values["false_positive"]), _rate(values["false_negative"]),
                _number(values["referred_below_percent"], 0, 100), _number(values["referred_above_percent"], 0, 100),
                None if values["worst"] is None else _rate(values["worst"]), values["over_held"] is True,
                values["under_held"] is True,
                tuple(_text(text) for text in values["evidence"]), _text(values["evidence_sha256"]),
            )  # fmt: skip
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"the operating point of its metadata for {years} years is none: {error}") from None


def _number(value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]} is not from {low:g} to {high:g}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{str(value)[:40]} is no short text")
    return value


def _ages(value: Any) -> tuple[int, int]:
    first, last = (int(_number(each, 0, _OLDEST_YEARS)) for each in value)
    return first, last


def _rate(value: Any) -> Rate:
    n, hits = int(_number(value["n"], 0, _MOST_PEOPLE)), int(_number(value["hits"], 0, _MOST_PEOPLE))
    if hits > n:
        raise ValueError(f"{hits} of {n} people")
    return Rate(n, hits, _number(value["upper_percent"], 0, 100), _text(value["group"]))
