"""Recipes: every field is an option of the command line and a key in JSON."""

import json
import math
from dataclasses import fields, replace

import pytest
from originals import UNVARIED, resolved

from agetrain.errors import UsageError
from agetrain.experiments import EXPERIMENTS
from agetrain.recipe import Augmentation, Recipe
from agetrain.train import main

OVERRIDES = {
    "backbone": ("mobilenet_v2", "mobilenet_v2"), "dropout": ("0.25", 0.25), "frozen_children": ("-1", -1),
    "frozen_batchnorm": ("eval", "eval"), "normalise": (None, False), "crop": ("box", "box"), "size": ("96", 96),
    "margin": ("-0.1", -0.1), "resize_to": ("200", 200), "keep_aspect": (None, False), "repeats": ("2.5,1", (2.5, 1.0)),
    "balance": ("sqrt", "sqrt"), "ignore_bad": (None, True), "labels": ("stored", "stored"), "loss": ("mse", "mse"),
    "target_std_years": ("3.5", 3.5), "l1_weight": ("0.7", 0.7), "auxiliary_weight": ("0.3", 0.3),
    "teacher_weight": ("0.4", 0.4), "doubt_beyond": ("2.5", 2.5), "optimiser": ("adamw", "adamw"), "lr": ("3e-4", 3e-4),
    "weight_decay": ("0.05", 0.05), "schedule": ("cosine", "cosine"), "warmup_epochs": ("0.5", 0.5),
    "step_epochs": ("3", 3), "step_factor": ("0.5", 0.5), "clip_norm": ("2", 2.0), "batch_size": ("48", 48),
    "drop_last": (None, True), "epochs": ("3", 3), "patience": ("4", 4), "ema_decay": ("0.9", 0.9),
    "start_at_mean": (None, True), "select_on": ("train-part", "train-part"), "selection_share": ("0.2", 0.2),
    "age_balance": ("0.3", 0.3),
    "selection_seed": ("5", 5), "precision": ("bf16", "bf16"), "seed": ("6", 6),
}  # fmt: skip
VARIED = {
    "flip": 0.4, "zoom_in": 1.5, "zoom_out": 1.25, "shift": 0.1, "rotation_degrees": 12.5, "random_crop": True,
    "brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.05, "grey": 0.15, "soften": 0.25, "blur": 0.35,
    "jpeg": 0.45, "erase": 0.55,
}  # fmt: skip


def test_the_overrides_below_are_all_that_a_recipe_has():
    assert set(OVERRIDES) | {"augmentation", "head", "frozen_stages"} == {f.name for f in fields(Recipe)}
    assert set(VARIED) == {f.name for f in fields(Augmentation)}


def option(name, value, base):
    """The words of the command line for a field; a switch is turned from what it is."""
    dashed = "label-values" if name == "labels" else name.replace("_", "-")
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


def test_stages_can_be_named_where_no_children_are_counted(capsys):
    _, recipe = resolved("--dataset", "utkface", "--frozen-stages", "conv1,layer1")
    assert recipe == replace(EXPERIMENTS["best"].recipe, frozen_stages=("conv1", "layer1"))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert main(["--dataset", "appa-real", "--frozen-stages", "conv1"]) == 2  # A8 counts seven
    assert "--frozen-children 7 both say" in capsys.readouterr().err
    _, recipe = resolved("--dataset", "appa-real", "--frozen-stages", "conv1", "--frozen-children", "0")
    assert (recipe.frozen_stages, recipe.frozen_children) == (("conv1",), 0)


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
        {"backbone": "resnet50"}, {"backbone": "torchvision:"}, {"backbone": "timm:hf-hub:a/b"},
        {"backbone": "net.py"}, {"backbone": "net.py:a-b"}, {"backbone": "net.txt:a"}, {"backbone": 5},
        {"frozen_stages": ("a",), "frozen_children": 1}, {"frozen_stages": ("a", "")},
        {"head": "ordinal"}, {"head": "linear"}, {"loss": "l1"}, {"crop": "round"},
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
