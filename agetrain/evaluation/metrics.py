"""The basic figures of an age model: MAE, RMSE, CS@5 and bias."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Years = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures over one part of one data set, in years unless said otherwise.

    A picture in which no face was found is answered with the training median and counts like any other.

    Attributes:
        n: pictures.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        cs5_percent: share of errors of at most 5 years (the cumulative score CS@5), in percent.
        bias: mean of estimate minus label.
        detection_rate_percent: share of pictures in which a face was found, in percent.
        mae_found: mean absolute error over those alone.
        mae_of_train_median: the MAE of always answering the training median.
    """

    n: int
    mae: float
    rmse: float
    cs5_percent: float
    bias: float
    detection_rate_percent: float
    mae_found: float
    mae_of_train_median: float

    def to_dict(self) -> dict[str, float | None]:
        """Returns the figures as JSON values, rounded to 4 decimals, with None for what is not a number."""
        return {k: round(v, 4) if math.isfinite(v) else None for k, v in asdict(self).items()}


def measure(estimates: Years, labels: Years, found: npt.NDArray[np.bool_], train_median: float) -> Metrics:
    """Compares estimates with labels.

    Args:
        estimates: ``[n]`` years; not read where no face was found.
        labels: ``[n]`` years.
        found: ``[n]``, a face was found.
        train_median: the answer for a picture without a face.

    Raises:
        ValueError: the arrays are empty or of different lengths.

    Example:
        >>> m = measure(np.array([20.0, 31.0, 0.0]), np.array([22.0, 30.0, 40.0]), np.array([True, True, False]), 34)
        >>> m.mae, m.mae_found, m.bias
        (3.0, 1.5, -2.3333333333333335)
    """
    if not len(estimates) == len(labels) == len(found) > 0:
        raise ValueError(
            f"need equally many estimates, labels and marks: {len(estimates)}, {len(labels)}, {len(found)}"
        )
    errors = np.where(found, estimates, train_median).astype(np.float64) - labels
    sizes = np.abs(errors)
    return Metrics(
        n=len(labels),
        mae=float(sizes.mean()),
        rmse=float(np.sqrt(np.square(errors).mean())),
        cs5_percent=float(100 * (sizes <= 5).mean()),
        bias=float(errors.mean()),
        detection_rate_percent=float(100 * found.mean()),
        mae_found=float(sizes[found].mean()) if found.any() else float("nan"),
        mae_of_train_median=float(np.abs(labels - train_median).mean()),
    )
