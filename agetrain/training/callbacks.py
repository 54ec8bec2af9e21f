"""What a caller may hand to a run as code: an augmentation of its own, and callbacks after each epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agetrain.errors import UsageError

Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """What a callback is told after each epoch, when the files of the run hold it.

    Attributes:
        epoch: that has ended, counted from 1.
        epochs: that the run is to have.
        figures: of the epoch: ``train_loss``, ``train_mae``, ``selection_mae``, ``selection_mse``, ``lr``,
            ``images_per_second``, ``seconds`` and, with a second head, ``other_selection_mae``.
        out: folder of the run.
    """

    epoch: int
    epochs: int
    figures: Mapping[str, float]
    out: Path


Callback = Callable[[EpochEnd], bool | None]


def name_of(code: Callable[..., Any]) -> str:
    """Returns the name of a function or of the class of a callable object, with its module, for records."""
    named = code if hasattr(code, "__qualname__") else type(code)
    return ".".join(part for part in (named.__module__, named.__qualname__) if part)


@torch.no_grad()
def augmented(faces: Tensor, augment: Augment) -> Tensor:
    """Lets an augmentation of the caller change a batch.

    Args:
        faces: float32 ``[n, 3, side, side]``, RGB, 0 to 255.
        augment: is given these, and returns the like.

    Raises:
        UsageError: it returns something else.
    """
    changed = augment(faces)
    if not isinstance(changed, Tensor):
        raise UsageError(f"augment {name_of(augment)}: returns {type(changed).__name__}; return a tensor")
    if (changed.shape, changed.dtype, changed.device) != (faces.shape, faces.dtype, faces.device):
        raise UsageError(f"augment {name_of(augment)}: returns {_like(changed)}; return {_like(faces)} as it is given")
    return changed


def _like(faces: Tensor) -> str:
    return f"{str(faces.dtype).removeprefix('torch.')} {list(faces.shape)} on {faces.device}"
