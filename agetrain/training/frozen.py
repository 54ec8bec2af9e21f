"""A head learned on the features of a frozen network, which are computed once: minutes where a training takes hours."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agetrain._files import replacing
from agetrain._progress import progress
from agetrain.crops.cache import CropCache
from agetrain.errors import DatasetError, DivergedError, OutputError
from agetrain.network.agenet import AgeNet
from agetrain.network.mobilenet_face import FaceMobileNet
from agetrain.training.augment import centre
from agetrain.training.losses import weights_by_age, within

HIDDEN = 256
_AGES = 101
_BATCH = 64
_SMALLEST_STD = 0.05  # added to a feature's deviation, so that one that is nearly always zero is not blown up

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """What a frozen network says of the faces of one list.

    Attributes:
        features: float32 ``[n, width]``.
        answers: float32 ``[n, 101]``, the network's own distributions; a teacher's that forgets nothing.
        ages, stds: float32 ``[n]`` years, of the labels; deviations NaN where unknown.
        lows, highs: float32 ``[n]`` years, ends of intervals where no more is known; NaN where ages are exact.
    """

    features: np.ndarray
    answers: np.ndarray
    ages: np.ndarray
    stds: np.ndarray
    lows: np.ndarray
    highs: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Frozen":
        """Of some of the faces."""
        return Frozen(*(getattr(self, field.name)[chosen] for field in fields(self)))


@torch.inference_mode()
def frozen_features(network: AgeNet, crops: CropCache, folder: Path, title: str) -> Frozen:
    """Features and answers of all faces that were found, from the folder where they are there already.

    Args:
        network: of a distribution head; put into evaluation mode.
        crops: of the size that it takes.
        folder: holds what was computed, under a hash of weights, pictures and crops.
        title: of the progress bar.

    Raises:
        DatasetError: what is in the folder is damaged.
        OutputError: what was computed cannot be written.
    """
    found = np.flatnonzero(crops.found)
    digest = hashlib.sha256(crops.digests.tobytes() + str(crops.crops.shape).encode())  # type: ignore[union-attr]
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    path = folder / f"features-{digest.hexdigest()[:16]}.npz"
    if not path.is_file():
        network.eval()
        features, answers = [], []
        for start in progress(range(0, len(found), _BATCH), title, "batch"):
            pixels = torch.from_numpy(crops.crops[found[start : start + _BATCH]])
            faces = centre(pixels, pixels.shape[1]).contiguous(memory_format=torch.channels_last)
            given = pooled(network, faces)
            features.append(given.numpy().astype(np.float16))
            answers.append(network.probabilities(network.head(hidden(network, given))).numpy().astype(np.float16))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished, unfinished.open("wb") as stream:
                np.savez(stream, features=np.concatenate(features), answers=np.concatenate(answers))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}; free some space") from error
    try:
        with np.load(path, allow_pickle=False) as file:
            values = file["features"].astype(np.float32), file["answers"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DatasetError(f"{path}: damaged ({error}); delete it, it is made again") from error
    return Frozen(*values, crops.ages[found], crops.stds[found], crops.lows[found], crops.highs[found])


def pooled(network: AgeNet, faces: Tensor) -> Tensor:
    """What a new head is given: the features before the hidden layer where a network has one, ``[n, width]``."""
    if isinstance(network.backbone, FaceMobileNet):
        return network.backbone.pooled((faces - network.mean) / network.std)
    return network.features(faces)


def hidden(network: AgeNet, features: Tensor) -> Tensor:
    """What the network's own head is given, for features of `pooled`."""
    if isinstance(network.backbone, FaceMobileNet):
        return F.relu(network.backbone.feats(features))
    return features


class FrozenHead(nn.Module):
    """Features in, logits of the ages from 0 to 100 out; the features are brought to like sizes first."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("std", features.std(dim=0) + _SMALLEST_STD)
        self.first = nn.Linear(features.shape[1], HIDDEN)
        self.last = nn.Linear(HIDDEN, _AGES)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Gives ``[n, 101]`` for ``[n, width]``."""
        values = self.dropout((features - self.mean) / self.std)
        logits: Tensor = self.last(self.dropout(F.relu(self.first(values))))
        return logits

    def ages(self, features: np.ndarray) -> np.ndarray:
        """The expectations for features, float64 ``[n]`` years."""
        self.eval()
        with torch.inference_mode():
            probability = self(torch.from_numpy(features)).softmax(dim=1)
        return (probability @ torch.arange(_AGES, dtype=torch.float32)).double().numpy()

    def answered(self, faces: Frozen) -> Frozen:
        """The faces with this head's distributions in place of the frozen network's own."""
        self.eval()
        with torch.inference_mode():
            probability: Tensor = self(torch.from_numpy(faces.features)).softmax(dim=1)
        return replace(faces, answers=probability.numpy())

    @torch.no_grad()
    def put_into(self, network: AgeNet) -> None:
        """Replaces hidden layer and head of the face network; its answers are this head's from then on."""
        weight = self.first.weight / self.std
        feats = network.backbone.get_submodule("feats")
        feats.load_state_dict({"weight": weight, "bias": self.first.bias - weight @ self.mean})
        network.head[1].load_state_dict(self.last.state_dict())


def learn_head(
    parts: Sequence[Frozen], *, teacher_weight: float = 0.3, age_balance: float = 0.0, epochs: int = 20,
    lr: float = 1e-3, dropout: float = 0.3, target_std_years: float = 2.5, seed: int = 0,
) -> FrozenHead:  # fmt: skip
    """Learns a head from the labels and, beside them, from the frozen network's own answers.

    Args:
        parts: of each data set.
        teacher_weight: share of the frozen network's answers in what is learned.
        age_balance: how far rare ages count more, see `agetrain.training.losses.weights_by_age`.
        epochs: over all faces.
        lr: at the beginning; it falls to 0 on a cosine.
        dropout: of features and hidden layer.
        target_std_years: width of the label where raters gave none.
        seed: of order and dropout.

    Raises:
        DivergedError: the loss is no longer a number.
    """
    bins = torch.arange(_AGES, dtype=torch.float32)
    features, answers, ages, stds, lows, highs = (
        torch.from_numpy(np.concatenate([getattr(part, field.name) for part in parts])) for field in fields(Frozen)
    )
    of_interval = torch.isfinite(lows)[:, None]
    inside = within(bins, lows, highs)
    torch.manual_seed(seed)
    head = FrozenHead(features, dropout)
    widths = torch.nan_to_num(stds, nan=target_std_years).clamp_min(1.0)
    weights = weights_by_age(ages.numpy(), age_balance)[ages.round().long().clamp(0, _AGES - 1)]
    optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.02)
    steps = max(1, epochs * (len(ages) // _BATCH or 1))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        order = torch.randperm(len(ages))
        for start in range(0, max(1, len(ages) - _BATCH + 1), _BATCH):
            chosen = order[start : start + _BATCH]
            label = torch.softmax(-0.5 * ((bins - ages[chosen, None]) / widths[chosen, None]).square(), dim=1)
            log_probability = head.train()(features[chosen]).log_softmax(dim=1)
            # Of an interval, what the head itself says within it: the gradient is that of the mass inside.
            own = log_probability.detach().masked_fill(~inside[chosen], -torch.inf).softmax(dim=1)
            label = torch.where(of_interval[chosen], own, label)
            target = (1 - teacher_weight) * label + teacher_weight * answers[chosen]
            divergence = F.kl_div(log_probability, target, reduction="none").sum(dim=1)
            absolute = ((log_probability.exp() @ bins) - target @ bins).abs()
            loss = (weights[chosen] * (divergence + 0.1 * absolute)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss of the head is {loss.item()} in epoch {epoch + 1}; use a lower rate")
    return head.eval()
