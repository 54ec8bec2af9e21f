"""How often the label lies within one deviation of the answer: of all faces, and by bands of age."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agetrain.evaluation.figures import FEWEST, Array
from agetrain.network.calibration import coverage_percent

BANDS = {"0-12": 0, "13-24": 13, "25-44": 25, "45-64": 45, "65+": 65}  # and where each begins, years
BY_AGE = {"by_predicted_age": "predicted age", "by_true_age": "true age"}


def bands(years: Array) -> npt.NDArray[np.str_]:
    """Names the band of each age, one of `BANDS`.

    Example:
        >>> bands(np.array([12.9, 13.0, 80.0])).tolist()
        ['0-12', '13-24', '65+']
    """
    return np.array(list(BANDS))[np.digitize(years, list(BANDS.values())[1:])]


def coverage(ages: Array, labels: Array, stds: Array, calibrated: Array) -> dict[str, Any]:
    """Measures deviations before and after calibration; bands of fewer than 20 faces are given by their number alone.

    Args:
        ages: ``[n]`` years, as answered.
        labels: ``[n]`` years.
        stds: ``[n]`` years, the network's own.
        calibrated: ``[n]`` years.

    Returns:
        ``n``, ``within_1_std_percent`` and ``within_1_std_percent_before`` of all, and of each band of `BANDS` under
        ``by_predicted_age`` and ``by_true_age``; ``n`` alone where there are no faces.
    """
    errors = ages - labels

    def of(chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "n": int(chosen.sum()),
            "within_1_std_percent": coverage_percent(errors[chosen], calibrated[chosen]),
            "within_1_std_percent_before": coverage_percent(errors[chosen], stds[chosen]),
        }

    def by(years: Array) -> dict[str, dict[str, Any]]:
        groups = {name: bands(years) == name for name in BANDS}
        return {name: of(c) if c.sum() >= FEWEST else {"n": int(c.sum())} for name, c in groups.items()}

    if len(ages) == 0:
        return {"n": 0}
    return {**of(np.ones(len(ages), bool)), "by_predicted_age": by(ages), "by_true_age": by(labels)}


def cells(measured: Mapping[str, Any], by: str) -> list[str]:
    """Writes the bands of `coverage` as cells of a table: percent before and after, and the number of faces.

    Args:
        measured: by `coverage`, of some faces.
        by: one of `BY_AGE`.
    """
    found = [measured[by][name] for name in BANDS]
    return [
        f"{f['within_1_std_percent_before']:.0f}, {f['within_1_std_percent']:.0f} ({f['n']})"
        if "within_1_std_percent" in f
        else f"- ({f['n']})"
        for f in found
    ]
