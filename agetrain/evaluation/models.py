"""Age models to evaluate: checkpoints and model files behind one interface."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ageinfer.crop.spec import CropSpec
from agetrain.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from agetrain.network.checkpoint import Checkpoint

Estimate = Callable[[npt.NDArray[np.uint8]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Model:
    """An age model to be evaluated.

    Attributes:
        name: of its file.
        crop: that it must be given.
        label: ``real`` or ``apparent``.
        train_median: years.
        data: what it learned from: name and split hash of each data set.
        recipe: by which it was trained, as JSON values; empty where that is not known.
        estimate: ages and deviations, float64 ``[n]`` years, of crops uint8 ``[n, size, size, 3]``, RGB.
    """

    name: str
    crop: CropSpec
    label: str
    train_median: float
    data: tuple[dict[str, Any], ...]
    estimate: Estimate
    recipe: Mapping[str, Any] = field(default_factory=dict)


def open_model(path: Path, device: str = "cpu", *, trust_code: bool = False) -> Model:
    """Opens a checkpoint of agetrain, or a model file of ageexport by the runtime.

    Args:
        path: ``*.onnx``, or else a checkpoint.
        device: that a checkpoint computes on.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.

    Raises:
        CheckpointError: it cannot be used.
        UsageError: there is no such device.
        ageinfer.errors.ModelError: the runtime refuses the model file.
    """
    if path.suffix == ".onnx":
        return _open_onnx(path)
    from agetrain.network.checkpoint import Checkpoint

    return open_checkpoint(Checkpoint.load(path, trust_code=trust_code), path, device)


def _open_onnx(path: Path) -> Model:
    from ageinfer.engine.estimator import AgeEstimator

    estimator = AgeEstimator(path, provider="cpu")
    metadata = estimator.metadata
    if "train_median" not in metadata.training:
        raise CheckpointError(f"{path}: does not say its training median; export it again")

    def estimate(crops: npt.NDArray[np.uint8]) -> tuple[np.ndarray, np.ndarray]:
        ages = estimator.estimate(crops)
        return np.array([a.age_years for a in ages]), np.array([a.std_years for a in ages])

    training = metadata.training
    return Model(
        path.name, metadata.crop, metadata.label, float(training["train_median"]), tuple(training["data"]), estimate,
        training.get("recipe") or {},
    )  # fmt: skip


def open_checkpoint(checkpoint: "Checkpoint", path: Path, device: str = "cpu") -> Model:
    """Opens a checkpoint that is loaded already.

    Args:
        checkpoint: to be asked.
        path: where it is from.
        device: to compute on.

    Raises:
        CheckpointError: it cannot be used.
        UsageError: there is no such device.
    """
    import torch

    if "train_median" not in checkpoint.training:
        raise CheckpointError(f"{path}: does not say its training median; train again")
    try:
        network = checkpoint.network().to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch says an absent CUDA by assertion
        raise UsageError(f"--device {device}: {str(error).splitlines()[0]}; use cpu, or cuda") from error

    @torch.inference_mode()
    def estimate(crops: npt.NDArray[np.uint8]) -> tuple[np.ndarray, np.ndarray]:
        faces = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
        ages, stds = network.decode(network(faces))
        return ages.double().cpu().numpy() + checkpoint.label_offset, stds.double().cpu().numpy()

    training = checkpoint.training
    return Model(
        f"{path.parent.name}/{path.name}", checkpoint.crop, checkpoint.label, float(training["train_median"]),
        tuple(training["data"]), estimate, training.get("recipe") or {},
    )  # fmt: skip
