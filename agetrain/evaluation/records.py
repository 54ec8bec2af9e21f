"""Evaluations: all figures of a model on a part of a data set, as a record of JSON values."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.crop.spec import NO_DETECTOR
from agetrain._files import file_sha256
from agetrain.data import Data
from agetrain.datasets import Sample
from agetrain.datasets.base import Problem
from agetrain.datasets.own import Reading
from agetrain.datasets.problems import check_problems
from agetrain.errors import DatasetError, UsageError
from agetrain.evaluation import figures, robustness
from agetrain.evaluation.answers import answers_of, open_detector, open_part, seen_in_training
from agetrain.evaluation.figures import Answers
from agetrain.evaluation.models import Model
from agetrain.evaluation.rows import Row, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How models are evaluated.

    Attributes:
        part: of the data sets: ``train``, ``valid``, ``test`` or ``all``; None for ``valid``, and for all of own data
            that is in no parts and that the model did not learn from.
        label: ``real`` or ``apparent``; None for what the model answers.
        split: a split file, for a single data set.
        split_csv: original lists, for a single data set.
        detector: one of `agetrain.evaluation.answers.DETECTORS`; None for ``yunet``, or ``none`` for a model of whole
            pictures.
        box_margin: for a model of whole pictures with a detector: its picture is the box and so much of its longer side
            round it.
        landmarks: whether crops may use landmarks.
        robustness: on how many pictures to measure under worse conditions as well; 0 for none.
        resamples: of the bootstrap.
        reading: how own data is read.
        problems: where to list pictures that cannot be used, if there are too many of them.

    Raises:
        UsageError: a value makes no sense.
    """

    part: str | None = None
    label: str | None = None
    split: Path | None = None
    split_csv: tuple[Path, ...] = ()
    detector: str | None = None
    box_margin: float = 0.4
    landmarks: bool = True
    robustness: int = 0
    resamples: int = 2000
    reading: Reading = field(default_factory=Reading)
    problems: Path | None = None

    def __post_init__(self) -> None:
        if self.split and self.split_csv:
            raise UsageError("give one of --split and --split-csv")
        if self.resamples < 1 or self.robustness < 0:
            raise UsageError("--resamples and --robustness are numbers of at least 1")
        if not -0.4 <= self.box_margin <= 4:
            raise UsageError(f"--box-margin {self.box_margin}: use -0.4 to 4")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One model on one part of a data set.

    Attributes:
        record: all figures, as JSON values.
        samples: the pictures.
        answers: of the model to them.
        problems: pictures that were left out.
    """

    record: dict[str, Any]
    samples: tuple[Sample, ...]
    answers: Answers
    problems: tuple[Problem, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """A row for each picture."""
        r = self.record
        return list(rows_of(r["model"], r["dataset"], r["part"], self.samples, self.answers))


def check_datasets(datasets: Sequence[str | Path | Data], setup: Setup) -> None:
    """Refuses a split for several data sets.

    Raises:
        UsageError: there are several.
    """
    if len(datasets) > 1 and (setup.split or setup.split_csv):
        raise UsageError("--split and --split-csv serve one data set")


def evaluate_part(
    model: Model, path: Path, data: str | Path | Data, setup: Setup, *, learned: Collection[str] | None = None
) -> Evaluation:
    """Measures a model on one part of one data set.

    Args:
        model: to be asked.
        path: its file.
        data: what names a data set, see `agetrain.datasets.opening.open_dataset`, or `Data`.
        setup: which part, which label, which detector.
        learned: names of the data sets that the model, or one that it is compared with, learned from; None for its own.

    Raises:
        DatasetError: the data set or a picture cannot be read.
    """
    names = {str(d["dataset"]) for d in model.data} if learned is None else learned
    label = setup.label or model.label
    opened, part, samples = open_part(
        data, setup.part, label, learned=names, split=setup.split,
        split_csv=setup.split_csv, reading=setup.reading, problems=setup.problems,
    )  # fmt: skip
    of_wholes = model.crop.kind == "resize"
    detector = open_detector(setup.detector or ("none" if of_wholes else "yunet"))
    box_margin = setup.box_margin if of_wholes and detector.identifier != NO_DETECTOR else 0.0
    unreadable: dict[Path, str] = {}
    answers = answers_of(
        model, samples, detector, label, landmarks=setup.landmarks, box_margin=box_margin, title=opened.name,
        unreadable=unreadable,
    )  # fmt: skip
    broken = tuple(Problem(str(file), "broken", reason) for file, reason in unreadable.items())
    if broken:
        most = setup.reading.most_broken_percent if not isinstance(data, Data) else data.reading.most_broken_percent
        check_problems(opened, most, broken, setup.problems)
        readable = np.array([s.path not in unreadable for s in samples])
        samples, answers = tuple(s for s in samples if s.path not in unreadable), answers.rows(readable)
    if not samples:
        raise DatasetError(f"{opened.name}: none of its pictures can be read; look at them")
    record = {
        "model": model.name, "model_sha256": file_sha256(path),
        "answers": model.label, "dataset": opened.name, "part": part, "label": label,
        "split": opened.split or "all of it", "split_sha256": opened.split_sha256(),
        "detector": detector.identifier, "crop": model.crop.to_dict(),
        "seen_in_training": seen_in_training(model, opened),
        **figures.evaluate(answers, resamples=setup.resamples),
    }  # fmt: skip
    if setup.robustness:
        record["robustness"] = robustness.sweep(
            model, samples, detector, label, setup.robustness, landmarks=setup.landmarks, box_margin=box_margin
        )
    return Evaluation(record, samples, answers, (*opened.problems, *broken))
