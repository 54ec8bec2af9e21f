"""One run from pictures to report: opens the data sets, makes the crops, trains, measures, writes."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agetrain._files import file_sha256
from agetrain.crops import packing, precrop
from agetrain.crops.cache import join
from agetrain.crops.parity_pack import ParityPictures, write_parity_pack
from agetrain.crops.training_set import TrainingSet, training_set
from agetrain.datasets import Dataset
from agetrain.datasets.parts import check_overlap, open_dataset
from agetrain.errors import OutputError, UsageError, WeightsError
from agetrain.experiments import Experiment
from agetrain.network.backbones import check_backbone
from agetrain.network.factory import sha256_of
from agetrain.network.names import DEFAULT, NONE, BackboneName
from agetrain.network.weights import WEIGHTS_VARIABLE, weights_file
from agetrain.recipe import Recipe
from agetrain.run_config import RunConfig, default_out
from agetrain.training import teachers
from agetrain.training.distributed import Processes, joined
from agetrain.training.finish import TrainingResult, finish_run
from agetrain.training.freezing import tensors_of
from agetrain.training.loop import train
from agetrain.training.start import start_run
from agetrain.training.state import write_best_so_far
from agetrain.training.teachers import NetworkTeacher, Teacher

log = logging.getLogger("agetrain")


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
    """

    config: RunConfig
    experiment: Experiment
    recipe: Recipe
    data: TrainingSet
    record: dict[str, Any]
    parity: ParityPictures | None


def fit(config: RunConfig) -> TrainingResult:
    """Trains an age network and writes its checkpoint, its figures and a report into a folder.

    Under ``torchrun`` the processes share the run; each returns the same result.

    Args:
        config: what to learn from, how, and where the results go.

    Returns:
        The checkpoint of the best epoch, with the history of the run.

    Raises:
        UsageError: the configuration does not fit together, or the folder holds an earlier run.
        DatasetError: a data set or a picture cannot be read, or too few of the pictures hold a face.
        WeightsError: there are no starting weights.
        DivergedError: the loss is no longer a number; the best epoch before that is kept.
        OutputError: a result cannot be written.

    Example:
        With a folder in the layout of APPA-REAL in ``appa_real``, and weights of a mobilenet_v2 in ``weights``:

        >>> import agetrain
        >>> config = agetrain.RunConfig(
        ...     datasets=(f"appa-real={appa_real}",),
        ...     recipe=agetrain.Recipe(size=64, batch_size=4, epochs=1, selection_share=0.25),
        ...     weights=weights,
        ...     out=out,
        ...     cache=cache,
        ...     device="cpu",
        ... )
        >>> result = agetrain.fit(config)
        >>> result.path.name, len(result.history)
        ('best.pth', 1)
        >>> [(figures["part"], figures["n"]) for figures in result.metrics]
        [('selection', 6), ('valid', 8)]
    """
    with joined(config.device) as processes:
        prepared = prepare_run(config, processes)
        recipe, data = prepared.recipe, prepared.data
        record = {
            **prepared.record, "split_sha256": [facts["split_sha256"] for facts in data.facts],
            **_sources(config, recipe),
        }  # fmt: skip
        out = config.out or default_out(data.name, data.label, prepared.experiment.id)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made a folder: {error.strerror}; choose another --out") from error
        predictions = [path for path in config.teachers if path.suffix != teachers.SUFFIX]
        checkpoints = [path for path in config.teachers if path.suffix == teachers.SUFFIX]
        run = start_run(
            recipe, data, out, processes, record=record, weights=config.weights,
            predictions=Teacher.load(predictions) if predictions else None,
            networks=NetworkTeacher.load(checkpoints, data, processes.device, trust_code=config.trust_code)
            if checkpoints
            else None,
            wandb=config.wandb, resume=config.resume, overwrite=config.overwrite, trust_code=config.trust_code,
        )  # fmt: skip
        try:
            train(run)
            if processes.first:
                _write_parity_pack(prepared, out)  # before W&B is closed, which may wait for a server
                finish_run(run, prepared.experiment, record["notes"])
        except BaseException:  # whatever ends it early, Ctrl-C too: what was learned so far is kept
            if processes.first:
                write_best_so_far(out, run.best)
            raise
        processes.agreed(None)  # the others wait for the files
        result = TrainingResult.read(out)
        return replace(result, checkpoint=replace(result.checkpoint, trust_code=config.trust_code))


def pack(config: RunConfig, folder: Path) -> None:
    """Writes all that training needs into a folder, for a machine without the pictures; nothing is trained.

    Args:
        config: of the run that is to be trained elsewhere; its teachers and weights are named there.
        folder: to write.

    Raises:
        UsageError: the configuration does not fit together.
        DatasetError: a data set or a picture cannot be read, or the folder cannot be written.
    """
    with joined(config.device) as processes:
        prepared = prepare_run(replace(config, teachers=(), weights=None), processes)
        packing.save(folder, prepared.data, prepared.record, prepared.recipe, prepared.parity)


def prepare_run(config: RunConfig, processes: Processes) -> Prepared:
    """Opens the data sets and makes the crops, or opens a pack.

    Raises:
        UsageError: the configuration does not fit together.
        DatasetError: a data set, a picture or the pack cannot be read.
    """
    folder = config.packed
    if folder is not None:
        if config.experiment is None and config.recipe is None:  # then it is trained as it was packed
            packed = packing.config_of(folder)
            config = replace(config, experiment=packed.experiment, recipe=packed.recipe)
        experiment, recipe = config.chosen()
        _check_network(recipe, trust_code=config.trust_code)
        data, pack_record = packing.load(folder, recipe)
        _check_packed(config, folder, pack_record)
        own = {"experiment": experiment.id, "recipe": recipe.to_dict(), "packed": str(folder)}
        record = {**pack_record, **own}
        parity = None
    else:
        experiment, recipe = config.chosen()
        _check_network(recipe, trust_code=config.trust_code)  # before any picture is opened
        datasets, folders, notes = open_datasets(config, experiment)
        opened = tuple(f"{d.name}={folder}" for d, folder in zip(datasets, folders, strict=True))
        record = {**replace(config, datasets=opened).to_dict(), "notes": notes}
        # The first process makes the crops, the others then find them.
        if processes.first:
            data, parity = training_set(datasets, recipe, config.cache, strict=config.strict)
        processes.agreed(None)
        if not processes.first:
            data, parity = training_set(datasets, recipe, config.cache, strict=config.strict)
    return Prepared(config, experiment, recipe, data, record, parity)


def _check_network(recipe: Recipe, *, trust_code: bool) -> None:
    """Refuses a network that cannot be trained by the recipe.

    Raises:
        UsageError: it cannot.
        MissingDependencyError: timm is not installed.
    """
    backbone = check_backbone(recipe.backbone, recipe.size, trust_code=trust_code)
    tensors_of(backbone, recipe.frozen_stages, recipe.backbone)


def _write_parity_pack(prepared: Prepared, out: Path) -> None:
    path, packed = out / "parity.npz", prepared.config.packed
    if prepared.parity is not None:
        data = prepared.data
        write_parity_pack(path, prepared.parity, join(data.valid), data.label, prepared.recipe.seed)
    elif packed is not None and (packed / "parity.npz").is_file():
        path.write_bytes((packed / "parity.npz").read_bytes())


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


def _sources(config: RunConfig, recipe: Recipe) -> dict[str, Any]:
    """What a run starts and learns from beside the pictures, for its records: paths as given, and SHA-256 of files."""
    weights = str(config.weights or os.environ.get(WEIGHTS_VARIABLE) or "")
    name = BackboneName.parse(recipe.backbone)
    try:
        named = weights and weights not in (DEFAULT, NONE)
        digest = file_sha256(weights_file(Path(weights), recipe.backbone)) if named else ""
    except WeightsError:  # whoever loads them says so; a run that goes on does without
        digest = ""
    return {
        "weights": weights, "weights_sha256": digest,
        "teacher": [str(path) for path in config.teachers],
        "teacher_sha256": [file_sha256(path) for path in config.teachers],
        **({"backbone_sha256": sha256_of(name)} if name.source == "file" else {}),
    }  # fmt: skip


def open_datasets(config: RunConfig, experiment: Experiment) -> tuple[list[Dataset], list[Path], list[str]]:
    """Opens the data sets of a run with the split that it asks for.

    Returns:
        The data sets, their folders, and what makes figures on them not comparable with published ones.

    Raises:
        UsageError: a name is unknown or given twice, or the configuration does not fit together.
        DatasetError: one of them is not there, or a person is in more than one part.
    """
    if not config.datasets:
        raise UsageError("name a data set to learn from (--dataset)")
    if len(set(config.names)) < len(config.names):
        raise UsageError("--dataset names the same data set twice")
    if len(config.datasets) > 1 and (config.split or config.split_csv):
        raise UsageError("--data, --split and --split-csv serve one data set; with several, write --dataset NAME=DIR")
    label = config.label or "real"
    datasets, folders = [], []
    for text in config.datasets:
        dataset, folder = open_dataset(text, label, split=config.split, split_csv=config.split_csv)
        if not dataset.parts["train"]:
            raise UsageError(f"--dataset {dataset.name}: it is for measuring alone and has no train part; leave it out")
        check_overlap(dataset, consent=bool(config.split_csv) or config.allow_overlap)
        datasets.append(dataset)
        folders.append(folder)
    return datasets, folders, _not_comparable(config, experiment, datasets, folders)


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
