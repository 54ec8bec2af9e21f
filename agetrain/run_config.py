"""The configuration of a training run: what it learns from, how, and where its results go."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agetrain import experiments
from agetrain.data import Data
from agetrain.datasets.opening import name_of, named
from agetrain.datasets.own import Reading
from agetrain.errors import UsageError
from agetrain.experiments import Experiment
from agetrain.network.names import weights_named
from agetrain.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One training run; `agetrain.fit` does it.

    It holds plain facts alone. What is code (an augmentation, callbacks) is given to `agetrain.fit` beside it.

    Attributes:
        datasets: each ``NAME`` or ``NAME=DIR`` of a known data set, without a folder from ``$AGETRAIN_DATA/NAME``, then
            ``data/NAME``; ``PATH`` or ``NAME=PATH`` of own data; or `Data` that is open already.
        label: ``real`` or ``apparent`` age; None for what own data has, for real age, or for what a pack holds.
        experiment: a row of `agetrain.experiments`; None for the data set's final original experiment, and ``best``
            where there is none.
        recipe: how to train; None for the recipe of the experiment.
        split: a split file of ``python -m agetrain.splits``, for a single data set.
        split_csv: the lists of the original work, for a single data set: train, valid and, optionally, test.
        allow_overlap: whether to train although a person is in more than one part.
        reading: how own data is read, and how much of it may be unusable.
        out: folder for the results; None for ``runs/NAME-LABEL-EXPERIMENT``.
        cache: folder of the face crops, which are made once.
        weights: a state dict of the backbone, a file or a folder with ``BACKBONE*.pth``, or a checkpoint to start from;
            ``default`` for a download, ``none`` to start at random; None for ``$AGETRAIN_WEIGHTS``, and without that
            a download.
        teachers: what to learn from beside the labels: checkpoints (``.pth``) or predictions (``.npz``).
        packed: a folder that holds all that training needs instead of the pictures.
        resume: whether to go on with the interrupted run in ``out``.
        overwrite: whether to replace the run that is in ``out``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; None for CUDA where there is one.
        wandb: one of `agetrain.training.wandb_log.MODES`.
        trust_code: whether code of the user's own may be run, for a backbone ``FILE.py:FUNCTION``.
    """

    datasets: tuple[str | Data, ...] = ()
    label: str | None = None
    experiment: str | None = None
    recipe: Recipe | None = None
    split: Path | None = None
    split_csv: tuple[Path, ...] = ()
    allow_overlap: bool = False
    reading: Reading = field(default_factory=Reading)
    out: Path | None = None
    cache: Path = Path("cache")
    weights: Path | str | None = None
    teachers: tuple[Path, ...] = ()
    packed: Path | None = None
    resume: bool = False
    overwrite: bool = False
    device: str | None = None
    wandb: str = "disabled"
    trust_code: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the data sets."""
        return [data.name if isinstance(data, Data) else name_of(data) for data in self.datasets]

    def chosen(self) -> tuple[Experiment, Recipe]:
        """Returns the experiment and the recipe of this run.

        Raises:
            UsageError: no data set is named, or there is no such experiment.
        """
        if not self.datasets and self.packed is None:
            raise UsageError("name a data set to learn from (--dataset)")
        experiment = experiments.experiment(self.experiment, self.names)
        return experiment, self.recipe or experiment.recipe

    def to_dict(self) -> dict[str, Any]:
        """Returns what decides the result as JSON values, for ``config.json``.

        Places, the machine and consent are left out: ``out``, ``cache``, ``device``, ``wandb``, ``resume``,
        ``overwrite`` and ``trust_code``.
        """
        experiment, recipe = self.chosen()
        places = [data.place if isinstance(data, Data) else named(data)[1] for data in self.datasets]
        pairs = zip(self.names, places, strict=True)
        return {
            "experiment": experiment.id, "label": self.label or "real",
            "data": [{"name": name, "folder": str(folder) if folder else ""} for name, folder in pairs],
            "split": str(self.split) if self.split else "", "split_csv": [str(path) for path in self.split_csv],
            "reading": self.reading.to_dict(), "allow_overlap": self.allow_overlap, "recipe": recipe.to_dict(),
            "weights": str(self.weights) if self.weights else "", "teacher": [str(path) for path in self.teachers],
            **({"packed": str(self.packed)} if self.packed else {}),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Reads the ``config.json`` of a run, or what a pack was made by; older ones lack some keys.

        Raises:
            UsageError: the recipe is none.
            KeyError, TypeError, ValueError: it is no such configuration.
        """
        return cls(
            datasets=tuple(f"{d['name']}={d['folder']}" if d["folder"] else str(d["name"]) for d in values["data"]),
            label=values["label"],
            experiment=values["experiment"],
            recipe=Recipe.from_dict(values["recipe"]),
            reading=Reading.from_dict(values.get("reading", {})),
            split=_path(values["split"]),
            split_csv=tuple(Path(path) for path in values["split_csv"]),
            allow_overlap=bool(values["allow_overlap"]),
            weights=weights_named(values["weights"]) if values.get("weights") else None,
            teachers=tuple(Path(path) for path in values.get("teacher", ())),
            packed=_path(values.get("packed")),
        )


def read_record(path: Path) -> dict[str, Any]:
    """Reads the ``config.json`` of a run, from which `RunConfig.from_dict` makes its configuration.

    Raises:
        UsageError: it is not there, or not such a file.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        RunConfig.from_dict(values)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; give the folder or the file of a run") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not the config.json of a run ({error!r})") from error
    return values


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def default_out(name: str, label: str, experiment: str) -> Path:
    """Returns the folder for the results of a run that names none."""
    return Path("runs") / f"{name}-{label}-{experiment}"
