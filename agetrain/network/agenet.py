"""The networks: a backbone without its classifier, and a head that answers in years."""

import torch
import torchvision
from torch import Tensor, nn

from agetrain.errors import UsageError
from agetrain.network import mobilenet_face
from agetrain.network.calibration import SMALLEST_STD_YEARS, Calibration
from agetrain.recipe import BACKBONES, HEADS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_AGES = 101  # one bin a year, 0 to 100


class AgeNet(nn.Module):
    """An age network: it takes faces and gives a raw output, which `decode` turns into years.

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
        """Computes what the heads are given, ``[n, width]``, for faces as in `forward`."""
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
        """Turns the distribution head's output into probabilities, float32 ``[n, 101]``, one for each year from 0."""
        return raw.float().softmax(dim=1)

    def decode(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Turns the output of `forward` into age and its standard deviation, each float32 ``[n]`` in years."""
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


def _headless(name: str) -> tuple[nn.Module, int]:
    """Builds a network that ends in features; returns it with their number."""
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
