"""What a model answers to the pictures of a data set, by the same steps as in the runtime.

Detector, the face nearest the centre, the model's own crop. A picture without a face is answered with the training
median and counts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.types import Image
from agetrain._files import replacing
from agetrain._progress import progress
from agetrain.crops.cache import picture_digest
from agetrain.crops.labelled_face import crop_labelled_face, read_labelled_picture
from agetrain.datasets import Dataset, Sample
from agetrain.datasets.parts import open_dataset
from agetrain.errors import DatasetError
from agetrain.evaluation.figures import Answers, answers_from
from agetrain.evaluation.models import Model

_CHUNK = 256
DETECTORS = ("yunet", "dlib", "none")
OTHER_DATA = "other data"
THIS_SPLIT = "train part of this split"
OTHER_SPLIT = "another split or label of this data set"


def open_detector(name: str) -> Any:
    """Opens the runtime's detector of that name; ``none`` takes the whole picture for the face."""
    from ageinfer.detect import WholePicture, open_detector

    return WholePicture() if name == "none" else open_detector(name)


def answers_of(
    model: Model, samples: Sequence[Sample], detector: Any, label: str, *,
    vary: Callable[[Image], Image] | None = None, landmarks: bool = True, box_margin: float = 0.0,
    title: str = "evaluating",
) -> Answers:  # fmt: skip
    """Asks a model about pictures, by the same steps as the runtime.

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
    n, size = len(samples), model.crop.size
    estimates, stds = np.full(n, np.nan), np.full(n, np.nan)
    crops = np.empty((_CHUNK, size, size, 3), np.uint8)
    places: list[int] = []
    for i, sample in enumerate(progress(samples, title, "img")):
        image = read_labelled_picture(sample.path)
        image = vary(image) if vary else image
        crop = crop_labelled_face(detector, image, model.crop, landmarks=landmarks, box_margin=box_margin)
        if crop is not None:
            crops[len(places)] = crop
            places.append(i)
        if places and (len(places) == _CHUNK or i == n - 1):
            estimates[places], stds[places] = model.estimate(crops[: len(places)])
            places = []
    if places:
        estimates[places], stds[places] = model.estimate(crops[: len(places)])
    return answers_from(samples, estimates, stds, label, model.train_median)


def open_part(
    dataset: str, part: str, label: str, *, split: Path | None = None, split_csv: Sequence[Path] = ()
) -> tuple[Dataset, tuple[Sample, ...]]:
    """Opens one part of a data set.

    Args:
        dataset: ``NAME`` or ``NAME=DIR``.
        part: ``train``, ``valid`` or ``test``.
        label: ``real`` or ``apparent`` age.
        split: see `agetrain.datasets.parts.open_dataset`.
        split_csv: likewise.

    Returns:
        The data set, and the samples of the part.

    Raises:
        DatasetError: it has no such part, or nothing is in it.
    """
    opened, _ = open_dataset(dataset, label, split=split, split_csv=split_csv)
    if part not in opened.parts:
        raise DatasetError(f"{opened.name}: has no part {part}; it has {', '.join(opened.parts)}")
    if not opened.parts[part]:
        raise DatasetError(f"{opened.name}: its part {part} is empty; make another split (python -m agetrain.splits)")
    return opened, opened.parts[part]


def seen_in_training(model: Model, dataset: Dataset) -> str:
    """Says whether the model learned from this data set, and whether by this split."""
    hashes = [d.get("split_sha256") for d in model.data if d["dataset"] == dataset.name]
    if not hashes:
        return OTHER_DATA
    return THIS_SPLIT if dataset.split_sha256() in hashes else OTHER_SPLIT


def write_predictions(path: Path, told: Sequence[tuple[Sequence[Sample], Answers]]) -> None:
    """Writes answers by the hash of the picture's file, for `agetrain.training.teachers.Teacher`."""
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
