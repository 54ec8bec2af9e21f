"""Calibrating a checkpoint: its deviation is fitted on one half of the people and measured on the other."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agetrain.data import Data
from agetrain.datasets import Dataset, Sample
from agetrain.datasets.base import Problem
from agetrain.datasets.own import Reading
from agetrain.datasets.problems import check_problems
from agetrain.errors import CheckpointError, DatasetError
from agetrain.evaluation.answers import OTHER_DATA, THIS_SPLIT, answers_of, open_detector, open_part, seen_in_training
from agetrain.evaluation.coverage import coverage
from agetrain.evaluation.figures import Answers, Array
from agetrain.evaluation.models import Model, open_checkpoint
from agetrain.network.calibration import FEWEST_FACES, Calibration, fit_calibration
from agetrain.network.checkpoint import Checkpoint

log = logging.getLogger(__name__)
Told = dict[str, tuple[Answers, npt.NDArray[np.bool_]]]


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A calibrated checkpoint, and what was measured of it.

    Attributes:
        checkpoint: with the calibration in it.
        faces: how many it was fitted on.
        measured: for each data set, and for all together, how often the label lies within one deviation on the half
            that was not fitted on, see `agetrain.evaluation.coverage.coverage`.
    """

    checkpoint: Checkpoint
    faces: int
    measured: tuple[dict[str, Any], ...]


def calibrate_checkpoint(
    path: Path, datasets: Sequence[str | Path | Data], *, part: str | None = None, split: Path | None = None,
    split_csv: Sequence[Path] = (), mirrored: bool | None = None, device: str = "cpu", reading: Reading | None = None,
    trust_code: bool = False,
) -> Calibrated:  # fmt: skip
    """Calibrates the deviation of a checkpoint; nothing is written.

    Args:
        path: of the checkpoint.
        datasets: each as `agetrain.datasets.opening.open_dataset` takes it, or `Data`.
        part: of the data sets, see `agetrain.evaluation.answers.open_part`.
        split: a split file, for a single data set.
        split_csv: original lists, for a single data set.
        mirrored: whether it answers with the mean over a face and its mirror image from then on; None: as it did.
        device: to compute on.
        reading: how own data is read.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.

    Raises:
        CheckpointError: it cannot be used, or its deviations cannot be calibrated.
        DatasetError: there are too few faces, or a data set cannot be read.
    """
    checkpoint = Checkpoint.load(path, trust_code=trust_code)
    # An earlier calibration is not calibrated again.
    checkpoint = replace(
        checkpoint, calibration=Calibration(), mirrored=checkpoint.mirrored if mirrored is None else mirrored
    )
    model = open_checkpoint(checkpoint, path, device)
    detector = open_detector("none" if model.crop.kind == "resize" else "yunet")
    told: Told = {}
    learned = {str(d["dataset"]) for d in model.data}
    parts: dict[str, str] = {}
    for data in datasets:
        dataset, of, samples = open_part(
            data, part, model.label, learned=learned, split=split, split_csv=split_csv, reading=reading
        )
        _warn_of_learned(model, dataset, of)
        unreadable: dict[Path, str] = {}
        answers = answers_of(model, samples, detector, model.label, title=dataset.name, unreadable=unreadable)
        broken = [Problem(str(file), "broken", reason) for file, reason in unreadable.items()]
        if broken:
            check_problems(dataset, (reading or Reading()).most_broken_percent, broken)
        # An interval does not tell how far an answer is from the age.
        usable = answers.exact & np.array([s.path not in unreadable for s in samples])
        chosen = [s for s, use in zip(samples, usable.tolist(), strict=True) if use]
        told[dataset.name] = (answers.rows(usable), np.array([in_first_half(s) for s in chosen], bool))
        parts[dataset.name] = of
    ages, labels, stds = _together(told, first_half=True)
    if len(ages) < FEWEST_FACES or len(_together(told, first_half=False)[0]) == 0:
        raise DatasetError(f"{len(ages)} faces to calibrate on; {FEWEST_FACES} are needed, and others to measure on")
    try:
        # The network knows its answer before the offset of its labels is added.
        found = fit_calibration(ages - labels, stds, ages - checkpoint.label_offset)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; train again") from error
    groups = {**{name: {name: told[name]} for name in told}, "all": told}
    measured = []
    for name, group in groups.items():
        others, known, own = _together(group, first_half=False)
        covered = coverage(others, known, own, found.apply(own, others - checkpoint.label_offset))
        measured.append({"dataset": name, "part": parts.get(name, part or "valid"), **covered})
    measured = [m for m in measured if m["n"]]
    facts = {"n": len(ages), **found.to_dict(), "other_half": measured}
    calibrated = replace(
        checkpoint,
        calibration=found,
        training={**checkpoint.training, "calibration": facts},
        # Training measured them of the face alone, whatever the network answers from here on.
        metrics=tuple({"mirrored": False, **figures} for figures in checkpoint.metrics),
    )
    return Calibrated(calibrated, len(ages), tuple(measured))


def calibrate_model(
    checkpoint: str | Path, data: str | Path | Data | Sequence[str | Path | Data], *, out: str | Path | None = None,
    part: str | None = None, mirrored: bool | None = None, device: str = "cpu",
) -> Path:  # fmt: skip
    """Calibrates the deviation of a checkpoint, and writes it into a new one.

    Args:
        checkpoint: the ``best.pth`` of a run.
        data: pictures that were held out of training: `Data`, or what names a data set, or several.
        out: the file to write; None for ``best.calibrated.pth`` beside ``best.pth``.
        part: of the data, see `agetrain.evaluation.answers.open_part`.
        mirrored: whether it answers with the mean over a face and its mirror image from then on; None: as it did.
        device: to compute on.

    Returns:
        The file that was written.

    Raises:
        CheckpointError: it cannot be used, or its deviations cannot be calibrated.
        DatasetError: there are too few faces, or the data cannot be read.
        OutputError: the file cannot be written.
    """
    path = Path(checkpoint)
    sets: Sequence[str | Path | Data] = [data] if isinstance(data, str | Path | Data) else list(data)
    target = Path(out) if out is not None else calibrated_path(path)
    calibrate_checkpoint(path, sets, part=part, mirrored=mirrored, device=device).checkpoint.save(target)
    return target


def calibrated_path(path: Path) -> Path:
    """Returns the file that a calibration writes, unless it is told another."""
    return path.with_name(f"{path.stem}.calibrated{path.suffix}")


def in_first_half(sample: Sample) -> bool:
    """Says which half a picture belongs to: all pictures of a subject to one, whatever else is in the data set."""
    subject = sample.subject.encode() if sample.subject else sample.path.read_bytes()
    return hashlib.sha256(subject).digest()[0] % 2 == 0


def _warn_of_learned(model: Model, dataset: Dataset, part: str) -> None:
    """Warns where the network learned from these pictures: its errors on them say nothing about others."""
    # The hash of a split is over the labels too, and a second head answers the other label than the run learned by.
    seen = {seen_in_training(model, d) for d in (dataset, _by_other_label(dataset))}
    if seen == {OTHER_DATA} or (THIS_SPLIT in seen and part != "train"):
        return
    learned = "learned this part"
    if THIS_SPLIT not in seen:
        learned = "learned from another split of this data set, perhaps from some of these pictures"
    log.warning(
        "%s %s: the network %s: its deviation would be found too small; calibrate on a part that was held out",
        dataset.name, part, learned,
    )  # fmt: skip


def _by_other_label(dataset: Dataset) -> Dataset:
    """Returns the same pictures with the other of real and apparent age, where they have one."""
    parts = {
        part: tuple(s if s.other_years is None else replace(s, age_years=s.other_years) for s in samples)
        for part, samples in dataset.parts.items()
    }
    return replace(dataset, parts=parts)


def _together(told: Told, *, first_half: bool) -> tuple[Array, Array, Array]:
    """Answers, labels and deviations of the faces of one half."""
    chosen = [(a, a.found & (first == first_half)) for a, first in told.values()]
    ages, labels, stds = ([getattr(a, name)[c] for a, c in chosen] for name in ("estimates", "labels", "stds"))
    return np.concatenate(ages), np.concatenate(labels), np.concatenate(stds)
