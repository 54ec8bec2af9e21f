"""The end of a run: the kept epochs are measured once on each validation part, and everything is written."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agetrain.crops.cache import CropCache
from agetrain.crops.training_set import TrainingSet
from agetrain.errors import CheckpointError, UsageError
from agetrain.evaluation.metrics import figures_of_part
from agetrain.network.checkpoint import Checkpoint, read
from agetrain.run_config import RunConfig, read_record
from agetrain.training.distributed import Processes, joined
from agetrain.training.lock import held
from agetrain.training.predict import predict
from agetrain.training.prepared import Prepared, folder_of, prepare_run
from agetrain.training.report import Reports, curve, curve_title
from agetrain.training.state import (
    BEST_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    STATE_FILE,
    RunState,
    check_same_run,
    read_state,
    settle_best,
)
from agetrain.training.wandb_log import WandbLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST_ERRORS = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training run has given: all of it where it is finished, and what there is so far where it is not.

    Attributes:
        out: folder of the run.
        config: of the run.
        finished: whether the run has come to its end, and its best epoch was measured on the validation parts.
        history: for each epoch its loss, its errors in years, its learning rate and its time.
        metrics: what was measured of the best epoch, each with its data set and its part; the validation parts are
            among them once the run is finished.

    Example:
        >>> result = TrainingResult.read("runs/appa-real-real-best")  # doctest: +SKIP
        >>> result.finished, len(result.history)  # doctest: +SKIP
        (True, 24)
        >>> result.plot().savefig("curve.pdf")  # doctest: +SKIP
    """

    out: Path
    config: RunConfig
    finished: bool
    history: tuple[dict[str, float], ...]
    metrics: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: str | Path) -> "TrainingResult":
        """Opens the folder of a run, finished or not, even while it goes on.

        Raises:
            UsageError: it is not the folder of a run.
            CheckpointError: a file of it is broken.
        """
        out = Path(folder)
        config = replace(RunConfig.from_dict(read_record(out / CONFIG_FILE)), out=out)
        try:
            record = json.loads((out / METRICS_FILE).read_text())
            # Older releases wrote it once, at the end.
            return cls(out, config, record.get("finished", True), tuple(record["history"]), tuple(record["metrics"]))
        except FileNotFoundError:  # stopped in its first epoch, or of an older release
            history = read(out / STATE_FILE)["progress"]["history"] if (out / STATE_FILE).is_file() else ()
            return cls(out, config, False, tuple(history), ())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{out / METRICS_FILE}: not the figures of a run ({error!r}); remove it") from error

    @property
    def path(self) -> Path:
        """The checkpoint of the best epoch, ``best.pth``."""
        return self.out / BEST_FILE

    @cached_property
    def best(self) -> Checkpoint:
        """The best epoch, read from its file when it is first asked for.

        Raises:
            CheckpointError: there is none yet, or it is broken.
        """
        return Checkpoint.load(self.path, trust_code=self.config.trust_code)

    def plot(self) -> "Figure":
        """Draws loss and errors over the epochs, as a figure of matplotlib.

        Raises:
            UsageError: no epoch was finished.
            MissingDependencyError: matplotlib is not installed.
        """
        if not self.history:
            raise UsageError(f"{self.out}: no epoch was finished, so there is nothing to draw; go on with the run")
        experiment, recipe = self.config.chosen()
        title = curve_title(experiment.id, recipe, "+".join(self.config.names), self.config.label or "real")
        return curve(self.history, title, recipe.loss)

    def finish(self, *, cache: Path = Path("cache"), device: str | None = None) -> "TrainingResult":
        """Finishes a run that was stopped, see `agetrain.training.finish.finish`; a finished one is left as it is.

        Args:
            cache: folder of the face crops, which are made again where they are not there.
            device: to measure on; None for CUDA where there is one.

        Returns:
            The finished result.

        Raises:
            UsageError: no epoch of the run was finished, or it goes on in another process.
            DatasetError: a data set or a picture cannot be read.
            CheckpointError: a file of the run is broken.
            OutputError: a result cannot be written.
        """
        return finish(replace(self.config, cache=cache, device=device))


def finish(config: RunConfig) -> TrainingResult:
    """Measures the best epoch of a run that was stopped, and writes what the run would have left, had it ended there.

    A run that is finished already is left as it is. One that is finished so can still go on, and then ends as if it
    had never been stopped.

    Args:
        config: of the run, with its folder.

    Returns:
        The finished result.

    Raises:
        UsageError: the folder holds no run, no epoch of it was finished, or it is of a run by other options, or of one
            that goes on in another process.
        DatasetError: a data set or a picture cannot be read.
        CheckpointError: a file of the run is broken.
        OutputError: a result cannot be written.
    """
    out = folder_of(config)
    found = TrainingResult.read(out)
    if found.finished:
        log.info("%s: is finished already, after epoch %d; nothing is changed", out, len(found.history))
        return found
    with joined(config.device) as processes:
        if processes.first:
            with held(out):
                _finish_stopped(config, out, processes.device)
        processes.agreed(None)
    return TrainingResult.read(out)


def _finish_stopped(config: RunConfig, out: Path, device: torch.device) -> None:
    values = read_state(out / STATE_FILE)
    if values is None:
        raise UsageError(f"{out}: no epoch was finished, so there is nothing to measure; --resume {out} begins again")
    prepared = prepare_run(config, Processes(0, 1, device))
    recipe, data = prepared.recipe, prepared.data
    # Starting weights and teachers are not needed any more: they are those of the record.
    now = {"recipe": recipe.to_dict(), "label": data.label, **prepared.split}
    record = read_record(out / CONFIG_FILE) | now
    check_same_run(out / STATE_FILE, values, record)
    best, state = (
        settle_best(values, out, recipe, data.label, trust_code=config.trust_code),
        RunState.from_values(values),
    )
    log.info(
        "%s: stopped after epoch %d of %d; epoch %d, its best one, is measured on the validation part",
        out, state.epoch, recipe.epochs, best[BEST_FILE].training["epoch"],
    )  # fmt: skip
    mode = config.wandb if state.tracker_id else "disabled"
    wandb = WandbLog(mode, "agetrain", record, out, state.tracker_id)
    ended = "it was stopped there, and finished afterwards" if state.epoch < recipe.epochs else ""
    finish_run(reports_of(prepared, out, record), data, best, state, device, wandb, ended)


def reports_of(prepared: Prepared, out: Path, record: dict[str, Any]) -> Reports:
    """Returns the reports of a run.

    Args:
        prepared: what it is about.
        out: its folder.
        record: of the run, as in ``config.json``.
    """
    data, recipe = prepared.data, prepared.recipe
    earlier = [
        f"up to epoch {part['up_to']} it was trained as a run of {part['epochs']} epochs"
        for part in record.get("epochs_before", ())
    ]
    title = curve_title(prepared.experiment.id, recipe, data.name, data.label)
    return Reports(out, prepared.experiment, recipe, (*record.get("notes", ()), *earlier), title)


def finish_run(
    reports: Reports, data: TrainingSet, best: Mapping[str, Checkpoint], state: RunState, device: torch.device,
    wandb: WandbLog, ended: str = "",
) -> None:  # fmt: skip
    """Measures the kept epochs on each validation part and writes their checkpoints, figures and report.

    Args:
        reports: of the run.
        data: whose validation parts are measured.
        best: the best epochs by the name of their file.
        state: of the run, whose epochs are done.
        device: to measure on.
        wandb: is given the figures, and closed.
        ended: why the run ended before its last epoch.

    Raises:
        OutputError: a checkpoint cannot be written.
    """
    measured = {name: _measured(kept, data, device) for name, kept in best.items()}
    for name, (kept, _) in measured.items():
        kept.save(reports.out / name)
    reports.write({name: kept for name, (kept, _) in measured.items()}, state.history, finished=True, ended=ended)
    kept, answered = measured[BEST_FILE]
    close_log(wandb, reports.out / BEST_FILE, kept, data.valid[0], answered[0])  # last: it may wait for a server


def _measured(checkpoint: Checkpoint, data: TrainingSet, device: torch.device) -> tuple[Checkpoint, list[np.ndarray]]:
    """Returns a checkpoint with its figures on each validation part, and what it answered to them."""
    network = checkpoint.network().to(device)
    figures: list[dict[str, Any]] = [m for m in checkpoint.metrics if m["part"] != "valid"]
    answered: list[np.ndarray] = []
    for facts, crops in zip(data.facts, data.valid, strict=True):
        labelled = _with_label(crops, data.label, checkpoint.label)
        if labelled is None:
            continue
        estimates, _ = predict(network, labelled, device, label_offset=checkpoint.label_offset)
        result = figures_of_part(
            estimates, labelled.ages, labelled.lows, labelled.highs, labelled.found, checkpoint.training["train_median"]
        )
        figures.append({"dataset": facts["dataset"], "label": checkpoint.label, "part": "valid", **result})
        answered.append(estimates)
    return replace(checkpoint, metrics=tuple(figures)), answered


def _with_label(crops: CropCache, label: str, wanted: str) -> CropCache | None:
    """The crops with the other label; None where it is not known."""
    if label == wanted:
        return crops
    if not np.isfinite(crops.others).all():
        return None
    nothing = np.full_like(crops.lows, np.nan)  # the other label is never an interval
    return replace(crops, ages=crops.others, stds=crops.other_stds, lows=nothing, highs=nothing)


def close_log(wandb: WandbLog, path: Path, checkpoint: Checkpoint, crops: CropCache, estimates: np.ndarray) -> None:
    """Gives W&B the final figures, the worst errors and the checkpoint, and closes it."""
    figures = {
        f"{m['dataset']}_{m['part']}_{k}": v for m in checkpoint.metrics for k, v in m.items() if isinstance(v, float)
    }
    found = np.flatnonzero(crops.found)
    nearest = np.where(crops.exact, crops.ages, np.clip(estimates, crops.lows, crops.highs))
    errors = np.abs(estimates - nearest)[found]
    worst = np.sort(found[np.argsort(errors)[-WORST_ERRORS:]])
    captions = [f"{estimates[i]:.0f} years, really {crops.ages[i]:.0f}" for i in worst]
    wandb.finish(figures, path, crops.crops[worst], captions)
