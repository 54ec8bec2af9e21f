"""Leave one set out: how a network does on faces of a kind that it did not learn.

The network stays frozen, so that the whole table takes minutes on two cores: its features of all train parts are
computed once, and for each data set a head is learned on those of all others. Nothing of ``valid`` is looked at.

The deviation is measured likewise. A head that is learned on half of the people of all others is calibrated on their
other half, whom it has not seen, and measured on the set that was left out.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ageinfer.crop.spec import CropSpec
from agetrain.crops.cache import open_crops
from agetrain.datasets.opening import open_dataset
from agetrain.datasets.own import Reading
from agetrain.errors import UsageError
from agetrain.evaluation.calibrating import in_first_half
from agetrain.evaluation.coverage import BANDS, BY_AGE, cells, coverage
from agetrain.evaluation.figures import decades
from agetrain.evaluation.metrics import distances, measure_intervals
from agetrain.network.agenet import AgeNet
from agetrain.network.calibration import FEWEST_FACES, fit_calibration
from agetrain.network.checkpoint import Checkpoint
from agetrain.network.mobilenet_face import NAME
from agetrain.network.weights import load_imagenet_weights
from agetrain.training.frozen import Frozen, frozen_features, learn_head

_BINS = np.arange(101)
START_CROP = CropSpec(size=224, margin=0.15, kind="box")  # that the face network was made for


def leave_one_out(
    model: Path, datasets: Sequence[str], cache: Path, *, start_weight: float = 0.3, age_balance: float = 0.0,
    reading: Reading | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Learns a head for each data set on all others, and measures it on that one.

    Args:
        model: a checkpoint, or the file of weights that the face network starts from.
        datasets: two or more, each as `agetrain.datasets.opening.open_dataset` takes it; their train parts are used.
        cache: folder of crops and features.
        start_weight: share of the network's own answers in what is learned.
        age_balance: how far rare ages count more, see `agetrain.training.losses.weights_by_age`.
        reading: how own data is read.

    Returns:
        Two records for each data set, of the head and of the network's own answers: `figures`, and `covered` as
        ``coverage``.

    Raises:
        UsageError: there are fewer than two data sets, or one of them has no train part.
    """
    reading = replace(reading or Reading(), cache=cache)
    opened = [open_dataset(text, reading=reading)[0] for text in datasets]
    names = [dataset.name for dataset in opened]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UsageError("--leave-one-out takes two or more data sets, each of them once")
    network, crop = open_start(model)
    parts: dict[str, Frozen] = {}
    first: dict[str, np.ndarray] = {}
    for dataset in opened:
        samples = dataset.parts["train"]
        if not samples:
            raise UsageError(f"--dataset {dataset.name}: it has no train part and is only measured on; leave it out")
        crops = open_crops(samples, crop, cache, dataset.name)
        parts[dataset.name] = frozen_features(network, crops, cache, f"{dataset.name}: features")
        kept = [s for s, found in zip(samples, crops.found.tolist(), strict=True) if found]
        first[dataset.name] = np.array([in_first_half(s) for s in kept], bool)
    learn = partial(learn_head, teacher_weight=start_weight, age_balance=age_balance)
    records = []
    for name, part in parts.items():
        others = {key: other for key, other in parts.items() if key != name}
        head = learn(list(others.values()))
        halves = [[other.rows(first[key] == known) for key, other in others.items()] for known in (True, False)]
        measured = None
        if sum(len(other.ages) for other in halves[0]) >= FEWEST_FACES:
            half = learn(halves[0])
            measured = covered([half.answered(other) for other in halves[1]], half.answered(part))
        for learned, ages, of_deviation in (
            ("all others", head.ages(part.features), measured),
            ("nothing", part.answers @ _BINS, covered(list(others.values()), part)),
        ):
            record = {
                "model": model.name, "left_out": name, "learned": learned,
                "start_weight": start_weight, "age_balance": age_balance,
                **figures(ages, part), "coverage": of_deviation,
            }  # fmt: skip
            records.append(record)
    return records


def open_start(path: Path) -> tuple[AgeNet, CropSpec]:
    """Opens a checkpoint, or the file of weights that the face network starts from, with its crop.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        UsageError: its head has no distribution.
        WeightsError: it is neither.
    """
    network = AgeNet(NAME, "distribution")
    if path.suffix == ".onnx":
        raise UsageError(f"{path}: a model file has no features to learn a head on; give its checkpoint")
    if path.is_file() and "format" not in torch.load(path, map_location="cpu", weights_only=True):
        load_imagenet_weights(network, path)
        return network.eval(), START_CROP
    checkpoint = Checkpoint.load(path)
    if checkpoint.head != "distribution":
        raise UsageError(f"{path}: its head has no distribution; give a checkpoint of --head distribution")
    return checkpoint.network(), checkpoint.crop


def figures(ages: np.ndarray, part: Frozen) -> dict[str, Any]:
    """Computes errors over faces that were found, in years; groups of fewer than 20 faces are left out.

    Returns:
        ``mae``; ``mae_of_decades``, the mean of the decades' errors, in which each decade counts alike; ``bias`` and
        ``bias_by_decade``; MAE and bias of ``10-19`` and of ``60+`` by themselves. Of ages that are only known as
        intervals ``intervals``, apart from these.
    """
    exact = np.isnan(part.lows)
    found: dict[str, Any] = {"n": int(exact.sum()), "mae": None, "mae_of_decades": None, "bias": None,
                             "bias_by_decade": {}, "10-19": None, "60+": None}  # fmt: skip
    if exact.any():
        found |= _of_exact(ages[exact], part.ages[exact])
    if not exact.all():
        lows, highs = part.lows[~exact], part.highs[~exact]
        everywhere = np.ones(len(lows), bool)
        measured = measure_intervals(ages[~exact], lows, highs, everywhere, float(np.median(part.ages)))
        bias = round(float(distances(ages[~exact], lows, highs).mean()), 3)
        found["intervals"] = {**measured.to_dict(), "bias": bias}
    return found


def _of_exact(ages: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    errors = ages.astype(np.float64) - labels
    groups = {name: decades(labels.astype(float)) == name for name in np.unique(decades(labels.astype(float))).tolist()}
    groups = {name: chosen for name, chosen in groups.items() if chosen.sum() >= 20}
    old, teens = labels >= 60, (labels >= 10) & (labels < 20)

    def of(chosen: np.ndarray) -> dict[str, float] | None:
        if chosen.sum() < 20:
            return None
        return {"mae": round(float(np.abs(errors[chosen]).mean()), 3), "bias": round(float(errors[chosen].mean()), 3)}

    return {
        "mae": round(float(np.abs(errors).mean()), 3),
        "mae_of_decades": round(float(np.mean([np.abs(errors[c]).mean() for c in groups.values()])), 3)
        if groups
        else None,
        "bias": round(float(errors.mean()), 3),
        "bias_by_decade": {name: round(float(errors[c].mean()), 3) for name, c in groups.items()},
        "10-19": of(teens),
        "60+": of(old),
    }


def covered(known: Sequence[Frozen], part: Frozen) -> dict[str, Any] | None:
    """Calibrates the deviation of ``answers`` on some faces and measures it on others, by exact ages alone.

    Args:
        known: the faces that it is calibrated on, of each data set.
        part: the faces that it is measured on.

    Returns:
        See `agetrain.evaluation.coverage.coverage`; None where there are fewer than 20 faces to calibrate on.
    """
    ages, stds, labels = (np.concatenate(values) for values in zip(*map(_exact, known), strict=True))
    if len(ages) < FEWEST_FACES:
        return None
    found = fit_calibration(ages - labels, stds, ages)
    ages, stds, labels = _exact(part)
    return coverage(ages, labels, stds, found.apply(stds, ages))


def _exact(part: Frozen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answered ages, their deviations and the labels of the faces whose age is no interval."""
    exact = np.isnan(part.lows)
    answers = part.answers[exact].astype(float)
    ages = answers @ _BINS
    variances = (answers * (_BINS - ages[:, None]) ** 2).sum(axis=1)
    return ages, np.sqrt(variances), part.ages[exact].astype(float)


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """Makes one table of all records."""
    lines = [
        "| left out | learned | n | MAE | mean over decades | bias | 10 to 19: MAE, bias | 60+: MAE, bias | "
        "bias by decade |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in records:
        groups = [f"{r[g]['mae']:.2f}, {r[g]['bias']:+.2f}" if r[g] else "-" for g in ("10-19", "60+")]
        by_decade = " ".join(f"{name}: {bias:+.1f}" for name, bias in r["bias_by_decade"].items())
        decades_mae = "-" if r["mae_of_decades"] is None else f"{r['mae_of_decades']:.2f}"
        mae, bias = (
            "-" if r[name] is None else format(r[name], form) for name, form in (("mae", ".2f"), ("bias", "+.2f"))
        )
        lines.append(
            f"| {r['left_out']} | {r['learned']} | {r['n']} | {mae} | {decades_mae} | {bias} | "
            f"{groups[0]} | {groups[1]} | {by_decade} |"
        )
    known = [r for r in records if "intervals" in r]
    if known:
        lines += ["", "| left out | learned | intervals | distance | inside | bias |", "|---|---|---|---|---|---|"]
    for r in known:
        i = r["intervals"]
        lines.append(
            f"| {r['left_out']} | {r['learned']} | {i['n']} | {i['interval_error']:.2f} | "
            f"{i['inside_percent']:.1f} % | {i['bias']:+.2f} |"
        )
    return "\n".join([*lines, *_covered_lines(records)]) + "\n"


def _covered_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    known = [r for r in records if r["coverage"] and r["coverage"]["n"]]
    if not known:
        return []
    lines = [
        "", "Labels within one deviation, percent: before calibration, after it (faces). A normal error: 68.", "",
        f"| left out | learned | by | {' | '.join(BANDS)} |", "|---" * (3 + len(BANDS)) + "|",
    ]  # fmt: skip
    for r in known:
        for by, title in BY_AGE.items():
            lines.append(f"| {r['left_out']} | {r['learned']} | {title} | {' | '.join(cells(r['coverage'], by))} |")
    return lines
