"""Recipes: every choice that a training makes, as a field that is also an option of the command line."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ageinfer.crop.spec import NO_DETECTOR, CropSpec
from agetrain.errors import UsageError
from agetrain.network.names import BackboneName

AUGMENTATIONS = ("none", "original", "best")
PRECISIONS = ("auto", "fp32", "bf16")
HEADS = ("linear", "distribution")
AGE_BALANCES = ("none", "sqrt", "age")  # any other balance is the name of a column
CHOICES = {
    "head": HEADS,
    "precision": PRECISIONS,
    "frozen_batchnorm": ("eval", "train"),
    "crop": ("box", "landmarks", "resize"),
    "labels": ("true", "stored"),
    "loss": ("distribution", "l1", "mse"),
    "optimiser": ("adamw", "adam"),
    "schedule": ("cosine", "constant", "step"),
    "select_on": ("train-part", "valid"),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far the faces of a training batch are varied. The defaults are those of the recipe ``best``.

    The ``help`` text of each field says what it does; probabilities are per face.
    """

    flip: float = field(default=0.5, metadata={"help": "probability that a face is mirrored"})
    zoom_in: float = field(
        default=1.12,
        metadata={
            "help": "largest factor by which a face is enlarged, drawn log-uniformly; 1.12 shows at least 80 % of the "
            "area, as a random resized crop of 0.8 to 1 does"
        },
    )
    zoom_out: float = field(
        default=1.25, metadata={"help": "largest factor by which a face is reduced, drawn log-uniformly"}
    )
    shift: float = field(
        default=0.06, metadata={"help": "largest move in each direction, as a share of the crop's side"}
    )
    rotation_degrees: float = field(default=15, metadata={"help": "largest rotation in either direction"})
    random_crop: bool = field(
        default=False,
        metadata={"help": "cut the face from anywhere in the wide crop, by whole pixels, not from its centre"},
    )
    brightness: float = field(default=0.3, metadata={"help": "largest relative change of the brightness"})
    contrast: float = field(default=0.3, metadata={"help": "largest relative change of the contrast"})
    saturation: float = field(default=0.3, metadata={"help": "largest relative change of the saturation"})
    hue: float = field(default=0.02, metadata={"help": "largest change of the hue, as a share of the colour circle"})
    grey: float = field(default=0.1, metadata={"help": "probability that a face loses all colour"})
    soften: float = field(
        default=0.2,
        metadata={"help": "probability that a face is reduced to 25 to 75 % of its resolution and enlarged again"},
    )
    blur: float = field(default=0.15, metadata={"help": "probability of a Gaussian blur of 0.3 to 1.5 px"})
    jpeg: float = field(default=0.25, metadata={"help": "probability of the losses of JPEG at a quality of 20 to 90"})
    erase: float = field(
        default=0.2, metadata={"help": "probability of one grey rectangle over up to a third of each side"}
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            low, high = (1, 4) if each.name.startswith("zoom") else (0, 180 if "degrees" in each.name else 1)
            if not low <= value <= high:
                raise UsageError(f"augmentation {each.name} {value}: use {low} to {high}")

    @classmethod
    def named(cls, name: str) -> "Augmentation":
        """Returns one of `AUGMENTATIONS`; ``original`` is what the original work meant to apply and did not.

        Raises:
            UsageError: there is none of that name.
        """
        if name == "best":
            return cls()
        nothing = cls(
            flip=0, zoom_in=1, zoom_out=1, shift=0, rotation_degrees=0, brightness=0, contrast=0, saturation=0, hue=0,
            grey=0, soften=0, blur=0, jpeg=0, erase=0,
        )  # fmt: skip
        if name == "none":
            return nothing
        if name == "original":
            return replace(
                nothing, flip=0.5, rotation_degrees=10, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1
            )
        raise UsageError(f"augmentation {name!r}: use one of {', '.join(AUGMENTATIONS)}")

    @property
    def moves(self) -> bool:
        """Whether pixels have to be interpolated."""
        return self.zoom_in > 1 or self.zoom_out > 1 or self.shift > 0 or self.rotation_degrees > 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. The defaults are the recipe ``best``; `agetrain.experiments` holds the others.

    The ``help`` text of each field says what it does; each field is an option of ``python -m agetrain``.
    """

    backbone: str = field(
        default="mobilenet_v2",
        metadata={
            "help": "the network: mobilenet_v2, resnet34 or vgg16, which start from ImageNet, mobilenet_v1_face, which "
            "starts from weights that know faces, torchvision:NAME, timm:NAME (see --list-backbones), or "
            "FILE.py:FUNCTION (see --trust-code)"
        },
    )
    head: str = field(
        default="distribution",
        metadata={"help": "distribution: a probability for each year; linear: one neuron that answers in years"},
    )
    dropout: float = field(default=0.2, metadata={"help": "dropout before the last layer"})
    frozen_children: int = field(
        default=0,
        metadata={
            "help": "how many leading children of the backbone are not trained (see "
            "agetrain.training.freezing.backbone_children); -1 freezes all, so that only the head is trained"
        },
    )
    frozen_stages: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "parts of the backbone that are not trained, by the names of its modules, as conv1,bn1,layer1; all "
            "that is inside of them is meant"
        },
    )
    frozen_batchnorm: str = field(
        default="eval",
        metadata={
            "help": "mode of the BatchNorm layers in frozen parts; in train mode their running statistics drift "
            "although their weights are frozen, as in the original experiments"
        },
    )
    normalise: bool = field(
        default=True,
        metadata={"help": "normalise by the mean and deviation of ImageNet; without it, pixels are scaled to 0 to 1"},
    )
    crop: str = field(default="landmarks", metadata={"help": "kind of the face crop, see ageinfer.crop.spec.CropSpec"})
    size: int = field(default=112, metadata={"help": "side of the network's input in pixels"})
    margin: float = field(
        default=0.2, metadata={"help": "margin of the face crop on each side, as a share of the box's longer side"}
    )
    resize_to: int = field(
        default=0, metadata={"help": "for a resize crop: side in pixels before the centre is cut out"}
    )
    keep_aspect: bool = field(
        default=True, metadata={"help": "for a resize crop: resize the shorter side and keep the aspect ratio"}
    )
    augmentation: Augmentation = field(
        default_factory=Augmentation, metadata={"help": "sets all options of the augmentation below at once"}
    )
    repeats: tuple[float, ...] = field(
        default=(1.0,),
        metadata={
            "help": "how often an epoch shows each picture: one number for all data sets, or one for each in their "
            "order; a fraction shows a random part"
        },
    )
    balance: str = field(
        default="none",
        metadata={
            "help": "how evenly an epoch shows the ages: none (as they are), sqrt (the rarer the more often), age (all "
            "alike), or the name of a column of own data, whose values are shown alike; as many faces as without it"
        },
    )
    ignore_bad: bool = field(
        default=True,
        metadata={
            "help": "leave out of the train part what the owners of the data set call bad pictures (APPA-REAL), unless "
            "a list of --split or --split-csv names them"
        },
    )
    labels: str = field(
        default="true",
        metadata={
            "help": "stored: learn labels as the original CSV stores them (AFAD: years - 15, CACD: years - 14) and add "
            "the offset to what the network answers"
        },
    )
    loss: str = field(
        default="distribution",
        metadata={
            "help": "mse or l1 of the decoded age, or distribution: the divergence from a Gaussian round the label"
        },
    )
    target_std_years: float = field(
        default=2.5, metadata={"help": "width of that Gaussian in years where no raters give one"}
    )
    l1_weight: float = field(
        default=0.1,
        metadata={"help": "weight of the absolute error of the decoded age beside the distribution loss (DLDL-v2)"},
    )
    age_balance: float = field(
        default=0.0,
        metadata={
            "help": "how far rare ages count more: each face by the density of its age to the power of minus this, "
            "within a factor of 4 (Yang et al., ICML 2021); 0 counts all faces alike"
        },
    )
    auxiliary_weight: float = field(
        default=0.5,
        metadata={
            "help": "weight of a second head that learns the other of real and apparent age where it is known; 0 turns "
            "it off"
        },
    )
    teacher_weight: float = field(
        default=1.0, metadata={"help": "weight of the teacher's answers beside the labels, where --teacher is given"}
    )
    doubt_beyond: float = field(
        default=0.0,
        metadata={
            "help": "do not learn a label that lies more than this many of the teacher's deviations from the teacher's "
            "answer; the face is still learned from the teacher; 0 believes every label"
        },
    )
    optimiser: str = field(default="adamw", metadata={"help": "the optimiser"})
    lr: float = field(default=1e-3, metadata={"help": "largest learning rate"})
    weight_decay: float = field(
        default=0.02, metadata={"help": "decay of weight matrices; biases and BatchNorm do not decay"}
    )
    schedule: str = field(default="cosine", metadata={"help": "how the learning rate changes after the warm-up"})
    warmup_epochs: float = field(default=1.0, metadata={"help": "epochs of linear warm-up, with the cosine schedule"})
    step_epochs: int = field(
        default=5, metadata={"help": "with the step schedule: epochs between two reductions of the learning rate"}
    )
    step_factor: float = field(
        default=0.1, metadata={"help": "with the step schedule: factor of each reduction of the learning rate"}
    )
    clip_norm: float = field(default=5.0, metadata={"help": "largest norm of the gradient; 0 sets no limit"})
    batch_size: int = field(default=64, metadata={"help": "faces in a step, over all processes"})
    drop_last: bool = field(default=True, metadata={"help": "leave out the last, smaller batch of an epoch"})
    epochs: int = field(default=24, metadata={"help": "largest number of epochs; the best one is kept"})
    patience: int = field(
        default=0, metadata={"help": "stop after this many epochs without a better one; 0 never stops early"}
    )
    ema_decay: float = field(
        default=0.995,
        metadata={
            "help": "decay of the running mean of the weights, which is then evaluated and kept; 0 keeps the weights "
            "themselves"
        },
    )
    start_at_mean: bool = field(default=True, metadata={"help": "let a linear head start at the mean age"})
    select_on: str = field(
        default="train-part",
        metadata={
            "help": "where the best epoch is chosen: on a part of train that is not learned from, or, as in the "
            "original experiments, on the validation part itself"
        },
    )
    selection_share: float = field(default=0.1, metadata={"help": "share of train that chooses the epoch"})
    selection_seed: int = field(default=0, metadata={"help": "seed of the choice of that part of train"})
    precision: str = field(
        default="auto",
        metadata={"help": "bf16 autocast or fp32; auto takes bf16 where the hardware multiplies in it"},
    )
    seed: int = field(default=0, metadata={"help": "seed of everything else that is random"})

    def __post_init__(self) -> None:
        BackboneName.parse(self.backbone)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{option(name)} {getattr(self, name)}: use one of {', '.join(allowed)}")
        if (self.head == "distribution") != (self.loss == "distribution"):
            raise UsageError(f"--head {self.head} cannot learn by --loss {self.loss}: use distribution, or l1 and mse")
        for name in ("size", "epochs", "batch_size", "lr", "target_std_years", "step_epochs", "step_factor"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{option(name)} {getattr(self, name)}: must be above 0")
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "patience", "l1_weight", "auxiliary_weight",
                     "teacher_weight", "doubt_beyond", "age_balance", "seed",
                     "selection_seed"):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise UsageError(f"{option(name)} {getattr(self, name)}: use 0 or more")
        if not 8 <= self.size <= 1024 or not -0.4 <= self.margin <= 4:
            raise UsageError(f"--size {self.size} --margin {self.margin}: use 8 to 1024 px and -0.4 to 4")
        if self.crop == "resize" and not self.size <= self.resize_to <= 1024:
            raise UsageError(f"--resize-to {self.resize_to}: a resize crop needs --size {self.size} to 1024 px")
        if self.frozen_children < -1:
            raise UsageError(f"--frozen-children {self.frozen_children}: use -1 for all, or 0 or more")
        if self.frozen_stages and self.frozen_children:
            raise UsageError(
                f"--frozen-stages {','.join(self.frozen_stages)} and --frozen-children {self.frozen_children} both say "
                "what is not trained; give one of them, and 0 children where an experiment counts some"
            )
        if not all(self.frozen_stages):
            raise UsageError("--frozen-stages: a name is empty; use names of modules, as conv1,bn1,layer1")
        if not self.repeats or not all(0 <= r <= 100 for r in self.repeats) or not any(self.repeats):
            raise UsageError(f"--repeats {self.repeats}: use numbers from 0 to 100, one of them above 0")
        if not 0 <= self.dropout < 1 or not 0 <= self.ema_decay < 1:
            raise UsageError("--dropout and --ema-decay are shares between 0 and 1")
        if not 0 < self.selection_share < 1:
            raise UsageError(f"--selection-share {self.selection_share}: a share between 0 and 1")

    @property
    def crop_spec(self) -> CropSpec:
        """The face crop that a model of this recipe takes."""
        if self.crop == "resize":
            return CropSpec(
                size=self.size, margin=0, kind="resize", detector=NO_DETECTOR, resize_to=self.resize_to,
                keep_aspect=self.keep_aspect,
            )  # fmt: skip
        return CropSpec(size=self.size, margin=self.margin, kind=self.crop)

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as JSON values."""
        return {**asdict(self), "repeats": list(self.repeats), "frozen_stages": list(self.frozen_stages)}

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
            for name in {"repeats", "frozen_stages"} & set(values):
                changes[name] = tuple(values[name])
            return cls(**{**values, **changes})
        except TypeError as error:
            raise UsageError(f"not a recipe: {error}") from error


def option(name: str) -> str:
    """Returns the option of the command line for a field; ``--labels`` names the list of own data."""
    return f"--{'label-values' if name == 'labels' else name.replace('_', '-')}"
