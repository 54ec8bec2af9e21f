"""The training loop, read from top to bottom."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from agetrain._progress import progress
from agetrain.errors import DivergedError
from agetrain.network.agenet import AgeNet
from agetrain.recipe import Recipe
from agetrain.training.augment import augment
from agetrain.training.batches import Batch
from agetrain.training.callbacks import augmented
from agetrain.training.freezing import set_training_mode
from agetrain.training.losses import total_loss
from agetrain.training.optim import learning_rate
from agetrain.training.selection import select_epoch
from agetrain.training.start import Run
from agetrain.training.state import best_epoch, selection_figure


def train(run: Run, after_epoch: Callable[[Run], str] = lambda _: "") -> str:
    """Trains to the last epoch, or until no better one comes; the best epochs are then in ``run.best``.

    After each epoch ``last.pth`` holds the state of the run, and the files of the best epochs are written.

    Args:
        run: its state and its best epochs change.
        after_epoch: is called after each epoch, by the first process; what it returns ends the run, and says why.

    Returns:
        Why the run ended before its last epoch; empty where it did not.

    Raises:
        DivergedError: the loss is no longer a number.
        OutputError: the state cannot be written.
    """
    recipe, processes = run.recipe, run.processes
    for epoch in range(run.state.epoch + 1, recipe.epochs + 1):
        best = best_epoch(run.state.history, selection_figure(recipe.loss))
        if recipe.patience and epoch > best + recipe.patience and best:
            return f"{recipe.patience} epochs without a better one"
        began = time.perf_counter()
        figures = train_epoch(run, epoch)
        ended = ""
        if processes.first:
            better = select_epoch(run, epoch, figures, began)
            run.save_state(better)  # before the files of the best epochs, see `agetrain.training.state`
            for name in better:
                run.best[name].save(run.out / name)
            run.wandb.log(figures, epoch)
            ended = after_epoch(run)
        run.state, ended = processes.agreed((run.state, ended))
        if ended:
            return ended
    return ""


def train_epoch(run: Run, epoch: int) -> dict[str, float]:
    """Trains one epoch, counted from 1; returns its loss and error on the training faces, and its speed.

    Raises:
        DivergedError: the loss is no longer a number.
    """
    recipe, network, device, steps = run.recipe, run.network, run.processes.device, run.batches.steps
    began = time.perf_counter()
    torch.manual_seed(recipe.seed + 1_000_003 * epoch + run.processes.rank)  # of dropout
    set_training_mode(network, run.frozen, recipe.frozen_batchnorm)
    sums = torch.zeros(4, dtype=torch.float64, device=device)  # loss, absolute error, faces, labels
    some_exact = bool(run.batches.crops.exact.any())
    batches: Iterable[Batch] = run.batches.epoch(epoch)
    if run.processes.first:
        batches = progress(batches, f"epoch {epoch}/{recipe.epochs}", "step", steps)
    for step, batch in enumerate(batches):
        rate = learning_rate(recipe, epoch - 1, step, steps)
        for group in run.optimiser.param_groups:
            group["lr"] = rate
        faces = augment(batch.wide, recipe.size, run.data.crop.fill, recipe.augmentation, batch.draws)
        if run.augment:
            faces = augmented(faces, run.augment)
        if run.networks and recipe.teacher_weight:
            batch = replace(batch, taught=run.networks.distribution(faces, bf16=run.bf16))
        batch = replace(batch, weights=run.age_weights)
        loss, decoded = take_step(run.learner, network, run.optimiser, faces, batch, recipe, bf16=run.bf16)
        if run.averaged:
            run.averaged.update_parameters(network)
        n = len(batch.ages)
        errors = (
            decoded - _nearest(decoded, batch, some_exact)
        ).abs()  # NaN where a label is doubted, or none to count
        tally = [loss * n, errors.nansum(), torch.full_like(loss, n), errors.isfinite().sum()]
        sums += torch.stack([value.double() for value in tally])
        # On a GPU a look at the loss waits for it, so there only now and then.
        if (device.type == "cpu" or step % 20 == 0) and not math.isfinite(float(sums[0])):
            raise DivergedError(f"the loss is {loss.item()} in epoch {epoch}, step {step + 1}; use a lower --lr")
    loss_sum, error_sum, count, labels = run.processes.total(sums).tolist()
    return {
        "train_loss": loss_sum / count, "train_mae": error_sum / max(labels, 1), "lr": rate,
        "images_per_second": count / (time.perf_counter() - began),
    }  # fmt: skip


def _nearest(decoded: Tensor, batch: Batch, some_exact: bool) -> Tensor:
    """The labels that errors are counted from: exact ages, or without any the nearest ages in the intervals."""
    if batch.lows is None or batch.highs is None:
        return batch.ages
    if some_exact:
        return torch.where(torch.isfinite(batch.lows), torch.nan, batch.ages)
    return torch.where(torch.isfinite(batch.ages), decoded.clamp(batch.lows, batch.highs), torch.nan)


def take_step(
    learner: nn.Module, network: AgeNet, optimiser: torch.optim.Optimizer, faces: Tensor, batch: Batch, recipe: Recipe,
    *, bf16: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Makes one step of the optimiser; returns the loss of the batch and its decoded ages.

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
