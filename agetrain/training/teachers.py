"""Teachers: predictions for pictures, and networks that answer to the very faces that the pupil is shown."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agetrain.crops.training_set import TrainingSet
from agetrain.errors import CheckpointError, DatasetError, UsageError
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint

SUFFIX = ".pth"  # by which a checkpoint is told from predictions


@dataclass(frozen=True, slots=True)
class Teacher:
    """Ages that a better network gave to pictures, found by the hash of their files.

    Attributes:
        digests: uint64 ``[n]``, ascending; see `CropCache.digests`.
        ages, stds: float32 ``[n]``, years.
        files: where they are from.
    """

    digests: np.ndarray
    ages: np.ndarray
    stds: np.ndarray
    files: tuple[str, ...]

    @classmethod
    def load(cls, paths: Sequence[Path]) -> "Teacher":
        """Reads files of ``python -m agetrain.evaluate --predictions`` and averages them over common pictures.

        Raises:
            DatasetError: one is not there or not such a file.
        """
        sums: dict[int, list[tuple[float, float]]] = {}
        for path in paths:
            try:
                with np.load(path, allow_pickle=False) as file:
                    digests, ages, stds = (file[name].tolist() for name in ("digests", "ages", "stds"))
                for digest, age, std in zip(digests, ages, stds, strict=True):
                    sums.setdefault(digest, []).append((age, std))
            except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as error:
                raise DatasetError(
                    f"{path}: not a file of predictions ({error}); make one with agetrain.evaluate --predictions"
                ) from error
        known = sorted(sums)
        means = np.array([np.mean(sums[d], axis=0) for d in known], np.float32).reshape(-1, 2)
        return cls(np.array(known, np.uint64), means[:, 0], means[:, 1], tuple(p.name for p in paths))

    def lookup(self, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Looks up ages and deviations of pictures, float32 ``[n]``, with NaN where the teacher did not see them."""
        if len(self.digests) == 0:
            return np.full(len(digests), np.nan, np.float32), np.full(len(digests), np.nan, np.float32)
        at = np.searchsorted(self.digests, digests).clip(max=len(self.digests) - 1)
        known = self.digests[at] == digests
        return np.where(known, self.ages[at], np.float32(np.nan)), np.where(known, self.stds[at], np.float32(np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class NetworkTeacher:
    """Networks whose mean answer is learned, for each face exactly as it is shown to the pupil.

    A teacher that sees what the pupil sees, over a long training, gives away more than its answers to the pictures:
    "Knowledge distillation: a good teacher is patient and consistent" (Beyer et al., CVPR 2022).

    Attributes:
        networks: in evaluation mode, on the training device.
        sizes: side of the faces that each takes, in pixels.
        files: where they are from: folder and file, since a run's is always called best.pth.
    """

    networks: tuple[AgeNet, ...]
    sizes: tuple[int, ...]
    files: tuple[str, ...]

    @classmethod
    def load(
        cls, paths: Sequence[Path], data: TrainingSet, device: torch.device, *, trust_code: bool = False
    ) -> "NetworkTeacher":
        """Reads checkpoints.

        Args:
            paths: their files.
            data: that the pupil learns from.
            device: that it is trained on.
            trust_code: whether the user's own code may be run, for backbones that are made by it.

        Raises:
            CheckpointError: one is not there, or not a sound checkpoint.
            UsageError: one answers another label, has no distribution to teach, or wants another crop than ``data``.
        """
        networks, sizes = [], []
        for path in paths:
            teacher = Checkpoint.load(path, trust_code=trust_code)
            different = _different(teacher.crop.to_dict(), data.crop.to_dict())
            if teacher.label != data.label or teacher.label_offset:
                raise UsageError(
                    f"--teacher {path}: answers {teacher.label} age with an offset of {teacher.label_offset:g} "
                    f"years; it must answer {data.label} age in true years"
                )
            if teacher.head != "distribution":
                raise UsageError(f"--teacher {path}: has no distribution; take predictions of it (agetrain.evaluate)")
            if different:
                raise UsageError(
                    f"--teacher {path}: {different}; train with its crop, or take predictions of it (agetrain.evaluate)"
                )
            try:
                network = teacher.network()
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {error}") from error
            networks.append(network.to(device).to(memory_format=torch.channels_last).requires_grad_(False))
            sizes.append(teacher.crop.size)
        return cls(tuple(networks), tuple(sizes), tuple("/".join(p.resolve().parts[-2:]) for p in paths))

    @torch.no_grad()
    def distribution(self, faces: Tensor, *, bf16: bool) -> Tensor:
        """Computes the networks' mean distribution, float32 ``[n, 101]``; each row sums to 1.

        Args:
            faces: float32 ``[n, 3, side, side]``, RGB, 0 to 255; a network of another size is shown them resized.
            bf16: whether to compute in bf16.
        """
        answers = []
        for network, size in zip(self.networks, self.sizes, strict=True):
            shown = faces
            if faces.shape[-1] != size:
                shown = F.interpolate(faces, size=(size, size), mode="bilinear", antialias=True)
            with torch.autocast(faces.device.type, torch.bfloat16, enabled=bf16):
                raw = network(shown.contiguous(memory_format=torch.channels_last))
            answers.append(network.probabilities(raw))
        return torch.stack(answers).mean(dim=0)


def _different(crop: dict[str, Any], own: dict[str, Any]) -> str:
    """What of a teacher's crop, but its size, is not as the run's, in words; nothing where it shows the same."""
    if crop["kind"] == own["kind"] == "resize":  # of pictures of another size the same part is the same
        crop, own = ({**c, "resize_to": c["size"] / c["resize_to"]} for c in (crop, own))
    for name in crop:
        if name != "size" and crop[name] != own.get(name):
            return f"its crop has {name.replace('_', ' ')} {crop[name]}, the run's {own.get(name)}"
    return ""
