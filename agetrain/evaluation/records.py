"""Evaluations: all figures of a model on a part of a data set, as a record of JSON values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ageinfer.crop.spec import NO_DETECTOR
from agetrain._files import file_sha256
from agetrain.datasets import Sample
from agetrain.errors import UsageError
from agetrain.evaluation import figures, robustness
from agetrain.evaluation.answers import answers_of, open_detector, open_part, seen_in_training
from agetrain.evaluation.figures import Answers
from agetrain.evaluation.models import Model, open_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How models are evaluated.

    Attributes:
        part: of the data sets: ``train``, ``valid`` or ``test``.
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

    Raises:
        UsageError: a value makes no sense.
    """

    part: str = "valid"
    label: str | None = None
    split: Path | None = None
    split_csv: tuple[Path, ...] = ()
    detector: str | None = None
    box_margin: float = 0.4
    landmarks: bool = True
    robustness: int = 0
    resamples: int = 2000

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
    """

    record: dict[str, Any]
    samples: tuple[Sample, ...]
    answers: Answers


def evaluate_model(
    model: str | Path, datasets: Sequence[str], setup: Setup | None = None, *, device: str = "cpu",
    trust_code: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Measures an age model on data sets: picture file in, detector and crop included.

    Args:
        model: a checkpoint (``best.pth``) or a model file (``*.onnx``).
        datasets: each ``NAME`` or ``NAME=DIR``.
        setup: which part, which label, which detector; None for the defaults of `Setup`.
        device: that a checkpoint computes on.
        trust_code: whether the user's own code may be run, for a checkpoint whose backbone is made by it.

    Returns:
        For each data set a record of JSON values: ``mae``, ``rmse``, ``bias`` and ``mae_interval_95`` in years,
        ``cs5_percent``, figures by age and attribute, and what was measured on what.

    Raises:
        UsageError: the data sets and the setup do not fit together.
        DatasetError: a data set or a picture cannot be read.
        CheckpointError: the checkpoint cannot be used.
        ageinfer.errors.ModelError: the runtime refuses the model file.

    Example:
        With a folder in the layout of APPA-REAL in ``folder``:

        >>> import agetrain
        >>> [record] = agetrain.evaluate_model("models/age-small.onnx", [f"appa-real={folder}"])
        >>> record["dataset"], record["part"], record["n"], record["detection_rate_percent"]
        ('appa-real', 'valid', 8, 100.0)
        >>> record["mae_interval_95"][0] < record["mae"] < record["mae_interval_95"][1]
        True
    """
    setup = setup or Setup()
    check_datasets(datasets, setup)
    path = Path(model)
    opened = open_model(path, device, trust_code=trust_code)
    return [evaluate_part(opened, path, dataset, setup).record for dataset in datasets]


def check_datasets(datasets: Sequence[str], setup: Setup) -> None:
    """Refuses a split for several data sets.

    Raises:
        UsageError: there are several.
    """
    if len(datasets) > 1 and (setup.split or setup.split_csv):
        raise UsageError("--split and --split-csv serve one data set")


def evaluate_part(model: Model, path: Path, dataset: str, setup: Setup) -> Evaluation:
    """Measures a model on one part of one data set.

    Args:
        model: to be asked.
        path: its file.
        dataset: ``NAME`` or ``NAME=DIR``.
        setup: which part, which label, which detector.

    Raises:
        DatasetError: the data set or a picture cannot be read.
    """
    label = setup.label or model.label
    opened, samples = open_part(dataset, setup.part, label, split=setup.split, split_csv=setup.split_csv)
    of_wholes = model.crop.kind == "resize"
    detector = open_detector(setup.detector or ("none" if of_wholes else "yunet"))
    box_margin = setup.box_margin if of_wholes and detector.identifier != NO_DETECTOR else 0.0
    answers = answers_of(
        model, samples, detector, label, landmarks=setup.landmarks, box_margin=box_margin, title=opened.name
    )
    record = {
        "model": model.name, "model_sha256": file_sha256(path),
        "answers": model.label, "dataset": opened.name, "part": setup.part, "label": label,
        "split": opened.split, "split_sha256": opened.split_sha256(),
        "detector": detector.identifier, "crop": model.crop.to_dict(),
        "seen_in_training": seen_in_training(model, opened),
        **figures.evaluate(answers, resamples=setup.resamples),
    }  # fmt: skip
    if setup.robustness:
        record["robustness"] = robustness.sweep(
            model, samples, detector, label, setup.robustness, landmarks=setup.landmarks, box_margin=box_margin
        )
    return Evaluation(record, samples, answers)
