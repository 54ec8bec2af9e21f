"""The networks: a torchvision backbone without its classifier, and a head that answers in years."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from agetrain.errors import UsageError, WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BACKBONES = ("mobilenet_v2", "resnet34", "vgg16")
HEADS = ("linear", "distribution")
WEIGHTS_VARIABLE = "AGETRAIN_WEIGHTS"
_AGES = 101  # one bin a year, 0 to 100
_ImageNet = {
    "mobilenet_v2": torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1,
    "resnet34": torchvision.models.ResNet34_Weights.IMAGENET1K_V1,
    "vgg16": torchvision.models.VGG16_Weights.IMAGENET1K_V1,
}

log = logging.getLogger(__name__)


class AgeNet(nn.Module):
    """Faces in, a raw head output out; `decode` turns that into years.

    The linear head is one neuron that answers in years. The distribution head gives a logit for each year from 0 to
    100; the age is the mean of the softmax, after DEX (Rothe et al., IJCV 2018) and DLDL-v2 (Gao et al., IJCAI 2018).

    Args:
        backbone: one of `BACKBONES`.
        head: one of `HEADS`.
        dropout: before the last layer.

    Raises:
        UsageError: there is no backbone or head of that name.
    """

    mean: Tensor
    std: Tensor
    ages: Tensor
    residual_std: Tensor

    def __init__(self, backbone: str, head: str, dropout: float = 0.2) -> None:
        super().__init__()
        if backbone not in BACKBONES or head not in HEADS:
            raise UsageError(f"unknown network {backbone}/{head}: use {'|'.join(BACKBONES)} and {'|'.join(HEADS)}")
        self.backbone_name, self.head_name = backbone, head
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255)
        self.register_buffer("ages", torch.arange(_AGES, dtype=torch.float32))
        # Spread of the linear head's errors on held-out faces, set after training.
        self.register_buffer("residual_std", torch.zeros(()))
        self.backbone, width = _headless(backbone)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, _AGES if head == "distribution" else 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Runs the network.

        Args:
            faces: float32 ``[n, 3, side, side]``, RGB, 0 to 255; normalised in here.

        Returns:
            ``[n, 101]`` logits or ``[n, 1]`` years.
        """
        raw: Tensor = self.head(self.backbone((faces - self.mean) / self.std))
        return raw

    def probabilities(self, raw: Tensor) -> Tensor:
        """The distribution head's output as probabilities, float32 ``[n, 101]``, one for each year from 0."""
        return raw.float().softmax(dim=1)

    def decode(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Turns what `forward` gave into age and its standard deviation, each float32 ``[n]`` in years."""
        if self.head_name == "linear":
            age = raw[:, 0].float()
            return age, self.residual_std.expand_as(age)
        probability = self.probabilities(raw)
        age = (probability * self.ages).sum(dim=1)
        variance = (probability * (self.ages - age[:, None]).square()).sum(dim=1)
        return age, variance.sqrt()


def load_imagenet_weights(network: AgeNet, file: str | Path | None = None) -> str:
    """Starts the backbone from ImageNet weights; its classifier is not needed.

    Args:
        network: to be loaded in place.
        file: a torchvision state dict of the backbone, or a folder with ``<backbone>*.pth``; None for the variable
            ``AGETRAIN_WEIGHTS``, and without that torchvision's own download.

    Returns:
        Where the weights came from, for the record.

    Raises:
        WeightsError: they cannot be had, or belong to another network.
    """
    name = network.backbone_name
    file = file or os.environ.get(WEIGHTS_VARIABLE) or None
    if file is None:
        try:
            weights = _ImageNet[name].get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:  # torch reports a wrong hash as RuntimeError
            raise WeightsError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); fetch {_ImageNet[name].url} on a "
                f"machine with a network and name the file with --weights or the variable {WEIGHTS_VARIABLE}"
            ) from error
        _load(network, weights, _ImageNet[name].url)
        return "torchvision IMAGENET1K_V1"
    path = _weights_file(Path(file), name)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises zipfile, pickle, EOF, runtime and other errors for a broken file
        raise WeightsError(f"{path}: not a file of weights ({type(error).__name__}); fetch it again") from error
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise WeightsError(f"{path}: not a state dict of tensors; give torchvision's file for {name}")
    _load(network, weights, str(path))
    return path.name


def _weights_file(path: Path, backbone: str) -> Path:
    if path.is_dir():
        matches = sorted(path.glob(f"{backbone}*.pth"))
        if not matches:
            raise WeightsError(f"{path}: holds no {backbone}*.pth; put torchvision's weights of {backbone} there")
        return matches[0]
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; check --weights and the variable {WEIGHTS_VARIABLE}")
    return path


def _load(network: AgeNet, weights: Mapping[str, Tensor], source: str) -> None:
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


def _headless(name: str) -> tuple[nn.Module, int]:
    """A torchvision network that ends in features, and their number."""
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
