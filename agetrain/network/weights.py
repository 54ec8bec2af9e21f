"""Starting weights: those of a backbone from ImageNet or from faces, or another checkpoint."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from agetrain._files import file_sha256
from agetrain.errors import AgeError, CheckpointError, WeightsError
from agetrain.network import mobilenet_face
from agetrain.network.agenet import AgeNet
from agetrain.network.backbones import timm_with_weights, weights_of_torchvision
from agetrain.network.checkpoint import FORMAT, Checkpoint
from agetrain.network.factory import described
from agetrain.network.names import DEFAULT, NONE, BackboneName
from agetrain.recipe import Recipe, option

WEIGHTS_VARIABLE = "AGETRAIN_WEIGHTS"
_ImageNet = {
    "mobilenet_v2": torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1,
    "resnet34": torchvision.models.ResNet34_Weights.IMAGENET1K_V1,
    "vgg16": torchvision.models.VGG16_Weights.IMAGENET1K_V1,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a network started from.

    Attributes:
        source: for the record.
        substitute: the file is not torchvision's own, byte for byte, so that figures may differ from published ones.
        missing: names of the backbone's tensors that it did not hold and that therefore start at random.
        with_head: the head was loaded as well.
        folded: its BatchNorm is folded into the convolutions and has to be put back before it is trained.
        terms: of its licence, where they are not those of torchvision.
    """

    source: str
    substitute: bool
    missing: tuple[str, ...]
    with_head: bool = False
    folded: bool = False
    terms: str = ""


def load_imagenet_weights(network: AgeNet, file: str | Path | None = None) -> Start:
    """Starts the backbone from weights that were learned before, of ImageNet mostly; its classifier is not needed.

    Args:
        network: to be loaded in place.
        file: a state dict of the backbone, or a folder with ``<backbone>*.pth``; ``default`` for the download of
            torchvision or timm, ``none`` to start at random; None for the variable ``AGETRAIN_WEIGHTS``, and without
            that the default.

    Returns:
        Where the weights came from.

    Raises:
        WeightsError: they cannot be had, or belong to another network.
    """
    file = file or os.environ.get(WEIGHTS_VARIABLE) or DEFAULT
    if file == NONE:
        names = network.backbone.state_dict()
        return Start("random", False, tuple(name for name in names if not name.endswith("num_batches_tracked")))
    if file == DEFAULT:
        return _load_default(network)
    name = network.backbone_name
    path = weights_file(Path(file), name)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises zipfile, pickle, EOF, runtime and other errors for a broken file
        raise WeightsError(f"{path}: not a file of weights ({type(error).__name__}); fetch it again") from error
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise WeightsError(f"{path}: not a state dict of tensors; give one of {name}")
    if isinstance(network.backbone, mobilenet_face.FaceMobileNet):
        return _load_face(network, network.backbone, weights, path)
    missing = _load(network, weights, str(path))
    digest = file_sha256(path)
    for known in _of_torchvision(name):
        if digest.startswith(Path(known.url).stem.rpartition("-")[2]):  # torchvision names its files by their hash
            return Start(_source(known), False, missing)
    substitute = name in _ImageNet
    return Start(
        f"{'substitute ' if substitute else ''}weights {path.name}, SHA-256 {digest[:16]}", substitute, missing
    )


def _load_default(network: AgeNet) -> Start:
    text = network.backbone_name
    name = BackboneName.parse(text)
    if text == mobilenet_face.NAME:
        raise WeightsError(f"there are no weights of {text} to download: {mobilenet_face.REMEDY}")
    if name.source == "file":
        return Start(f"the weights that {text} gave it", False, ())
    if name.source == "timm":
        return _load_timm(network, name.name)
    [default, *_] = _of_torchvision(text)
    try:
        weights = default.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:  # torch reports a wrong hash as RuntimeError
        at_random = "" if name.source == "own" else ", or start at random with --weights none"
        raise WeightsError(
            f"the ImageNet weights of {text} cannot be downloaded ({error}); fetch {default.url} on a machine with a "
            f"network and name the file with --weights or the variable {WEIGHTS_VARIABLE}{at_random}"
        ) from error
    return Start(_source(default), False, _load(network, weights, default.url))


def _load_timm(network: AgeNet, name: str) -> Start:
    log.info("timm:%s: its weights are downloaded where they are not here yet", name)
    try:
        with _quiet("huggingface_hub", "timm"):  # which repeat for a minute that there is no network
            module, known = timm_with_weights(name)
    except AgeError:
        raise
    except Exception as error:  # timm, and the library that it downloads with, raise errors of many kinds
        raise WeightsError(
            f"timm's weights of {name} cannot be downloaded ({described(error)}); on a machine with a network, save "
            f"the state_dict of timm.create_model({name!r}, pretrained=True) and name that file with --weights; or "
            "start at random with --weights none"
        ) from error
    network.backbone.load_state_dict(module.state_dict())
    licence = known.get("license")
    tag = f"{known.get('architecture', name)}.{known['tag']}" if known.get("tag") else name
    return Start(f"timm {tag}", False, (), terms=f"{licence}, as timm says" if licence else "")


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Lets these libraries log errors alone."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _of_torchvision(text: str) -> list[Any]:
    """The weights that torchvision has for a backbone, its default first."""
    name = BackboneName.parse(text)
    if text in _ImageNet:
        return [_ImageNet[text]]
    return weights_of_torchvision(name.name) if name.source == "torchvision" else []


def _source(weights: Any) -> str:
    return f"torchvision {weights.name}"


def weights_file(path: Path, backbone: str) -> Path:
    """Returns the file of weights that a path means: itself, or the first file of the backbone in a folder.

    Raises:
        WeightsError: there is none.
    """
    if path.is_dir():
        name = BackboneName.parse(backbone).name
        matches = sorted(path.glob(mobilenet_face.FILE if backbone == mobilenet_face.NAME else f"{name}*.pth"))
        if not matches and backbone == mobilenet_face.NAME:
            raise WeightsError(f"{path}: holds no {mobilenet_face.FILE}: {mobilenet_face.REMEDY}")
        if not matches:
            raise WeightsError(f"{path}: holds no {name}*.pth; put weights of {backbone} there")
        return matches[0]
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; check --weights and the variable {WEIGHTS_VARIABLE}")
    return path


def _load_face(
    network: AgeNet, backbone: mobilenet_face.FaceMobileNet, weights: Mapping[str, Tensor], path: Path
) -> Start:
    head = network.head[1]
    known = head if isinstance(head, nn.Linear) and network.head_name == "distribution" else None
    mobilenet_face.load_folded(backbone, known, weights, str(path))
    source = f"{mobilenet_face.ORIGIN}, {path.name}, SHA-256 {file_sha256(path)[:16]}"
    return Start(source, False, (), known is not None, folded=True, terms=mobilenet_face.TERMS)


def _load(network: AgeNet, weights: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    own = network.backbone.state_dict()
    usable = {k: v for k, v in weights.items() if k in own}
    wrong_shape = [k for k, v in usable.items() if v.shape != own[k].shape]
    missing = [k for k in own if k not in usable and not k.endswith("num_batches_tracked")]
    trunk_missing = [k for k in missing if not k.startswith("classifier.")]
    if wrong_shape or trunk_missing:
        example = (wrong_shape + trunk_missing)[0]
        raise WeightsError(f"{source}: not the weights of {network.backbone_name} ({example} does not fit)")
    if missing:
        log.warning("%s: has no %s: these layers start at random", source, ", ".join(missing))
    network.backbone.load_state_dict(usable, strict=False)
    return tuple(missing)


def recipe_of_start(recipe: Recipe, path: str | Path | None, given: Collection[str] = ()) -> Recipe:
    """Returns a recipe with the network and the crop of the checkpoint that it starts from, so that they fit together.

    Args:
        recipe: how to train.
        path: of ``--weights``; whatever is no checkpoint of agetrain changes nothing.
        given: fields that were asked for; they stay as they are.
    """
    if path is None or not Path(path).is_file() or {"backbone", "head", "crop"} & set(given):
        return recipe
    try:
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever is wrong with it is for load_imagenet_weights to say
        return recipe
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return recipe
    start = Checkpoint.from_values(values, path)
    loss = recipe.loss if (start.head == "distribution") == (recipe.loss == "distribution") else "l1"
    adopted: dict[str, Any] = {
        "backbone": start.backbone, "head": start.head,
        "loss": "distribution" if start.head == "distribution" else loss,
        "crop": start.crop.kind, "size": start.crop.size, "margin": start.crop.margin,
        "resize_to": start.crop.resize_to or 0, "keep_aspect": start.crop.keep_aspect,
    }  # fmt: skip
    changed = {k: v for k, v in adopted.items() if k not in given and getattr(recipe, k) != v}
    if changed:
        log.info("%s: started from, so %s", path, ", ".join(f"{option(k)} {v}" for k, v in changed.items()))
    return replace(recipe, **changed)


def start_from(network: AgeNet, path: str | Path | None) -> Start | None:
    """Starts a network from a checkpoint; returns None where the path is not one of agetrain.

    The head is taken over if it is of the same kind, else it starts at random.

    Args:
        network: to be loaded in place.
        path: of ``--weights``, a word or None.

    Raises:
        CheckpointError: the checkpoint is of another backbone.
    """
    if path in (None, DEFAULT, NONE) or not Path(path).is_file():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever is wrong with it is for load_imagenet_weights to say
        return None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return None
    start = Checkpoint.from_values(values, path)
    if start.backbone != network.backbone_name:
        raise CheckpointError(f"{path}: a {start.backbone}, and --backbone is {network.backbone_name}")
    with_head = start.head == network.head_name
    parts = ("backbone.", "head.") if with_head else ("backbone.",)
    network.load_state_dict({k: v for k, v in start.weights.items() if k.startswith(parts)}, strict=False)
    source = f"checkpoint {Path(path).name}, SHA-256 {file_sha256(path)[:16]}"
    terms = start.training.get("start_terms", "")
    if terms:  # where the weights of a start come from is not lost on the way
        source += f", which started from {start.training['start'].rpartition('which started from ')[2]}"
    return Start(source, False, (), with_head, terms=terms)
