"""Leave one set out: how a network does on faces of a kind that it did not learn.

The network stays frozen, so that the whole table takes minutes on two cores: its features of all train parts are
computed once, and for each data set a head is learned on those of all others. Nothing of ``valid`` is looked at.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ageinfer.crop.spec import CropSpec
from agetrain.crops.cache import open_crops
from agetrain.datasets import load_dataset
from agetrain.datasets.parts import name_and_folder
from agetrain.errors import UsageError
from agetrain.evaluation.figures import decades
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.network.mobilenet_face import NAME
from agetrain.network.weights import load_imagenet_weights
from agetrain.training.frozen import Frozen, frozen_features, learn_head

_BINS = np.arange(101)
START_CROP = CropSpec(size=224, margin=0.15, kind="box")  # that the face network was made for


def leave_one_out(
    model: Path, datasets: Sequence[str], cache: Path, *, start_weight: float = 0.3, age_balance: float = 0.0
) -> list[dict[str, Any]]:
    """Learns a head for each data set on all others, and measures it on that one.

    Args:
        model: a checkpoint, or the file of weights that the face network starts from.
        datasets: two or more, each ``NAME`` or ``NAME=DIR``; their train parts are used.
        cache: folder of crops and features.
        start_weight: share of the network's own answers in what is learned.
        age_balance: how far rare ages count more, see `agetrain.training.losses.weights_by_age`.

    Returns:
        Two records for each data set: of the head, and of the network's own answers.

    Raises:
        UsageError: there are fewer than two data sets, or one of them has no train part.
    """
    pairs = [name_and_folder(text) for text in datasets]
    names = [name for name, _ in pairs]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UsageError("--leave-one-out takes two or more data sets, each of them once")
    network, crop = open_start(model)
    parts: dict[str, Frozen] = {}
    for name, folder in pairs:
        dataset, _ = load_dataset(name, folder)
        samples = dataset.parts["train"]
        if not samples:
            raise UsageError(f"--dataset {name}: it has no train part and is only measured on; leave it out")
        crops = open_crops(samples, crop, cache, name)
        parts[name] = frozen_features(network, crops, cache, f"{name}: features")
    records = []
    for name, part in parts.items():
        others = [other for key, other in parts.items() if key != name]
        head = learn_head(others, teacher_weight=start_weight, age_balance=age_balance)
        for learned, ages in (("all others", head.ages(part.features)), ("nothing", part.answers @ _BINS)):
            record = {
                "model": model.name, "left_out": name, "learned": learned,
                "start_weight": start_weight, "age_balance": age_balance,
                **figures(ages, part.ages),
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


def figures(ages: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Computes errors over faces that were found, in years; groups of fewer than 20 faces are left out.

    Returns:
        ``mae``; ``mae_of_decades``, the mean of the decades' errors, in which each decade counts alike; ``bias`` and
        ``bias_by_decade``; MAE and bias of ``10-19`` and of ``60+`` by themselves.
    """
    errors = ages.astype(np.float64) - labels
    groups = {name: decades(labels.astype(float)) == name for name in np.unique(decades(labels.astype(float))).tolist()}
    groups = {name: chosen for name, chosen in groups.items() if chosen.sum() >= 20}
    old, teens = labels >= 60, (labels >= 10) & (labels < 20)

    def of(chosen: np.ndarray) -> dict[str, float] | None:
        if chosen.sum() < 20:
            return None
        return {"mae": round(float(np.abs(errors[chosen]).mean()), 3), "bias": round(float(errors[chosen].mean()), 3)}

    return {
        "n": len(labels),
        "mae": round(float(np.abs(errors).mean()), 3),
        "mae_of_decades": round(float(np.mean([np.abs(errors[c]).mean() for c in groups.values()])), 3)
        if groups
        else None,
        "bias": round(float(errors.mean()), 3),
        "bias_by_decade": {name: round(float(errors[c].mean()), 3) for name, c in groups.items()},
        "10-19": of(teens),
        "60+": of(old),
    }


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
        lines.append(
            f"| {r['left_out']} | {r['learned']} | {r['n']} | {r['mae']:.2f} | {decades_mae} | {r['bias']:+.2f} | "
            f"{groups[0]} | {groups[1]} | {by_decade} |"
        )
    return "\n".join(lines) + "\n"
