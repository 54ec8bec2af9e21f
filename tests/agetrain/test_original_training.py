"""The fourteen original runs and ``best``, each with real training steps."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from originals import BLOCKS, CPU, FACTS, MEAN, OFFSETS, ORIGINALS, PICTURES, STD

from agetrain.crops.cache import CropCache
from agetrain.crops.training_set import TrainingSet, training_set
from agetrain.datasets import Dataset, Sample
from agetrain.errors import WeightsError
from agetrain.experiments import EXPERIMENTS
from agetrain.network import checkpoint
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.network.weights import load_imagenet_weights
from agetrain.recipe import Recipe
from agetrain.training import loop
from agetrain.training import start as start_module
from agetrain.training.augment import augment
from agetrain.training.batches import Batches
from agetrain.training.distributed import Processes
from agetrain.training.freezing import freeze
from agetrain.training.losses import loss_and_age
from agetrain.training.optim import learning_rate


def start_file(backbone: str, folder: Path, but: str = "none") -> Path:
    """Random weights as torchvision would save them, without the layers whose names begin with ``but``."""
    path = folder / f"{backbone}.pth"
    random = torch.Generator().manual_seed(3)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in torchvision.models.get_model(backbone, weights=None).state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
        elif name.endswith(("running_var", "weight")) and len(shape) == 1:
            weights[name] = torch.ones(shape)
        elif len(shape) == 1:
            weights[name] = torch.zeros(shape)
        elif len(shape) == 2:  # all rows alike, and in the file only once: VGG16 has 120 million of these numbers
            weights[name] = (torch.rand(1, shape[1], generator=random) / shape[1]).expand(shape)
        else:
            weights[name] = torch.randn(shape, generator=random) * math.sqrt(2 / math.prod(shape[1:]))
    torch.save({k: v for k, v in weights.items() if not k.startswith(but)}, path)
    return path


def write_pictures(folder, count, side=128):
    """Pictures of noise, without loss, each already of the side that the original runs resized to."""
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{i}.png"), pixels)
    return [Sample(folder / f"{i}.png", 20.0 + 3 * i) for i in range(count)]


@dataclass
class Trained:
    """One epoch on 6 pictures in batches of 4, by `agetrain.training.loop.train`, and what was seen of it."""

    recipe: Recipe
    data: TrainingSet
    pictures: list[np.ndarray]  # RGB; 6 to learn from, 3 to choose by
    before: dict[str, torch.Tensor]  # of the head and running statistics alone
    after: dict[str, torch.Tensor]
    optimiser: torch.optim.Optimizer
    network: AgeNet
    trained_on: list[torch.Tensor]
    evaluated_on: list[torch.Tensor]
    kept: Checkpoint
    history: list[dict]


def train_once(recipe, dataset, folder, weights) -> Trained:
    samples = write_pictures(folder / "pictures", 9)
    offset = OFFSETS.get(dataset, 0)
    parts = {"train": tuple(samples[:6]), "valid": tuple(samples[6:])}
    recipe = replace(recipe, batch_size=4, epochs=1)
    data, _ = training_set([Dataset(dataset, "real", "", "", parts, label_offset=offset)], recipe, folder / "cache")
    seen = {"trained_on": [], "evaluated_on": [], "written": {}}

    def watch(network, frozen, mode):
        names = [k for k in network.state_dict() if k.startswith("head.") or "running" in k]
        seen["before"] = {k: network.state_dict()[k].clone() for k in names}
        seen["network"] = network
        set_mode(network, frozen, mode)

    def note(module, inputs):
        if "before" in seen:
            name = "trained_on" if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else "evaluated_on"
            seen[name].append(inputs[0].detach().clone().contiguous())

    def make(network, recipe):
        network.backbone.register_forward_pre_hook(note)
        seen["optimiser"] = make_optimiser(network, recipe)
        return seen["optimiser"]

    set_mode, make_optimiser = loop.set_training_mode, start_module.make_optimiser
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "set_training_mode", watch)
        patch.setattr(start_module, "make_optimiser", make)
        patch.setattr(checkpoint, "write", lambda path, values: seen["written"].update({path.name: values}))
        loop.train(
            start_module.start_run(
                recipe, data, folder, Processes(0, 1, CPU), weights=weights, record={"experiment": "x"}
            )
        )
    pictures = [cv2.cvtColor(cv2.imread(str(s.path)), cv2.COLOR_BGR2RGB) for s in samples]
    last = seen["written"]["last.pth"]
    kept = Checkpoint.from_values(seen["written"]["best.pth"], "best.pth")
    return Trained(
        recipe, data, pictures, seen["before"], last["network"], seen["optimiser"], seen["network"],
        seen["trained_on"], seen["evaluated_on"], kept, last["progress"]["history"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of each backbone, made once."""
    folder, made = tmp_path_factory.mktemp("start"), {}

    def file(backbone):
        if backbone not in made:
            made[backbone] = start_file(backbone, folder)
        return made[backbone]

    return file


@pytest.fixture(scope="module", params=ORIGINALS)
def original(request, tmp_path_factory, start):
    """A trained original experiment and what is known of it."""
    facts, recipe = FACTS[request.param], EXPERIMENTS[request.param].recipe
    return train_once(recipe, facts.dataset, tmp_path_factory.mktemp("run"), start(recipe.backbone)), facts


def children_of(trained: Trained) -> dict[str, list[str]]:
    """Names of parameters by the child that they belong to, the two heads left out."""
    children = {}
    for name, _ in trained.network.backbone.named_parameters():
        depth = 2 if trained.recipe.backbone == "mobilenet_v2" else 1
        children.setdefault(".".join(name.split(".")[:depth]), []).append(f"backbone.{name}")
    return children


def test_frozen_children_stay_as_they_are_and_all_others_change(original, start):
    trained, facts = original
    loaded = torch.load(start(trained.recipe.backbone), weights_only=True, mmap=True)
    children = children_of(trained)
    assert set(facts.frozen) <= set(children)
    for child, names in children.items():
        for name in names:
            same = torch.equal(trained.after[name], loaded[name.removeprefix("backbone.")])
            assert same == (child in facts.frozen), name
    for name in ("head.1.weight", "head.1.bias"):
        assert not torch.equal(trained.before[name], trained.after[name])


def test_as_many_parameters_are_trained_as_the_run_trained(original):
    trained, facts = original
    in_optimiser = [p for group in trained.optimiser.param_groups for p in group["params"]]
    assert sum(p.numel() for p in in_optimiser) == facts.trained_parameters
    assert {id(p) for p in in_optimiser} == {id(p) for p in trained.network.parameters() if p.requires_grad}


def test_the_optimiser_is_adam_without_weight_decay_at_the_runs_rate(original):
    trained, facts = original
    assert type(trained.optimiser) is torch.optim.Adam
    [group] = trained.optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (facts.recipe["lr"], 0)
    assert (group["betas"], group["amsgrad"]) == ((0.9, 0.999), False)
    assert trained.history[0]["lr"] == facts.recipe["lr"]


def test_running_statistics_of_frozen_layers_drift_as_they_did(original):
    trained, facts = original
    statistics = [k for k in trained.before if k.endswith(("running_mean", "running_var"))]
    assert bool(statistics) == (facts.recipe["backbone"] != "vgg16")
    still = [k for k in statistics if torch.equal(trained.before[k], trained.after[k])]
    assert still == []


def test_the_network_has_one_output_and_the_runs_dropout(original):
    trained, facts = original
    dropout, linear = trained.network.head
    assert dropout.p == facts.recipe["dropout"]
    assert linear.out_features == 1
    assert trained.network.auxiliary is None


def at_windows(faces, pictures, size, mean, std):
    """Of each face, as the network got it, which picture and which window of it that is."""
    found = []
    for face in faces:
        pixels = (face * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)) * 255
        pixels = pixels.permute(1, 2, 0).numpy()
        matches = [
            (i, x, y)
            for i, picture in enumerate(pictures)
            for x in range(128 - size + 1)
            for y in range(128 - size + 1)
            if np.abs(picture[y, x : x + 8] - pixels[0, :8]).max() < 0.01
            and np.abs(picture[y : y + size, x : x + size] - pixels).max() < 0.01
        ]
        assert len(matches) == 1
        found += matches
    return found


def test_the_network_is_given_the_pixels_that_the_run_gave_it(original):
    """APPA-REAL: all 128, normalised. AFAD, CACD: 120 of 128, to learn from anywhere, else the middle; 0 to 1."""
    trained, facts = original
    size = 128 if facts.dataset == "appa-real" else 120
    mean, std = (MEAN, STD) if facts.dataset == "appa-real" else ((0, 0, 0), (1, 1, 1))
    learned = at_windows(torch.cat(trained.trained_on), trained.pictures, size, mean, std)
    repeats = facts.recipe["repeats"][0]
    assert Counter(i for i, _, _ in learned) == dict.fromkeys(range(6), repeats)  # and never another picture
    assert len(trained.trained_on) == math.ceil(6 * repeats / 4)
    chosen = at_windows(torch.cat(trained.evaluated_on), trained.pictures, size, mean, std)
    middle = (128 - size) // 2
    assert chosen == [(i, middle, middle) for i in (6, 7, 8)]
    windows = {(x, y) for _, x, y in learned}
    assert len(windows) > 1 if size == 120 else windows == {(0, 0)}


def test_the_checkpoint_says_how_its_answers_become_years(original):
    trained, facts = original
    assert trained.kept.label_offset == OFFSETS[facts.dataset]
    assert trained.kept.decode == "linear"
    assert trained.kept.crop.kind == "resize"
    assert (trained.kept.crop.detector, trained.kept.crop.margin) == ("none", 0)
    expected = (MEAN, STD) if facts.dataset == "appa-real" else ((0, 0, 0), (1, 1, 1))
    assert trained.kept.mean == pytest.approx(expected[0])
    assert trained.kept.std == pytest.approx(expected[1])


def test_labels_are_learned_as_the_original_lists_store_them(original):
    trained, facts = original
    learned = [age for batch in Batches(trained.data, trained.recipe, CPU).epoch(1) for age in batch.ages.tolist()]
    true_years = [20, 23, 26, 29, 32, 35] * facts.recipe["repeats"][0]
    assert sorted(learned) == sorted(years - OFFSETS[facts.dataset] for years in true_years)
    assert trained.data.select.ages.tolist() == [38, 41, 44]  # and are measured in true years


def test_the_best_epoch_is_chosen_on_the_reported_part(original):
    trained, _ = original
    assert len(trained.data.select) == len(trained.data.valid[0]) == 3
    assert np.array_equal(trained.data.select.digests, trained.data.valid[0].digests)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory, start):
    """The recipe best with 14 frozen blocks, on whole pictures because noise shows no face."""
    recipe = replace(Recipe(), frozen_children=14, crop="resize", size=96, resize_to=128, margin=0)
    return train_once(recipe, "appa-real", tmp_path_factory.mktemp("best"), start("mobilenet_v2"))


def test_best_keeps_the_running_statistics_of_frozen_layers(corrected):
    frozen = tuple(f"backbone.{block}." for block in BLOCKS[:14])
    for name, value in corrected.before.items():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(value, corrected.after[name]) == name.startswith(frozen), name


def test_best_decays_weight_matrices_alone_and_normalises(corrected):
    assert type(corrected.optimiser) is torch.optim.AdamW
    decaying, others = corrected.optimiser.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.02, 0)
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in others["params"]} == {1}
    assert corrected.kept.mean == pytest.approx(MEAN)
    assert corrected.kept.decode == "expectation"


def test_best_varies_the_pictures_it_learns_from(corrected):
    middle = [torch.from_numpy(p[16:112, 16:112]).permute(2, 0, 1).float() for p in corrected.pictures]
    expected = (torch.stack(middle) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for face in torch.cat(corrected.trained_on):
        assert (expected - face).abs().mean(dim=(1, 2, 3)).min() > 0.05


def test_best_chooses_by_a_part_of_train_that_it_does_not_learn_from(corrected):
    learned, [chosen] = set(corrected.data.learn[0].digests.tolist()), corrected.data.select.digests.tolist()
    assert len(learned) == 5
    assert chosen not in learned | set(corrected.data.valid[0].digests.tolist())
    assert 20 <= corrected.data.select.ages[0] <= 35


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_epoch_has_as_many_steps_as_the_real_data_set_gives(name):
    facts, recipe = FACTS[name], EXPERIMENTS[name].recipe
    n = PICTURES[facts.dataset]
    nothing = np.full(n, np.nan, np.float32)
    crops = CropCache(
        np.zeros((n, 1, 1, 3), np.uint8), np.ones(n, bool), np.full(n, 30, np.float32), nothing, nothing, nothing,
        np.zeros(n, np.uint64), nothing, nothing,
    )  # fmt: skip
    data = TrainingSet((), "real", 0, recipe.crop_spec, (crops,), crops, (crops,))
    steps = Batches(data, recipe, CPU).steps
    assert steps == facts.steps_per_epoch
    assert steps == math.ceil(n * facts.recipe["repeats"][0] / facts.recipe["batch_size"])


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_learning_rate_of_every_epoch(name):
    facts, recipe = FACTS[name], EXPERIMENTS[name].recipe
    expected = facts.rates or (facts.recipe["lr"],) * facts.recipe["epochs"]
    assert len(expected) == facts.recipe["epochs"]
    for step in (0, 500, 934):
        rates = [learning_rate(recipe, epoch, step, 935) for epoch in range(recipe.epochs)]
        assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_loss_of_known_answers(name):
    """Answers of 30 and 50 where 28 and 55 are right: off by 2 and by 5 years."""
    recipe = EXPERIMENTS[name].recipe
    loss, decoded = loss_and_age(
        AgeNet("mobilenet_v2", "linear"), torch.tensor([[30.0], [50.0]]), torch.tensor([28.0, 55.0]),
        torch.full((2,), math.nan), recipe,
    )  # fmt: skip
    assert decoded.tolist() == [30, 50]
    assert loss.item() == pytest.approx(14.5 if FACTS[name].recipe["loss"] == "mse" else 3.5)


def test_a_random_crop_takes_every_window_and_nothing_beyond():
    """Pixels say where they are, so the first one of a crop tells its window."""
    n = 600
    place = np.zeros((128, 128, 3), np.uint8)
    place[..., 0], place[..., 1] = np.arange(128)[None], np.arange(128)[:, None]
    crops = CropCache(
        np.broadcast_to(place, (n, 128, 128, 3)), np.ones(n, bool), *(np.full(n, 30, np.float32) for _ in range(4)),
        np.zeros(n, np.uint64), *(np.full(n, np.nan, np.float32) for _ in range(2)),
    )  # fmt: skip
    recipe = EXPERIMENTS["F3"].recipe
    data = TrainingSet((), "real", 0, recipe.crop_spec, (crops,), crops, (crops,))
    windows = Counter()
    for batch in Batches(data, recipe, CPU).epoch(1):
        faces = augment(batch.wide, recipe.size, data.crop.fill, recipe.augmentation, batch.draws)
        assert faces.shape[2:] == (120, 120)
        for face in faces:
            x, y = face[0, 0, 0].int().item(), face[1, 0, 0].int().item()
            assert (face[0, -1, -1].item(), face[1, -1, -1].item()) == (x + 119, y + 119)
            windows[x, y] += 1
    assert {x for x, _ in windows} == {y for _, y in windows} == set(range(9))
    # Uniform over 81 windows: about 7.4 of each; 600 draws that favoured some would not reach nearly all of them.
    assert len(windows) > 70
    assert max(windows.values()) < 25


@pytest.mark.parametrize(
    ("name", "height", "width", "left", "right", "top", "bottom"),
    [  # of a picture of a known gradient from 0 to 250, what its edges show
        ("A8", 300, 200, 0, 250, 41.7, 208.3),  # the shorter side is resized to 128, of the longer the middle is cut
        ("A8", 200, 300, 41.7, 208.3, 0, 250),
        ("F3", 300, 200, 7.8, 242.2, 7.8, 242.2),  # both sides are resized to 128, of which 4 px go at each edge
        ("C1", 200, 300, 7.8, 242.2, 7.8, 242.2),
        ("F3", 80, 60, 7.8, 242.2, 7.8, 242.2),
    ],
)
def test_pictures_are_resized_and_cut_as_they_were(tmp_path, name, height, width, left, right, top, bottom):
    across = np.linspace(0, 250, width)[None].repeat(height, 0)
    down = np.linspace(0, 250, height)[:, None].repeat(width, 1)
    cv2.imwrite(str(tmp_path / "p.png"), np.stack([across * 0, down, across], axis=2).round().astype(np.uint8))
    sample = Sample(tmp_path / "p.png", 30)
    dataset = Dataset("x", "real", "", "", {"train": (sample,), "valid": (sample,)})
    data, _ = training_set([dataset], EXPERIMENTS[name].recipe, tmp_path / "cache")
    [crop] = data.valid[0].crops[np.arange(1)].astype(float)
    assert crop.shape == ((128, 128, 3) if name == "A8" else (120, 120, 3))
    assert crop[60, 0, 0] == pytest.approx(left, abs=2.5)
    assert crop[60, -1, 0] == pytest.approx(right, abs=2.5)
    assert crop[0, 60, 1] == pytest.approx(top, abs=2.5)
    assert crop[-1, 60, 1] == pytest.approx(bottom, abs=2.5)
    # To learn from, the whole resized picture is kept, in which a random crop can move.
    assert data.learn[0].crops[np.arange(1)].shape == (1, 128, 128, 3)


def test_a_layer_that_was_not_loaded_is_not_frozen(tmp_path):
    """The substitute for VGG16 has no fc6 and fc7: F2 as published cannot be run from it."""
    path = start_file("vgg16", tmp_path, but="classifier.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor)  # 120 million numbers
        network = AgeNet("vgg16", "linear", 0.5)
    loaded = load_imagenet_weights(network, path)
    assert "classifier.0.weight" in loaded.missing
    with pytest.raises(WeightsError, match="--frozen-children 2") as caught:
        freeze(network, -1, loaded)
    assert "classifier" in str(caught.value)
    assert len(freeze(network, 2, loaded)) == 2
