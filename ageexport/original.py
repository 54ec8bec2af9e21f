"""Checkpoints of the original work: a bare ``state_dict`` of a torchvision network, which says nothing of itself."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ageexport.errors import CheckpointError, UsageError
from agetrain import experiments
from agetrain.datasets import module_of
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe

HEADS = ("linear", "dropout-linear", "distribution")
# Where torchvision has its classifier, which the original replaced by one neuron, alone or behind a dropout.
_CLASSIFIERS = {"resnet34": "fc", "mobilenet_v2": "classifier", "vgg16": "classifier.6"}


@dataclass(frozen=True, slots=True)
class Description:
    """A description of a bare ``state_dict``; None means not given.

    Attributes:
        experiment: a row of ``python -m agetrain --list``, which says all the rest.
        arch: the backbone, by torchvision's name.
        head: one of `HEADS`.
        label_offset: years to add to what it answers.
        label: ``real`` or ``apparent``.
        dataset: that it learned from.
        size, resize_to, keep_aspect: how a picture is brought to its input: the shorter side (or both sides) resized to
            ``resize_to``, the centre of ``size`` cut out.
        normalise: by ImageNet's mean and deviation.
    """

    experiment: str | None = None
    arch: str | None = None
    head: str | None = None
    label_offset: float | None = None
    label: str | None = None
    dataset: str | None = None
    size: int | None = None
    resize_to: int | None = None
    keep_aspect: bool | None = None
    normalise: bool | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was described."""
        return self == Description()


def is_bare(values: dict[str, Any]) -> bool:
    """Says whether values are a bare ``state_dict`` and nothing else."""
    return bool(values) and all(isinstance(v, Tensor) for v in values.values())


def checkpoint_of(weights: dict[str, Tensor], path: Path, said: Description) -> Checkpoint:
    """Makes a checkpoint of agetrain out of a bare ``state_dict``.

    Its training median and the spread of its errors are not known and left out; see `ageexport.export.completed`.

    Args:
        weights: as read.
        path: for messages.
        said: what it is.

    Raises:
        CheckpointError: it is not what was said.
        UsageError: too little was said of it.
    """
    row = experiments.experiment(said.experiment, []) if said.experiment else None
    recipe = row.recipe if row else Recipe(crop="resize", size=128, resize_to=128, margin=0)
    arch, head = said.arch or (row and row.recipe.backbone), said.head or (row and row.recipe.head)
    dataset = said.dataset or (row and row.dataset)
    if not arch or not head or not dataset:
        raise UsageError(
            f"{path}: a bare state_dict, which does not say what it is: name the run with --experiment A8 (python -m "
            "agetrain --list), or give --arch, --head and --trained-on, and what differs of --label-offset, --label, "
            "--size, --resize-to, --squash, --no-normalise"
        )
    size = said.size or recipe.size
    resize_to = said.resize_to or (recipe.resize_to if said.size is None else size)
    head = "linear" if head == "dropout-linear" else head
    module = module_of(dataset)
    recipe = replace(
        recipe, backbone=arch, head=head, loss="distribution" if head == "distribution" else "l1", size=size,
        resize_to=resize_to, keep_aspect=recipe.keep_aspect if said.keep_aspect is None else said.keep_aspect,
        normalise=recipe.normalise if said.normalise is None else said.normalise,
    )  # fmt: skip
    network = AgeNet(arch, head, normalise=recipe.normalise)
    offset = said.label_offset
    if offset is None:
        offset = float(module.LABEL_OFFSET) if recipe.labels == "stored" else 0.0
    _load(network, weights, path)
    training = {
        "data": [{"dataset": dataset, "licence": module.LICENCE, "page": module.PAGE, "part": "train"}],
        "start": "a bare state_dict: not recorded",
        "experiment": row.id if row else None,
        "recipe": recipe.to_dict(),
    }
    return Checkpoint.of_network(network, recipe.crop_spec, said.label or "real", offset, training)


def _load(network: AgeNet, weights: dict[str, Tensor], path: Path) -> None:
    """Brings torchvision's names to ours."""
    classifier = _CLASSIFIERS[network.backbone_name]
    renamed = {}
    for name, tensor in weights.items():
        rest = name.removeprefix(f"{classifier}.")
        if rest == name:
            renamed[f"backbone.{name}"] = tensor
        else:  # "weight", or "1.weight" behind a dropout
            renamed[f"head.1.{rest.rpartition('.')[2]}"] = tensor
    own = network.state_dict()
    for name, tensor in renamed.items():
        if name not in own or own[name].shape != tensor.shape:
            what = f"{name.removeprefix('backbone.')} {list(tensor.shape)}"
            raise CheckpointError(
                f"{path}: not a {network.backbone_name} with {own['head.1.bias'].numel()} output: {what} does not fit; "
                "check --arch and --head"
            )
    missing = [n for n in own if n.startswith(("backbone.", "head.")) and n not in renamed and "num_batches" not in n]
    if missing:
        raise CheckpointError(f"{path}: not a {network.backbone_name}: it has no {missing[0]}; check --arch and --head")
    with torch.no_grad():
        network.load_state_dict(renamed, strict=False)
