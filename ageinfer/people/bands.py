"""Bands of ages, and how many people are of one: a sum of distributions, not a count of means."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ageinfer.errors import UsageError
from ageinfer.types import Age

# What a model gets wrong about a kind of faces that it has not learned from, it gets wrong about all of them: the root
# of the mean square of its mean errors on the sets that were left out (docs/results/comparison.md).
SHARED_STD_YEARS = 2.2
# Its values and their weights: Gauss-Hermite quadrature.
_SHIFTS = ((-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6))
_DEVIATIONS_OF_90_PERCENT = 1.645
MOST_BANDS = 40
_OLDEST_YEARS = 150


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of ages in completed years.

    Attributes:
        low: the youngest.
        high: the oldest; None: there is none.
    """

    low: int
    high: int | None

    def __str__(self) -> str:
        return f"{self.low}+" if self.high is None else f"{self.low}-{self.high}"

    def share(self, age: Age) -> float:
        """The probability that somebody's age is in it."""
        above = 0.0 if self.high is None else age.at_least(self.high + 1)
        return (1.0 if self.low == 0 else age.at_least(self.low)) - above

    @classmethod
    def parse_all(cls, text: str) -> "tuple[Band, ...]":
        """Reads ``0-12,13-17,18-24,25+``.

        Raises:
            UsageError: it is not that, or an age is in no band or in two.

        Example:
            >>> [str(band) for band in Band.parse_all("0-17,18+")]
            ['0-17', '18+']
        """
        bands = []
        for word in text.split(","):
            found = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})|\+)\s*", word)
            if not found:
                raise UsageError(f"--bands {text}: use ages such as 0-12,13-17,18-64,65+")
            bands.append(cls(int(found[1]), None if found[2] is None else int(found[2])))
        ends = [0, *(_OLDEST_YEARS if band.high is None else band.high + 1 for band in bands)]
        for band, begins, ends_before in zip(bands, ends[:-1], ends[1:], strict=True):
            if band.low != begins or band.low >= ends_before:
                raise UsageError(f"--bands {text}: {band} should begin at {begins}; each age needs one band")
        if bands[-1].high is not None:
            raise UsageError(f"--bands {text}: nobody older than {bands[-1].high} has a band; end with {ends[-1]}+")
        if len(bands) > MOST_BANDS:
            raise UsageError(f"--bands: {len(bands)} bands; use up to {MOST_BANDS}")
        return tuple(bands)


BANDS = Band.parse_all("0-12,13-17,18-24,25-34,35-44,45-54,55-64,65+")


@dataclass(frozen=True, slots=True)
class BandCount:
    """How many people were of an age.

    Attributes:
        band: of ages.
        count: expected number; None where it is hidden.
        low, high: 90 % interval of the true number.
    """

    band: Band
    count: float | None
    low: float | None
    high: float | None


def expected_count(ages: Iterable[Age], band: Band) -> tuple[float, float, float]:
    """How many people are of an age: the sum of their probabilities, and a 90 % interval of the true number.

    Ages are independent, but for one error that a model makes about all of them: a shift with a deviation of
    `SHARED_STD_YEARS`. Without it, the number is a Poisson binomial one. The interval is that of a normal distribution
    with the variance of both, cut off at nobody and at everybody.

    Example:
        >>> [round(number, 2) for number in expected_count([Age(20.0, 5.0)] * 10, Band(18, None))]
        [6.91, 3.48, 10.0]
    """
    some = list(ages)
    count = sum(band.share(age) for age in some)
    own, shifted = 0.0, []
    for shift, weight in _SHIFTS:
        chances = [band.share(_shifted(age, shift * SHARED_STD_YEARS)) for age in some]
        own += weight * sum(chance * (1 - chance) for chance in chances)
        shifted.append((weight, sum(chances)))
    mean = sum(weight * total for weight, total in shifted)
    shared = sum(weight * (total - mean) ** 2 for weight, total in shifted)
    reach = _DEVIATIONS_OF_90_PERCENT * math.sqrt(own + shared)
    return count, max(0.0, count - reach), min(float(len(some)), count + reach)


def _shifted(age: Age, years: float) -> Age:
    """The age where the shared error is known to be so many years: its own deviation is what is left."""
    own = age.std_years**2 - SHARED_STD_YEARS**2
    return replace(age, age_years=age.age_years + years, std_years=math.sqrt(max(own, age.std_years**2 / 4)))
