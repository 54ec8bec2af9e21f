"""The choice of the best epoch: each epoch is measured on faces that it did not learn from."""

import logging
import math
import time
from typing import Any

import numpy as np
import torch

from agetrain.crops.cache import CropCache
from agetrain.errors import DivergedError
from agetrain.evaluation.metrics import chosen_error, figures_of_part, measure
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.training.callbacks import name_of
from agetrain.training.predict import predict
from agetrain.training.start import Run
from agetrain.training.state import BEST_FILE, best_epoch, other_label, selection_figure

log = logging.getLogger(__name__)


def select_epoch(run: Run, epoch: int, figures: dict[str, float], began: float) -> list[str]:
    """Measures an epoch and keeps its network if it is the best so far, in ``run.best``.

    Args:
        run: its state and its best epochs are changed.
        epoch: counted from 1.
        figures: of the epoch; the errors on the selection part and the time are added.
        began: when the epoch began, by ``time.perf_counter``.

    Returns:
        The files of ``run.best`` of which this epoch is the best one.

    Raises:
        DivergedError: the answers are no longer numbers.
    """
    recipe, data, state = run.recipe, run.data, run.state
    train_median = float(np.median(run.batches.crops.ages))
    estimates, _ = predict(run.kept, data.select, run.processes.device, bf16=run.bf16, label_offset=run.label_offset)
    selection = chosen_error(estimates, *_labels(data.select), train_median)
    figures |= {
        "selection_mae": selection.mae, "selection_mse": selection.rmse**2, "seconds": time.perf_counter() - began
    }  # fmt: skip
    state.history.append(figures)
    if not math.isfinite(selection.mae) or not math.isfinite(figures["train_loss"]):
        raise DivergedError(f"the weights are no longer numbers after epoch {epoch}; use a lower --lr")
    best = best_epoch(state.history, selection_figure(recipe.loss)) == epoch
    log.info(
        "epoch %d/%d: loss %.3f, train %s %.2f, selection %s %.2f%s, %.0f s",
        epoch, recipe.epochs, figures["train_loss"], data.error_name, figures["train_mae"], data.error_name,
        selection.mae, " (best)" if best else "", figures["seconds"],
    )  # fmt: skip
    facts = _facts(run, epoch, train_median)
    better = []
    if best:
        run.best[BEST_FILE] = _checkpoint_of(run, facts, estimates)
        better.append(BEST_FILE)
    if run.kept.auxiliary is not None:
        better += _keep_other(run, facts)
    return better


def _facts(run: Run, epoch: int, train_median: float) -> dict[str, Any]:
    """How the network of this epoch was made, for its checkpoint."""
    facts: dict[str, Any] = {
        "data": list(run.data.facts), "start": run.start.source, "train_median": train_median,
        **({"start_terms": run.start.terms} if run.start.terms else {}),
        **{key: run.record[key] for key in ("backbone_sha256",) if key in run.record},
        "experiment": run.record["experiment"], "recipe": run.recipe.to_dict(), "epoch": epoch, **run.made_with,
    }  # fmt: skip
    if run.augment:
        facts["augment"] = name_of(run.augment)
    teaching = run.networks or run.predictions
    if teaching and run.recipe.teacher_weight:
        facts["teacher"] = list(teaching.files)
    if run.predictions and run.recipe.doubt_beyond:
        names = [data["dataset"] for data in run.data.facts]
        facts["doubted_by"] = list(run.predictions.files)
        facts["doubted_labels"] = dict(zip(names, run.batches.doubted, strict=True))
    return facts


def _labels(crops: CropCache) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, ends of intervals and where a face is, as `agetrain.evaluation.metrics` takes them."""
    return crops.ages, crops.lows, crops.highs, crops.found


def _checkpoint_of(run: Run, facts: dict[str, Any], estimates: np.ndarray) -> Checkpoint:
    network, data = run.kept, run.data
    if network.head_name == "linear":
        residuals = (estimates - data.select.ages)[data.select.found]
        network.residual_std.fill_(float(residuals.std()))
    metrics = []
    if run.recipe.select_on != "valid":
        measured = figures_of_part(estimates, *_labels(data.select), facts["train_median"])
        metrics = [{"dataset": data.name, "label": data.label, "part": "selection", **measured}]
    return Checkpoint.of_network(network, data.crop, data.label, run.label_offset, facts, metrics)


def _keep_other(run: Run, facts: dict[str, Any]) -> list[str]:
    """Keeps the best epoch of the second head, as a network of its own that answers the other label.

    Returns:
        Its file, or nothing.
    """
    network, data = run.kept, run.data
    known = np.flatnonzero(np.isfinite(data.select.others) & data.select.found)
    if len(known) == 0:
        return []
    label = other_label(data.label)
    swapped = AgeNet(network.backbone_name, network.head_name, size=data.crop.size, trust_code=network.trust_code)
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith(("head.", "auxiliary."))}
    weights |= {
        k.replace("auxiliary.", "head.", 1): v for k, v in network.state_dict().items() if k.startswith("auxiliary.")
    }
    swapped.load_state_dict(weights)
    swapped.to(run.processes.device).to(memory_format=torch.channels_last)
    estimates, _ = predict(swapped, data.select, run.processes.device, bf16=run.bf16, label_offset=run.label_offset)
    learned = np.concatenate([cache.others[np.isfinite(cache.others)] for cache in data.learn])
    median = float(np.median(learned))
    selection = measure(estimates[known], data.select.others[known], np.ones(len(known), bool), median)
    run.state.history[-1]["other_selection_mae"] = selection.mae
    if best_epoch(run.state.history, "other_selection_mae") != run.state.epoch:
        return []
    swapped.residual_std.fill_(float((estimates - data.select.others)[known].std()))
    metrics = [{"dataset": data.name, "label": label, "part": "selection", **selection.to_dict()}]
    name = f"best-{label}.pth"
    run.best[name] = Checkpoint.of_network(
        swapped, data.crop, label, run.label_offset, {**facts, "train_median": median}, metrics
    )
    return [name]
