"""Checkpoints that were not made here: a ``state_dict`` that says nothing of itself, and what a person says of it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ageexport import state_dicts
from ageexport.errors import UsageError
from ageinfer.crop.spec import CROP_KINDS, NO_DETECTOR, CropSpec
from agetrain import experiments
from agetrain.datasets import DATASETS
from agetrain.datasets.own.reading import NO_LICENCE
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe

HEADS = ("linear", "dropout-linear", "distribution")
LABELS = ("real", "apparent")
_SIDE = 128  # of the original work's pictures
_Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Description:
    """A description of a checkpoint that was not made here; None means not given.

    Attributes:
        experiment: a row of ``python -m agetrain --list``, which says all the rest of a run of the original work.
        arch: the backbone, by a name that `agetrain.network.agenet.AgeNet` knows.
        head: one of `HEADS`.
        scale: years for one unit of a linear head's answer: 100 for a network that answers 0 to 1.
        label_offset: years to add to what it answers.
        label: ``real`` or ``apparent``.
        dataset: that it learned from; any text. Of a known data set the licence and the page are known too.
        licence: of that data set.
        crop: ``box``, ``landmarks`` or ``resize``, see `ageinfer.CropSpec`.
        size: side of its input in pixels.
        margin: of a ``box`` or ``landmarks`` crop on each side, as a share of the box's longer side.
        resize_to, keep_aspect: of a ``resize`` crop: the shorter side (or both sides) resized to ``resize_to``, the
            centre of ``size`` cut out.
        normalise: by ImageNet's mean and deviation, or not at all.
        mean, std: RGB, 0 to 1, by which it normalises, where that is not ImageNet's.
        key: of the file, under which the ``state_dict`` lies.
        strip_prefix: with which the names of its tensors begin; tensors of other names are left out.

    Raises:
        UsageError: a value is not valid.
    """

    experiment: str | None = None
    arch: str | None = None
    head: str | None = None
    scale: float | None = None
    label_offset: float | None = None
    label: str | None = None
    dataset: str | None = None
    licence: str | None = None
    crop: str | None = None
    size: int | None = None
    margin: float | None = None
    resize_to: int | None = None
    keep_aspect: bool | None = None
    normalise: bool | None = None
    mean: _Rgb | None = None
    std: _Rgb | None = None
    key: str | None = None
    strip_prefix: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("head", HEADS), ("label", LABELS), ("crop", CROP_KINDS)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise UsageError(f"--{name} {value}: use one of {', '.join(allowed)}")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UsageError(f"--scale {self.scale}: use the years for one unit of its answer, a number above 0")
        if self.mean is None and self.std is None:
            return
        if self.mean is None or self.std is None or self.normalise is not None:
            raise UsageError("--mean and --std belong together, without --no-normalise")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(0 <= v <= 1 for v in (*self.mean, *self.std)):
            raise UsageError(f"--mean {self.mean} --std {self.std}: three numbers each, R,G,B, from 0 to 1")
        if not all(self.std):
            raise UsageError(f"--std {self.std}: pixels cannot be divided by 0")

    @property
    def empty(self) -> bool:
        """Whether nothing was described."""
        return self == Description()


def checkpoint_of(values: dict[str, Any], path: Path, said: Description) -> Checkpoint:
    """Makes a checkpoint of agetrain out of a file that holds a ``state_dict`` of another origin.

    Its training median and the spread of its errors are not known and left out; see `ageexport.export.completed`.

    Args:
        values: of the file.
        path: for messages.
        said: what it is.

    Raises:
        CheckpointError: it is not what was said.
        UsageError: too little was said of it.
    """
    weights = state_dicts.find(values, said.key, path)
    row = experiments.experiment(said.experiment, []) if said.experiment else None
    recipe = row.recipe if row else None
    arch, head = said.arch or (recipe and recipe.backbone), said.head or (recipe and recipe.head)
    dataset = said.dataset or (row and row.dataset)
    if not arch or not head or not dataset:
        raise UsageError(
            f"{path}: a bare state_dict, which does not say what it is: give --arch, --head and --trained-on, and what "
            "differs of --crop, --size, --margin, --scale, --mean, --std, --label; or name a run of the original work "
            "with --experiment A8 (python -m agetrain --list)"
        )
    head = "linear" if head == "dropout-linear" else head
    if said.scale is not None and head != "linear":
        raise UsageError(f"--scale {said.scale:g}: a {head} head answers in years; leave it out")
    crop = _crop(said, recipe)
    normalise = said.normalise if said.normalise is not None else recipe is None or recipe.normalise
    network = AgeNet(arch, head, normalise=normalise)
    if said.mean is not None and said.std is not None:
        network.mean.copy_(255 * torch.tensor(said.mean).view(1, 3, 1, 1))
        network.std.copy_(255 * torch.tensor(said.std).view(1, 3, 1, 1))
    state_dicts.load(network, weights, path, said.strip_prefix, said.scale or 1.0)
    known = DATASETS.get(dataset)
    offset = said.label_offset
    if offset is None:
        offset = float(known.LABEL_OFFSET) if known and recipe and recipe.labels == "stored" else 0.0
    learned = {
        "dataset": dataset,
        "licence": said.licence or (known.LICENCE if known else NO_LICENCE),
        "page": known.PAGE if known else "",
        **({"part": "train"} if known else {}),
    }
    training = {
        "data": [learned],
        "described": True,
        **({"experiment": row.id, "recipe": row.recipe.to_dict()} if row else {}),
    }
    return Checkpoint.of_network(network, crop, said.label or "real", offset, training)


def _crop(said: Description, recipe: Recipe | None) -> CropSpec:
    """The face crop that was described, or that of the experiment."""
    names = ("size", "margin", "resize_to", "keep_aspect")
    given = {name: getattr(said, name) for name in names if getattr(said, name) is not None}
    kind = said.crop or (recipe.crop if recipe else "resize")
    if kind == "resize" and "margin" in given:
        raise UsageError(f"--margin {said.margin:g}: only a crop of a face has one; give --crop box or landmarks")
    if kind != "resize" and ("resize_to" in given or "keep_aspect" in given):
        raise UsageError(f"--resize-to and --squash are of whole pictures; leave them out, or give no --crop {kind}")
    if recipe and recipe.crop == kind:
        base = recipe.crop_spec
    elif kind == "resize":
        base = CropSpec(size=_SIDE, margin=0, kind=kind, detector=NO_DETECTOR, resize_to=_SIDE)
    elif "size" in given and "margin" in given:
        base = CropSpec(kind=kind)
    else:
        raise UsageError(f"--crop {kind}: give --size and --margin too; another margin changes an age by years")
    if kind == "resize" and "size" in given:
        given.setdefault("resize_to", given["size"])
    try:
        return replace(base, **given)
    except ValueError as error:
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())
        raise UsageError(f"{options}: {error}") from error
