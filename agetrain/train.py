"""The training loop, read from top to bottom."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from agetrain import checkpoint, report
from agetrain.augment import augment, centre
from agetrain.data import Batch, Batches, Teacher, TrainingSet
from agetrain.distributed import Processes
from agetrain.errors import CheckpointError, DatasetError, DivergedError, UsageError
from agetrain.losses import total_loss, weights_by_age
from agetrain.metrics import Metrics, measure
from agetrain.mobilenet_face import FaceMobileNet, put_normalisation_back
from agetrain.networks import (
    AgeNet,
    Start,
    freeze,
    hold_batchnorm,
    load_imagenet_weights,
    reestimate_batchnorm,
    set_training_mode,
)
from agetrain.optim import learning_rate, make_optimiser, running_mean
from agetrain.predict import predict, uses_bf16
from agetrain.progress import progress
from agetrain.recipe import Recipe
from agetrain.teachers import NetworkTeacher
from agetrain.tracking import Tracker

STATE_FILE, CONFIG_FILE = "last.pth", "config.json"
# Of the label that was asked for, and of the other one where a second head learns it.
BEST_FILES = ("best.pth", "best-real.pth", "best-apparent.pth")
_STATE_FORMAT = "agetrain-state-1"
_REESTIMATION_BATCHES = 40
_NORMALISATION_BATCHES = 10

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far a run has come; kept in ``last.pth`` so that it can go on.

    Attributes:
        epoch: the last one that was finished.
        history: figures of each epoch.
        best_mae: of the kept epoch, years; for the other label likewise.
        best_epoch: its number.
        tracker_id: of the run in W&B.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_mae: float = math.inf
    best_epoch: int = 0
    best_other_mae: float = math.inf
    tracker_id: str = ""


class Learner(nn.Module):
    """A network with all its heads in one call, which is what several processes have to share."""

    def __init__(self, network: AgeNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.network.features(faces)
        auxiliary = self.network.auxiliary
        return self.network.head(features), None if auxiliary is None else auxiliary(features)


def train(
    recipe: Recipe, data: TrainingSet, out: Path, processes: Processes, *, weights: str | Path | None = None,
    teacher: Teacher | None = None, networks: NetworkTeacher | None = None, wandb_mode: str = "disabled",
    resume: bool = False, overwrite: bool = False, config: dict[str, Any],
) -> Tracker:  # fmt: skip
    """Trains a network; leaves ``best.pth``, ``last.pth`` and ``config.json``, with a second label ``best-LABEL.pth``.

    Args:
        recipe: how.
        data: what from.
        out: the folder.
        processes: this process and its device.
        weights: ImageNet weights, see `load_imagenet_weights`, or a checkpoint to start from.
        teacher: predictions to learn from beside the labels; where there are ``networks``, only to doubt labels by.
        networks: to learn from beside the labels.
        wandb_mode: see `Tracker`.
        resume: go on where ``last.pth`` stands, if it is there.
        overwrite: replace what an earlier run left in the folder.
        config: of the run, for its records.

    Returns:
        The tracker, still open, for the figures of the kept epoch.

    Raises:
        WeightsError: there are no ImageNet weights.
        DatasetError: too few of the pictures hold a face.
        DivergedError: the loss is no longer a number; checkpoints so far are kept.
        CheckpointError: a checkpoint cannot be written, or ``last.pth`` is not one.
        UsageError: ``last.pth`` is of another run, the folder holds an earlier one that was not to be replaced, or
            ``weights`` would be written over.
    """
    device = processes.device
    check_teachers(recipe, data, teacher, networks)
    batches = Batches(data, recipe, device, teacher, processes.rank, processes.world)
    if not len(data.select):
        raise DatasetError("no pictures to choose the epoch by: that part is empty; take more, or another split")
    if not data.select.found.any():
        raise DatasetError("a face in none of the pictures to choose the epoch by; look at them")
    state = _load_state(out / STATE_FILE, config) if resume else None
    if state is None and not overwrite:
        _check_is_free(out)
    torch.manual_seed(recipe.seed)
    other_known = bool(np.isfinite(batches.crops.others).any())
    network = AgeNet(
        recipe.backbone, recipe.head, recipe.dropout, normalise=recipe.normalise,
        auxiliary=recipe.auxiliary_weight > 0 and other_known,
    )  # fmt: skip
    start = Start(state["start"], False, tuple(state["start_missing"])) if state else None
    start = start or checkpoint.start_from(network, weights) or load_imagenet_weights(network, weights)
    frozen = freeze(network, recipe.frozen_children, start)
    offset = data.label_offset if recipe.labels == "stored" else 0.0
    if recipe.start_at_mean and recipe.head == "linear" and not start.with_head:
        nn.init.constant_(cast(nn.Linear, network.head[1]).bias, float(batches.crops.ages.mean()) - offset)
    network.to(device).to(memory_format=torch.channels_last)
    if start.substitute and state is None:
        # Whole batches in each process, so that the start does not depend on how many there are.
        whole = batches if processes.world == 1 else Batches(data, recipe, device, teacher)
        some = whole.epoch(1, _REESTIMATION_BATCHES)
        reestimate_batchnorm(network, (centre(batch.wide, recipe.size) for batch in some))
    if start.folded and state is None and isinstance(network.backbone, FaceMobileNet):
        whole = batches if processes.world == 1 else Batches(data, recipe, device, teacher)
        views = (centre(batch.wide, recipe.size) for batch in whole.epoch(1, _NORMALISATION_BATCHES))
        put_normalisation_back(network.backbone, ((view - network.mean) / network.std for view in views))
    averaged = None
    if recipe.ema_decay:
        averaged = AveragedModel(network, multi_avg_fn=running_mean(recipe.ema_decay), use_buffers=True)
    optimiser = make_optimiser(network, recipe)
    done = Progress()
    if state:
        network.load_state_dict(state["network"])
        if averaged:
            averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        done = Progress(**state["progress"])
    learner: nn.Module = Learner(network)
    if processes.world > 1:
        learner = DistributedDataParallel(learner, device_ids=[device] if device.type == "cuda" else None)
    if processes.first:  # not before: a run that may not start, or not go on, leaves the folder as it is
        if state is None:
            _remove_earlier_run(
                out, {"--weights": [weights] if weights else [], "--teacher": config.get("teacher", ())}
            )
        report.write_json(out / CONFIG_FILE, config)
    bf16 = uses_bf16(recipe.precision, device)
    age_weights = weights_by_age(batches.crops.ages, recipe.age_balance).to(device) if recipe.age_balance else None
    tracker = Tracker(wandb_mode if processes.first else "disabled", "agetrain", config, out, done.tracker_id)
    done.tracker_id = tracker.run_id
    if processes.first:
        _say_what_starts(recipe, data, batches, networks, done, start, device, bf16)

    train_median = float(np.median(batches.crops.ages))
    for epoch in range(done.epoch + 1, recipe.epochs + 1):
        if recipe.patience and epoch > done.best_epoch + recipe.patience and done.best_epoch:
            log.info("stopped after epoch %d: %d epochs without a better one", epoch - 1, recipe.patience)
            break
        began = time.perf_counter()
        torch.manual_seed(recipe.seed + 1_000_003 * epoch + processes.rank)  # of dropout
        set_training_mode(network, frozen, recipe.frozen_batchnorm)
        if recipe.batchnorm == "eval":
            hold_batchnorm(network)
        sums = torch.zeros(4, dtype=torch.float64, device=device)  # loss, absolute error, faces, labels
        for step, batch in enumerate(
            progress(batches.epoch(epoch), f"epoch {epoch}/{recipe.epochs}", "step", batches.steps)
        ):
            rate = learning_rate(recipe, epoch - 1, step, batches.steps)
            for group in optimiser.param_groups:
                group["lr"] = rate * group.get("share", 1.0)
            faces = augment(batch.wide, recipe.size, data.crop.fill, recipe.augmentation, batch.draws)
            if networks and recipe.teacher_weight:
                batch = replace(batch, taught=networks.distribution(faces, bf16=bf16))
            batch = replace(batch, weights=age_weights)
            loss, decoded = take_step(learner, network, optimiser, faces, batch, recipe, bf16=bf16)
            if averaged:
                averaged.update_parameters(network)
            n = len(batch.ages)
            errors = (decoded - batch.ages).abs()  # NaN where a label is doubted
            tally = [loss * n, errors.nansum(), torch.full_like(loss, n), errors.isfinite().sum()]
            sums += torch.stack([value.double() for value in tally])
            # On a GPU a look at the loss waits for it, so there only now and then.
            if (device.type == "cpu" or step % 20 == 0) and not math.isfinite(float(sums[0])):
                raise DivergedError(f"the loss is {loss.item()} in epoch {epoch}, step {step + 1}; use a lower --lr")
        loss_sum, error_sum, count, labels = processes.total(sums).tolist()
        trained_s = time.perf_counter() - began

        if processes.first:
            kept = cast(AgeNet, averaged.module) if averaged else network
            estimates, _ = predict(kept, data.select, device, bf16=bf16, label_offset=offset)
            selection = measure(estimates, data.select.ages, data.select.found, train_median)
            figures = {
                "train_loss": loss_sum / count, "train_mae": error_sum / max(labels, 1), "selection_mae": selection.mae,
                "selection_mse": selection.rmse**2, "lr": rate, "seconds": time.perf_counter() - began,
                "images_per_second": count / trained_s,
            }  # fmt: skip
            done.epoch = epoch
            done.history.append(figures)
            if not math.isfinite(selection.mae) or not math.isfinite(loss_sum):
                raise DivergedError(f"the weights are no longer numbers after epoch {epoch}; use a lower --lr")
            best = _is_best(recipe, done.history)
            log.info(
                "epoch %d/%d: loss %.3f, train MAE %.2f, selection MAE %.2f%s, %.0f s",
                epoch, recipe.epochs, figures["train_loss"], figures["train_mae"], selection.mae,
                " (best)" if best else "", figures["seconds"],
            )  # fmt: skip
            facts: dict[str, Any] = {
                "data": list(data.facts), "start": start.source, "train_median": train_median,
                **({"start_terms": start.terms} if start.terms else {}),
                "experiment": config["experiment"], "recipe": recipe.to_dict(), "epoch": epoch,
                **checkpoint.environment(),
            }  # fmt: skip
            teaching = networks or teacher
            if teaching and recipe.teacher_weight:
                facts["teacher"] = list(teaching.files)
            if teacher and recipe.doubt_beyond:
                facts["doubted_by"] = list(teacher.files)
                facts["doubted_labels"] = dict(zip((d["dataset"] for d in data.facts), batches.doubted, strict=True))
            if best:
                done.best_mae, done.best_epoch = selection.mae, epoch
                _keep(out / "best.pth", kept, data, offset, facts, estimates, selection)
            if kept.auxiliary is not None:
                _keep_other(out, kept, data, offset, facts, done, bf16, device)
            _save_state(out / STATE_FILE, network, averaged, optimiser, start, done, config)
            tracker.log(figures, epoch)
        done = processes.agreed(done)
    return tracker


def check_teachers(recipe: Recipe, data: TrainingSet, teacher: Teacher | None, networks: NetworkTeacher | None) -> None:
    """Refuses teachers that would have no effect, or teach something else than the labels.

    Raises:
        UsageError: so it would be.
    """
    if networks and recipe.labels == "stored" and data.label_offset:
        raise UsageError("--teacher: a checkpoint answers in true years; use --labels true, or predictions of it")
    # Networks cannot doubt: their answers are to faces as they are shown, not to pictures.
    if not recipe.teacher_weight and (networks or (teacher and not recipe.doubt_beyond)):
        raise UsageError(
            "--teacher: with --teacher-weight 0 nothing is learned from it; give a weight, or --doubt-beyond"
        )
    if teacher and networks and not recipe.doubt_beyond:
        raise UsageError(
            "--teacher: beside checkpoints, predictions only serve --doubt-beyond; give it, or leave them out"
        )


def take_step(
    learner: nn.Module, network: AgeNet, optimiser: torch.optim.Optimizer, faces: Tensor, batch: Batch, recipe: Recipe,
    *, bf16: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One step of the optimiser; returns the loss of the batch and its decoded ages.

    Args:
        learner: the `Learner` of the network, or what shares it between processes.
        network: whose weights are changed.
        optimiser: over them.
        faces: float32 ``[n, 3, size, size]``, RGB, 0 to 255.
        batch: their labels.
        recipe: for the loss.
        bf16: whether to compute in bf16.
    """
    with torch.autocast(faces.device.type, torch.bfloat16, enabled=bf16):
        raw, auxiliary = learner(faces.contiguous(memory_format=torch.channels_last))
    loss, decoded = total_loss(network, raw, auxiliary, batch, recipe)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss * batch.share)  # processes may hold unequal shares of a batch
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimiser.step()
    return loss.detach(), decoded.detach()


def _is_best(recipe: Recipe, history: list[dict[str, float]]) -> bool:
    """Whether the last epoch is the best; the original runs compared their loss, not its decoded age."""
    name = "selection_mse" if recipe.loss == "mse" else "selection_mae"
    return history[-1][name] <= min(figures[name] for figures in history)


def _say_what_starts(
    recipe: Recipe, data: TrainingSet, batches: Batches, networks: NetworkTeacher | None, done: Progress, start: Start,
    device: torch.device, bf16: bool,
) -> None:  # fmt: skip
    if any(batches.doubted):
        log.info(
            "not learned, because the teacher contradicts them: labels of %s",
            ", ".join(f"{facts['dataset']} {n}" for facts, n in zip(data.facts, batches.doubted, strict=True)),
        )
    if networks:
        log.info("taught by %s", " and ".join(networks.files))
    if start.substitute:
        log.warning("%s: not torchvision's own; figures may differ from published ones", start.source)
    log.info(
        "%s: %d faces to learn from%s, %d to choose the epoch, %d pictures to report on; %s on %s in %s%s",
        data.name, batches.faces, f" ({batches.taught} with a teacher)" if batches.taught else "", len(data.select),
        sum(len(part) for part in data.valid), recipe.backbone, device, "bf16" if bf16 else "fp32",
        f"; going on after epoch {done.epoch}" if done.epoch else "",
    )  # fmt: skip


def _keep(
    path: Path, network: AgeNet, data: TrainingSet, offset: float, facts: dict[str, Any], estimates: np.ndarray,
    selection: Metrics,
) -> None:  # fmt: skip
    if network.head_name == "linear":
        residuals = (estimates - data.select.ages)[data.select.found]
        network.residual_std.fill_(float(residuals.std()))
    metrics = []
    if facts["recipe"]["select_on"] != "valid":
        metrics = [{"dataset": data.name, "label": data.label, "part": "selection", **selection.to_dict()}]
    checkpoint.save(path, checkpoint.values_of(network, data.crop, data.label, offset, facts, metrics))


def _keep_other(
    out: Path, network: AgeNet, data: TrainingSet, offset: float, facts: dict[str, Any], done: Progress, bf16: bool,
    device: torch.device,
) -> None:  # fmt: skip
    """Keeps the best epoch of the second head, as a network of its own that answers the other label."""
    known = np.flatnonzero(np.isfinite(data.select.others) & data.select.found)
    if len(known) == 0:
        return
    label = "apparent" if data.label == "real" else "real"
    swapped = AgeNet(network.backbone_name, network.head_name)
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith(("head.", "auxiliary."))}
    weights |= {
        k.replace("auxiliary.", "head.", 1): v for k, v in network.state_dict().items() if k.startswith("auxiliary.")
    }
    swapped.load_state_dict(weights)
    swapped.to(device).to(memory_format=torch.channels_last)
    estimates, _ = predict(swapped, data.select, device, bf16=bf16, label_offset=offset)
    learned = np.concatenate([cache.others[np.isfinite(cache.others)] for cache in data.learn])
    median = float(np.median(learned))
    selection = measure(estimates[known], data.select.others[known], np.ones(len(known), bool), median)
    done.history[-1]["other_selection_mae"] = selection.mae
    if selection.mae < done.best_other_mae:
        done.best_other_mae = selection.mae
        swapped.residual_std.fill_(float((estimates - data.select.others)[known].std()))
        metrics = [{"dataset": data.name, "label": label, "part": "selection", **selection.to_dict()}]
        own = {**facts, "train_median": median}
        values = checkpoint.values_of(swapped, data.crop, label, offset, own, metrics)
        checkpoint.save(out / f"best-{label}.pth", values)


def _save_state(
    path: Path, network: AgeNet, averaged: AveragedModel | None, optimiser: torch.optim.Optimizer, start: Start,
    done: Progress, config: dict[str, Any],
) -> None:  # fmt: skip
    values = {
        "format": _STATE_FORMAT, "config": config, "network": network.state_dict(),
        "averaged": averaged.state_dict() if averaged else None,
        "optimiser": optimiser.state_dict(), "start": start.source, "start_missing": list(start.missing),
        "progress": {name: getattr(done, name) for name in Progress.__dataclass_fields__},
    }  # fmt: skip
    checkpoint.write(path, values)


def _check_is_free(out: Path) -> None:
    there = [name for name in (*BEST_FILES, STATE_FILE) if (out / name).exists()]
    if there:
        goes_on = "--resume goes on with it, " if STATE_FILE in there else ""
        raise UsageError(
            f"{out}: holds {there[0]} of an earlier run; {goes_on}another --out leaves it alone, --overwrite replaces "
            "it"
        )


def _remove_earlier_run(out: Path, needed: dict[str, Sequence[str | Path]]) -> None:
    """Removes what an earlier run left, so that nobody takes it for this run's; files of other names stay."""
    checkpoints = [out / name for name in (*BEST_FILES, STATE_FILE)]
    for option, files in needed.items():
        for file in files:
            if Path(file).resolve() in [path.resolve() for path in checkpoints]:
                raise UsageError(f"{option} {file}: this run would write over it; choose another --out")
    for path in checkpoints:
        path.unlink(missing_ok=True)
    for name in ("metrics.json", "metrics-real.json", "metrics-apparent.json", "report.md", "curve.png", "parity.npz"):
        (out / name).unlink(missing_ok=True)


def _load_state(path: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The state of an interrupted run; None where there is none yet."""
    if not path.is_file():
        log.info("%s: not there; starting from the beginning", path)
        return None
    values = checkpoint.read(path)
    if values.get("format") != _STATE_FORMAT:
        raise CheckpointError(f"{path}: not the state of a run; start anew without --resume")
    # A state from before a field was added is of a run that did without it, as the field's default does. Which weights
    # it started from, it does not say.
    before = {"weights": config.get("weights"), **values["config"]}
    before["recipe"] = Recipe.from_dict(before["recipe"]).to_dict()
    if "teacher_sha256" not in before and config.get("packed"):
        before["teacher"] = config["teacher"]  # it names the teacher of the packing, whoever taught the run
    must_agree = {"recipe": "recipe", "label": "label", "split_sha256": "split"}
    for name in ("weights", "teacher"):
        # What is in a file counts, not where it lies; but a hash is not always known.
        digest = f"{name}_sha256"
        must_agree[digest if before.get(digest) and config.get(digest) else name] = f"--{name}"
    different = [told for key, told in must_agree.items() if before.get(key) != config.get(key)]
    if different:
        raise UsageError(f"{path}: of a run with another {different[0]}; give the same options, or another --out")
    return values
