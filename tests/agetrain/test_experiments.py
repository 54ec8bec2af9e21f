"""The fourteen original runs, against facts written down from the original work, each with real training steps."""

import json
import math
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision

from agetrain.crops.cache import CropCache
from agetrain.crops.training_set import TrainingSet, training_set
from agetrain.datasets import DATASETS, Dataset, Sample
from agetrain.errors import UsageError, WeightsError
from agetrain.experiments import EXPERIMENTS, Experiment
from agetrain.network import checkpoint
from agetrain.network.agenet import AgeNet
from agetrain.network.weights import load_imagenet_weights
from agetrain.recipe import CHOICES, Augmentation, Recipe
from agetrain.train import build_parser, config_of, main
from agetrain.training import loop
from agetrain.training import start as start_module
from agetrain.training.augment import augment
from agetrain.training.batches import Batches
from agetrain.training.distributed import Processes
from agetrain.training.freezing import freeze
from agetrain.training.losses import loss_and_age
from agetrain.training.optim import learning_rate

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

UNVARIED = {
    "flip": 0, "zoom_in": 1, "zoom_out": 1, "shift": 0, "rotation_degrees": 0, "random_crop": False, "brightness": 0,
    "contrast": 0, "saturation": 0, "hue": 0, "grey": 0, "soften": 0, "blur": 0, "jpeg": 0, "erase": 0,
}  # fmt: skip
COMMON = {
    # Adam without weight decay, one learning rate, nothing smoothed or clipped, statistics of frozen layers drift.
    "head": "linear", "optimiser": "adam", "weight_decay": 0, "schedule": "constant", "warmup_epochs": 0,
    "step_epochs": 5, "step_factor": 0.1, "clip_norm": 0, "ema_decay": 0, "patience": 0, "drop_last": False,
    "frozen_batchnorm": "train", "start_at_mean": False, "precision": "fp32", "seed": 0, "dropout": 0,
    # The best epoch is the one that is best on the reported part; nothing but the one label is learned.
    "select_on": "valid", "ignore_bad": False, "auxiliary_weight": 0, "teacher_weight": 0, "doubt_beyond": 0,
    # The augmentation was never applied.
    "augmentation": UNVARIED, "repeats": [1],
    # Without effect here.
    "margin": 0, "target_std_years": 2.5, "l1_weight": 0.1, "selection_share": 0.1, "selection_seed": 0,
}  # fmt: skip
# Resize(128), CenterCrop(128), Normalize.
APPA = {**COMMON, "backbone": "resnet34", "crop": "resize", "size": 128, "resize_to": 128, "keep_aspect": True,
        "normalise": True, "labels": "true", "lr": 1e-3, "batch_size": 32}  # fmt: skip
# Resize((128, 128)), RandomCrop(120) or CenterCrop(120), no Normalize.
OF_CSV = {**COMMON, "backbone": "resnet34", "crop": "resize", "size": 120, "resize_to": 128, "keep_aspect": False,
          "normalise": False, "labels": "stored", "augmentation": {**UNVARIED, "random_crop": True}}  # fmt: skip
AFAD = {**OF_CSV, "batch_size": 128}
CACD = {**OF_CSV, "batch_size": 256, "lr": 5e-4, "frozen_children": 0, "loss": "l1", "epochs": 15}
TRIPLED = {"repeats": [3]}

TRUNK = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
BLOCKS = tuple(f"features.{i}" for i in range(19))
PICTURES = {"appa-real": 4113, "afad": 165501 - 13165 - 32762, "cacd": 114804}  # of the original train lists
OFFSETS = {"appa-real": 0, "afad": 15, "cacd": 14}
# fc alone; layer4 too (two 3 x 3 convolutions a block, three blocks, and a 1 x 1); all but the 1000 classes.
FC, FC_AND_LAYER4, ALL = 513, 513 + 13_114_368, 513 + 21_284_672
BLOCKS_14_TO_18 = 155_264 + 2 * 320_000 + 473_920 + 412_160
VGG_HEAD, MOBILENET_HEAD = 4097, 1281


@dataclass(frozen=True)
class Facts:
    """What is known of a run: everything of its recipe, what it trains, and what was published."""

    dataset: str
    title: str
    recipe: dict
    frozen: tuple[str, ...]
    trained_parameters: int
    steps_per_epoch: int
    published: tuple
    flaws: set
    rates: tuple[float, ...] = ()  # where they change


def appa(title, published, frozen, parameters, steps, **recipe):
    return Facts("appa-real", title, {**APPA, **recipe}, frozen, parameters, steps, published, {7})


FACTS = {
    "A1": appa("finetun", (33.811, 158.182), (), ALL, 129, loss="mse", epochs=15, frozen_children=0),
    "A2": appa("fe", (186.519, 187.334), TRUNK, FC, 129, loss="mse", epochs=15, frozen_children=-1),
    "A3": appa("fe_augmentation", (171.616, 188.892), TRUNK, FC, 386, loss="mse", epochs=15, frozen_children=-1,
               **TRIPLED),
    "A4": appa("finetun_aug_0.0001", (2.67, 83.278), (), ALL, 386, loss="mse", epochs=13, frozen_children=0, lr=1e-4,
               **TRIPLED),
    "A5": appa("mix8_L1_Resnet34", (10.2, 10.7), TRUNK, FC, 386, loss="l1", epochs=13, frozen_children=8, **TRIPLED),
    "A6": appa("mix7_L1_Resnet34", (2.4, 7.9), TRUNK[:-1], FC_AND_LAYER4, 386, loss="l1", epochs=7, frozen_children=7,
               **TRIPLED),
    "A7": appa("mix_L1_MobileNet", (6.1, 9.7), BLOCKS[:14], MOBILENET_HEAD + BLOCKS_14_TO_18, 386, loss="l1",
               epochs=15, frozen_children=14, backbone="mobilenet_v2", dropout=0.2, **TRIPLED),
    "A8": appa("definitiu", (1.0, 7.863), TRUNK[:-1], FC_AND_LAYER4, 386, loss="l1", epochs=20, frozen_children=7,
               **TRIPLED),
    "F0": Facts("afad", "first feature extraction",
                {**AFAD, "frozen_children": -1, "loss": "mse", "lr": 5e-4, "epochs": 8}, TRUNK, FC, 935, (None, None),
                {1, 2, 6}),
    "F1": Facts("afad", "fe amb lr0.0005 i stepLR",
                {**AFAD, "frozen_children": -1, "loss": "mse", "lr": 5e-4, "epochs": 8, "schedule": "step"},
                TRUNK, FC, 935, (27.1, 86.9), {1, 2, 6}, (5e-4,) * 5 + (5e-5,) * 3),
    "F2": Facts("afad", "fe amb lr0.0001 dropout i vgg16",
                {**AFAD, "frozen_children": -1, "loss": "mse", "lr": 1e-4, "epochs": 6, "backbone": "vgg16",
                 "dropout": 0.5}, ("features", "classifier"), VGG_HEAD, 935, (26.6, 87.7), {1, 2, 6}),
    "F3": Facts("afad", "L1loss-fe-dropout",
                {**AFAD, "frozen_children": -1, "loss": "l1", "lr": 1e-3, "epochs": 15, "dropout": 0.5},
                TRUNK, FC, 935, (4.07, 9.5), {1, 2, 6}),
    "C1": Facts("cacd", "finetun-0.0005", CACD, (), ALL, 449, (4.05, 5.54), {2, 4, 6}),
    "C2": Facts("cacd", "finetuning_prep", CACD, (), ALL, 449, (3.8, 5.2), {2, 4, 6}),
}  # fmt: skip
TRIED_ON_WHOLE_PICTURES = {"A8", "C1"}
READ_OFF_A_PLOT = {"A5", "A6", "A7", "F1", "F2", "C2"}
ORIGINALS = list(FACTS)


def check(row: Experiment, facts: Facts):
    """Raises AssertionError where a row of the table is not what is known of the run."""
    assert (row.dataset, row.title) == (facts.dataset, facts.title)
    assert row.recipe.to_dict() == facts.recipe
    assert (row.published.train, row.published.valid) == facts.published
    assert row.published.approximate == (row.id in READ_OFF_A_PLOT)
    whole = {5} if row.id in TRIED_ON_WHOLE_PICTURES else set()
    assert set(row.flaws) == facts.flaws | ({3} & set(row.flaws)) | {7} | whole
    assert (3 in row.flaws) == (facts.recipe["repeats"] == [3])


def test_the_table_holds_the_fourteen_runs_and_best():
    assert list(EXPERIMENTS) == [*FACTS, "best"]
    assert EXPERIMENTS["best"].recipe == Recipe()
    assert EXPERIMENTS["best"].published is None


@pytest.mark.parametrize("name", ORIGINALS)
def test_each_row_is_what_is_known_of_the_run(name):
    check(EXPERIMENTS[name], FACTS[name])


@pytest.mark.parametrize("name", ["A7", "F0"])
def test_what_was_not_recorded_is_marked_as_assumed(name):
    assert "lr" in EXPERIMENTS[name].assumed
    assert [row.id for row in EXPERIMENTS.values() if row.assumed] == ["A7", "F0"]


def other_value(name, value):
    """Another valid value of a field of a recipe or an augmentation, with what has to change beside it."""
    if name in ("head", "loss"):
        return {"head": "distribution", "loss": "distribution"} if name == "head" else {"loss": "l1"}
    if name in CHOICES:
        return {name: next(choice for choice in CHOICES[name] if choice != value)}
    if isinstance(value, bool):
        return {name: not value}
    if isinstance(value, tuple):
        return {name: (2.0,)}
    if name.startswith("zoom"):
        return {name: value + 0.5}
    if name in ("dropout", "ema_decay", "selection_share"):
        return {name: 0.3}
    return {name: value + 1 if name not in UNVARIED else 0.5}


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe) if f.name != "augmentation"])
def test_a_changed_field_of_a_row_does_not_pass_the_check(name):
    row = EXPERIMENTS["F1"]
    changed = replace(row, recipe=replace(row.recipe, **other_value(name, getattr(row.recipe, name))))
    assert changed != row
    with pytest.raises(AssertionError):
        check(changed, FACTS["F1"])


@pytest.mark.parametrize("name", [f.name for f in fields(Augmentation)])
def test_a_changed_augmentation_of_a_row_does_not_pass_the_check(name):
    row = EXPERIMENTS["C1"]
    how = row.recipe.augmentation
    other = replace(how, **other_value(name, getattr(how, name)))
    with pytest.raises(AssertionError):
        check(replace(row, recipe=replace(row.recipe, augmentation=other)), FACTS["C1"])


@pytest.mark.parametrize(
    "change", [{"dataset": "cacd"}, {"title": "fe"}, {"flaws": ()}, {"published": {"valid": 7.8}},
               {"published": {"train": 1.5}}, {"published": {"approximate": True}}],
)  # fmt: skip
def test_another_title_or_published_figure_does_not_pass_the_check(change):
    row = EXPERIMENTS["A8"]
    if "published" in change:
        change = {"published": replace(row.published, **change["published"])}
    with pytest.raises(AssertionError):
        check(replace(row, **change), FACTS["A8"])


# Training steps


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
    kept: dict
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
    return Trained(
        recipe, data, pictures, seen["before"], last["network"], seen["optimiser"], seen["network"],
        seen["trained_on"], seen["evaluated_on"], last["best"]["best.pth"], last["progress"]["history"],
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
        np.zeros(n, np.uint64),
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
        np.zeros(n, np.uint64),
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


# The command line


def test_the_list_begins_each_line_with_an_id(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*FACTS, "best"]
    for line, facts in zip(lines, FACTS.values(), strict=False):
        assert line.split()[1] == facts.dataset
        if facts.published[0]:
            assert f"{facts.published[0]:g}," in line
            assert f"{facts.published[1]:g} {'y2' if facts.recipe['loss'] == 'mse' else 'y'}" in line


def resolved(*arguments):
    """The experiment and the recipe of a command line."""
    config = config_of(build_parser().parse_args(list(arguments)))
    return EXPERIMENTS[config.experiment], config.recipe


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["appa-real"], "A8"), (["afad"], "F3"), (["cacd"], "C1"), (["utkface"], "best"), (["all-age-faces"], "best"),
        (["afad=/somewhere"], "F3"), (["appa-real", "utkface"], "best"), (["afad", "cacd"], "best"),
    ],
)  # fmt: skip
def test_without_an_experiment_a_data_set_runs_its_final_one(names, expected):
    experiment, recipe = resolved(*(word for name in names for word in ("--dataset", name)))
    assert experiment.id == expected
    assert recipe == EXPERIMENTS[expected].recipe


def test_every_data_set_has_a_default():
    assert {resolved("--dataset", name)[0].id for name in DATASETS} == {"A8", "F3", "C1", "best"}


@pytest.mark.parametrize("name", [*ORIGINALS, "best", "a8", "BEST"])
def test_an_experiment_can_be_named(name):
    experiment, recipe = resolved("--dataset", "utkface", "--experiment", name)
    assert experiment.id.lower() == name.lower()
    assert recipe == experiment.recipe


def test_an_unknown_experiment_names_all_there_are():
    with pytest.raises(UsageError, match=r"A9.*A1.*best"):
        resolved("--dataset", "afad", "--experiment", "A9")


OVERRIDES = {
    "backbone": ("mobilenet_v2", "mobilenet_v2"), "dropout": ("0.25", 0.25), "frozen_children": ("-1", -1),
    "frozen_batchnorm": ("eval", "eval"), "normalise": (None, False), "crop": ("box", "box"), "size": ("96", 96),
    "margin": ("-0.1", -0.1), "resize_to": ("200", 200), "keep_aspect": (None, False), "repeats": ("2.5,1", (2.5, 1.0)),
    "ignore_bad": (None, True), "labels": ("stored", "stored"), "loss": ("mse", "mse"),
    "target_std_years": ("3.5", 3.5), "l1_weight": ("0.7", 0.7), "auxiliary_weight": ("0.3", 0.3),
    "teacher_weight": ("0.4", 0.4), "doubt_beyond": ("2.5", 2.5), "optimiser": ("adamw", "adamw"), "lr": ("3e-4", 3e-4),
    "weight_decay": ("0.05", 0.05), "schedule": ("cosine", "cosine"), "warmup_epochs": ("0.5", 0.5),
    "step_epochs": ("3", 3), "step_factor": ("0.5", 0.5), "clip_norm": ("2", 2.0), "batch_size": ("48", 48),
    "drop_last": (None, True), "epochs": ("3", 3), "patience": ("4", 4), "ema_decay": ("0.9", 0.9),
    "start_at_mean": (None, True), "select_on": ("train-part", "train-part"), "selection_share": ("0.2", 0.2),
    "selection_seed": ("5", 5), "precision": ("bf16", "bf16"), "seed": ("6", 6),
}  # fmt: skip
VARIED = {
    "flip": 0.4, "zoom_in": 1.5, "zoom_out": 1.25, "shift": 0.1, "rotation_degrees": 12.5, "random_crop": True,
    "brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.05, "grey": 0.15, "soften": 0.25, "blur": 0.35,
    "jpeg": 0.45, "erase": 0.55,
}  # fmt: skip


def test_the_overrides_below_are_all_that_a_recipe_has():
    assert set(OVERRIDES) | {"augmentation", "head"} == {f.name for f in fields(Recipe)}
    assert set(VARIED) == {f.name for f in fields(Augmentation)}


def option(name, value, base):
    """The words of the command line for a field; a switch is turned from what it is."""
    dashed = name.replace("_", "-")
    if value is None:
        return [f"--no-{dashed}" if base else f"--{dashed}"]
    return [f"--{dashed}", value]


@pytest.mark.parametrize("name", OVERRIDES)
def test_any_field_of_a_recipe_can_be_given_and_nothing_else_changes(name):
    text, value = OVERRIDES[name]
    base = EXPERIMENTS["A8"].recipe
    assert getattr(base, name) != value
    _, recipe = resolved("--dataset", "appa-real", *option(name, text, getattr(base, name)))
    assert recipe == replace(base, **{name: value})
    assert getattr(recipe, name) == value


def test_the_head_can_be_given_with_a_loss_that_fits():
    _, recipe = resolved("--dataset", "appa-real", "--head", "distribution", "--loss", "distribution")
    assert recipe == replace(EXPERIMENTS["A8"].recipe, head="distribution", loss="distribution")


@pytest.mark.parametrize("name", VARIED)
def test_any_part_of_an_augmentation_can_be_given_and_nothing_else_changes(name):
    value = VARIED[name]
    base = EXPERIMENTS["A8"].recipe
    words = option(name, None if value is True else str(value), getattr(base.augmentation, name))
    _, recipe = resolved("--dataset", "appa-real", *words)
    assert getattr(base.augmentation, name) != value
    assert recipe == replace(base, augmentation=replace(base.augmentation, **{name: value}))


def test_a_whole_augmentation_can_be_given_and_then_changed():
    """What A3 to A8 meant: mirrored, turned by up to 10 degrees, colours."""
    _, recipe = resolved("--dataset", "appa-real", "--augmentation", "original", "--hue", "0.2")
    meant = {"flip": 0.5, "rotation_degrees": 10, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.2}
    assert recipe.augmentation == Augmentation(**{**UNVARIED, **meant})
    _, random_crop = resolved("--dataset", "cacd")
    assert random_crop.augmentation.random_crop
    _, without = resolved("--dataset", "cacd", "--no-random-crop")
    assert not without.augmentation.random_crop


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_recipe_is_the_same_after_json(name):
    recipe = EXPERIMENTS[name].recipe
    values = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(values) == recipe
    assert Recipe.from_dict(values).to_dict() == recipe.to_dict()


@pytest.mark.parametrize("name", OVERRIDES)
def test_json_keeps_every_field(name):
    recipe = replace(EXPERIMENTS["A8"].recipe, **{name: OVERRIDES[name][1]})
    assert getattr(Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))), name) == OVERRIDES[name][1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": "resnet50"}, {"head": "ordinal"}, {"head": "linear"}, {"loss": "l1"}, {"crop": "round"},
        {"labels": "offset"}, {"optimiser": "sgd"}, {"schedule": "linear"}, {"select_on": "test"},
        {"precision": "fp16"}, {"frozen_batchnorm": "off"}, {"size": 0}, {"size": 7}, {"size": 1025}, {"epochs": 0},
        {"batch_size": 0}, {"lr": 0.0}, {"lr": -1.0}, {"lr": math.nan}, {"target_std_years": 0}, {"step_epochs": 0},
        {"step_factor": 0}, {"weight_decay": -0.1}, {"warmup_epochs": -1}, {"clip_norm": -1}, {"patience": -1},
        {"l1_weight": -1}, {"auxiliary_weight": -1}, {"teacher_weight": -1}, {"seed": -1}, {"selection_seed": -1},
        {"margin": -0.5}, {"margin": 5}, {"margin": math.nan}, {"doubt_beyond": -1},
        {"crop": "resize"}, {"crop": "resize", "resize_to": 111},
        {"frozen_children": -2}, {"repeats": ()}, {"repeats": (0,)}, {"repeats": (-1,)}, {"repeats": (math.nan,)},
        {"repeats": (101,)}, {"dropout": 1}, {"dropout": -0.1}, {"ema_decay": 1}, {"selection_share": 0},
        {"selection_share": 1},
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        Recipe(**wrong)
    with pytest.raises(UsageError):
        Recipe.from_dict(wrong)


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.1}, {"zoom_in": 0.9}, {"zoom_out": 5}, {"rotation_degrees": 181}, {"hue": -0.1},
              {"jpeg": math.nan}],
)  # fmt: skip
def test_an_augmentation_that_makes_no_sense_is_refused(wrong):
    [name] = wrong
    with pytest.raises(UsageError, match=name):
        Augmentation(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 1}, {"lr": "fast"}, {"augmentation": {"blurred": 1}}, {"repeats": 3}, {"size": None}]
)
def test_a_record_that_is_no_recipe_is_refused(wrong):
    with pytest.raises(UsageError):
        Recipe.from_dict({**Recipe().to_dict(), **wrong})


@pytest.mark.parametrize("words", [["--lr", "0"], ["--repeats", "0,0"], ["--head", "linear"], ["--flip", "2"]])
def test_a_wrong_value_on_the_command_line_is_one_line(capsys, words):
    assert main(["--dataset", "utkface", "--data", "/nowhere", *words]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("agetrain: ")
