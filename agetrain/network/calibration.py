"""The calibration of a network's deviation: 68.3 % of true ages are to lie within one deviation.

Two numbers do it: ``slope * deviation + offset_years``. That is the line below which 68.3 % of the absolute errors lie,
found by quantile regression (Koenker and Bassett, Econometrica 1978), so that sure and unsure faces are covered alike.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

WITHIN_1_STD = math.erf(1 / math.sqrt(2))
SMALLEST_STD_YEARS = 0.5
FEWEST_FACES = 20
FEWEST_FOR_A_LINE = 100  # with fewer faces two numbers would follow chance: the slope alone is found
_STEEPEST = 4.0
_HALVINGS = 60

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a network's own deviation is stretched and moved before it is answered; the default changes nothing.

    Attributes:
        slope: factor, 0 to 4.
        offset_years: added to that; a result below 0.5 years counts as 0.5 once anything is changed at all.
    """

    slope: float = 1.0
    offset_years: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.slope <= _STEEPEST and abs(self.offset_years) <= 100):  # a NaN fails too
            raise ValueError(f"slope {self.slope} and offset {self.offset_years} years are not a calibration")

    @property
    def changes(self) -> bool:
        """Whether the calibration changes anything."""
        return self != Calibration()

    def apply(self, stds: Array) -> Array:
        """Returns calibrated deviations in years."""
        if not self.changes:
            return stds
        return np.maximum(self.slope * stds + self.offset_years, SMALLEST_STD_YEARS)

    def to_dict(self) -> dict[str, float]:
        """Returns the calibration as JSON values."""
        return asdict(self)


def fit_calibration(errors: Array, stds: Array) -> Calibration:
    """Finds the calibration of these answers; of fewer than 100 faces, or for a constant deviation, its slope alone.

    Args:
        errors: ``[n]`` years, answer minus label.
        stds: ``[n]`` years, as the network gives them.

    Raises:
        ValueError: there are fewer than 20, some are not numbers, or deviations are negative or all 0.
    """
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
