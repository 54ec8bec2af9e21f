"""The networks: a backbone without its classifier, and a head that answers in years."""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from agetrain import mobilenet_face
from agetrain.calibration import SMALLEST_STD_YEARS, Calibration
from agetrain.errors import UsageError, WeightsError
from agetrain.recipe import BACKBONES, HEADS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
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
        backbone: one of `agetrain.recipe.BACKBONES`.
        head: one of `agetrain.recipe.HEADS`.
        dropout: before the last layer.
        normalise: by mean and deviation of ImageNet; without it, pixels are brought to 0 to 1. The face backbone has
            its own.
        auxiliary: a second head beside the first, which learns another label and is left out of checkpoints.

    Attributes:
        calibration: of the deviation that it answers; none until `agetrain.calibrate` finds one.
        mirrored: answers with the mean over the face and its mirror image, which costs twice the time.

    Raises:
        UsageError: there is no backbone or head of that name.
    """

    mean: Tensor
    std: Tensor
    ages: Tensor
    residual_std: Tensor

    def __init__(
        self, backbone: str, head: str, dropout: float = 0.2, *, normalise: bool = True, auxiliary: bool = False
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES or head not in HEADS:
            raise UsageError(f"unknown network {backbone}/{head}: use {'|'.join(BACKBONES)} and {'|'.join(HEADS)}")
        self.backbone_name, self.head_name = backbone, head
        self.calibration = Calibration()
        self.mirrored = False
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalise else ((0.0,) * 3, (1.0,) * 3)
        scale = 255.0
        if backbone == mobilenet_face.NAME:  # its weights know no other, and know theirs exactly
            mean, std, scale = mobilenet_face.MEAN, mobilenet_face.STD, 1.0
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * scale)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * scale)
        self.register_buffer("ages", torch.arange(_AGES, dtype=torch.float32))
        # Spread of the linear head's errors on held-out faces, set after training.
        self.register_buffer("residual_std", torch.zeros(()))
        self.backbone, width = _headless(backbone)
        outputs = _AGES if head == "distribution" else 1
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))
        self.auxiliary = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs)) if auxiliary else None

    def features(self, faces: Tensor) -> Tensor:
        """What the heads are given: ``[n, width]`` for faces as in `forward`."""
        features: Tensor = self.backbone((faces - self.mean) / self.std)
        return features

    def forward(self, faces: Tensor) -> Tensor:
        """Runs the network.

        Args:
            faces: float32 ``[n, 3, side, side]``, RGB, 0 to 255; normalised in here.

        Returns:
            ``[n, 101]`` logits or ``[n, 1]`` years.
        """
        if not self.mirrored:
            raw: Tensor = self.head(self.features(faces))
            return raw
        both = self.head(self.features(torch.cat([faces, faces.flip(3)])))
        both = both.reshape(2, -1, both.shape[1])
        # Of distributions the mean is taken, not of their logits; its logarithm is a logit again.
        return both.mean(dim=0) if self.head_name == "linear" else both.float().softmax(dim=2).mean(dim=0).log()

    def probabilities(self, raw: Tensor) -> Tensor:
        """The distribution head's output as probabilities, float32 ``[n, 101]``, one for each year from 0."""
        return raw.float().softmax(dim=1)

    def decode(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Turns what `forward` gave into age and its standard deviation, each float32 ``[n]`` in years."""
        if self.head_name == "linear":
            age = raw[:, 0].float()
            return age, self._calibrated(self.residual_std).expand_as(age)
        probability = self.probabilities(raw)
        age = (probability * self.ages).sum(dim=1)
        variance = (probability * (self.ages - age[:, None]).square()).sum(dim=1)
        return age, self._calibrated(variance.sqrt())

    def _calibrated(self, std: Tensor) -> Tensor:
        if not self.calibration.changes:
            return std
        return (self.calibration.slope * std + self.calibration.offset_years).clamp_min(SMALLEST_STD_YEARS)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a network started from.

    Attributes:
        source: for the record.
        substitute: the file is not torchvision's own, byte for byte, so that figures may differ from published ones.
        missing: names of the backbone's tensors that it did not hold and that therefore start at random.
        with_head: the head was loaded as well.
        folded: its normalisation is folded into the convolutions and has to be put back before it is trained.
        terms: of its licence, where they are not those of torchvision.
    """

    source: str
    substitute: bool
    missing: tuple[str, ...]
    with_head: bool = False
    folded: bool = False
    terms: str = ""


def load_imagenet_weights(network: AgeNet, file: str | Path | None = None) -> Start:
    """Starts the backbone from ImageNet weights; its classifier is not needed.

    Args:
        network: to be loaded in place.
        file: a torchvision state dict of the backbone, or a folder with ``<backbone>*.pth``; None for the variable
            ``AGETRAIN_WEIGHTS``, and without that torchvision's own download.

    Returns:
        Where the weights came from.

    Raises:
        WeightsError: they cannot be had, or belong to another network.
    """
    name = network.backbone_name
    file = file or os.environ.get(WEIGHTS_VARIABLE) or None
    if file is None and name == mobilenet_face.NAME:
        raise WeightsError(f"there are no weights of {name} to download: {mobilenet_face.REMEDY}")
    if file is None:
        try:
            weights = _ImageNet[name].get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:  # torch reports a wrong hash as RuntimeError
            raise WeightsError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); fetch {_ImageNet[name].url} on a "
                f"machine with a network and name the file with --weights or the variable {WEIGHTS_VARIABLE}"
            ) from error
        return Start("torchvision IMAGENET1K_V1", False, _load(network, weights, _ImageNet[name].url))
    path = weights_file(Path(file), name)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises zipfile, pickle, EOF, runtime and other errors for a broken file
        raise WeightsError(f"{path}: not a file of weights ({type(error).__name__}); fetch it again") from error
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise WeightsError(f"{path}: not a state dict of tensors; give torchvision's file for {name}")
    if isinstance(network.backbone, mobilenet_face.FaceMobileNet):
        return _load_face(network, network.backbone, weights, path)
    missing = _load(network, weights, str(path))
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    official = Path(_ImageNet[name].url).stem.rpartition("-")[2]  # torchvision names its files by their hash
    if digest.startswith(official):
        return Start("torchvision IMAGENET1K_V1", False, missing)
    return Start(f"substitute weights {path.name}, SHA-256 {digest[:16]}", True, missing)


def weights_file(path: Path, backbone: str) -> Path:
    """The file of weights that is meant by a path: itself, or the first in the folder that is of the backbone.

    Raises:
        WeightsError: there is none.
    """
    if path.is_dir():
        matches = sorted(path.glob(mobilenet_face.FILE if backbone == mobilenet_face.NAME else f"{backbone}*.pth"))
        if not matches and backbone == mobilenet_face.NAME:
            raise WeightsError(f"{path}: holds no {mobilenet_face.FILE}: {mobilenet_face.REMEDY}")
        if not matches:
            raise WeightsError(f"{path}: holds no {backbone}*.pth; put torchvision's weights of {backbone} there")
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
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    source = f"{mobilenet_face.ORIGIN}, {path.name}, SHA-256 {digest[:16]}"
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


def backbone_children(network: AgeNet) -> list[tuple[str, nn.Module]]:
    """The parts of a backbone in the order in which pictures pass them, with the prefix of their tensors' names.

    They are torchvision's ``children()`` without the last layer, as the original scripts counted them: conv1, bn1,
    relu, maxpool, layer1 to layer4 and avgpool of ResNet34; features, avgpool and classifier of VGG16. MobileNetV2 has
    only one such child before its classifier, so there its 19 blocks count; of the face backbone, its 14 and the hidden
    layer.
    """
    if network.backbone_name in ("mobilenet_v2", mobilenet_face.NAME):
        blocks = network.backbone.get_submodule("features")
        children = [(f"features.{name}.", child) for name, child in blocks.named_children()]
        hidden = (
            [("feats.", network.backbone.get_submodule("feats"))] if network.backbone_name != "mobilenet_v2" else []
        )
        return [*children, *hidden]
    last = {"resnet34": "fc"}.get(network.backbone_name)
    return [(f"{name}.", child) for name, child in network.backbone.named_children() if name != last]


def freeze(network: AgeNet, count: int, start: Start) -> list[nn.Module]:
    """Stops the training of leading children of the backbone.

    Args:
        network: changed in place.
        count: how many children; -1 for all.
        start: what was loaded: a layer that starts at random must not be frozen.

    Returns:
        The frozen children.

    Raises:
        UsageError: there are not so many.
        WeightsError: one of them was not loaded.
    """
    children = backbone_children(network)
    if count > len(children):
        raise UsageError(f"--frozen-children {count}: {network.backbone_name} has {len(children)}")
    frozen = children if count == -1 else children[:count]
    for prefix, child in frozen:
        random = [name for name in start.missing if name.startswith(prefix)]
        if random:
            fewer = next(i for i, (p, _) in enumerate(children) if p == prefix)
            raise WeightsError(
                f"{start.source}: has no {random[0]}, which would start at random and stay so; give torchvision's own "
                f"weights, or train these layers with --frozen-children {fewer}"
            )
        child.requires_grad_(False)
    return [child for _, child in frozen]


def set_training_mode(network: nn.Module, frozen: Iterable[nn.Module], frozen_batchnorm: str) -> None:
    """Train mode; normalisation layers of frozen children stay in evaluation mode unless ``train`` is asked for."""
    network.train()
    if frozen_batchnorm == "eval":
        for child in frozen:
            for module in child.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def hold_batchnorm(network: nn.Module) -> None:
    """Lets all normalisation layers use their running statistics, and leave them as they are."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def reestimate_batchnorm(network: AgeNet, batches: Iterable[Tensor]) -> None:
    """Replaces the running statistics of all normalisation layers by those of these batches.

    Args:
        network: changed in place; left in evaluation mode.
        batches: faces as for `AgeNet.forward`.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over the batches
    network.train()
    for faces in batches:
        network.features(faces)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _headless(name: str) -> tuple[nn.Module, int]:
    """A torchvision network that ends in features, and their number."""
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
