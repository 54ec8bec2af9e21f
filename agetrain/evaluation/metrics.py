"""The basic figures of an age model: MAE, RMSE, CS@5 and bias, and those of ages that are only known as intervals."""

import math
from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class IntervalMetrics:
    """Figures over pictures whose age is only known as an interval; they are no errors of ages and stand apart.

    Attributes:
        n: pictures.
        interval_error: mean distance of the answers from the intervals in years, 0 inside.
        inside_percent: share of the answers that lie inside, in percent.
        detection_rate_percent: share of pictures in which a face was found, in percent.
        interval_error_of_train_median: that of always answering the training median.
    """

    n: int
    interval_error: float
    inside_percent: float
    detection_rate_percent: float
    interval_error_of_train_median: float

    def to_dict(self) -> dict[str, float]:
        """Returns the figures as JSON values, rounded to 4 decimals."""
        return {k: round(v, 4) for k, v in asdict(self).items()}


def distances(answers: Years, lows: Years, highs: Years) -> Years:
    """Returns how far answers lie from intervals, ``[n]`` years: negative below, 0 inside, positive above."""
    return answers - np.clip(answers, lows, highs)


def measure_intervals(
    estimates: Years, lows: Years, highs: Years, found: npt.NDArray[np.bool_], train_median: float
) -> IntervalMetrics:  # fmt: skip
    """Compares estimates with intervals.

    Args:
        estimates: ``[n]`` years; not read where no face was found.
        lows: ``[n]`` years.
        highs: ``[n]`` years.
        found: ``[n]``, a face was found.
        train_median: the answer for a picture without a face.

    Raises:
        ValueError: there is no picture.

    Example:
        >>> m = measure_intervals(np.array([25.0, 33.0]), np.array([20.0, 20.0]), np.array([29.0, 29.0]),
        ...                       np.array([True, True]), 40)
        >>> m.interval_error, m.inside_percent
        (2.0, 50.0)
    """
    if not len(estimates):
        raise ValueError("no picture to measure on")
    off = np.abs(distances(np.where(found, estimates, train_median).astype(np.float64), lows, highs))
    always = np.abs(distances(np.full(len(lows), float(train_median)), lows, highs))
    return IntervalMetrics(
        len(off), float(off.mean()), float(100 * (off == 0).mean()), float(100 * found.mean()), float(always.mean())
    )


def figures_of_part(
    estimates: Years, labels: Years, lows: Years, highs: Years, found: npt.NDArray[np.bool_], train_median: float
) -> dict[str, Any]:  # fmt: skip
    """Measures a part of a data set: `Metrics` over its exact ages, and under ``intervals`` `IntervalMetrics`.

    Args:
        estimates: ``[n]`` years; not read where no face was found.
        labels: ``[n]`` years.
        lows: ``[n]`` years, NaN where the age is exact.
        highs: likewise.
        found: ``[n]``, a face was found.
        train_median: the answer for a picture without a face.
    """
    exact = np.isnan(lows)
    figures: dict[str, Any] = {"n": 0}
    if exact.any():
        figures = measure(estimates[exact], labels[exact], found[exact], train_median).to_dict()
    if not exact.all():
        of = ~exact
        figures["intervals"] = measure_intervals(estimates[of], lows[of], highs[of], found[of], train_median).to_dict()
    return figures


def chosen_error(
    estimates: Years, labels: Years, lows: Years, highs: Years, found: npt.NDArray[np.bool_], train_median: float
) -> Metrics:  # fmt: skip
    """Measures what an epoch is chosen by: errors of exact ages, and only without any distances to intervals.

    For the arguments see `figures_of_part`. Of distances, ``mae`` is their mean, and an answer inside is no error.
    """
    exact = np.isnan(lows)
    if exact.any():
        return measure(estimates[exact], labels[exact], found[exact], train_median)
    answers = np.where(found, estimates, train_median)
    return measure(estimates, np.clip(answers, lows, highs), found, train_median)


def error_in_words(figures: Mapping[str, Any]) -> str:
    """Says how large the errors are, in exact ages or else in distances to intervals."""
    if figures["n"]:
        return f"MAE {figures['mae']:.3f} years"
    return f"{figures['intervals']['interval_error']:.3f} years from the interval of ages"


def in_words(figures: Mapping[str, Any]) -> str:
    """Says what `figures_of_part` measured, in a few words."""
    told = []
    if figures["n"]:
        told.append(f"MAE {figures['mae']:.2f} years over {figures['n']} pictures")
    if "intervals" in figures:
        i = figures["intervals"]
        told.append(
            f"{i['inside_percent']:.1f} % of {i['n']} answers inside the interval of ages, {i['interval_error']:.2f} "
            "years from it in the mean"
        )
    return "; ".join(told)
