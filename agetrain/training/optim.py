"""Optimisers, their learning rate at every step, and the running mean of weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from agetrain.recipe import Recipe


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Makes the recipe's optimiser over all parameters that are trained; only weight matrices decay."""
    trained = [p for p in network.parameters() if p.requires_grad]
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    if not recipe.weight_decay:
        return kind(trained, lr=recipe.lr, weight_decay=0.0)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return kind(groups, lr=recipe.lr)


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """Computes the learning rate of a step from the recipe alone, so that a resumed run needs no state for it.

    Args:
        recipe: how it changes.
        epoch: from 0.
        step: of the epoch, from 0.
        steps: of an epoch.
    """
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return float(recipe.lr * recipe.step_factor ** (epoch // recipe.step_epochs))
    return recipe.lr * warmup_cosine(recipe.warmup_epochs * steps, recipe.epochs * steps, epoch * steps + step)


def warmup_cosine(warmup_steps: float, steps: int, step: int) -> float:
    """Computes the share of the largest rate: a linear warm-up, then a cosine to 0 (SGDR, ICLR 2017)."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def running_mean(decay: float) -> Callable[[Any, Any, Any], None]:
    """Makes an exponential mean that follows quickly at first, so that early epochs are not judged on the start."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        floats = [i for i, mean in enumerate(averaged) if mean.is_floating_point()]
        if floats:
            torch._foreach_lerp_([averaged[i] for i in floats], [current[i] for i in floats], weight)
        for mean, value in zip(averaged, current, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)

    return update
