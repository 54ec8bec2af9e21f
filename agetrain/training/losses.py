"""The losses: what a network learns from labels, a second label and teachers."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agetrain.network.agenet import AgeNet
from agetrain.recipe import Recipe
from agetrain.training.batches import Batch


def loss_and_age(
    network: AgeNet, raw: Tensor, ages: Tensor, stds: Tensor, recipe: Recipe, weights: Tensor | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Computes the loss of a batch by one label, and its decoded ages.

    ``l1`` and ``mse`` are of the decoded age. ``distribution`` is the divergence from a Gaussian round the true age, as
    wide as the raters disagreed, or `Recipe.target_std_years`, beside the absolute error of its mean (DLDL-v2, Gao et
    al., IJCAI 2018). Of an age that is only known as an interval, the error is the distance to it, and the divergence
    is minus the logarithm of what the distribution puts inside, which is its likelihood.

    Args:
        network: that gave ``raw``.
        raw: its head's output.
        ages: ``[n]`` years; a face without a label (NaN) counts as learned.
        stds: ``[n]`` years, NaN where unknown.
        recipe: for the constants.
        weights: of the ages from 0 to 100, see `agetrain.training.batches.Batch`.
        bounds: ends of intervals, see `agetrain.training.batches.Batch`.
    """
    decoded, _ = network.decode(raw)
    known = torch.isfinite(ages)
    ages = torch.where(known, ages, decoded.detach())
    nearest = ages
    if bounds is not None:
        lows, highs = bounds
        inside = decoded.detach().clamp(torch.nan_to_num(lows), torch.nan_to_num(highs))
        nearest = torch.where(torch.isfinite(lows) & known, inside, ages)
    if recipe.loss == "mse":
        return F.mse_loss(decoded, nearest), decoded
    if weights is not None:
        of_each = weights[ages.round().long().clamp(0, len(weights) - 1)]
        absolute = (of_each * (decoded - nearest).abs()).mean()
        if recipe.loss == "l1":
            return absolute, decoded
        divergence = _divergence(network, raw, ages, stds, recipe, bounds)
        return (of_each * divergence * known).mean() + recipe.l1_weight * absolute, decoded
    absolute = F.l1_loss(decoded, nearest)
    if recipe.loss == "l1":
        return absolute, decoded
    divergence = _divergence(network, raw, ages, stds, recipe, bounds)
    return (divergence * known).mean() + recipe.l1_weight * absolute, decoded


def total_loss(
    network: AgeNet, raw: Tensor, auxiliary: Tensor | None, batch: Batch, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Computes the loss of a batch by everything that is learned, and its decoded ages.

    Beside the label: the other of real and apparent age, by a head of its own, and a teacher's answers (Hinton et al.,
    2015), each where it is known. A teacher's distributions for the very faces of the batch come before its answers to
    the pictures.
    """
    loss, decoded = loss_and_age(network, raw, batch.ages, batch.stds, recipe, batch.weights, batch.bounds)
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


def _divergence(
    network: AgeNet, raw: Tensor, ages: Tensor, stds: Tensor, recipe: Recipe, bounds: tuple[Tensor, Tensor] | None
) -> Tensor:
    """``[n]``: Kullback-Leibler divergence of the head's distribution from a Gaussian, or from an interval."""
    widths = torch.nan_to_num(stds, nan=recipe.target_std_years).clamp_min(1.0)
    target = torch.softmax(-0.5 * ((network.ages - ages[:, None]) / widths[:, None]).square(), dim=1)
    log_probability = raw.float().log_softmax(dim=1)
    divergence = F.kl_div(log_probability, target, reduction="none").sum(dim=1)
    if bounds is None:
        return divergence
    return torch.where(torch.isfinite(bounds[0]), -log_mass_inside(log_probability, network.ages, *bounds), divergence)


def log_mass_inside(log_probability: Tensor, ages: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """Computes the logarithm of the probability that lies in intervals, ``[n]``.

    Args:
        log_probability: ``[n, bins]``.
        ages: ``[bins]`` years, ascending.
        lows: ``[n]`` years; where they are NaN the result has no meaning.
        highs: ``[n]`` years.
    """
    return torch.logsumexp(log_probability.masked_fill(~within(ages, lows, highs), -torch.inf), dim=1)


def within(ages: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """Says which bins of ``ages`` lie in each interval, ``[n, bins]``; a bin reaches half a year to both sides."""
    ends = [torch.nan_to_num(end).clamp(ages[0], ages[-1])[:, None] for end in (lows, highs)]
    return (ages >= ends[0] - 0.5) & (ages <= ends[1] + 0.5)
