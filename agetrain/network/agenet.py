"""The networks: a backbone without its classifier, and a head that answers in years."""

import torch
from torch import Tensor, nn

from agetrain.errors import UsageError
from agetrain.network import mobilenet_face
from agetrain.network.backbones import UNIT, make_backbone
from agetrain.network.calibration import SMALLEST_STD_YEARS, Calibration
from agetrain.recipe import HEADS

_AGES = 101  # one bin a year, 0 to 100


class AgeNet(nn.Module):
    """An age network: it takes faces and gives a raw output, which `decode` turns into years.

    The linear head is one neuron that answers in years. The distribution head gives a logit for each year from 0 to
    100; the age is the mean of the softmax, after DEX (Rothe et al., IJCV 2018) and DLDL-v2 (Gao et al., IJCAI 2018).

    Args:
        backbone: as `agetrain.network.names.BackboneName` reads it.
        head: one of `agetrain.recipe.HEADS`.
        dropout: before the last layer.
        normalise: by mean and deviation of ImageNet, or of the network's own; without it, pixels are brought to 0 to 1.
            The face backbone always has its own.
        auxiliary: a second head beside the first, which learns another label and is left out of checkpoints.
        size: side of the faces in pixels; agetrain's own backbones take any.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.

    Attributes:
        calibration: of the deviation that it answers; none until `agetrain.calibrate` finds one.
        mirrored: answers with the mean over the face and its mirror image, which costs twice the time.
        trust_code: as it was given.

    Raises:
        UsageError: there is no such backbone or head, the backbone takes no faces of this size, or its code may not be
            run.
        MissingDependencyError: timm is not installed.
    """

    mean: Tensor
    std: Tensor
    ages: Tensor
    residual_std: Tensor

    def __init__(
        self, backbone: str, head: str, dropout: float = 0.2, *, normalise: bool = True, auxiliary: bool = False,
        size: int = 112, trust_code: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if head not in HEADS:
            raise UsageError(f"unknown head {head}: use one of {', '.join(HEADS)}")
        made = make_backbone(backbone, size, trust_code=trust_code)
        self.backbone_name, self.head_name = backbone, head
        self.calibration = Calibration()
        self.mirrored = False
        self.trust_code = trust_code
        own = backbone == mobilenet_face.NAME  # its weights know no other normalisation, and know theirs exactly
        pixels = made.normalisation if normalise or own else UNIT
        self.register_buffer("mean", torch.tensor(pixels.mean).view(1, 3, 1, 1) * pixels.scale)
        self.register_buffer("std", torch.tensor(pixels.std).view(1, 3, 1, 1) * pixels.scale)
        self.register_buffer("ages", torch.arange(_AGES, dtype=torch.float32))
        # Spread of the linear head's errors on held-out faces, set after training.
        self.register_buffer("residual_std", torch.zeros(()))
        self.backbone = made.module
        outputs = _AGES if head == "distribution" else 1
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(made.width, outputs))
        self.auxiliary = nn.Sequential(nn.Dropout(dropout), nn.Linear(made.width, outputs)) if auxiliary else None

    def features(self, faces: Tensor) -> Tensor:
        """Computes what the heads are given, ``[n, width]``, for faces as in `forward`."""
        features: Tensor = self.backbone((faces - self.mean) / self.std)
        return features.flatten(1) if features.ndim > 2 else features

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
            return age, self._calibrated(self.residual_std, age).expand_as(age)
        probability = self.probabilities(raw)
        age = (probability * self.ages).sum(dim=1)
        variance = (probability * (self.ages - age[:, None]).square()).sum(dim=1)
        return age, self._calibrated(variance.sqrt(), age)

    def _calibrated(self, std: Tensor, age: Tensor) -> Tensor:
        """What `Calibration.apply` gives, by operators that every runtime has."""
        if not self.calibration.changes:
            return std
        moved = self.calibration.slope * std + self.calibration.offset_years
        if self.calibration.by_age:
            begins, widths, first, slopes = self.calibration.pieces()
            within = torch.minimum((age[:, None] - age.new_tensor(begins)).relu(), age.new_tensor(widths))
            moved = moved + first + (within * age.new_tensor(slopes)).sum(dim=1)
        return moved.clamp_min(SMALLEST_STD_YEARS)
