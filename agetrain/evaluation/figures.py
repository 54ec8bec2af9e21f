"""The figures of an evaluation: errors, groups, thresholds, intervals and baselines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agetrain.datasets import Sample
from agetrain.evaluation.bootstrap import Bootstrap
from agetrain.evaluation.metrics import measure, measure_intervals

Array = npt.NDArray[np.floating[Any]]
CURVE_YEARS = range(16)
THRESHOLDS_YEARS = (18, 21, 25)
FEWEST = 20  # pictures that a group needs for a figure of its own
MOST_GROUPS = 50  # values of a column; one with more, as names and addresses have, makes no groups
CHILDREN_BELOW_YEARS = 13
# Of `ageinfer.crop.quality.View`.
VIEW = ("size_px", "sharpness", "yaw", "pitch", "roll_degrees", "brightness", "contrast", "quality")


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model answered to a list of pictures, beside what is known of them.

    Attributes:
        labels: ``[n]`` years, of the age that the model answers (real or apparent); of an interval, a year within it.
        estimates: ``[n]`` years; NaN where no face was found.
        stds: ``[n]`` years, as the model gives them; NaN where no face was found.
        label_stds: ``[n]`` years of disagreement between raters about the label, NaN where unknown.
        others: ``[n]`` years, the other of real and apparent age, NaN where unknown.
        other_stds: ``[n]`` years of disagreement about that.
        subjects: ``[n]``, who it is; a number of its own for each picture where that is not known.
        attributes: for each name (``sex``) the values ``[n]``, empty where unknown.
        label: ``real`` or ``apparent``.
        train_median: years, the answer for a picture without a face.
        lows, highs: ``[n]`` years, ends of the interval where no more is known than that; NaN where the age is exact.
        views: how each face is seen: for each of `VIEW` the values ``[n]``, NaN where no face was found; empty where
            nobody has looked.
    """

    labels: Array
    estimates: Array
    stds: Array
    label_stds: Array
    others: Array
    other_stds: Array
    subjects: npt.NDArray[np.str_]
    attributes: Mapping[str, npt.NDArray[np.str_]]
    label: str
    train_median: float
    lows: Array
    highs: Array
    views: Mapping[str, Array] = field(default_factory=dict)

    @property
    def exact(self) -> npt.NDArray[np.bool_]:
        """Where an age is one number and no interval."""
        return np.isnan(self.lows)

    def rows(self, chosen: npt.NDArray[np.bool_]) -> "Answers":
        """Returns the answers to some of the pictures."""
        picked: dict[str, Any] = {
            name: {key: values[chosen] for key, values in getattr(self, name).items()}
            for name in ("attributes", "views")
        }
        for each in fields(self):
            values = getattr(self, each.name)
            if isinstance(values, np.ndarray):
                picked[each.name] = values[chosen]
        return replace(self, **picked)

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Where there is a face."""
        return ~np.isnan(self.estimates)

    @property
    def answers(self) -> Array:
        """The estimates, with the training median where no face was found."""
        return np.where(self.found, self.estimates, self.train_median)

    @property
    def errors(self) -> Array:
        """Answer minus label, years; of an interval, how far the answer lies from it."""
        return self.answers - np.where(self.exact, self.labels, np.clip(self.answers, self.lows, self.highs))


def answers_from(
    samples: Sequence[Sample], estimates: Array, stds: Array, label: str, train_median: float,
    views: Mapping[str, Array] | None = None,
) -> Answers:  # fmt: skip
    """Puts estimates beside all that is known of the pictures.

    Args:
        samples: the pictures, with ``age_years`` of the label.
        estimates: ``[n]`` years, NaN where no face was found.
        stds: ``[n]`` years, the same.
        label: ``real`` or ``apparent``.
        train_median: years, the answer for a picture without a face.
        views: see `Answers`.
    """

    def years(name: str) -> Array:
        return np.array([np.nan if getattr(s, name) is None else getattr(s, name) for s in samples], float)

    names = sorted({name for s in samples for name, _ in s.attributes})
    ends = np.array([s.interval_years or (np.nan, np.nan) for s in samples], float).reshape(-1, 2)
    return Answers(
        labels=years("age_years"), estimates=estimates, stds=stds, label_stds=years("std_years"),
        others=years("other_years"), other_stds=years("other_std_years"),
        subjects=np.array([s.subject or f"picture {i}" for i, s in enumerate(samples)]),
        attributes={name: np.array([dict(s.attributes).get(name, "") for s in samples]) for name in names},
        label=label, train_median=train_median, lows=ends[:, 0], highs=ends[:, 1], views=views or {},
    )  # fmt: skip


def evaluate(answers: Answers, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Computes all figures of `Answers` as JSON values, in years unless their name says otherwise.

    Where ages are only known as intervals, their figures stand apart, under ``intervals``; without any exact age ``n``
    is 0 and the others are left out.

    Args:
        answers: of a model.
        resamples: of the bootstrap for the 95 % intervals.
        seed: of the bootstrap.
    """
    figures: dict[str, Any] = {"n": 0}
    if answers.exact.any():
        figures = _of_exact(answers.rows(answers.exact), resamples, seed)
    if not answers.exact.all():
        figures["intervals"] = of_intervals(answers.rows(~answers.exact), resamples, seed)
    return figures


def of_intervals(a: Answers, resamples: int, seed: int) -> dict[str, Any]:
    """Computes the figures of answers to pictures whose ages are only known as intervals."""
    interval = Bootstrap(a.subjects, resamples, seed)
    measured = measure_intervals(a.estimates, a.lows, a.highs, a.found, a.train_median).to_dict()
    names = np.array([f"{low:g}-{high:g}" for low, high in zip(a.lows.tolist(), a.highs.tolist(), strict=True)])
    groups = {"interval": names, **a.attributes}
    return {
        **measured,
        "interval_error_interval_95": interval.of_mean(np.abs(a.errors)),
        "by_attribute": {
            name: {
                group: {"n": f["n"], **({"interval_error": f["mae"], "bias": f["bias"]} if "mae" in f else {})}
                for group, f in by_group(values, a, interval).items()
            }
            for name, values in groups.items()
            if len(set(values.tolist())) <= MOST_GROUPS
        },
    }


def _of_exact(a: Answers, resamples: int, seed: int) -> dict[str, Any]:
    sizes = np.abs(a.errors)
    interval = Bootstrap(a.subjects, resamples, seed)
    overall = measure(a.estimates, a.labels, a.found, a.train_median).to_dict()
    figures: dict[str, Any] = {
        **overall,
        "mae_interval_95": interval.of_mean(sizes),
        "median_error": round(float(np.median(sizes)), 4),
        "slope": slope(a.labels, a.answers),
        "cs_curve_percent": {str(k): round(100 * float((sizes <= k).mean()), 2) for k in CURVE_YEARS},
        "baselines": baselines(a),
        "uncertainty": uncertainty(a),
        "by_true_decade": by_group(decades(a.labels), a, interval),
        "by_predicted_decade": by_group(decades(a.answers), a, interval),
        "by_attribute": {
            name: by_group(values, a, interval)
            for name, values in a.attributes.items()
            if len(set(values.tolist())) <= MOST_GROUPS
        },
        "thresholds": {str(t): threshold(a, t) for t in THRESHOLDS_YEARS},
    }
    known = [group["mae"] for group in figures["by_true_decade"].values() if "mae" in group]
    figures["mae_of_decades"] = round(float(np.mean(known)), 4) if known else None  # each decade counts alike
    figures["sixty_and_more"] = by_group(np.where(a.labels >= 60, "60+", ""), a, interval).get("60+", {"n": 0})
    figures["children"] = children(a)
    figures["worst_group"] = worst_group({"age": figures["by_true_decade"], **figures["by_attribute"]})
    if np.isfinite(a.label_stds).all() and (a.label_stds > 0).any():
        figures["epsilon_error"] = epsilon_error(a.errors, a.label_stds)
    return figures


def epsilon_error(errors: Array, stds: Array) -> float:
    """Computes the epsilon-error of the ChaLearn LAP challenges: the mean of ``1 - exp(-error^2 / (2 std^2))``.

    Raters who agreed to the day leave no room for error; such pictures count as if they had a deviation of 0.1 years.

    Example:
        >>> epsilon_error(np.array([0.0, 5.0]), np.array([3.0, 5.0]))
        0.1967
    """
    return round(float((1 - np.exp(-(errors**2) / (2 * np.maximum(stds, 0.1) ** 2))).mean()), 4)


def slope(labels: Array, answers: Array) -> float | None:
    """Fits the line of answers over labels; a slope below 1 means old people too young and children too old.

    Example:
        >>> slope(np.array([10.0, 20.0, 30.0]), np.array([20.0, 25.0, 30.0]))
        0.5
    """
    spread = float(labels.var())
    if spread == 0:
        return None
    return round(float(((labels - labels.mean()) * (answers - answers.mean())).mean() / spread), 4)


def baselines(a: Answers) -> dict[str, float]:
    """Computes the MAE of constant answers and of people.

    ``train_median``, ``own_median``: MAE of always answering the median of train or of these pictures. Where raters
    were asked: ``crowd_mean``, the MAE of their mean against real age; ``single_rater_estimate``, what one of them
    would have: estimated from their deviation as if their answers were normal, not measured.
    """
    figures = {
        "train_median": float(np.abs(a.labels - a.train_median).mean()),
        "own_median": float(np.abs(a.labels - np.median(a.labels)).mean()),
    }
    if a.label == "real" and np.isfinite(a.others).all():
        figures["crowd_mean"] = float(np.abs(a.others - a.labels).mean())
        if np.isfinite(a.other_stds).all():
            figures["single_rater_estimate"] = float(_folded_normal(a.others - a.labels, a.other_stds).mean())
    if a.label == "apparent" and np.isfinite(a.label_stds).all():
        figures["single_rater_estimate"] = float(_folded_normal(np.zeros_like(a.labels), a.label_stds).mean())
    return {k: round(v, 4) for k, v in figures.items()}


def _folded_normal(mean: Array, std: Array) -> Array:
    """Mean size of a normal variable (Leone, Nelson and Nottingham, Technometrics 1961)."""
    std = np.maximum(std, 1e-9)
    tail = np.array([math.erf(m / (s * math.sqrt(2))) for m, s in zip(mean.tolist(), std.tolist(), strict=True)])
    return std * math.sqrt(2 / math.pi) * np.exp(-(mean**2) / (2 * std**2)) + mean * tail


def uncertainty(a: Answers) -> dict[str, float]:
    """Measures how often the label lies within one and two of the model's own deviations, in percent of found faces.

    A normal error would lie there in 68.3 and 95.4 %.
    """
    found = a.found
    if not found.any() or not np.isfinite(a.stds[found]).all():
        return {}
    ratio = np.abs(a.errors[found]) / np.maximum(a.stds[found], 1e-6)
    return {
        "within_1_std_percent": round(100 * float((ratio <= 1).mean()), 2),
        "within_2_std_percent": round(100 * float((ratio <= 2).mean()), 2),
        "mean_std": round(float(a.stds[found].mean()), 4),
    }


def threshold(a: Answers, years: int) -> dict[str, float | int | None]:
    """Measures how many people are put on the wrong side of an age, in percent of those on the right side.

    ``false_adult_percent``: of the younger, those answered as of that age or older; ``false_minor_percent``: of the
    others, those answered as younger.
    """
    younger = a.labels < years
    taken_for_younger = a.answers < years

    def percent(of: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_]) -> float | None:
        return round(100 * float(wrong[of].mean()), 2) if of.any() else None

    return {
        "younger": int(younger.sum()),
        "older": int((~younger).sum()),
        "false_adult_percent": percent(younger, ~taken_for_younger),
        "false_minor_percent": percent(~younger, taken_for_younger),
    }


def decades(years: Array) -> npt.NDArray[np.str_]:
    """Names the decade of each age: ``0-9``, ``10-19`` and so on; 80 and above are one group."""
    lower = np.clip(np.floor(years / 10).astype(int) * 10, 0, 80)
    return np.array(["80+" if low == 80 else f"{low}-{low + 9}" for low in lower.tolist()])


def by_group(values: npt.NDArray[np.str_], a: Answers, interval: Bootstrap) -> dict[str, dict[str, Any]]:
    """Computes MAE, bias and the coverage of the deviation of each group; pictures of an unknown group are left out.

    Groups of fewer than 20 pictures are given with their number alone.
    """
    figures: dict[str, dict[str, Any]] = {}
    names = sorted({v for v in values.tolist() if v}, key=lambda v: (not v[:1].isdigit(), _leading_number(v), v))
    for name in names:
        chosen = values == name
        n = int(chosen.sum())
        figures[name] = {"n": n}
        if n >= FEWEST:
            errors = a.errors[chosen]
            figures[name] |= {
                "mae": round(float(np.abs(errors).mean()), 4),
                "mae_interval_95": interval.of_mean(np.abs(a.errors), chosen),
                "bias": round(float(errors.mean()), 4),
                "detection_rate_percent": round(100 * float(a.found[chosen].mean()), 2),
                **uncertainty(a.rows(chosen)),
            }
    return figures


def children(a: Answers) -> dict[str, float | int]:
    """Computes the MAE of children below 13 and its ratio to that of all; only ``n`` where there are fewer than 20."""
    chosen = a.labels < CHILDREN_BELOW_YEARS
    figures: dict[str, float | int] = {"n": int(chosen.sum())}
    if figures["n"] >= FEWEST:
        mae, overall = float(np.abs(a.errors[chosen]).mean()), float(np.abs(a.errors).mean())
        figures |= {"mae": round(mae, 4), "of_overall": round(mae / overall, 4) if overall else 1.0}
    return figures


def worst_group(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Returns the group with the largest MAE of several attributes, or None where no group is large enough."""
    known = [
        {"attribute": name, "group": group, "n": f["n"], "mae": f["mae"]}
        for name, of_name in groups.items()
        for group, f in of_name.items()
        if "mae" in f
    ]
    return max(known, key=lambda g: g["mae"], default=None)


def _leading_number(text: str) -> int:
    digits = text.rstrip("+").partition("-")[0]
    return int(digits) if digits.isdigit() else 0
