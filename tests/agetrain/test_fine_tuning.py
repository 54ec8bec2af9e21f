"""Rare ages count more where that is asked for."""

import numpy as np
import pytest
import torch

from agetrain.network.agenet import AgeNet
from agetrain.recipe import Recipe
from agetrain.training.losses import loss_and_age, weights_by_age


def test_rare_ages_count_more_and_all_together_as_before():
    ages = np.array([25.0] * 900 + [70.0] * 100, np.float32)
    weights = weights_by_age(ages, 0.5)
    assert weights[70] > 2 * weights[25]
    assert float(weights[ages.astype(int)].mean()) == pytest.approx(1, abs=1e-3)
    assert weights.min() >= 0.25
    assert weights.max() <= 4
    assert torch.equal(weights_by_age(ages, 0.0), torch.ones(101))


def test_the_weights_reach_the_loss():
    network = AgeNet("mobilenet_v1_face", "distribution")
    raw = torch.randn(2, 101, generator=torch.Generator().manual_seed(0))
    ages, stds = torch.tensor([25.0, 70.0]), torch.full((2,), float("nan"))
    recipe = Recipe()
    each = [loss_and_age(network, raw[i : i + 1], ages[i : i + 1], stds[i : i + 1], recipe)[0] for i in (0, 1)]
    weights = torch.ones(101)
    same, _ = loss_and_age(network, raw, ages, stds, recipe, weights)
    assert float(same) == pytest.approx(float(sum(each)) / 2, rel=1e-5)
    weights[70] = 3
    more, _ = loss_and_age(network, raw, ages, stds, recipe, weights)
    assert float(more) == pytest.approx(float(each[0] + 3 * each[1]) / 2, rel=1e-5)
