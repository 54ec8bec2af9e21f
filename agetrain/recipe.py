"""A training run as data: every choice is a field, and the fields are the command line's options."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ageinfer.cropspec import NO_DETECTOR, CropSpec
from agetrain.augment import Augmentation
from agetrain.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16")
BACKBONES = ("mobilenet_v2", "resnet34", "vgg16", "mobilenet_v1_face")
HEADS = ("linear", "distribution")
CHOICES = {
    "backbone": BACKBONES,
    "head": HEADS,
    "precision": PRECISIONS,
    "frozen_batchnorm": ("eval", "train"),
    "batchnorm": ("train", "eval"),
    "crop": ("box", "landmarks", "resize"),
    "labels": ("true", "stored"),
    "loss": ("distribution", "l1", "mse"),
    "optimiser": ("adamw", "adam"),
    "schedule": ("cosine", "constant", "step"),
    "select_on": ("train-part", "valid"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. The defaults are the recipe ``best``; `agetrain.experiments` holds the others.

    Attributes:
        backbone: a torchvision network that starts from ImageNet, or that of `agetrain.mobilenet_face`.
        head: ``distribution`` (a probability for each year) or ``linear`` (one neuron).
        dropout: before the last layer.
        frozen_children: how many leading children of the backbone are not trained (see
            `agetrain.networks.backbone_children`); -1 for all, so that the head alone is.
        frozen_batchnorm: mode of the normalisation layers among them. ``train`` is a quirk of the original
            experiments: their running statistics drift although their weights are frozen.
        batchnorm: mode of all the other normalisation layers while the network learns; ``eval``: their running
            statistics stand still.
        normalise: mean and deviation of ImageNet; without it, pixels are only brought to 0 to 1.
        crop: kind of the face crop, see `ageinfer.cropspec.CropSpec`.
        size: side of the network's input in pixels.
        margin: of the face crop.
        resize_to, keep_aspect: of a ``resize`` crop.
        augmentation: how faces are varied.
        repeats: how often an epoch shows each picture; one number for all data sets, or one for each, in their order.
            A fraction shows a random part. The original experiments "augmented" by repeating 3 times.
        ignore_bad: leave out of train what the data set's owners call bad pictures (APPA-REAL), unless a list of
            ``--split`` or ``--split-csv`` names them; the original did not.
        labels: ``stored``: learn the label as the original CSV stores it (AFAD: years - 15, CACD: years - 14) and add
            the offset to what the network answers.
        loss: ``mse`` or ``l1`` of the decoded age, or ``distribution``: divergence from a Gaussian label.
        target_std_years: width of the Gaussian label where raters gave none.
        l1_weight: of the absolute error of the decoded age beside the distribution loss (DLDL-v2).
        age_balance: how far rare ages count more: each face by its age's density to the power of minus this, within
            a factor of 4 (Yang et al., ICML 2021, with a smoothed density); 0: all faces alike.
        auxiliary_weight: of a second head that learns the other of real and apparent age where it is known; 0: none.
        teacher_weight: of what a teacher says, beside the label; used when one is given.
        doubt_beyond: labels that lie more than so many of the teacher's deviations from its answer are not learned; the
            face is still learned from the teacher. 0: every label is believed.
        optimiser: ``adamw`` or ``adam``.
        lr: largest learning rate.
        backbone_rate: of the backbone, as a share of that of the head: below 1 it moves more slowly.
        weight_decay: on weight matrices; biases and normalisation are left alone.
        schedule: ``cosine`` after the warm-up, ``constant``, or ``step``.
        warmup_epochs: of linear warm-up.
        step_epochs, step_factor: of ``step``: every so many epochs the rate is multiplied by the factor.
        clip_norm: largest norm of the gradient; 0: any.
        batch_size: faces a step, over all processes.
        drop_last: leave out the last, smaller batch of an epoch.
        epochs: at most; the best epoch is kept.
        patience: stop after so many epochs without a better one; 0: never.
        ema_decay: of the running mean of the weights, which is what is evaluated and kept; 0: none.
        start_at_mean: let a linear head begin at the mean age.
        select_on: where the best epoch is chosen: a part of train that is not learned from, or, as the original
            experiments did, the validation part itself.
        selection_share, selection_seed: of that part of train.
        precision: ``bf16`` autocast, ``fp32``, or ``auto``: bf16 where the hardware multiplies in it.
        seed: of everything else that is random.
    """

    backbone: str = "mobilenet_v2"
    head: str = "distribution"
    dropout: float = 0.2
    frozen_children: int = 0
    frozen_batchnorm: str = "eval"
    batchnorm: str = "train"
    normalise: bool = True
    crop: str = "landmarks"
    size: int = 112
    margin: float = 0.2
    resize_to: int = 0
    keep_aspect: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    repeats: tuple[float, ...] = (1.0,)
    ignore_bad: bool = True
    labels: str = "true"
    loss: str = "distribution"
    target_std_years: float = 2.5
    l1_weight: float = 0.1
    age_balance: float = 0.0
    auxiliary_weight: float = 0.5
    teacher_weight: float = 1.0
    doubt_beyond: float = 0.0
    optimiser: str = "adamw"
    lr: float = 1e-3
    backbone_rate: float = 1.0
    weight_decay: float = 0.02
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    step_epochs: int = 5
    step_factor: float = 0.1
    clip_norm: float = 5.0
    batch_size: int = 64
    drop_last: bool = True
    epochs: int = 24
    patience: int = 0
    ema_decay: float = 0.995
    start_at_mean: bool = True
    select_on: str = "train-part"
    selection_share: float = 0.1
    selection_seed: int = 0
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{_option(name)} {getattr(self, name)}: use one of {', '.join(allowed)}")
        if (self.head == "distribution") != (self.loss == "distribution"):
            raise UsageError(f"--head {self.head} cannot learn by --loss {self.loss}: use distribution, or l1 and mse")
        for name in ("size", "epochs", "batch_size", "lr", "target_std_years", "step_epochs", "step_factor"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{_option(name)} {getattr(self, name)}: must be above 0")
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "patience", "l1_weight", "auxiliary_weight",
                     "backbone_rate", "age_balance", "teacher_weight", "doubt_beyond", "seed",
                     "selection_seed"):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise UsageError(f"{_option(name)} {getattr(self, name)}: use 0 or more")
        if not 8 <= self.size <= 1024 or not -0.4 <= self.margin <= 4:
            raise UsageError(f"--size {self.size} --margin {self.margin}: use 8 to 1024 px and -0.4 to 4")
        if self.crop == "resize" and not self.size <= self.resize_to <= 1024:
            raise UsageError(f"--resize-to {self.resize_to}: a resize crop needs --size {self.size} to 1024 px")
        if self.frozen_children < -1:
            raise UsageError(f"--frozen-children {self.frozen_children}: use -1 for all, or 0 or more")
        if not self.repeats or not all(0 <= r <= 100 for r in self.repeats) or not any(self.repeats):
            raise UsageError(f"--repeats {self.repeats}: use numbers from 0 to 100, one of them above 0")
        if not 0 <= self.dropout < 1 or not 0 <= self.ema_decay < 1:
            raise UsageError("--dropout and --ema-decay are shares between 0 and 1")
        if not 0 < self.selection_share < 1:
            raise UsageError(f"--selection-share {self.selection_share}: a share between 0 and 1")

    @property
    def crop_spec(self) -> CropSpec:
        """The crop that a model of this recipe must be given."""
        if self.crop == "resize":
            return CropSpec(
                size=self.size, margin=0, kind="resize", detector=NO_DETECTOR, resize_to=self.resize_to,
                keep_aspect=self.keep_aspect,
            )  # fmt: skip
        return CropSpec(size=self.size, margin=self.margin, kind=self.crop)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {**asdict(self), "repeats": list(self.repeats)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Reads what `to_dict` wrote.

        Raises:
            UsageError: a key is unknown, or a value not valid.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise UsageError(f"a recipe has no field {min(unknown)}")
        try:
            changes: dict[str, Any] = {}
            if "augmentation" in values:
                changes["augmentation"] = Augmentation(**values["augmentation"])
            if "repeats" in values:
                changes["repeats"] = tuple(values["repeats"])
            return cls(**{**values, **changes})
        except TypeError as error:
            raise UsageError(f"not a recipe: {error}") from error


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
