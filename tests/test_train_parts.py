"""The parts of the training loop, and its tracker."""

import itertools
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agetrain.errors import MissingDependencyError
from agetrain.networks import AgeNet
from agetrain.recipe import Recipe
from agetrain.tracking import Tracker
from agetrain.train import _running_mean, _warmup_cosine, loss_and_age, predict, split_selection

NAN = float("nan")


@pytest.fixture(scope="module")
def networks():
    return {head: AgeNet("mobilenet_v2", head).eval() for head in ("linear", "distribution")}


def loss_of(network, raw, ages, stds, **recipe):
    loss, decoded = loss_and_age(network, raw, torch.tensor(ages), torch.tensor(stds), Recipe(**recipe))
    return loss.item(), decoded.tolist()


def gaussian(age, width):
    weights = np.exp(-0.5 * ((np.arange(101) - age) / width) ** 2)
    return weights / weights.sum()


def test_the_linear_loss_is_the_mean_absolute_error(networks):
    raw = torch.tensor([[30.0], [50.0], [20.0]])
    loss, decoded = loss_of(networks["linear"], raw, [31.0, 46.0, 20.0], [NAN, 3.0, NAN])
    assert loss == pytest.approx((1 + 4 + 0) / 3)
    assert decoded == [30, 50, 20]


@pytest.mark.parametrize(("std", "width"), [(NAN, 2.5), (5.0, 5.0), (0.2, 1.0)])
def test_the_distribution_loss_is_the_divergence_from_a_gaussian(networks, std, width):
    """By definition, in numpy: no idea at all, against a Gaussian as wide as the raters disagreed, at least 1 year."""
    target = gaussian(50, width)
    divergence = (target * (np.log(target, where=target > 0, out=np.zeros(101)) + np.log(101))).sum()
    loss, decoded = loss_of(networks["distribution"], torch.zeros(1, 101), [50.0], [std])
    assert decoded == pytest.approx([50], abs=1e-3)
    assert loss == pytest.approx(divergence, rel=1e-4)


def test_the_distribution_loss_also_counts_the_error_of_the_mean(networks):
    loss = {
        weight: loss_of(networks["distribution"], torch.zeros(2, 101), [20.0, 50.0], [NAN, NAN], l1_weight=weight)[0]
        for weight in (0.0, 0.1)
    }
    assert loss[0.1] - loss[0.0] == pytest.approx(0.1 * (30 + 0) / 2, abs=1e-3)


def test_the_true_distribution_has_no_loss(networks):
    raw = torch.from_numpy(np.log(np.maximum(gaussian(42, 2.5), 1e-30))).float()[None]
    loss, decoded = loss_of(networks["distribution"], raw, [42.0], [NAN])
    assert loss == pytest.approx(0, abs=1e-4)
    assert decoded == pytest.approx([42], abs=1e-3)
    assert loss_of(networks["distribution"], raw, [45.0], [NAN])[0] > 0.3


def test_the_loss_leads_towards_the_label(networks):
    raw = torch.zeros(1, 101, requires_grad=True)
    loss, _ = loss_and_age(networks["distribution"], raw, torch.tensor([30.0]), torch.tensor([NAN]), Recipe())
    loss.backward()
    assert raw.grad[0].argmin().item() == 30


def test_warm_up_and_cosine():
    factor = _warmup_cosine(10, 100)
    rates = [factor(step) for step in range(101)]
    assert 0 < rates[0] < 0.1
    assert all(b > a for a, b in itertools.pairwise(rates[:11]))
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert all(b < a for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0, abs=1e-9)


@given(st.floats(0, 50), st.integers(1, 200))
def test_the_rate_is_never_above_its_largest(warmup, steps):
    factor = _warmup_cosine(warmup, steps)
    assert all(0 <= factor(step) <= 1 for step in range(steps + 1))


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_the_selection_is_a_part_of_its_own(n, share, seed):
    learn, select = split_selection(tuple(range(n)), share, seed)
    assert sorted(learn + select) == list(range(n))
    assert len(select) == max(1, round(share * n))
    assert learn == sorted(learn)
    assert select == sorted(select)
    assert (learn, select) == split_selection(tuple(range(n)), share, seed)


def test_the_seed_chooses_the_selection():
    selections = {tuple(split_selection(tuple(range(100)), 0.1, seed)[1]) for seed in range(5)}
    assert len(selections) == 5


def test_the_running_mean_follows_quickly_at_first_and_slowly_later():
    early, late = torch.zeros(1), torch.zeros(1)
    update = _running_mean(0.99)
    update([early], [torch.ones(1)], 0)
    update([late], [torch.ones(1)], 100_000)
    assert early.item() == pytest.approx(0.9)
    assert late.item() == pytest.approx(0.01)
    counter = torch.tensor(3)
    update([counter], [torch.tensor(8)], 5)
    assert counter.item() == 8


def test_predict_leaves_out_what_has_no_face(networks):
    from agetrain.cache import CropCache

    crops = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    found = np.array([True, False, True, True, False])
    cache = CropCache(crops, found, np.zeros(5, np.float32), np.zeros(5, np.float32))
    ages = predict(networks["linear"], cache, torch.device("cpu"), False)
    assert np.isnan(ages).tolist() == [False, True, False, False, True]
    with torch.inference_mode():
        for i in np.flatnonzero(found):
            face = torch.from_numpy(crops[i]).permute(2, 0, 1)[None].float()
            assert ages[i] == pytest.approx(networks["linear"](face).item(), abs=1e-3)


class BrokenError(Exception):
    """With no text at all, as some of W&B's are."""


def fake_wandb(monkeypatch, fails=None, error=BrokenError):
    """A W&B that notes what it is asked, and fails where it is told to."""
    calls = []

    def act(name):
        def method(*args, **kwargs):
            calls.append((name, args, kwargs))
            if name == fails:
                raise error()

        return method

    class Run:
        dir = "nowhere"
        log, finish = staticmethod(act("log")), staticmethod(act("finish"))
        summary = types.SimpleNamespace(update=act("summary"))

    def init(**kwargs):
        act("init")(**kwargs)
        return Run()

    module = types.ModuleType("wandb")
    module.init, module.Settings = init, lambda **kwargs: act("Settings")(**kwargs)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


@pytest.mark.parametrize("error", [BrokenError, lambda: OSError(28, "No space left on device")])
@pytest.mark.parametrize("fails", ["init", "Settings", "log", "summary", "finish"])
def test_a_run_goes_on_whatever_its_tracker_does(monkeypatch, tmp_path, fails, error):
    fake_wandb(monkeypatch, fails, error)
    tracker = Tracker("offline", "test", {"a": 1}, tmp_path)
    tracker.log({"loss": 1.0}, 1)
    tracker.summarise({"mae": 1.0})
    tracker.finish()


def test_what_is_tracked(monkeypatch, tmp_path):
    calls = fake_wandb(monkeypatch)
    tracker = Tracker("offline", "agetrain", {"a": 1}, tmp_path)
    tracker.log({"loss": 1.5}, 3)
    tracker.summarise({"mae": 2.0})
    tracker.finish()
    _, init, logged, summary, finish = calls
    assert init[2]["mode"] == "offline"
    assert (init[2]["project"], init[2]["config"], init[2]["dir"]) == ("agetrain", {"a": 1}, tmp_path)
    assert logged[1:] == (({"loss": 1.5},), {"step": 3})
    assert summary[1] == ({"mae": 2.0},)
    assert finish[0] == "finish"


@pytest.mark.parametrize(
    ("key", "netrc", "mode"),
    [
        ("", "", "offline"),
        ("k" * 40, "", "online"),
        ("", "machine api.wandb.ai login user password p\n", "online"),
        ("", "machine example.org login user password p\n", "offline"),
        ("", "this is no netrc", "offline"),
    ],
)
def test_auto_is_online_where_there_is_a_key(monkeypatch, tmp_path, key, netrc, mode):
    calls = fake_wandb(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", key)
    if netrc:
        (tmp_path / ".netrc").write_text(netrc)
        (tmp_path / ".netrc").chmod(0o600)
    Tracker("auto", "test", {}, tmp_path)
    assert next(kwargs for name, _, kwargs in calls if name == "init")["mode"] == mode


def test_disabled_does_not_even_import_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = Tracker("disabled", "test", {}, tmp_path)
    tracker.log({}, 1)
    tracker.summarise({})
    tracker.finish()
    Tracker("auto", "test", {}, tmp_path)
    with pytest.raises(MissingDependencyError, match="pip install"):
        Tracker("offline", "test", {}, tmp_path)
