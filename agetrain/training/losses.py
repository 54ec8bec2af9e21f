"""The losses: what a network learns from labels, a second label and teachers."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agetrain.network.agenet import AgeNet
from agetrain.recipe import Recipe
from agetrain.training.batches import Batch


def loss_and_age(
    network: AgeNet, raw: Tensor, ages: Tensor, stds: Tensor, recipe: Recipe, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Computes the loss of a batch by one label, and its decoded ages.

    ``l1`` and ``mse`` are of the decoded age. ``distribution`` is the divergence from a Gaussian round the true age, as
    wide as the raters disagreed, or `Recipe.target_std_years`, beside the absolute error of its mean (DLDL-v2, Gao et
    al., IJCAI 2018).

    Args:
        network: that gave ``raw``.
        raw: its head's output.
        ages: ``[n]`` years; a face without a label (NaN) counts as learned.
        stds: ``[n]`` years, NaN where unknown.
        recipe: for the constants.
        weights: of the ages from 0 to 100, see `agetrain.training.batches.Batch`.
    """
    decoded, _ = network.decode(raw)
    known = torch.isfinite(ages)
    ages = torch.where(known, ages, decoded.detach())
    if recipe.loss == "mse":
        return F.mse_loss(decoded, ages), decoded
    if weights is not None:
        of_each = weights[ages.round().long().clamp(0, len(weights) - 1)]
        absolute = (of_each * (decoded - ages).abs()).mean()
        if recipe.loss == "l1":
            return absolute, decoded
        divergence = _divergence(network, raw, ages, stds, recipe)
        return (of_each * divergence * known).mean() + recipe.l1_weight * absolute, decoded
    absolute = F.l1_loss(decoded, ages)
    if recipe.loss == "l1":
        return absolute, decoded
    return (_divergence(network, raw, ages, stds, recipe) * known).mean() + recipe.l1_weight * absolute, decoded


def total_loss(
    network: AgeNet, raw: Tensor, auxiliary: Tensor | None, batch: Batch, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Computes the loss of a batch by everything that is learned, and its decoded ages.

    Beside the label: the other of real and apparent age, by a head of its own, and a teacher's answers (Hinton et al.,
    2015), each where it is known. A teacher's distributions for the very faces of the batch come before its answers to
    the pictures.
    """
    loss, decoded = loss_and_age(network, raw, batch.ages, batch.stds, recipe, batch.weights)
    if auxiliary is not None:
        other, _ = loss_and_age(network, auxiliary, batch.others, batch.other_stds, recipe)
        loss = loss + recipe.auxiliary_weight * other
    if recipe.teacher_weight and batch.taught is not None:
        loss = loss + recipe.teacher_weight * _distance(network, raw, decoded, batch.taught, recipe)
    elif recipe.teacher_weight and batch.teacher_ages is not None and batch.teacher_stds is not None:
        taught, _ = loss_and_age(network, raw, batch.teacher_ages, batch.teacher_stds, recipe)
        loss = loss + recipe.teacher_weight * taught
    return loss, decoded


def weights_by_age(ages: np.ndarray, power: float) -> Tensor:
    """Computes how much a label of each age counts, float32 ``[101]``: the rarer the age, the more.

    Args:
        ages: ``[n]`` years, of what is learned.
        power: of the density, which is smoothed over three years to each side.
    """
    counts = np.bincount(np.clip(np.rint(ages[np.isfinite(ages)]), 0, 100).astype(int), minlength=101).astype(float)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 3) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same") + 1
    weights = density**-power
    weights /= (weights * counts).sum() / counts.sum()
    return torch.from_numpy(np.clip(weights, 0.25, 4)).float()


def _distance(network: AgeNet, raw: Tensor, decoded: Tensor, taught: Tensor, recipe: Recipe) -> Tensor:
    """How far a network is from the distributions ``taught``, in the terms in which the recipe measures its labels."""
    ages = (taught * network.ages).sum(dim=1)
    if recipe.loss == "mse":
        return F.mse_loss(decoded, ages)
    absolute = F.l1_loss(decoded, ages)
    if recipe.loss == "l1":
        return absolute
    divergence = F.kl_div(raw.float().log_softmax(dim=1), taught, reduction="batchmean")
    return divergence + recipe.l1_weight * absolute


def _divergence(network: AgeNet, raw: Tensor, ages: Tensor, stds: Tensor, recipe: Recipe) -> Tensor:
    """``[n]``: Kullback-Leibler divergence of the head's distribution from a Gaussian."""
    widths = torch.nan_to_num(stds, nan=recipe.target_std_years).clamp_min(1.0)
    target = torch.softmax(-0.5 * ((network.ages - ages[:, None]) / widths[:, None]).square(), dim=1)
    return F.kl_div(raw.float().log_softmax(dim=1), target, reduction="none").sum(dim=1)
