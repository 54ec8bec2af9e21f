"""The learning curve and the report of a run."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._files import replacing
from agetrain.experiments import FLAWS, Experiment
from agetrain.recipe import Recipe

# Fields of a recipe that may differ from an experiment's beside its published figures: chance, arithmetic, and how long
# it is trained, which the table tells.
_COMPARABLE = {"seed", "selection_seed", "precision", "epochs", "patience"}

log = logging.getLogger(__name__)


def draw_curve(path: Path, history: Sequence[dict[str, float]], title: str, loss: str) -> None:
    """Draws loss and MAE over the epochs into a PNG; without matplotlib it only logs a warning.

    Args:
        path: the PNG.
        history: one entry an epoch, see `agetrain.training.loop`.
        title: of the figure.
        loss: of the recipe.
    """
    if importlib.util.find_spec("matplotlib") is None:
        log.warning("matplotlib is not installed: no %s (pip install 'ageinfer[train]')", path.name)
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = range(1, len(history) + 1)
    figure, (loss_axis, mae_axis) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    loss_axis.plot(epochs, [h["train_loss"] for h in history], label="train")
    if loss in ("l1", "mse"):
        selection = "selection_mse" if loss == "mse" else "selection_mae"
        loss_axis.plot(epochs, [h[selection] for h in history], label="selection")
    unit = {"l1": "absolute error in years", "mse": "squared error in years squared"}.get(loss, "divergence")
    loss_axis.set(xlabel="epoch", ylabel=f"loss: {unit}")
    mae_axis.plot(epochs, [h["train_mae"] for h in history], label="train, as shown to the network")
    mae_axis.plot(epochs, [h["selection_mae"] for h in history], label="selection")
    best = int(np.argmin([h["selection_mse" if loss == "mse" else "selection_mae"] for h in history]))
    mae_axis.plot(best + 1, history[best]["selection_mae"], "o", label=f"kept: epoch {best + 1}")
    mae_axis.set(xlabel="epoch", ylabel="MAE in years")
    for axis in (loss_axis, mae_axis):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=100)
    pyplot.close(figure)


def run_report(experiment: Experiment, record: dict[str, Any], notes: Sequence[str]) -> str:
    """Writes the report of a run as Markdown: what was reproduced beside what was published, and the baselines.

    Args:
        experiment: that was run.
        record: what is written into ``metrics.json``.
        notes: what makes the figures not comparable.
    """
    history, recipe, data = record["history"], record["training"]["recipe"], record["training"]["data"]
    mse = recipe["loss"] == "mse"
    unit = "years squared" if mse else "years"
    kept = history[record["training"]["epoch"] - 1]
    valid = kept["selection_mse" if mse else "selection_mae"]
    lines = [f"# {experiment.id}: {experiment.title}", "", *(f"- {note}" for note in notes), *([""] if notes else [])]
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
            f"{valid:.4g} |",
            f"| reproduced, last epoch | {history[-1]['train_loss']:.3g} | "
            f"{history[-1]['selection_mse' if mse else 'selection_mae']:.4g} |",
            "",
        ]
    if any(m["n"] for m in record["metrics"]):
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


def changed_fields(experiment: Experiment, recipe: dict[str, Any]) -> list[str]:
    """Lists the fields of a recipe that differ from the experiment's, so that published figures do not compare.

    Args:
        experiment: that was run.
        recipe: by which it was, as JSON values.
    """
    own, run = experiment.recipe.to_dict(), Recipe.from_dict(recipe).to_dict()
    return [name for name in own if own[name] != run[name] and name not in _COMPARABLE]
