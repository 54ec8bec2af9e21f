"""The parts of the training loop, and its tracker."""

import dataclasses
import itertools
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.crop.spec import CropSpec
from agetrain.crops.cache import CropCache
from agetrain.crops.training_set import TrainingSet, split_selection
from agetrain.datasets import Sample
from agetrain.errors import DatasetError, MissingDependencyError, UsageError
from agetrain.network.agenet import AgeNet
from agetrain.recipe import Recipe
from agetrain.training.augment import augment
from agetrain.training.batches import Batch, Batches
from agetrain.training.losses import loss_and_age, total_loss
from agetrain.training.optim import learning_rate, make_optimiser, running_mean, warmup_cosine
from agetrain.training.predict import predict
from agetrain.training.start import check_teachers
from agetrain.training.teachers import NetworkTeacher, Teacher
from agetrain.training.wandb_log import WandbLog

NAN = float("nan")
CPU = torch.device("cpu")
LINEAR = {"head": "linear", "loss": "l1"}


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
    loss, decoded = loss_of(networks["linear"], raw, [31.0, 46.0, 20.0], [NAN, 3.0, NAN], **LINEAR)
    assert loss == pytest.approx((1 + 4 + 0) / 3)
    assert decoded == [30, 50, 20]


def test_the_squared_loss_is_in_years_squared(networks):
    raw = torch.tensor([[30.0], [50.0], [20.0]])
    loss, decoded = loss_of(networks["linear"], raw, [31.0, 46.0, 20.0], [NAN] * 3, head="linear", loss="mse")
    assert loss == pytest.approx((1 + 16 + 0) / 3)
    assert decoded == [30, 50, 20]


@pytest.mark.parametrize(
    ("head", "loss"), [("linear", "distribution"), ("distribution", "l1"), ("distribution", "mse")]
)
def test_a_head_learns_by_its_own_losses_alone(head, loss):
    with pytest.raises(UsageError, match=f"--head {head} cannot learn by --loss {loss}"):
        Recipe(head=head, loss=loss)


@pytest.mark.parametrize(("head", "loss"), [("linear", "l1"), ("linear", "mse"), ("distribution", "distribution")])
def test_a_face_without_a_label_counts_as_learned(networks, head, loss):
    network, recipe = networks[head], Recipe(head=head, loss=loss)
    raw = torch.randn(3, network.head[1].out_features, requires_grad=True)
    alone, _ = loss_and_age(network, raw[:1], torch.tensor([40.0]), torch.tensor([NAN]), recipe)
    among, _ = loss_and_age(network, raw, torch.tensor([40.0, NAN, NAN]), torch.full((3,), NAN), recipe)
    assert among.item() == pytest.approx(alone.item() / 3, rel=1e-5)
    among.backward()
    assert raw.grad[0].abs().sum() > 0
    assert (raw.grad[1:] == 0).all()


def batch_of(ages, others, teacher_ages):
    unknown = torch.full((len(ages),), NAN)
    values = [torch.tensor(v) for v in (ages, others, teacher_ages)]
    return Batch({}, 1.0, torch.empty(0), values[0], unknown, values[1], unknown, values[2], unknown)


def test_all_that_is_learned_is_weighed_and_summed(networks):
    """By hand, with absolute errors: of the label, of the other label by its own head, and of the teacher's answers."""
    raw, other = torch.tensor([[30.0], [50.0]]), torch.tensor([[20.0], [60.0]])
    batch = batch_of([31.0, 46.0], [NAN, 66.0], [33.0, NAN])
    recipe = Recipe(**LINEAR, auxiliary_weight=0.5, teacher_weight=2)
    loss, decoded = total_loss(networks["linear"], raw, other, batch, recipe)
    assert loss.item() == pytest.approx((1 + 4) / 2 + 0.5 * 6 / 2 + 2 * 3 / 2)
    assert decoded.tolist() == [30, 50]
    without = dataclasses.replace(recipe, teacher_weight=0)
    assert total_loss(networks["linear"], raw, None, batch, without)[0].item() == pytest.approx((1 + 4) / 2)


def test_what_networks_teach_comes_before_answers_to_the_pictures(networks):
    """By hand: no idea at all, taught that it is 20 or 40 with equal chances; years, and the divergence of both."""
    taught = torch.zeros(2, 101)
    taught[:, [20, 40]] = 0.5
    batch = dataclasses.replace(batch_of([NAN, NAN], [NAN, NAN], [90.0, 90.0]), taught=taught)
    raw = torch.tensor([[31.0], [34.0]])
    for loss, expected in (("l1", (1 + 4) / 2), ("mse", (1 + 16) / 2)):
        recipe = Recipe(head="linear", loss=loss, teacher_weight=2)
        assert total_loss(networks["linear"], raw, None, batch, recipe)[0].item() == pytest.approx(2 * expected)
    recipe = Recipe(teacher_weight=2, l1_weight=0.1)
    loss, decoded = total_loss(networks["distribution"], torch.zeros(2, 101), None, batch, recipe)
    assert decoded.tolist() == pytest.approx([50, 50], abs=1e-3)
    assert loss.item() == pytest.approx(2 * (np.log(101) - np.log(2) + 0.1 * 20), rel=1e-4)


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
    rates = [warmup_cosine(10, 100, step) for step in range(101)]
    assert 0 < rates[0] < 0.1
    assert all(b > a for a, b in itertools.pairwise(rates[:11]))
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert all(b < a for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0, abs=1e-9)


@given(st.floats(0, 50), st.integers(1, 200))
def test_the_rate_is_never_above_its_largest(warmup, steps):
    assert all(0 <= warmup_cosine(warmup, steps, step) <= 1 for step in range(steps + 1))


def rates_of(steps=10, **changes):
    recipe = Recipe(lr=0.5, **changes)
    return [learning_rate(recipe, epoch, step, steps) for epoch in range(recipe.epochs) for step in range(steps)]


def test_the_rate_of_each_schedule():
    assert rates_of(schedule="constant", epochs=3, warmup_epochs=0) == [0.5] * 30
    stepped = rates_of(schedule="step", epochs=8, step_epochs=3, step_factor=0.1)
    assert stepped == pytest.approx([0.5] * 30 + [0.05] * 30 + [0.005] * 20)
    cosine = rates_of(schedule="cosine", epochs=4, warmup_epochs=1.5)
    assert cosine == pytest.approx([0.5 * warmup_cosine(15, 40, step) for step in range(40)])
    assert max(cosine) == cosine[15] == 0.5


@pytest.mark.parametrize(("optimiser", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_weight_matrices_alone_decay_and_what_is_frozen_is_left_out(networks, optimiser, kind):
    network = networks["linear"]
    first = network.backbone.features[0].requires_grad_(False)
    made = make_optimiser(network, Recipe(**LINEAR, optimiser=optimiser, weight_decay=0.03))
    first.requires_grad_(True)
    assert type(made) is kind
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert not any(id(p) in decay for p in first.parameters())
    rest = [p for p in network.parameters() if not any(p is q for q in first.parameters())]
    assert [decay[id(p)] for p in rest] == [0.03 if p.ndim > 1 else 0 for p in rest]
    assert len(decay) == len(rest)


def nobody(n):
    """Samples of which nobody knows whom they show."""
    return [Sample(Path(str(i)), 20) for i in range(n)]


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_the_selection_is_a_part_of_its_own(n, share, seed):
    learn, select = split_selection(nobody(n), share, seed)
    assert sorted(learn + select) == list(range(n))
    assert len(select) == max(1, round(share * n))
    assert learn == sorted(learn)
    assert select == sorted(select)
    assert (learn, select) == split_selection(nobody(n), share, seed)


@given(st.lists(st.integers(0, 30).map(str), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_a_person_is_on_one_side_of_the_selection(subjects, share, seed):
    samples = [Sample(Path(str(i)), 20, subject=subject) for i, subject in enumerate(subjects)]
    learn, select = split_selection(samples, share, seed)
    assert sorted(learn + select) == list(range(len(samples)))
    assert not {subjects[i] for i in learn} & {subjects[i] for i in select}
    # As many as asked for, and no person more than that needs.
    count = max(1, round(share * len(samples)))
    assert count <= len(select) < count + max(map(subjects.count, subjects))


def test_the_seed_chooses_the_selection():
    selections = {tuple(split_selection(nobody(100), 0.1, seed)[1]) for seed in range(5)}
    assert len(selections) == 5


def test_the_running_mean_follows_quickly_at_first_and_slowly_later():
    early, late = torch.zeros(1), torch.zeros(1)
    update = running_mean(0.99)
    update([early], [torch.ones(1)], 0)
    update([late], [torch.ones(1)], 100_000)
    assert early.item() == pytest.approx(0.9)
    assert late.item() == pytest.approx(0.01)
    counter = torch.tensor(3)
    update([counter], [torch.tensor(8)], 5)
    assert counter.item() == 8


def cache_of(n, side=64, start=0, missing=()):
    """Crops of noise, with ages from ``start`` upwards and digests of which each is its own."""
    crops = np.random.default_rng(start).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    ages = np.arange(start, start + n, dtype=np.float32)
    unknown = np.full(n, np.nan, np.float32)
    found = ~np.isin(np.arange(n), missing)
    return CropCache(
        crops, found, ages, unknown, ages + 0.5, unknown, 1000 + np.arange(start, start + n, dtype=np.uint64),
        unknown, unknown,
    )  # fmt: skip


@pytest.mark.parametrize("head", ["linear", "distribution"])
def test_predict_leaves_out_what_has_no_face(networks, head):
    cache = cache_of(5, missing=(1, 4))
    ages, stds = predict(networks[head], cache, CPU)
    assert np.isnan(ages).tolist() == np.isnan(stds).tolist() == [False, True, False, False, True]
    later, _ = predict(networks[head], cache, CPU, label_offset=15)
    with torch.inference_mode():
        for i in np.flatnonzero(cache.found):
            face = torch.from_numpy(cache.crops[i]).permute(2, 0, 1)[None].float()
            age, std = networks[head].decode(networks[head](face))
            assert ages[i] == pytest.approx(age.item(), abs=1e-3)
            assert stds[i] == pytest.approx(std.item(), abs=1e-3)
            assert later[i] == pytest.approx(age.item() + 15, abs=1e-3)


def training_set(*learn, offset=0.0):
    crop = CropSpec(size=16)
    return TrainingSet(tuple({"dataset": "a"} for _ in learn), "real", offset, crop, learn, learn[0], learn)


SMALL = Recipe(size=16, batch_size=4, repeats=(1.0,))


def ages_of(batches, epoch=1):
    return [batch.ages.tolist() for batch in batches.epoch(epoch)]


def test_an_epoch_shows_every_face_once_in_an_order_of_its_own():
    batches = Batches(training_set(cache_of(14, 22, missing=(3, 7))), SMALL, CPU)
    assert (batches.faces, batches.steps) == (12, 3)
    first, again, second = ages_of(batches), ages_of(batches), ages_of(batches, 2)
    shown = sorted(age for batch in first for age in batch)
    assert shown == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13]
    assert first == again != second
    assert sorted(age for batch in second for age in batch) == shown
    assert ages_of(Batches(training_set(cache_of(14, 22)), dataclasses.replace(SMALL, seed=1), CPU)) != first


def test_each_face_comes_with_its_own_labels():
    cache = cache_of(9, 22)
    teacher = Teacher(cache.digests[2:4], np.float32([40, 50]), np.float32([4, 5]), ("t.npz",))
    batches = Batches(training_set(cache), dataclasses.replace(SMALL, drop_last=False), CPU, teacher)
    assert batches.taught == 2
    seen = 0
    for batch in batches.epoch(1):
        for i, age in enumerate(batch.ages.int().tolist()):
            np.testing.assert_array_equal(batch.wide[i].numpy(), cache.crops[age])
            assert batch.others[i] == age + 0.5
            taught = {2: (40, 4), 3: (50, 5)}.get(age, (NAN, NAN))
            answers = batch.teacher_ages[i].item(), batch.teacher_stds[i].item()
            assert answers == pytest.approx(taught, nan_ok=True)
            seen += 1
    assert seen == 8  # a last batch of one face is left out


def test_crops_that_are_on_the_device_make_the_same_batches(monkeypatch):
    """On a GPU they are where they fit; here the memory of the computer is taken for one."""
    monkeypatch.setattr("agetrain.training.batches._PIECE", 4)
    data = training_set(cache_of(9, 22, missing=(3,)), cache_of(6, 22, start=20))
    teacher = Teacher(data.learn[0].digests[2:4], np.float32([40, 50]), np.float32([4, 5]), ())
    for room in (10**9, sum(cache.crops.nbytes for cache in data.learn), 1):
        from_disk = Batches(data, SMALL, CPU, teacher)
        with monkeypatch.context() as patch:
            patch.setattr("agetrain.training.batches._room", lambda _, room=room: room)
            resident = Batches(data, SMALL, CPU, teacher)
        assert (resident._resident is None) == (room == 1)
        for a, b in zip(from_disk.epoch(2), resident.epoch(2), strict=True):
            for name in ("wide", "ages", "others", "teacher_ages"):
                torch.testing.assert_close(getattr(a, name), getattr(b, name), equal_nan=True)
            assert all(torch.equal(a.draws[name], b.draws[name]) for name in a.draws)


def test_a_network_that_answers_true_years_does_not_teach_stored_labels():
    cache = cache_of(9, 22)
    networks = NetworkTeacher((), (), ())
    stored = dataclasses.replace(SMALL, labels="stored")
    with pytest.raises(UsageError, match="a checkpoint answers in true years; use --label-values true"):
        check_teachers(stored, training_set(cache, offset=15.0), None, networks)
    check_teachers(stored, training_set(cache), None, networks)  # stored as they are
    check_teachers(SMALL, training_set(cache, offset=15.0), None, networks)


def test_labels_far_from_what_the_teacher_says_are_not_learned():
    """At 3 deviations: 30 against 10 +- 6 is doubted, against 13 +- 6 not; without a teacher's answer nothing is."""
    cache = cache_of(4, 22, start=30)
    teacher = Teacher(cache.digests[:3], np.float32([10, 13, 52]), np.float32([6, 6, 6]), ())
    recipe = dataclasses.replace(SMALL, doubt_beyond=3.0)
    data = training_set(cache, cache_of(4, 22, start=70))
    batches = Batches(data, recipe, CPU, teacher)
    assert batches.doubted == (2, 0)
    learned, taught, others = [], [], []
    for batch in batches.epoch(1):
        learned += batch.ages.tolist()
        taught += batch.teacher_ages.tolist()
        others += batch.others.tolist()
    assert sorted(a for a in learned if a == a) == [31, 33, 70, 71, 72, 73]
    assert sorted(a for a in taught if a == a) == [10, 13, 52]  # the faces themselves are still shown
    assert np.isfinite(others).all()
    assert Batches(data, dataclasses.replace(recipe, doubt_beyond=4.0), CPU, teacher).doubted == (0, 0)
    assert Batches(data, SMALL, CPU, teacher).doubted == (0, 0)
    with pytest.raises(UsageError, match="--teacher"):
        Batches(data, recipe, CPU)


def test_stored_labels_are_years_less_the_offset():
    recipe = dataclasses.replace(SMALL, labels="stored")
    cache = cache_of(4, 22, start=20)
    teacher = Teacher(cache.digests, np.float32([30] * 4), np.float32([4] * 4), ())
    [batch] = Batches(training_set(cache, offset=15), recipe, CPU, teacher).epoch(1)
    assert sorted(batch.ages.tolist()) == [5, 6, 7, 8]
    assert sorted(batch.others.tolist()) == [5.5, 6.5, 7.5, 8.5]
    assert batch.teacher_ages.tolist() == [15] * 4
    [batch] = Batches(training_set(cache, offset=15), SMALL, CPU).epoch(1)
    assert sorted(batch.ages.tolist()) == [20, 21, 22, 23]


def test_data_sets_are_repeated_as_often_as_asked():
    data = training_set(cache_of(8, 22), cache_of(8, 22, start=100))
    shown = [a for b in ages_of(Batches(data, dataclasses.replace(SMALL, repeats=(2.0, 0.5)), CPU)) for a in b]
    assert sorted(a for a in shown if a < 100) == sorted([*range(8), *range(8)])
    assert len({a for a in shown if a >= 100}) == len([a for a in shown if a >= 100]) == 4
    tripled = Batches(data, dataclasses.replace(SMALL, repeats=(3.0,)), CPU)
    assert (tripled.faces, tripled.steps) == (16, 12)
    with pytest.raises(DatasetError, match="--repeats has 3 numbers for 2 data sets"):
        Batches(data, dataclasses.replace(SMALL, repeats=(1.0, 1.0, 1.0)), CPU)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_that_one_alone_would_have(world):
    data, recipe = training_set(cache_of(11, 22)), dataclasses.replace(SMALL, batch_size=5, drop_last=False)
    alone = list(Batches(data, recipe, CPU).epoch(3))
    shared = [list(Batches(data, recipe, CPU, None, rank, world).epoch(3)) for rank in range(world)]
    for step, whole in enumerate(alone):
        faces = augment(whole.wide, 16, (0, 0, 0), recipe.augmentation, whole.draws)
        assert sum(part[step].share for part in shared) == pytest.approx(world)
        for rank, part in enumerate(shared):
            batch = part[step]
            assert torch.equal(batch.ages, whole.ages[rank::world])
            assert batch.share == pytest.approx(len(batch.ages) * world / len(whole.ages))
            mine = augment(batch.wide, 16, (0, 0, 0), recipe.augmentation, batch.draws)
            assert (mine - faces[rank::world]).abs().mean() < 0.2
    assert [len(part) for part in shared] == [len(alone)] * world


def test_too_few_faces_to_learn_from():
    with pytest.raises(DatasetError, match="only 1 pictures to learn from hold a face"):
        Batches(training_set(cache_of(3, 22, missing=(0, 1))), SMALL, CPU)


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
        dir, id = "nowhere", "r1"
        log, finish = staticmethod(act("log")), staticmethod(act("finish"))
        log_artifact = staticmethod(act("log_artifact"))
        summary = types.SimpleNamespace(update=act("summary"))

    def init(**kwargs):
        act("init")(**kwargs)
        return Run()

    def artifact(*args, **kwargs):
        act("Artifact")(*args, **kwargs)
        return types.SimpleNamespace(add_file=act("add_file"))

    module = types.ModuleType("wandb")
    module.init, module.Settings = init, lambda **kwargs: act("Settings")(**kwargs)
    module.Artifact, module.Image = artifact, act("Image")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


@pytest.mark.parametrize("error", [BrokenError, lambda: OSError(28, "No space left on device")])
@pytest.mark.parametrize(
    "fails", ["init", "Settings", "log", "summary", "finish", "Image", "Artifact", "add_file", "log_artifact"]
)
def test_a_run_goes_on_whatever_its_tracker_does(monkeypatch, tmp_path, fails, error):
    calls = fake_wandb(monkeypatch, fails, error)
    tracker = WandbLog("offline", "test", {"a": 1}, tmp_path)
    tracker.log({"loss": 1.0}, 1)
    tracker.finish({"mae": 1.0}, tmp_path / "best.pth", np.zeros((1, 8, 8, 3), np.uint8), ["20 years, really 30"])
    assert [name for name, _, _ in calls].count(fails) == 1  # and is not asked again


def test_what_is_tracked(monkeypatch, tmp_path):
    calls = fake_wandb(monkeypatch)
    tracker = WandbLog("offline", "agetrain", {"a": 1}, tmp_path)
    assert tracker.run_id == "r1"
    tracker.log({"loss": 1.5}, 3)
    worst = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    tracker.finish({"mae": 2.0}, tmp_path / "best.pth", worst, ["20 years, really 30", "9 years, really 1"])
    _, init, logged, summary, first, second, pictures, artifact, file, _, finish = calls
    assert init[2]["mode"] == "offline"
    assert (init[2]["project"], init[2]["config"], init[2]["dir"]) == ("agetrain", {"a": 1}, tmp_path)
    assert logged[1:] == (({"loss": 1.5},), {"step": 3})
    assert summary[1] == ({"mae": 2.0},)
    for image, face, caption in zip((first, second), worst, ["20 years, really 30", "9 years, really 1"], strict=True):
        np.testing.assert_array_equal(image[1][0], face)
        assert image[2] == {"caption": caption}
    assert pictures[0] == "log"
    assert artifact[1:] == (("checkpoint-r1",), {"type": "model"})
    assert file[1] == (str(tmp_path / "best.pth"),)
    assert [name for name, _, _ in calls[-2:]] == ["log_artifact", "finish"]
    assert finish[0] == "finish"


def test_an_interrupted_run_goes_on_under_its_own_number(monkeypatch, tmp_path):
    calls = fake_wandb(monkeypatch)
    WandbLog("offline", "agetrain", {}, tmp_path)
    WandbLog("offline", "agetrain", {}, tmp_path, "r0")
    asked = [(kwargs["id"], kwargs["resume"]) for name, _, kwargs in calls if name == "init"]
    assert asked == [(None, None), ("r0", "allow")]


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
    monkeypatch.delenv("WANDB_MODE", raising=False)
    WandbLog("auto", "test", {}, tmp_path)
    assert next(kwargs for name, _, kwargs in calls if name == "init")["mode"] == mode


@pytest.mark.parametrize("said", ["offline", "disabled"])
def test_auto_does_what_the_variable_of_wandb_says(monkeypatch, tmp_path, said):
    calls = fake_wandb(monkeypatch)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", said)
    WandbLog("auto", "test", {}, tmp_path)
    modes = [kwargs["mode"] for name, _, kwargs in calls if name == "init"]
    assert modes == ([] if said == "disabled" else [said])
    WandbLog("online", "test", {}, tmp_path)  # asked for by name
    assert [kwargs["mode"] for name, _, kwargs in calls if name == "init"][-1] == "online"


def test_the_end_of_a_run_is_waited_for_no_longer_than_a_minute(monkeypatch, tmp_path):
    """A server that is gone by then would hold the process up for ever."""
    assert "finish_timeout" in pytest.importorskip("wandb").Settings.model_fields
    calls = fake_wandb(monkeypatch)
    WandbLog("online", "test", {}, tmp_path)
    [settings] = [kwargs for name, _, kwargs in calls if name == "Settings"]
    assert 0 < settings["finish_timeout"] <= 60


def test_disabled_does_not_even_import_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = WandbLog("disabled", "test", {}, tmp_path)
    tracker.log({}, 1)
    tracker.finish({}, tmp_path / "best.pth", np.zeros((1, 8, 8, 3), np.uint8), [""])
    assert tracker.run_id == ""
    WandbLog("auto", "test", {}, tmp_path)
    with pytest.raises(MissingDependencyError, match="pip install"):
        WandbLog("offline", "test", {}, tmp_path)


# Balance


def shown(balance, ages, groups=(), seed=0, **changes):
    """How often an epoch shows each face; they are told apart by their digests."""
    n = len(ages)
    crops = dataclasses.replace(cache_of(n, missing=(n - 1,)), ages=np.array(ages, np.float32))
    crops = dataclasses.replace(crops, others=np.arange(n, dtype=np.float32))
    recipe = Recipe(size=64, batch_size=4, drop_last=False, balance=balance, seed=seed, **changes)
    facts = ({"dataset": "x"},)
    data = TrainingSet(facts, "real", 0.0, recipe.crop_spec, (crops,), crops, (crops,), groups=groups)
    times = np.zeros(n, int)
    for batch in Batches(data, recipe, CPU).epoch(1):
        np.add.at(times, batch.others.long().numpy(), 1)
    return times


AGES = [20.0] * 32 + [40.0] * 8 + [70.0] * 2 + [70.0]  # the last one has no face


@pytest.mark.parametrize(("balance", "of_twenty", "of_forty"), [("none", 32, 8), ("age", 14, 14), ("sqrt", 24, 12)])
def test_rare_ages_are_shown_as_often_as_the_balance_says(balance, of_twenty, of_forty):
    times = shown(balance, AGES)
    assert times.sum() == 42
    assert times[42] == 0
    assert abs(times[:32].sum() - of_twenty) <= 1
    assert abs(times[32:40].sum() - of_forty) <= 1
    # Each of an age as often as the others, to one.
    assert times[:32].max() - times[:32].min() <= 1


def test_values_of_a_column_are_shown_alike_and_repeats_count_as_ever():
    groups = (np.array(["door"] * 40 + ["desk"] * 3),)
    times = shown("camera", AGES, groups)
    assert abs(times[:40].sum() - 21) <= 1
    assert shown("camera", AGES, groups, repeats=(2.0,)).sum() == 84
    assert shown("camera", AGES, groups).tolist() == times.tolist()
    assert shown("camera", AGES, groups, seed=1).tolist() != times.tolist()
    with pytest.raises(UsageError, match="pack it again with --balance"):
        shown("camera", AGES)
