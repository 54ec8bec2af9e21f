"""A training run as data: every choice is a field, and the fields are the command line's options."""

from dataclasses import asdict, dataclass, field
from typing import Any

from agetrain.augment import Augmentation
from agetrain.errors import UsageError
from agetrain.networks import BACKBONES, HEADS

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. The defaults are the recipe of the shipped model.

    Attributes:
        backbone: a torchvision network that starts from ImageNet.
        head: ``distribution`` (a probability for each year) or ``linear`` (one neuron).
        dropout: before the last layer.
        size: side of the face crop in pixels.
        margin: of the face crop, see `ageinfer.faces.CropSpec`.
        epochs: at most; the epoch with the best selection MAE is kept.
        batch_size: faces a step.
        lr: largest learning rate (AdamW), reached after `warmup_epochs` and then lowered on a cosine.
        weight_decay: on weight matrices; biases and normalisation are left alone.
        warmup_epochs: of linear warm-up.
        target_std_years: width of the Gaussian target where raters gave none.
        l1_weight: of the absolute error of the decoded age beside the distribution loss (DLDL-v2).
        ema_decay: of the running mean of the weights, which is what is evaluated and kept.
        selection_share: part of train kept out of training, on which the epoch is chosen.
        precision: ``bf16`` autocast, ``fp32``, or ``auto``: bf16 where the hardware multiplies in it.
        seed: of everything random.
        augmentation: how faces are varied.
    """

    backbone: str = "mobilenet_v2"
    head: str = "distribution"
    dropout: float = 0.2
    size: int = 112
    margin: float = 0.2
    epochs: int = 24
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup_epochs: float = 1
    target_std_years: float = 2.5
    l1_weight: float = 0.1
    ema_decay: float = 0.995
    selection_share: float = 0.1
    precision: str = "auto"
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        choices = (("backbone", BACKBONES), ("head", HEADS), ("precision", PRECISIONS))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} {getattr(self, name)}: use one of {', '.join(allowed)}")
        positive = ("size", "epochs", "batch_size", "lr", "target_std_years")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be above 0")
        if not 8 <= self.size <= 1024 or not -0.4 <= self.margin <= 4:
            raise UsageError(f"--size {self.size} --margin {self.margin}: use 8 to 1024 px and -0.4 to 4")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: use 0 or more")
        if not 0 < self.selection_share < 1 or not 0 <= self.dropout < 1 or not 0 <= self.ema_decay < 1:
            raise UsageError("selection share, dropout and EMA decay are shares between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return asdict(self)
