"""What a model answers to the pictures of a data set, by the same steps as in the runtime.

Detector, the face nearest the centre, the model's own crop. A picture without a face is answered with the training
median and counts.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.types import Image
from agetrain._files import replacing
from agetrain._progress import progress
from agetrain.crops.cache import picture_digest
from agetrain.crops.labelled_face import crop_found_face, labelled_face, read_labelled_picture
from agetrain.data import Data, opened
from agetrain.datasets import Dataset, Sample
from agetrain.datasets.base import samples_of
from agetrain.datasets.own import Reading
from agetrain.errors import DatasetError
from agetrain.evaluation.figures import VIEW, Answers, answers_from
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
    title: str = "evaluating", unreadable: dict[Path, str] | None = None,
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
        unreadable: takes the reasons by the paths of pictures that cannot be read, which are answered as if they held
            no face; None refuses such pictures.

    Raises:
        DatasetError: a picture cannot be read.
    """
    from ageinfer.crop.quality import view_of

    n, size = len(samples), model.crop.size
    estimates, stds = np.full(n, np.nan), np.full(n, np.nan)
    views = {name: np.full(n, np.nan) for name in VIEW}
    crops = np.empty((_CHUNK, size, size, 3), np.uint8)
    places: list[int] = []
    for i, sample in enumerate(progress(samples, title, "img")):
        face = None
        try:
            image = read_labelled_picture(sample.path)
        except DatasetError as error:
            if unreadable is None:
                raise
            unreadable[sample.path] = str(error)
        else:
            image = vary(image) if vary else image
            face = labelled_face(detector, image)
        if face is not None:
            crop = crop_found_face(face, image, model.crop, landmarks=landmarks, box_margin=box_margin)
            crops[len(places)] = crop
            places.append(i)
            if model.crop.kind != "resize":  # of whole pictures nothing is known of a face
                view = view_of(crop, model.crop, face)
                for name, values in views.items():
                    values[i] = getattr(view, name)
        if places and (len(places) == _CHUNK or i == n - 1):
            estimates[places], stds[places] = model.estimate(crops[: len(places)])
            places = []
    if places:
        estimates[places], stds[places] = model.estimate(crops[: len(places)])
    return answers_from(samples, estimates, stds, label, model.train_median, views)


def open_part(
    data: str | Path | Data, part: str | None, label: str, *, learned: Collection[str] = (), split: Path | None = None,
    split_csv: Sequence[Path] = (), reading: Reading | None = None, problems: Path | None = None,
) -> tuple[Dataset, str, tuple[Sample, ...]]:  # fmt: skip
    """Opens one part of a data set.

    Args:
        data: what names a data set, see `agetrain.datasets.opening.open_dataset`, or `agetrain.data.Data`.
        part: ``train``, ``valid``, ``test`` or ``all``; None for ``valid``, but for ``all`` of own data that is in no
            parts and that the model did not learn from.
        label: ``real`` or ``apparent`` age.
        learned: names of the data sets that the model learned from.
        split: see `agetrain.datasets.opening.open_dataset`.
        split_csv: likewise.
        reading: likewise.
        problems: likewise.

    Returns:
        The data set, the name of the part, and its samples.

    Raises:
        DatasetError: it has no such part, or nothing is in it.
    """
    where: dict[str, Any] = {"split": split, "split_csv": split_csv, "reading": reading, "problems": problems}
    dataset, _ = opened(data, label, deal=False, **where)
    if part is None:
        part = "valid" if dataset.split or dataset.name in learned else "all"
    if part == "all":
        return dataset, part, tuple(samples_of(dataset))
    if not dataset.split:
        dataset, _ = opened(data, label, **where)
    if part not in dataset.parts:
        raise DatasetError(f"{dataset.name}: has no part {part}; it has {', '.join(dataset.parts)}")
    if not dataset.parts[part]:
        raise DatasetError(f"{dataset.name}: its part {part} is empty; make another split (python -m agetrain.splits)")
    return dataset, part, dataset.parts[part]


def seen_in_training(model: Model, dataset: Dataset) -> str:
    """Says whether the model learned from this data set, and whether by this split."""
    hashes = [d.get("split_sha256") for d in model.data if d["dataset"] == dataset.name]
    if not hashes:
        return OTHER_DATA
    known = {dataset.split_sha256(), dataset.earlier_split_sha256} - {None, ""}  # a file need not tell its split
    return THIS_SPLIT if known & set(hashes) else OTHER_SPLIT


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
