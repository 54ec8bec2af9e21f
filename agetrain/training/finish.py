"""The end of a run: the kept epochs are measured once on each validation part, and everything is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._files import write_json, write_text
from agetrain.crops.cache import CropCache
from agetrain.evaluation.metrics import figures_of_part
from agetrain.experiments import Experiment
from agetrain.network.checkpoint import Checkpoint, read
from agetrain.training import report
from agetrain.training.predict import predict
from agetrain.training.start import Run
from agetrain.training.state import BEST_FILE, BEST_FILES, STATE_FILE
from agetrain.training.wandb_log import WandbLog

WORST_ERRORS = 16


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """What a training run left.

    Attributes:
        out: folder of the results.
        path: the checkpoint of the best epoch, ``best.pth``.
        checkpoint: what is in it.
        history: for each epoch its loss, its errors in years, its learning rate and its time.
    """

    out: Path
    path: Path
    checkpoint: Checkpoint
    history: tuple[dict[str, float], ...]

    @property
    def metrics(self) -> tuple[dict[str, Any], ...]:
        """What was measured of the checkpoint, each with its data set and its part."""
        return self.checkpoint.metrics

    @classmethod
    def read(cls, out: Path) -> "TrainingResult":
        """Reads the result of a finished run.

        Raises:
            CheckpointError: a file of it is missing or broken.
        """
        history = read(out / STATE_FILE)["progress"]["history"]
        return cls(out, out / BEST_FILE, Checkpoint.load(out / BEST_FILE), tuple(history))


def finish_run(run: Run, experiment: Experiment, notes: Sequence[str]) -> None:
    """Measures the kept epochs on each validation part and writes their checkpoints, figures and report.

    Args:
        run: whose epochs are done.
        experiment: that was run.
        notes: what makes its figures not comparable with published ones.

    Raises:
        OutputError: a checkpoint cannot be written.
    """
    out, history = run.out, run.state.history
    for name in [name for name in BEST_FILES if name in run.best]:
        checkpoint, answered = _measured(run, run.best[name])
        checkpoint.save(out / name)
        del run.best[name]  # what is left there when a run ends early is still to be written
        record = {"metrics": list(checkpoint.metrics), "history": history, "training": checkpoint.training}
        write_json(out / f"metrics{Path(name).stem.removeprefix('best')}.json", record)
        if name == BEST_FILE:
            write_text(out / "report.md", report.run_report(experiment, record, notes))
            title = f"{experiment.id}: {checkpoint.backbone} on {run.data.name}, {run.data.label} age"
            report.draw_curve(out / "curve.png", history, title, run.recipe.loss)
            close_log(run.wandb, out / name, checkpoint, run.data.valid[0], answered[0])


def _measured(run: Run, checkpoint: Checkpoint) -> tuple[Checkpoint, list[np.ndarray]]:
    """Returns a checkpoint with its figures on each validation part, and what it answered to them."""
    network = checkpoint.network().to(run.processes.device)
    figures: list[dict[str, Any]] = []
    answered: list[np.ndarray] = []
    for facts, crops in zip(run.data.facts, run.data.valid, strict=True):
        labelled = _with_label(crops, run.data.label, checkpoint.label)
        if labelled is None:
            continue
        estimates, _ = predict(network, labelled, run.processes.device, label_offset=checkpoint.label_offset)
        result = figures_of_part(
            estimates, labelled.ages, labelled.lows, labelled.highs, labelled.found, checkpoint.training["train_median"]
        )
        figures.append({"dataset": facts["dataset"], "label": checkpoint.label, "part": "valid", **result})
        answered.append(estimates)
    return replace(checkpoint, metrics=(*checkpoint.metrics, *figures)), answered


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
