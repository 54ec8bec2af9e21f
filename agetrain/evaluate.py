"""``python -m agetrain.evaluate MODEL --dataset NAME``: all figures of a checkpoint or a model file on a data set.

Every picture goes the way of the runtime: detector, the face nearest the centre, the model's own crop. A picture
without a face is answered with the training median and counts.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.cropspec import NO_DETECTOR
from ageinfer.types import Box, Image
from agetrain import evaluation, evaluation_report, robustness
from agetrain.cache import picture_digest
from agetrain.command import add_debug, guarded
from agetrain.datasets import DATASETS, Dataset, Sample, load_dataset
from agetrain.errors import DatasetError, UsageError
from agetrain.evaluation import Answers
from agetrain.files import replacing
from agetrain.models import Model, open_model
from agetrain.progress import progress
from agetrain.report import write_json, write_text
from agetrain.splits import PARTS, with_csvs, with_split_file

log = logging.getLogger("agetrain")
_CHUNK = 256
DETECTORS = ("yunet", "dlib", "none")
OTHER_DATA = "other data"
THIS_SPLIT = "train part of this split"
OTHER_SPLIT = "another split or label of this data set"


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.evaluate",
        description="Measure age models on data sets, picture file in, detector and crop included.",
        epilog="exit status: 0 done, 1 internal error, 2 wrong options, 3 data set, 5 checkpoint, 6 missing package or "
        "a model that the runtime refuses, 130 interrupted",
    )
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL",
        help="a checkpoint (best.pth) or a model file (*.onnx); several that differ in their seed: mean and sd as well",
    )  # fmt: skip
    add_part(parser)
    parser.add_argument("--label", choices=("real", "apparent"), help="default: what the model answers")
    parser.add_argument(
        "--detector", choices=DETECTORS,
        help="none: the whole picture is taken for the face (default: yunet, none for a model of whole pictures)",
    )  # fmt: skip
    parser.add_argument(
        "--box-margin", type=float, default=0.4, metavar="M",
        help="for a model of whole pictures with a detector: its picture is the box and so much of its longer side "
        "round it (default 0.4, as in APPA-REAL's face pictures)",
    )  # fmt: skip
    parser.add_argument("--no-landmarks", action="store_true", help="crop by boxes alone, as for a detector without")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write evaluation.json, .md and .png there")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="write the answers, to be learned from (.npz)")
    parser.add_argument(
        "--robustness", type=int, nargs="?", const=500, default=0, metavar="N",
        help="also under other margins, blur, JPEG, size, turn and light, on N pictures (default 500)",
    )  # fmt: skip
    parser.add_argument(
        "--leave-one-out", action="store_true",
        help="instead: for each data set, learn a head on the frozen network's features of the train parts of all "
        "others, and measure it on the train part of that one; a checkpoint, or the start file of the face network",
    )  # fmt: skip
    parser.add_argument(
        "--start-weight", type=float, default=0.3, metavar="W", help="of the network's own answers then"
    )
    parser.add_argument("--age-balance", type=float, default=0.0, metavar="P", help="how far rare ages count more then")
    parser.add_argument("--cache", type=Path, default=Path("cache"), metavar="DIR", help="of crops and features then")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default 2000)")
    parser.add_argument("--device", default="cpu", help="of checkpoints: cpu, cuda")
    add_debug(parser)
    return parser


def add_part(parser: argparse.ArgumentParser) -> None:
    """The options that say which pictures; see `open_part`."""
    parser.add_argument(
        "--dataset", action="append", required=True, metavar="NAME[=DIR]",
        help=f"one of: {', '.join(DATASETS)}; may be repeated",
    )  # fmt: skip
    parser.add_argument("--part", choices=PARTS, default="valid", help="default: valid")
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    parser.add_argument("--split-csv", type=Path, nargs="+", metavar="CSV", help="the original work's lists")


def open_detector(name: str) -> Any:
    """The runtime's detector of that name; ``none`` takes the whole picture for the face."""
    from ageinfer.detect import WholePicture, open_detector

    return WholePicture() if name == "none" else open_detector(name)


def answers_of(
    model: Model, samples: Sequence[Sample], detector: Any, label: str, *,
    vary: Callable[[Image], Image] | None = None, landmarks: bool = True, box_margin: float = 0.0,
    title: str = "evaluating",
) -> Answers:  # fmt: skip
    """Asks a model about pictures, the way the runtime does.

    Args:
        model: to be asked.
        samples: the pictures, with ``age_years`` of the label.
        detector: of ageinfer.
        label: ``real`` or ``apparent``.
        vary: changes a BGR picture before the face is looked for.
        landmarks: whether the crop may use them.
        box_margin: what is added to each side of a box first, as a share of its longer side.
        title: of the progress bar.

    Raises:
        DatasetError: a picture cannot be read.
    """
    from ageinfer.detect import detect_closely
    from ageinfer.errors import SourceError
    from ageinfer.faces import central_face, crop_face
    from ageinfer.sources import read_picture

    n, size = len(samples), model.crop.size
    estimates, stds = np.full(n, np.nan), np.full(n, np.nan)
    crops = np.empty((_CHUNK, size, size, 3), np.uint8)
    places: list[int] = []
    for i, sample in enumerate(progress(samples, title, "img")):
        try:
            image = read_picture(sample.path)
        except SourceError as error:
            raise DatasetError(str(error)) from error
        image = vary(image) if vary else image
        faces = detect_closely(detector, image)
        central = central_face([face.box for face in faces], (image.shape[1], image.shape[0]))
        if central is not None:
            points = faces[central].landmarks if landmarks else None
            crops[len(places)] = crop_face(image, _grown(faces[central].box, box_margin), model.crop, points)
            places.append(i)
        if places and (len(places) == _CHUNK or i == n - 1):
            estimates[places], stds[places] = model.estimate(crops[: len(places)])
            places = []
    if places:
        estimates[places], stds[places] = model.estimate(crops[: len(places)])
    return evaluation.answers_from(samples, estimates, stds, label, model.train_median)


def _grown(box: Box, margin: float) -> Box:
    """The square round a box's centre with so much more on each side; the box itself for 0."""
    if margin == 0:
        return box
    x, y, w, h = box
    side = max(w, h) * (1 + 2 * margin)
    return (x + w / 2 - side / 2, y + h / 2 - side / 2, side, side)


def open_part(options: argparse.Namespace, argument: str, label: str) -> tuple[Dataset, tuple[Sample, ...]]:
    """The samples of the part that is asked for.

    Raises:
        DatasetError: it has no such part, or nothing is in it.
    """
    name, _, folder = argument.partition("=")
    dataset, _ = load_dataset(name, folder or None, label)
    if options.split_csv:
        dataset = with_csvs(dataset, options.split_csv)
    elif options.split:
        dataset = with_split_file(dataset, options.split)
    if options.part not in dataset.parts:
        raise DatasetError(f"{name}: has no part {options.part}; it has {', '.join(dataset.parts)}")
    if not dataset.parts[options.part]:
        raise DatasetError(f"{name}: its part {options.part} is empty; make another split (python -m agetrain.splits)")
    return dataset, dataset.parts[options.part]


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures every model on every data set; prints a line for each and returns the records."""
    if options.leave_one_out:
        from agetrain import leave_one_out

        return leave_one_out.run(options)
    if len(options.dataset) > 1 and (options.split or options.split_csv):
        raise UsageError("--split and --split-csv serve one data set")
    if options.split and options.split_csv:
        raise UsageError("give one of --split and --split-csv")
    if options.resamples < 1 or options.robustness < 0:
        raise UsageError("--resamples and --robustness are numbers of at least 1")
    if not -0.4 <= options.box_margin <= 4:
        raise UsageError(f"--box-margin {options.box_margin}: use -0.4 to 4")
    if options.predictions and len(options.models) > 1:
        raise UsageError("--predictions takes the answers of one model")
    models = [open_model(path, options.device) for path in options.models]
    landmarks = not options.no_landmarks
    records, told = [], []
    for argument in options.dataset:
        of_models = []
        for model, path in zip(models, options.models, strict=True):
            label = options.label or model.label
            dataset, samples = open_part(options, argument, label)
            of_wholes = model.crop.kind == "resize"
            detector = open_detector(options.detector or ("none" if of_wholes else "yunet"))
            box_margin = options.box_margin if of_wholes and detector.identifier != NO_DETECTOR else 0.0
            answers = answers_of(
                model, samples, detector, label, landmarks=landmarks, box_margin=box_margin, title=dataset.name
            )
            record = {
                "model": model.name, "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "answers": model.label, "dataset": dataset.name, "part": options.part, "label": label,
                "split": dataset.split, "split_sha256": dataset.split_sha256(),
                "detector": detector.identifier, "crop": model.crop.to_dict(),
                "seen_in_training": seen_in_training(model, dataset),
                **evaluation.evaluate(answers, resamples=options.resamples),
            }  # fmt: skip
            if options.robustness:
                record["robustness"] = robustness.sweep(
                    model, samples, detector, label, options.robustness, landmarks=landmarks, box_margin=box_margin
                )
            told.append((samples, answers))
            of_models.append(record)
            print(evaluation_report.line(record))
        if len(models) > 1:
            seeds = evaluation.over_seeds(of_models, lambda r: r["mae"])
            print(f"{argument.partition('=')[0]}: {seeds['n']} models, MAE {seeds['mean']:.2f}, sd {seeds['sd']:.2f}")
            for record in of_models:
                record["over_models"] = seeds
        records += of_models
    if options.predictions:
        _write_predictions(options.predictions, told)
    if options.out:
        write_json(options.out / "evaluation.json", {"evaluations": records})
        write_text(options.out / "evaluation.md", evaluation_report.markdown(records))
        evaluation_report.draw(options.out / "evaluation.png", records, [answers for _, answers in told])
        print(f"{options.out}: evaluation.json, evaluation.md, evaluation.png")
    return records


def seen_in_training(model: Model, dataset: Dataset) -> str:
    """Whether the model learned from this data set, and whether by this split: one of three sentences."""
    hashes = [d.get("split_sha256") for d in model.data if d["dataset"] == dataset.name]
    if not hashes:
        return OTHER_DATA
    return THIS_SPLIT if dataset.split_sha256() in hashes else OTHER_SPLIT


def _write_predictions(path: Path, told: Sequence[tuple[Sequence[Sample], Answers]]) -> None:
    """Answers by the hash of the picture's file, for `agetrain.data.Teacher`."""
    digests, ages, stds = [], [], []
    for samples, answers in told:
        for i in np.flatnonzero(answers.found).tolist():
            digests.append(picture_digest(samples[i].path)[:8])
            ages.append(answers.estimates[i])
            stds.append(answers.stds[i])
    try:
        with replacing(path) as unfinished, unfinished.open("wb") as stream:
            np.savez_compressed(
                stream, digests=np.frombuffer(b"".join(digests), np.uint64), ages=np.array(ages, np.float16),
                stds=np.array(stds, np.float16),
            )  # fmt: skip
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return guarded("agetrain.evaluate", run, build_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
