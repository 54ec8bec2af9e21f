"""Backbones: networks without their classifier, which turn faces into features."""

from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from agetrain.errors import MissingDependencyError, UsageError
from agetrain.network import mobilenet_face
from agetrain.network.factory import described, made_by_function
from agetrain.network.names import BACKBONES, BackboneName

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_SEVERAL_OUTPUTS = ("googlenet", "inception_v3")  # while they are trained


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The normalisation of pixels from 0 to 255, RGB: ``(pixel - mean * scale) / (std * scale)``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0


IMAGENET = Normalisation(IMAGENET_MEAN, IMAGENET_STD)
UNIT = Normalisation((0.0,) * 3, (1.0,) * 3)  # pixels from 0 to 1
_FACE = Normalisation(mobilenet_face.MEAN, mobilenet_face.STD, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network without its classifier.

    Attributes:
        module: takes float32 ``[n, 3, side, side]``, normalised, and gives ``[n, width]`` or ``[n, width, 1, 1]``.
        width: number of features.
        normalisation: that it wants.
    """

    module: nn.Module
    width: int
    normalisation: Normalisation


def make_backbone(text: str, size: int, *, trust_code: bool = False) -> Backbone:
    """Makes a backbone with random weights, or with those that the user's own code gives it.

    Args:
        text: as `agetrain.network.names.BackboneName` reads it.
        size: side of the faces in pixels; agetrain's own networks take any.
        trust_code: whether the user's own code may be run.

    Raises:
        UsageError: there is no such network, it takes no faces of this size, or its code may not be run.
        MissingDependencyError: timm is not installed.
    """
    name = BackboneName.parse(text)
    if name.source == "own":
        return Backbone(*_own(name.name), _FACE if name.name == mobilenet_face.NAME else IMAGENET)
    normalisation = IMAGENET
    if name.source == "torchvision":
        module = _of_torchvision(name.name)
    elif name.source == "timm":
        module = _of_timm(name.name)
        known = _pretrained(module)
        normalisation = Normalisation(tuple(known["mean"]), tuple(known["std"]))
    else:
        module = made_by_function(name, size, trust_code=trust_code)
    training = module.training
    with torch.no_grad():
        width = _given(text, module.eval(), size).shape[1]
    return Backbone(module.train(training), width, normalisation)


def check_backbone(text: str, size: int, *, trust_code: bool = False) -> nn.Module:
    """Makes a network and runs it once forwards and backwards, as training will; the random state stays as it is.

    Returns:
        The network; its weights are not to be used.

    Raises:
        UsageError: there is no such network, it cannot be trained on faces of this size, or its code may not be run.
        MissingDependencyError: timm is not installed.
    """
    # Of agetrain's own networks only the shapes are computed.
    place = torch.device("meta" if BackboneName.parse(text).source == "own" else "cpu")
    with torch.random.fork_rng(devices=[]), place:
        module = make_backbone(text, size, trust_code=trust_code).module
        _given(text, module.train(), size, backwards=True)
    return module


def backbone_names(containing: str = "") -> list[str]:
    """Lists what ``--backbone`` takes: agetrain's own networks, torchvision's, and timm's where that is installed.

    Args:
        containing: leaves out names without this text.
    """
    names = [*BACKBONES, *(f"torchvision:{name}" for name in _names_of_torchvision())]
    with suppress(MissingDependencyError):
        names += [f"timm:{name}" for name in _timm().list_models()]
    return [name for name in names if containing.lower() in name.lower()]


def weights_of_torchvision(name: str) -> list[torchvision.models.WeightsEnum]:
    """Lists the weights that torchvision has for a network, its default first."""
    found = torchvision.models.get_model_weights(name)
    return [found.DEFAULT, *(weights for weights in found if weights != found.DEFAULT)]


def timm_with_weights(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Downloads a network of timm with its weights; returns it with what timm says of them.

    Raises:
        MissingDependencyError: timm is not installed.
        Exception: whatever timm, and what it downloads with, raise where that fails.
    """
    module = _timm().create_model(name, pretrained=True, num_classes=0)
    return module, _pretrained(module)


def _own(name: str) -> tuple[nn.Module, int]:
    if name == mobilenet_face.NAME:
        return mobilenet_face.FaceMobileNet(), mobilenet_face.WIDTH
    network = torchvision.models.get_model(name, weights=None)
    if name == "resnet34":
        width = network.fc.in_features
        network.fc = nn.Identity()
    elif name == "mobilenet_v2":
        width = network.classifier[1].in_features
        network.classifier = nn.Identity()
    else:
        width = network.classifier[6].in_features
        network.classifier[6] = nn.Identity()
    return network, width


def _names_of_torchvision() -> list[str]:
    names = torchvision.models.list_models(module=torchvision.models)
    return [name for name in names if name not in _SEVERAL_OUTPUTS]


def _of_torchvision(name: str) -> nn.Module:
    if name in _SEVERAL_OUTPUTS:
        raise UsageError(f"torchvision:{name}: gives several outputs while it is trained; use another network")
    if name not in _names_of_torchvision():
        raise UsageError(f"torchvision:{name}: torchvision has no such network; --list-backbones TEXT lists the names")
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    # The last layer with weights is the classifier, in SqueezeNet a convolution. The dropout before it goes too: the
    # head has its own.
    last = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    network.set_submodule(last, nn.Identity())
    place, _, number = last.rpartition(".")
    if number.isdigit() and number != "0":
        before = f"{place}.{int(number) - 1}"
        if isinstance(network.get_submodule(before), nn.Dropout):
            network.set_submodule(before, nn.Identity())
    return network


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError("networks of timm need the package timm: pip install 'ageinfer[timm]'") from error
    return timm


def _of_timm(name: str) -> nn.Module:
    timm = _timm()
    if not timm.is_model(name):
        raise UsageError(f"timm:{name}: timm has no such network; --list-backbones TEXT lists the names")
    try:
        module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"timm:{name}: timm cannot make it ({described(error)}); use another network") from error
    return module


def _pretrained(module: nn.Module) -> dict[str, Any]:
    """What timm says of the weights of a network, and so of the faces that it wants."""
    known: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    return known


def _given(text: str, module: nn.Module, size: int, *, backwards: bool = False) -> Tensor:
    """What a network gives for two faces.

    Raises:
        UsageError: it takes none of this size, or gives something else than features.
    """
    try:
        features = module(torch.zeros(2, 3, size, size))
        if backwards and isinstance(features, Tensor):
            torch.autograd.backward(features.sum())
    except Exception as error:  # whatever a network raises of what it cannot take
        wanted = _made_for(BackboneName.parse(text), module)
        remedy = f"use --size {wanted}, which it was made for" if wanted not in (0, size) else "use another --size"
        raise UsageError(f"{text}: cannot take faces of {size} px ({described(error)}); {remedy}") from error
    if not isinstance(features, Tensor):
        raise UsageError(
            f"{text}: gives a {type(features).__name__} and not one tensor of features; use another network"
        )
    if features.ndim not in (2, 4) or len(features) != 2 or features.shape[2:].numel() != 1:
        raise UsageError(
            f"{text}: gives {list(features.shape)} for two faces of {size} px; features must be [2, width] or "
            "[2, width, 1, 1]"
        )
    return features


def _made_for(name: BackboneName, module: nn.Module) -> int:
    """The side of the pictures that a network was made for; 0 where that is not known."""
    if name.source == "torchvision":
        side = getattr(module, "image_size", None)  # of a ViT, which for some weights is another than its own
        return int(side or weights_of_torchvision(name.name)[0].transforms().crop_size[0])
    if name.source == "timm":
        return int(_pretrained(module)["input_size"][-1])
    return 224 if name.source == "own" else 0
