"""What a run is about, before any network is made: data sets are opened and their crops made, or a pack is opened."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agetrain._files import file_sha256
from agetrain.crops import packing, precrop
from agetrain.crops.parity_pack import ParityPictures
from agetrain.crops.training_set import TrainingSet, training_set
from agetrain.data import Data, opened
from agetrain.datasets import Dataset
from agetrain.datasets.dealing import write_split
from agetrain.datasets.opening import named
from agetrain.datasets.parts import check_overlap
from agetrain.datasets.problems import LIST, check_problems, write_problems
from agetrain.errors import UsageError, WeightsError
from agetrain.experiments import Experiment
from agetrain.network.backbones import check_backbone
from agetrain.network.factory import sha256_of
from agetrain.network.names import DEFAULT, NONE, BackboneName
from agetrain.network.weights import WEIGHTS_VARIABLE, weights_file
from agetrain.recipe import Recipe
from agetrain.run_config import RunConfig, default_out
from agetrain.training.distributed import Processes
from agetrain.training.freezing import tensors_of

SPLIT_FILE = "split.csv"

log = logging.getLogger("agetrain")


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A data set of a run.

    Attributes:
        dataset: in its parts.
        folder: of its pictures.
        place: what names it: its folder, or a list or a file in it.
    """

    dataset: Dataset
    folder: Path
    place: Path


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What a run is about, before any network is made.

    Attributes:
        config: of the run.
        experiment: that is run.
        recipe: how to train.
        data: what to learn from.
        record: what decides the result, as JSON values.
        parity: pictures for a parity pack; None where they are packed.
        own: data sets that agetrain does not know.
    """

    config: RunConfig
    experiment: Experiment
    recipe: Recipe
    data: TrainingSet
    record: dict[str, Any]
    parity: ParityPictures | None
    own: tuple[Opened, ...] = ()

    @property
    def split(self) -> dict[str, list[str]]:
        """The hashes of the splits, for the record of a run."""
        return {"split_sha256": [facts["split_sha256"] for facts in self.data.facts]}


def folder_of(config: RunConfig) -> Path:
    """Returns the folder for the results of a run, without opening its data.

    Raises:
        UsageError: the configuration does not fit together.
        DatasetError: the pack is none.
    """
    if config.out is not None:
        return config.out
    of_data = packing.config_of(config.packed) if config.packed else config
    experiment, _ = _as_packed(config).chosen()
    return default_out("+".join(of_data.names), of_data.label or "real", experiment.id)


def _as_packed(config: RunConfig) -> RunConfig:
    """What is neither experiment nor recipe is trained as it was packed."""
    if config.packed is None or config.experiment is not None or config.recipe is not None:
        return config
    packed = packing.config_of(config.packed)
    return replace(config, experiment=packed.experiment, recipe=packed.recipe)


def prepare_run(config: RunConfig, processes: Processes) -> Prepared:
    """Opens the data sets and makes the crops, or opens a pack.

    Raises:
        UsageError: the configuration does not fit together.
        DatasetError: a data set, a picture or the pack cannot be read.
    """
    folder = config.packed
    own: tuple[Opened, ...] = ()
    if folder is not None:
        config = _as_packed(config)
        experiment, recipe = config.chosen()
        _check_network(recipe, trust_code=config.trust_code)
        data, pack_record = packing.load(folder, recipe)
        _check_packed(config, folder, pack_record)
        record = {**pack_record, "experiment": experiment.id, "recipe": recipe.to_dict(), "packed": str(folder)}
        parity = None
    else:
        experiment, recipe = config.chosen()
        _check_network(recipe, trust_code=config.trust_code)  # before any picture is opened
        problems = folder_of(config) / LIST
        sets, notes = open_datasets(config, experiment, problems)
        datasets = [each.dataset for each in sets]
        texts = tuple(f"{each.dataset.name}={each.place}" for each in sets)
        record = {**replace(config, datasets=texts, label=datasets[0].label).to_dict(), "notes": notes}
        if isinstance(config.datasets[0], Data) and len(sets) == 1 and datasets[0].listed:
            record["split"] = str(problems.with_name(SPLIT_FILE))  # however it was made, see `write_lists`
        # The first process makes the crops, the others then find them.
        if processes.first:
            data, parity = training_set(datasets, recipe, config.cache)
        processes.agreed(None)
        if not processes.first:
            data, parity = training_set(datasets, recipe, config.cache)
        for dataset, found in zip(datasets, data.problems, strict=True):
            if new := found[len(dataset.problems) :]:
                check_problems(dataset, config.reading.most_broken_percent, new, problems)
        own = tuple(each for each in sets if each.dataset.listed)
    return Prepared(config, experiment, recipe, data, record, parity, own)


def _check_network(recipe: Recipe, *, trust_code: bool) -> None:
    """Refuses a network that cannot be trained by the recipe.

    Raises:
        UsageError: it cannot.
        MissingDependencyError: timm is not installed.
    """
    backbone = check_backbone(recipe.backbone, recipe.size, trust_code=trust_code)
    tensors_of(backbone, recipe.frozen_stages, recipe.backbone)


def write_lists(prepared: Prepared, out: Path) -> None:
    """Writes which pictures cannot be used, and in which part the others of own data are, for ``--split`` later on.

    Raises:
        DatasetError: a split cannot be written.
        OutputError: the list of pictures cannot be written.
    """
    write_problems(out / LIST, [problem for found in prepared.data.problems for problem in found])
    for each in prepared.own:
        name = SPLIT_FILE if len(prepared.own) == 1 else f"split-{each.dataset.name}.csv"
        write_split(out / name, each.dataset, each.folder)


def _check_packed(config: RunConfig, folder: Path, record: dict[str, Any]) -> None:
    """Refuses a configuration that a packed training set cannot follow any more.

    Raises:
        UsageError: it names another label, data set or split than was packed.
    """
    given: dict[str, Any] = {
        "label": config.label,
        "dataset": config.names,
        "split": config.split and str(config.split),
        "split_csv": [str(path) for path in config.split_csv],
    }
    packed = {**record, "dataset": [d["name"] for d in record["data"]]}
    for name, value in given.items():
        if value and value != packed[name]:
            raise UsageError(
                f"--{name.replace('_', '-')} {_said(value)}: {folder} was packed with "
                f"{_said(packed[name]) or 'none'}; leave the option out, or pack it again"
            )


def _said(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def sources(config: RunConfig, recipe: Recipe) -> dict[str, Any]:
    """What a run starts and learns from beside the pictures, for its records: paths as given, and SHA-256 of files."""
    weights = str(config.weights or os.environ.get(WEIGHTS_VARIABLE) or "")
    name = BackboneName.parse(recipe.backbone)
    try:
        named_file = weights and weights not in (DEFAULT, NONE)
        digest = file_sha256(weights_file(Path(weights), recipe.backbone)) if named_file else ""
    except WeightsError:  # whoever loads them says so; a run that goes on does without
        digest = ""
    return {
        "weights": weights, "weights_sha256": digest,
        "teacher": [str(path) for path in config.teachers],
        "teacher_sha256": [file_sha256(path) for path in config.teachers],
        **({"backbone_sha256": sha256_of(name)} if name.source == "file" else {}),
    }  # fmt: skip


def open_datasets(
    config: RunConfig, experiment: Experiment, problems: Path | None = None
) -> tuple[list[Opened], list[str]]:
    """Opens the data sets of a run with the split that it asks for.

    Args:
        config: of the run.
        experiment: that is run.
        problems: where to list pictures that cannot be used, if there are too many of them.

    Returns:
        The data sets, and what makes figures on them not comparable with published ones.

    Raises:
        UsageError: a name is unknown or given twice, or the configuration does not fit together.
        DatasetError: one of them is not there, or a person is in more than one part.
    """
    if len(set(config.names)) < len(config.names):
        raise UsageError("--dataset names the same data set twice")
    if len(config.datasets) > 1 and (config.split or config.split_csv):
        raise UsageError("--data, --split and --split-csv serve one data set; with several, write --dataset NAME=DIR")
    reading = replace(config.reading, cache=config.cache)
    sets: list[Opened] = []
    for data in config.datasets:
        dataset, folder = opened(
            data, config.label, split=config.split, split_csv=config.split_csv, reading=reading, problems=problems
        )
        if not dataset.parts["train"]:
            raise UsageError(f"--dataset {dataset.name}: it is for measuring alone and has no train part; leave it out")
        check_overlap(dataset, consent=bool(config.split_csv) or config.allow_overlap)
        if sets and dataset.label != sets[0].dataset.label:
            raise UsageError(
                f"--dataset {dataset.name} has {dataset.label} ages and {sets[0].dataset.name} "
                f"{sets[0].dataset.label} ages; give --label"
            )
        place = data.place if isinstance(data, Data) else named(data)[1]
        sets.append(Opened(dataset, folder, place if place and dataset.listed else folder))
    names = [each.dataset.name for each in sets]
    if len(set(names)) < len(names):
        raise UsageError(
            f"--dataset: two data sets are called {max(names, key=names.count)}; name them, as a=PATH b=PATH"
        )
    folders = [each.folder for each in sets]
    return sets, _not_comparable(config, experiment, [each.dataset for each in sets], folders)


def _not_comparable(
    config: RunConfig, experiment: Experiment, datasets: Sequence[Dataset], folders: Sequence[Path]
) -> list[str]:
    """What makes figures not comparable with the published ones of the experiment, a sentence each."""
    notes = []
    if experiment.published is not None and config.split:
        notes.append(f"trained on the split of {config.split}, so the published figure is not comparable")
    elif experiment.published is not None and not config.split_csv:
        notes += [
            f"the original split was not given (--split-csv): trained on the split '{dataset.split}', so the "
            "published figure is not comparable"
            for dataset in datasets
            if dataset.split != "official"
        ]
    if experiment.dataset and [d.name for d in datasets] != [experiment.dataset]:
        notes.append(f"{experiment.id} was published on {experiment.dataset}: the published figure is not comparable")
    if experiment.published is not None and datasets[0].label != "real":
        notes.append(f"{experiment.id} was published for real age: the published figure is not comparable")
    if experiment.centred and not all(precrop.is_centred(folder, "dlib") for folder in folders):
        notes.append(
            f"{experiment.id} was published on pictures centred by dlib first (python -m agetrain.prepare "
            f"{experiment.dataset} --centre dlib), which these are not: the published figure is not comparable"
        )
        log.warning("%s", notes[-1])
    return notes
