"""Ages as people write them in lists and as names of folders: 23, 23.5, 20-29, 60+, more than 70."""

import math
import re
from dataclasses import dataclass

OLDEST_YEARS = 100.0  # the last bin of a distribution; an interval without an end ends here
LARGEST_AGE_YEARS = 130.0
_OPEN_SPAN_YEARS = 20.0  # that stands for an interval without an end where one year has to stand for all of it
_NUMBER = r"(\d+(?:[.,]\d+)?)"
_INTERVAL = re.compile(rf"[\[(]?\s*{_NUMBER}\s*(?:-|\u2013|\u2014|_|,|;|to)\s*{_NUMBER}\s*[\])]?")
_AND_MORE = re.compile(
    rf"(?:{_NUMBER}\s*(?:\+|and (?:more|over|older|above)|or (?:more|over|older))|(?:>=|≥|from)\s*{_NUMBER})"
)
_MORE_THAN = re.compile(rf"(?:>|more than|over|older than|above)\s*{_NUMBER}")
_LESS_THAN = re.compile(rf"(?:<|less than|under|younger than|below)\s*{_NUMBER}")
_EXACT = re.compile(_NUMBER)


@dataclass(frozen=True, slots=True)
class Age:
    """An age as far as it is known.

    Attributes:
        low_years, high_years: the youngest and the oldest that it can be; equal where it is exact.
    """

    low_years: float
    high_years: float

    @property
    def exact(self) -> bool:
        """Whether it is one number."""
        return self.low_years == self.high_years

    @property
    def years(self) -> float:
        """The age, or the middle of the interval; of one without an end, the middle of its first 20 years."""
        return (self.low_years + min(self.high_years, self.low_years + _OPEN_SPAN_YEARS)) / 2

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval where there is one, None for an exact age."""
        return None if self.exact else (self.low_years, self.high_years)


def parse_age(text: str) -> Age:
    """Reads an age or an interval of ages.

    Args:
        text: ``23``, ``23.5`` or ``23,5``; ``20-29`` (also with a dash, ``to``, or in brackets), which holds both ends;
            ``60+``, ``>=60`` or ``more than 60``; ``<3``.

    Raises:
        ValueError: it is none of these, or lies outside of 0 to 130 years; the message says which.

    Example:
        >>> parse_age("20-29"), parse_age("60+").interval, parse_age("23,5").years
        (Age(low_years=20.0, high_years=29.0), (60.0, 100.0), 23.5)
    """
    plain = " ".join(text.strip().lower().removesuffix("years").removesuffix("y").split())
    if match := _EXACT.fullmatch(plain):
        return age_between(_number(match[1]), _number(match[1]))
    if match := _INTERVAL.fullmatch(plain):
        return age_between(_number(match[1]), _number(match[2]))
    if match := _AND_MORE.fullmatch(plain):
        low = _number(match[1] or match[2])
        return age_between(low, max(low, OLDEST_YEARS))
    if match := _MORE_THAN.fullmatch(plain):
        low = _number(match[1]) + 1
        return age_between(low, max(low, OLDEST_YEARS))
    if match := _LESS_THAN.fullmatch(plain):
        return age_between(0.0, max(0.0, _number(match[1]) - 1))
    raise ValueError(f"{text.strip()[:40]!r} is no age; write years as 23, 23.5, 20-29 or 60+")


def age_between(low: float, high: float) -> Age:
    """Makes an age of its two ends.

    Raises:
        ValueError: they are no ages, or the first is larger than the second.
    """
    for years in (low, high):
        if not (math.isfinite(years) and 0 <= years <= LARGEST_AGE_YEARS):
            raise ValueError(f"{years:g} years is no age; use 0 to {LARGEST_AGE_YEARS:g}")
    if low > high:
        raise ValueError(f"{low:g} to {high:g} years is no interval; write the smaller age first")
    return Age(low, high)


def _number(text: str) -> float:
    return float(text.replace(",", "."))
