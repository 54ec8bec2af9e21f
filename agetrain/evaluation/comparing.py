"""Models beside each other: the difference of two on the same pictures, and the spread of one over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agetrain.errors import UsageError
from agetrain.evaluation.bootstrap import Bootstrap
from agetrain.evaluation.rows import Row

# Fields of a recipe in which the runs of one experiment may differ.
_SEEDS = {"seed", "selection_seed"}


@dataclass(frozen=True, slots=True)
class Difference:
    """How much larger the errors of one model are than those of another, on the same pictures.

    Attributes:
        dataset, part: that both were measured on.
        first, second: names of the models.
        n: pictures.
        years: mean of the first one's error minus the second one's, in years; errors count by their size.
        low_years, high_years: its 95 % interval, by bootstrap over people.
        of_intervals: the errors are distances to intervals.
    """

    dataset: str
    part: str
    first: str
    second: str
    n: int
    years: float
    low_years: float
    high_years: float
    of_intervals: bool = False

    def __str__(self) -> str:
        better = self.second if self.low_years > 0 else self.first if self.high_years < 0 else None
        verdict = f"{better} is better" if better else "no difference is shown"
        what = "distance to the interval" if self.of_intervals else "MAE"
        return (
            f"{self.dataset} {self.part}: {what} of {self.first} minus {self.second}: {self.years:+.2f} years "
            f"({self.low_years:+.2f} to {self.high_years:+.2f}) over {self.n} pictures: {verdict}"
        )


def differences(
    first: Sequence[Row], second: Sequence[Row], *, resamples: int = 2000, seed: int = 0
) -> list[Difference]:
    """Compares two models picture by picture, which tells smaller differences than their two intervals do.

    Args:
        first: rows of one; only pictures that both have answered count.
        second: rows of the other.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        A difference for each part of each data set; exact ages and intervals apart.

    Raises:
        UsageError: they have no picture in common.
    """
    others = {row.key: row for row in second}
    pairs = [(row, others[row.key]) for row in first if row.key in others]
    if not pairs:
        raise UsageError("the two models were measured on other pictures; measure both on the same data and part")
    found = []
    for place in dict.fromkeys((a.dataset, a.part, a.exact) for a, _ in pairs):
        of = [(a, b) for a, b in pairs if (a.dataset, a.part, a.exact) == place]
        gaps = np.array([abs(a.error_years) - abs(b.error_years) for a, b in of])
        subjects = np.array([a.subject or f"picture {i}" for i, (a, _) in enumerate(of)])
        low, high = Bootstrap(subjects, resamples, seed).of_mean(gaps)
        dataset, part, exact = place
        names = of[0][0].model, of[0][1].model
        mean = round(float(gaps.mean()), 4)
        found.append(Difference(dataset, part, *names, len(of), mean, low, high, not exact))
    return found


def are_seeds(recipes: Sequence[Mapping[str, Any]]) -> bool:
    """Says whether models are runs of one recipe that differ in nothing but their seeds."""
    if len(recipes) < 2 or not all(recipes):
        return False
    alike = [{name: value for name, value in recipe.items() if name not in _SEEDS} for recipe in recipes]
    seeds = [tuple(recipe.get(name) for name in sorted(_SEEDS)) for recipe in recipes]
    return all(recipe == alike[0] for recipe in alike) and len(set(seeds)) == len(seeds)


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Computes mean and standard deviation (n - 1) of a figure over models that differ only in their seed."""
    return {
        "n": len(values),
        "mean": round(float(np.mean(values)), 4),
        "sd": round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else 0.0,
    }
