"""The calibration of a network's deviation: 68.3 % of true ages are to lie within one deviation.

Two numbers do most of it: ``slope * deviation + offset_years``. That is the line below which 68.3 % of the absolute
errors lie, found by quantile regression (Koenker and Bassett, Econometrica 1978), so that sure and unsure faces are
covered alike. So that young and old faces are, too, some years are added at a few answered ages, with straight lines
between them. The same regression finds these years, with an L1 penalty (Belloni and Chernozhukov, Annals of Statistics
2011): an age of few faces, or of faces that the two numbers cover as chance would have it, adds nothing.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

WITHIN_1_STD = math.erf(1 / math.sqrt(2))
SMALLEST_STD_YEARS = 0.5
FEWEST_FACES = 20
FEWEST_FOR_A_LINE = 100  # with fewer faces two numbers would follow chance: the slope alone is found
KNOTS_YEARS = (0.0, 13.0, 25.0, 45.0, 60.0, 75.0)
_PENALTY = 0.5  # standard errors of the coverage near an age that count as chance
_STEEPEST = 4.0
_HALVINGS = 60

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a network's own deviation is stretched and moved before it is answered; the default changes nothing.

    Attributes:
        slope: factor, 0 to 4.
        offset_years: added to that; a result below 0.5 years counts as 0.5 once anything is changed at all.
        by_age: ages in rising order that the network answers, and the years that are added there as well: on straight
            lines between them, and as at the ends beyond. Two or more, or none.
    """

    slope: float = 1.0
    offset_years: float = 0.0
    by_age: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.slope <= _STEEPEST and abs(self.offset_years) <= 100):  # a NaN fails too
            raise ValueError(f"slope {self.slope} and offset {self.offset_years} years are not a calibration")
        ages = [age for age, _ in self.by_age]
        rising = all(a < b for a, b in pairwise(ages))
        if len(ages) == 1 or not rising or not all(abs(v) <= 100 for pair in self.by_age for v in pair):
            raise ValueError(f"the years by age {self.by_age} are not a calibration")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Calibration":
        """Makes a calibration of what `to_dict` gives.

        Raises:
            TypeError, ValueError: it is none.
        """
        return cls(**{**values, "by_age": tuple((age, years) for age, years in values.get("by_age", ()))})

    @property
    def changes(self) -> bool:
        """Whether the calibration changes anything."""
        return self != Calibration()

    def apply(self, stds: Array, ages: Array) -> Array:
        """Returns calibrated deviations in years.

        Args:
            stds: ``[n]`` years, as the network gives them.
            ages: ``[n]`` years, as the network gives them.
        """
        if not self.changes:
            return stds
        moved = self.slope * stds + self.offset_years
        if self.by_age:
            knots, years = np.array(self.by_age).T
            moved = moved + np.interp(ages, knots, years)
        return np.maximum(moved, SMALLEST_STD_YEARS)

    def pieces(self) -> tuple[list[float], list[float], float, list[float]]:
        """Takes the years by age apart: where each piece begins, how wide it is, the years at the first, its slopes."""
        ages, years = np.array(self.by_age).T
        return ages[:-1].tolist(), np.diff(ages).tolist(), float(years[0]), (np.diff(years) / np.diff(ages)).tolist()

    def to_dict(self) -> dict[str, Any]:
        """Returns the calibration as JSON values; ``by_age`` where it adds something."""
        by_age = {"by_age": [list(pair) for pair in self.by_age]} if self.by_age else {}
        return {"slope": self.slope, "offset_years": self.offset_years, **by_age}


def fit_calibration(errors: Array, stds: Array, ages: Array) -> Calibration:
    """Finds the calibration of these answers; of fewer than 100 faces, or for a constant deviation, its slope alone.

    Args:
        errors: ``[n]`` years, answer minus label.
        stds: ``[n]`` years, as the network gives them.
        ages: ``[n]`` years, as the network gives them.

    Raises:
        ValueError: there are fewer than 20, some are not numbers, or deviations are negative or all 0.
    """
    line, ages = fit_line(errors, stds), np.asarray(ages, float)
    if ages.shape != np.shape(errors) or not np.isfinite(ages).all():
        raise ValueError("no calibration can mend these answers (ages are missing or not finite)")
    if np.ptp(stds) == 0 or len(ages) < FEWEST_FOR_A_LINE:
        return line
    years = _years_at_knots(np.abs(errors) - line.slope * np.asarray(stds) - line.offset_years, ages)
    return replace(line, by_age=tuple(zip(KNOTS_YEARS, years, strict=True))) if any(years) else line


def _years_at_knots(left: Array, ages: Array) -> list[float]:
    """Finds what must be added at each of `KNOTS_YEARS`, as a linear programme.

    Args:
        left: ``[n]`` years, absolute errors less the deviations of two numbers.
        ages: ``[n]`` years.
    """
    from scipy.optimize import linprog

    # How near each face is to each knot: [n, knots], each row sums to 1.
    near = np.stack([np.interp(ages, KNOTS_YEARS, at) for at in np.eye(len(KNOTS_YEARS))], axis=1)
    known = near.sum(axis=0) >= FEWEST_FACES
    near = near[:, known]
    penalty = _PENALTY * np.sqrt(WITHIN_1_STD * (1 - WITHIN_1_STD) * (near**2).sum(axis=0))
    # The dual programme, whose few constraints make it quick: their multipliers are the years.
    found = linprog(
        -left, A_ub=np.concatenate([near.T, -near.T]), b_ub=np.concatenate([penalty, penalty]),
        bounds=(WITHIN_1_STD - 1, WITHIN_1_STD),
    )  # fmt: skip
    less, more = np.split(found.ineqlin.marginals, 2)
    years = np.zeros(len(KNOTS_YEARS))
    years[known] = more - less
    return [round(value, 2) + 0.0 for value in years.tolist()]


def fit_line(errors: Array, stds: Array) -> Calibration:
    """Finds slope and offset alone, or the slope alone; arguments and errors are those of `fit_calibration`."""
    errors, stds = np.abs(np.asarray(errors, float)), np.asarray(stds, float)
    if len(errors) < FEWEST_FACES or errors.shape != stds.shape:
        raise ValueError(f"{len(errors)} answers; {FEWEST_FACES} are needed to calibrate a deviation")
    if not np.isfinite([errors, stds]).all() or stds.min() < 0 or stds.max() == 0:
        raise ValueError("no calibration can mend these answers or deviations (not finite, negative, or always 0)")

    if (
        np.ptp(stds) == 0 or len(errors) < FEWEST_FOR_A_LINE
    ):  # of a linear head's constant, too, one number can be found
        return Calibration(round(min(float(np.quantile(errors / np.maximum(stds, 1e-6), WITHIN_1_STD)), _STEEPEST), 4))

    def offset(slope: float) -> float:
        return float(np.quantile(errors - slope * stds, WITHIN_1_STD))

    def loss(slope: float) -> float:
        above = errors - slope * stds - offset(slope)
        return float(np.maximum(WITHIN_1_STD * above, (WITHIN_1_STD - 1) * above).sum())

    # The loss is convex in slope and offset together, so it is in the slope with the best offset for each.
    low, high = 0.0, _STEEPEST
    for _ in range(_HALVINGS):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    slope = round((low + high) / 2, 4)
    return Calibration(slope, round(offset(slope), 4))


def coverage_percent(errors: Array, stds: Array) -> float:
    """Returns how many of the labels lie within one deviation of the answer, in percent."""
    return round(100 * float((np.abs(errors) <= stds).mean()), 2)
