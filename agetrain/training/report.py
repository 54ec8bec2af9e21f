"""The learning curve and the report of a run, which are there after every epoch."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agetrain._files import replacing, write_json, write_text
from agetrain.errors import MissingDependencyError
from agetrain.experiments import FLAWS, Experiment
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe
from agetrain.training.state import BEST_FILE, best_epoch, selection_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Fields of a recipe that may differ from an experiment's beside its published figures: chance, arithmetic, and how long
# it is trained, which the table tells.
_COMPARABLE = {"seed", "selection_seed", "precision", "epochs", "patience"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of a run: ``metrics.json``, ``report.md`` and ``curve.png``.

    Attributes:
        out: folder of the run.
        experiment: that is run.
        recipe: how it trains.
        notes: what makes its figures not comparable with published ones.
        title: of the curve, see `curve_title`.
    """

    out: Path
    experiment: Experiment
    recipe: Recipe
    notes: Sequence[str]
    title: str

    def write(
        self, best: Mapping[str, Checkpoint], history: Sequence[dict[str, float]], *, finished: bool, ended: str = ""
    ) -> None:
        """Writes them all; ``metrics.json`` comes last and says whether the run is finished.

        Args:
            best: the best epochs by the name of their file.
            history: figures of each epoch.
            finished: whether the validation parts were measured; before, no figure of them is told.
            ended: why the run ended before its last epoch.
        """
        records = {
            name: {
                "finished": finished, "epochs": self.recipe.epochs, "ended": ended,
                "metrics": [m for m in checkpoint.metrics if finished or m["part"] != "valid"],
                "history": list(history), "training": checkpoint.training,
            }
            for name, checkpoint in best.items()
        }  # fmt: skip
        write_text(self.out / "report.md", run_report(self.experiment, records[BEST_FILE], self.notes))
        title = self.title if finished else f"{self.title}, epoch {len(history)} of {self.recipe.epochs}"
        if importlib.util.find_spec("matplotlib") is not None:
            with replacing(self.out / "curve.png") as unfinished:
                curve(history, title, self.recipe.loss).savefig(unfinished, dpi=100)
        elif finished:
            log.warning("matplotlib is not installed: no curve.png (pip install 'ageinfer[train]')")
        for name in sorted(records):  # best-apparent.pth and best-real.pth come before best.pth
            write_json(self.out / f"{name.removesuffix('.pth').replace('best', 'metrics', 1)}.json", records[name])


def curve_title(experiment: str, recipe: Recipe, data: str, label: str) -> str:
    """Returns the title of a learning curve.

    Args:
        experiment: its id.
        recipe: of the run.
        data: names of the data sets.
        label: ``real`` or ``apparent``.
    """
    return f"{experiment}: {recipe.backbone} on {data}, {label} age"


def curve(history: Sequence[Mapping[str, float]], title: str, loss: str) -> "Figure":
    """Draws loss and MAE over the epochs.

    Args:
        history: one entry an epoch, see `agetrain.training.loop`.
        title: of the figure.
        loss: of the recipe.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib is not installed: pip install 'ageinfer[train]'") from error
    selection, epochs = selection_figure(loss), range(1, len(history) + 1)
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss_axis, mae_axis = figure.subplots(1, 2)
    loss_axis.plot(epochs, [h["train_loss"] for h in history], label="train")
    if loss in ("l1", "mse"):
        loss_axis.plot(epochs, [h[selection] for h in history], label="selection")
    unit = {"l1": "absolute error in years", "mse": "squared error in years squared"}.get(loss, "divergence")
    loss_axis.set(xlabel="epoch", ylabel=f"loss: {unit}")
    mae_axis.plot(epochs, [h["train_mae"] for h in history], label="train, as shown to the network")
    mae_axis.plot(epochs, [h["selection_mae"] for h in history], label="selection")
    best = best_epoch(history, selection)
    mae_axis.plot(best, history[best - 1]["selection_mae"], "o", label=f"kept: epoch {best}")
    mae_axis.set(xlabel="epoch", ylabel="MAE in years")
    for axis in (loss_axis, mae_axis):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    return figure


def run_report(experiment: Experiment, record: dict[str, Any], notes: Sequence[str]) -> str:
    """Writes the report of a run as Markdown: what was reproduced beside what was published, and the baselines.

    Args:
        experiment: that was run.
        record: what is written into ``metrics.json``.
        notes: what makes the figures not comparable.
    """
    history, recipe, data = record["history"], record["training"]["recipe"], record["training"]["data"]
    selection = selection_figure(recipe["loss"])
    unit = "years squared" if recipe["loss"] == "mse" else "years"
    kept = history[record["training"]["epoch"] - 1]
    lines = [f"# {experiment.id}: {experiment.title}", "", *(f"- {note}" for note in notes), *([""] if notes else [])]
    told = _how_far(record)
    lines += [told, ""] if told else []
    if experiment.published is not None and experiment.published.valid is not None:
        p = experiment.published
        about = "about " if p.approximate else ""
        published = f"{about}{p.train:g} | {about}{p.valid:g}"
        changed = changed_fields(experiment, recipe)
        if record["training"]["start"].startswith("checkpoint"):
            changed.append("the start")
        if changed:
            published = f"not comparable: changed {', '.join(changed)} |"
        lines += [
            f"| loss, {unit} | train | valid |",
            "|---|---|---|",
            f"| published{f', {p.note}' if p.note else ''} | {published} |",
            f"| reproduced, kept epoch {record['training']['epoch']} of {len(history)} | {kept['train_loss']:.3g} | "
            f"{kept[selection]:.4g} |",
            f"| reproduced, last epoch | {history[-1]['train_loss']:.3g} | {history[-1][selection]:.4g} |",
            "",
        ]
    if any(m["n"] for m in record["metrics"]):  # a run that chooses on valid has none before its end
        lines += [
            "| part | n | MAE, years | within 5 years | bias | face found | always answering the training median |",
            "|---|---|---|---|---|---|---|",
        ]
    lines += [
        f"| {m['dataset']} {m['part']}, {m['label']} age | {m['n']} | {m['mae']:.2f} | {m['cs5_percent']:.1f} % | "
        f"{m['bias']:+.2f} | {m['detection_rate_percent']:.1f} % | {m['mae_of_train_median']:.2f} |"
        for m in record["metrics"]
        if m["n"]
    ]
    known = [m for m in record["metrics"] if "intervals" in m]
    if known:
        lines += [
            "",
            "| ages known as intervals | n | distance to it, years | inside | face found | always answering the "
            "training median |",
            "|---|---|---|---|---|---|",
        ]
    for m in known:
        i = m["intervals"]
        lines.append(
            f"| {m['dataset']} {m['part']}, {m['label']} age | {i['n']} | {i['interval_error']:.2f} | "
            f"{i['inside_percent']:.1f} % | {i['detection_rate_percent']:.1f} % | "
            f"{i['interval_error_of_train_median']:.2f} |"
        )
    if experiment.flaws:
        lines += ["", "Known flaws of the original run:", ""]
        lines += [f"{number}. {FLAWS[number]}" for number in experiment.flaws]
    if experiment.assumed:
        lines += ["", f"Assumed, because it was not recorded: {', '.join(experiment.assumed)}."]
    if experiment.note:
        lines += ["", f"Note: {experiment.note}."]
    lines += ["", *(f"- {d['dataset']}: split {d['split']}, SHA-256 {d['split_sha256'][:16]}" for d in data)]
    seconds = [h["seconds"] for h in history]
    lines += [
        "",
        f"Start: {record['training']['start']}. {np.mean(seconds):.0f} s an epoch, {sum(seconds) / 60:.0f} min in all.",
    ]
    return "\n".join(lines) + "\n"


def _how_far(record: dict[str, Any]) -> str:
    """A sentence about a run that is not finished, or that ended before its last epoch; else nothing."""
    done, epochs = len(record["history"]), record.get("epochs", 0)
    if not record.get("finished", True):
        return f"Epoch {done} of {epochs}, not finished; the final figures are measured once, at the end."
    return f"Ended after epoch {done} of {epochs}: {record['ended']}." if record.get("ended") else ""


def changed_fields(experiment: Experiment, recipe: dict[str, Any]) -> list[str]:
    """Lists the fields of a recipe that differ from the experiment's, so that published figures do not compare.

    Args:
        experiment: that was run.
        recipe: by which it was, as JSON values.
    """
    own, run = experiment.recipe.to_dict(), Recipe.from_dict(recipe).to_dict()
    return [name for name in own if own[name] != run[name] and name not in _COMPARABLE]
