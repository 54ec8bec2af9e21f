"""One run from pictures to report: opens the data sets, makes the crops, trains, measures, writes."""

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from agetrain._files import replacing
from agetrain.crops import packing
from agetrain.crops.cache import join
from agetrain.crops.parity_pack import write_parity_pack
from agetrain.run_config import RunConfig
from agetrain.training import teachers
from agetrain.training.callbacks import Augment, Callback, EpochEnd, name_of
from agetrain.training.distributed import Processes, joined
from agetrain.training.finish import TrainingResult, finish_run, reports_of
from agetrain.training.lock import held
from agetrain.training.loop import train
from agetrain.training.prepared import Prepared, folder_of, prepare_run, sources, write_lists
from agetrain.training.start import Run, start_run
from agetrain.training.teachers import NetworkTeacher, Teacher

log = logging.getLogger(__name__)


def train_run(
    config: RunConfig, *, augment: Augment | None = None, callbacks: Iterable[Callback] = ()
) -> TrainingResult:
    """Trains an age network and writes its checkpoint, its figures and a report into a folder.

    Under ``torchrun`` the processes share the run; each returns the same result.

    Args:
        config: what to learn from, how, and where the results go.
        augment: changes each batch after the augmentation of the recipe. It is given float32 ``[n, 3, side, side]``,
            RGB, 0 to 255, on the training device, and returns the like. What it draws from torch's random numbers
            depends on seed and epoch alone.
        callbacks: are called after each epoch, by the first process; one that returns True ends the run there, as if
            it were the last epoch. They are not asked again about epochs that a resumed run has behind it.

    Returns:
        The finished run: its best epoch, its figures and its history.

    Raises:
        UsageError: the configuration does not fit together, the folder holds an earlier run or one that goes on in
            another process, or ``augment`` returns something else than a batch like the one it was given.
        DatasetError: a data set or a picture cannot be read, or too few of the pictures hold a face.
        WeightsError: there are no starting weights.
        DivergedError: the loss is no longer a number; the best epoch before that is kept.
        OutputError: a result cannot be written.
    """
    callbacks = tuple(callbacks)
    out = folder_of(config)
    with joined(config.device) as processes:
        with held(out) if processes.first else nullcontext():
            prepared = prepare_run(config, processes)
            record = {**prepared.record, **prepared.split, **sources(config, prepared.recipe)}
            _train(prepared, out, _noted(record, augment, callbacks), processes, augment, callbacks)
        processes.agreed(None)  # the others wait for the files
    result = TrainingResult.read(out)
    return replace(result, config=replace(result.config, trust_code=config.trust_code))


def _noted(record: dict[str, Any], augment: Augment | None, callbacks: tuple[Callback, ...]) -> dict[str, Any]:
    """The record of a run with the names of what its recipe does not hold."""
    if augment:
        name = name_of(augment)
        note = f"each batch was changed by {name}, which the recipe does not hold: published figures do not compare"
        record = {**record, "augment": name, "notes": [*record.get("notes", ()), note]}
    return {**record, "callbacks": [name_of(callback) for callback in callbacks]} if callbacks else record


def _train(
    prepared: Prepared, out: Path, record: dict[str, Any], processes: Processes, augment: Augment | None,
    callbacks: tuple[Callback, ...],
) -> None:  # fmt: skip
    config, data, recipe = prepared.config, prepared.data, prepared.recipe
    predictions = [path for path in config.teachers if path.suffix != teachers.SUFFIX]
    checkpoints = [path for path in config.teachers if path.suffix == teachers.SUFFIX]
    run = start_run(
        recipe, data, out, processes, record=record, weights=config.weights,
        predictions=Teacher.load(predictions) if predictions else None,
        networks=NetworkTeacher.load(checkpoints, data, processes.device, trust_code=config.trust_code)
        if checkpoints
        else None,
        augment=augment, wandb=config.wandb, resume=config.resume, overwrite=config.overwrite,
        trust_code=config.trust_code,
    )  # fmt: skip
    reports = reports_of(prepared, out, run.record)

    def after_epoch(run: Run) -> str:
        reports.write(run.best, run.state.history, finished=False)
        end = EpochEnd(run.state.epoch, recipe.epochs, dict(run.state.history[-1]), out)
        asked = [name_of(callback) for callback in callbacks if callback(end)]  # each of them is called
        return f"as {asked[0]} asked" if asked else ""

    if processes.first:
        write_lists(prepared, out)
        _write_parity_pack(prepared, out)
        if run.state.history:  # what an earlier end said is no longer so, and a kill may have come before the reports
            reports.write(run.best, run.state.history, finished=False)
    ended = train(run, after_epoch)
    if processes.first:
        if ended:
            log.info("ended after epoch %d: %s", run.state.epoch, ended)
        finish_run(reports, data, run.best, run.state, processes.device, run.wandb, ended)


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


def _write_parity_pack(prepared: Prepared, out: Path) -> None:
    """Writes the pictures on which an export is proved, so that every epoch can be exported; once in a run."""
    path, packed = out / "parity.npz", prepared.config.packed
    if path.is_file():
        return
    if prepared.parity is not None:
        data = prepared.data
        write_parity_pack(path, prepared.parity, join(data.valid), data.label, prepared.recipe.seed)
    elif packed is not None and (packed / "parity.npz").is_file():
        with replacing(path) as unfinished:
            unfinished.write_bytes((packed / "parity.npz").read_bytes())
