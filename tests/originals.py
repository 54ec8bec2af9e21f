"""What is known of the fourteen runs of the original work, written down from it and not from the program."""

from dataclasses import dataclass

import torch

from agetrain.experiments import EXPERIMENTS
from agetrain.train import build_parser, config_of

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
    "age_balance": 0, "balance": "none", "frozen_stages": [],
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


def resolved(*arguments):
    """The experiment and the recipe of a command line."""
    config = config_of(build_parser().parse_args(list(arguments)))
    return EXPERIMENTS[config.experiment], config.recipe
