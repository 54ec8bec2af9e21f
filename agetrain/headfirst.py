"""``python -m agetrain.headfirst START --dataset ... -o FILE``: the head alone, as a start for all layers.

Whoever trains all layers from a bad head wrecks what the start knew before the head is any good (Kumar et al., ICLR
2022). So hidden layer and head are learned first, on features that are computed once.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ageinfer.console import guarded
from ageinfer.crop.spec import CropSpec
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain._files import replacing
from agetrain.crops.cache import open_crops
from agetrain.crops.training_set import split_selection
from agetrain.datasets.opening import open_dataset
from agetrain.errors import OutputError, UsageError
from agetrain.evaluation.leave_one_out import START_CROP
from agetrain.evaluation.metrics import figures_of_part, in_words
from agetrain.network.agenet import AgeNet
from agetrain.network.calibration import Calibration
from agetrain.network.checkpoint import Checkpoint, environment
from agetrain.network.mobilenet_face import FILE, NAME, FaceMobileNet, put_normalisation_back
from agetrain.network.weights import load_imagenet_weights
from agetrain.recipe import Recipe
from agetrain.training.frozen import Frozen, frozen_features, learn_head
from agetrain.training.teachers import Teacher

_STATISTICS_FACES = 640
_BINS = np.arange(101)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.headfirst",
        description="Learn hidden layer and head of the face network while all before them stays frozen: a start for "
        "python -m agetrain --weights, in minutes. Of a checkpoint that was trained so: its head anew, on what its "
        "other layers have become.",
        epilog=status_table(*DATA_STATUSES, ExitStatus.DIVERGED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("start", type=Path, metavar="START", help=f"{FILE}, or a checkpoint of the face network")
    parser.add_argument(
        "--dataset",
        action="append",
        required=True,
        metavar=DATASET_METAVAR,
        help=f"{DATASET_HELP}; its train part is used; may be repeated",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="answers to be learned beside the labels (.npz); default: START's own",
    )
    parser.add_argument("--teacher-weight", type=float, default=0.3, metavar="W", help="their share (default 0.3)")
    parser.add_argument("--age-balance", type=float, default=0.0, metavar="P", help="how far rare ages count more")
    parser.add_argument(
        "--size", type=int, metavar="PX", help=f"side of the faces (default: that of START; {FILE}: {START_CROP.size})"
    )
    parser.add_argument("--selection-share", type=float, default=0.05, help="of train, left out as a run leaves it out")
    parser.add_argument("--seed", type=int, default=0, help="of order and dropout")
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help="of crops and features")
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="also write START's own answers, for --teacher"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the checkpoint to be written")
    add_reading(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> None:
    """Does what the options say."""
    network, crop, training = opened(options.start)
    if options.size is not None:
        try:
            crop = replace(crop, size=options.size)
        except ValueError as error:
            raise UsageError(f"--size {options.size}: {error}") from error
    teacher = Teacher.load([options.teacher]) if options.teacher else None
    parts: list[Frozen] = []
    held: list[Frozen] = []
    facts: list[dict[str, Any]] = []
    answered: list[tuple[np.ndarray, np.ndarray]] = []
    some: list[np.ndarray] = []
    for text in options.dataset:
        dataset, _ = open_dataset(text, reading=reading_of(options))
        name, samples = dataset.name, dataset.parts["train"]
        if not samples:
            raise UsageError(f"--dataset {name}: it has no train part and is only measured on; leave it out")
        crops = open_crops(samples, crop, options.cache, name)
        of_all = frozen_features(network, crops, options.cache, f"{name}: features")
        found = np.flatnonzero(crops.found)
        answered.append((crops.digests[found], of_all.answers))
        if teacher:
            of_all = replace(of_all, answers=as_distributions(*teacher.lookup(crops.digests[found]), of_all.answers))
        learn, select = split_selection(samples, options.selection_share, 0)
        place = np.cumsum(crops.found) - 1
        parts.append(of_all.rows(place[[i for i in learn if crops.found[i]]]))
        held.append(of_all.rows(place[[i for i in select if crops.found[i]]]))
        step = max(1, len(found) * len(options.dataset) // _STATISTICS_FACES)
        some.append(crops.crops[found[::step]])
        facts.append({
            "dataset": name, "label": dataset.label, "licence": dataset.licence, "page": dataset.page, "part": "train",
            "n": len(parts[-1].ages), "split": dataset.split, "split_sha256": dataset.split_sha256(),
        })  # fmt: skip
    head = learn_head(
        parts, teacher_weight=options.teacher_weight, age_balance=options.age_balance, seed=options.seed
    )  # fmt: skip
    head.put_into(network)
    if "recipe" not in training:  # of the start file, whose normalisation is folded
        pixels = torch.from_numpy(np.concatenate(some)).permute(0, 3, 1, 2)
        normalised = ((piece.float() - network.mean) / network.std for piece in torch.split(pixels, 32))
        put_normalisation_back(cast(FaceMobileNet, network.backbone), normalised)
    median = float(np.median(np.concatenate([part.ages for part in parts])))
    metrics: list[dict[str, Any]] = []
    for fact, part in zip(facts, held, strict=True):
        everywhere = np.ones(len(part.ages), bool)
        of_part = figures_of_part(head.ages(part.features), part.ages, part.lows, part.highs, everywhere, median)
        metrics.append({"dataset": fact["dataset"], "label": "real", "part": "selection", **of_part})
        print(f"{fact['dataset']}: {in_words(of_part)}, on faces that were left out of train")
    training = {
        "recipe": Recipe(backbone=NAME, crop="box", size=crop.size, margin=crop.margin).to_dict(), **training,
        "data": facts, "train_median": median,
        "head_alone": {
            "teacher": options.teacher.name if options.teacher else "its own answers",
            "teacher_weight": options.teacher_weight, "age_balance": options.age_balance,
        }, **environment(),
    }  # fmt: skip
    Checkpoint.of_network(network.eval(), crop, "real", 0.0, training, metrics).save(options.output)
    if options.predictions:
        write_predictions(options.predictions, answered)
    print(f"{options.output}: next: python -m agetrain --backbone {NAME} --weights {options.output} ...")


def opened(path: Path) -> tuple[AgeNet, CropSpec, dict[str, Any]]:
    """Opens the network, with its crop and what is known of its training.

    Raises:
        UsageError: it is of another backbone.
        CheckpointError: the checkpoint cannot be used.
        WeightsError: it is neither a checkpoint nor the start file.
    """
    if path.is_file() and "format" in torch.load(path, map_location="cpu", weights_only=True):
        known = Checkpoint.load(path)
        if known.backbone != NAME or known.head != "distribution":
            raise UsageError(f"{path}: of {known.backbone}/{known.head}; give one of {NAME}/distribution")
        network = replace(known, mirrored=False, calibration=Calibration()).network()
        return network, known.crop, dict(known.training)
    network = AgeNet(NAME, "distribution").eval()
    start = load_imagenet_weights(network, path)
    return network, START_CROP, {"start": start.source, "start_terms": start.terms}


def as_distributions(ages: np.ndarray, stds: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Turns answers into distributions over 0 to 100 years, float32 ``[n, 101]``; ``otherwise`` where there is none."""
    widths = np.maximum(stds, 1.0)[:, None]
    powers = np.exp(-0.5 * ((_BINS - ages[:, None]) / widths) ** 2)
    with np.errstate(invalid="ignore"):
        distributions = powers / powers.sum(axis=1, keepdims=True)
    return np.where(np.isfinite(ages)[:, None], distributions, otherwise).astype(np.float32)


def write_predictions(path: Path, answered: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes answers by the hash of the picture's file, for `agetrain.training.teachers.Teacher`.

    Raises:
        OutputError: the file cannot be written.
    """
    digests = np.concatenate([d for d, _ in answered])
    probability = np.concatenate([a for _, a in answered]).astype(np.float64)
    probability /= probability.sum(axis=1, keepdims=True)
    ages = probability @ _BINS
    stds = np.sqrt((probability * (_BINS - ages[:, None]) ** 2).sum(axis=1))
    try:
        with replacing(path) as unfinished, unfinished.open("wb") as stream:
            np.savez_compressed(stream, digests=digests, ages=ages.astype(np.float16), stds=stds.astype(np.float16))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded("agetrain.headfirst", lambda: run(options), debug=options.debug, level=logging.INFO, extra="train")


if __name__ == "__main__":
    sys.exit(main())
