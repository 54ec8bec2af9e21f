"""Checkpoints: a trained network and all that is known of it, in a file that loads without executing anything."""

import logging
import pickle  # for the name of an error alone
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ageinfer.crop.spec import CropSpec
from agetrain._files import replacing
from agetrain.errors import CheckpointError, OutputError, UsageError
from agetrain.network.agenet import AgeNet
from agetrain.network.calibration import Calibration
from agetrain.network.factory import sha256_of
from agetrain.network.names import BackboneName

FORMAT = "agetrain-checkpoint"
VERSION = 1
AGE_RANGE = (0.0, 100.0)
_KEYS = {
    "weights", "backbone", "head", "crop", "mean", "std", "label", "age_range", "decode", "age_std_kind",
    "label_offset", "training", "metrics",
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A trained network and all that is known of it; ``docs/reference/checkpoint.md`` describes its file.

    Attributes:
        weights: state dict of `AgeNet`, on the CPU, without a second head.
        backbone: as `agetrain.network.names.BackboneName` reads it.
        head: one of `agetrain.recipe.HEADS`.
        crop: the face crop that the network takes; it holds the side of the input.
        label: ``real`` or ``apparent``.
        label_offset: years to add to what the network answers.
        training: how it was made, as JSON values: data, starting weights, recipe, epoch, versions, training median.
        metrics: what was measured of it, each with the data set and the part that it was measured on.
        calibration: of the deviation that the network answers.
        mirrored: the network answers with the mean over a face and its mirror image.
        trust_code: whether the user's own code may be run, for a backbone that is made by it; never in the file.

    Example:
        >>> checkpoint = Checkpoint.load("checkpoints/age-small.pth")
        >>> checkpoint.backbone, checkpoint.head, checkpoint.crop.size
        ('mobilenet_v1_face', 'distribution', 160)
        >>> network = checkpoint.network()
    """

    weights: dict[str, Tensor]
    backbone: str
    head: str
    crop: CropSpec
    label: str
    label_offset: float
    training: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    calibration: Calibration = field(default_factory=Calibration)
    mirrored: bool = False
    trust_code: bool = False

    @classmethod
    def of_network(
        cls, network: AgeNet, crop: CropSpec, label: str, label_offset: float, training: dict[str, Any],
        metrics: Sequence[dict[str, Any]] = (),
    ) -> "Checkpoint":  # fmt: skip
        """Makes a checkpoint of a network, with a copy of its weights; a second head is left out.

        Args:
            network: to be kept.
            crop: the face crop that it takes.
            label: ``real`` or ``apparent``.
            label_offset: years to add to what it answers.
            training: how it was made.
            metrics: what was measured of it.
        """
        weights = {
            k: v.detach().cpu().contiguous().clone()
            for k, v in network.state_dict().items()
            if not k.startswith("auxiliary.")
        }
        return cls(
            weights, network.backbone_name, network.head_name, crop, label, float(label_offset), training,
            tuple(metrics), network.calibration, network.mirrored, network.trust_code,
        )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path, *, trust_code: bool = False) -> "Checkpoint":
        """Reads a checkpoint file.

        Args:
            path: the file.
            trust_code: whether the user's own code may be run when the network is built, see `network`.

        Raises:
            CheckpointError: it is not there, broken, a pickle of something else, or of another version.
        """
        return cls.from_values(read(path), path, trust_code=trust_code)

    def save(self, path: str | Path) -> None:
        """Writes the checkpoint in one piece: a crash or a full disk leaves an older file as it was.

        Raises:
            OutputError: it cannot be written.
        """
        write(path, self.to_values())

    @classmethod
    def from_values(cls, values: dict[str, Any], path: str | Path, *, trust_code: bool = False) -> "Checkpoint":
        """Makes a checkpoint of the values of its file.

        Args:
            values: as `to_values` gives them.
            path: where they are from, for messages.
            trust_code: see `load`.

        Raises:
            CheckpointError: they are not those of a checkpoint, or of another version.
        """
        if values.get("format") != FORMAT:
            raise CheckpointError(f"{path}: not a checkpoint of agetrain; give the best.pth of a run")
        if values.get("version") != VERSION:
            raise CheckpointError(
                f"{path}: checkpoint version {values.get('version')}, this release reads {VERSION}; train again"
            )
        missing = _KEYS - set(values)
        if missing:
            raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(sorted(missing))}; train again")
        training = values["training"]
        if not isinstance(training, dict) or not isinstance(training.get("data"), list):
            raise CheckpointError(f"{path}: the checkpoint does not say what it was trained on; train again")
        try:
            return cls(
                values["weights"], values["backbone"], values["head"], CropSpec.from_dict(values["crop"]),
                values["label"], values["label_offset"], training, tuple(values["metrics"]),
                Calibration.from_dict(values.get("calibration", {})), bool(values.get("mirrored", False)), trust_code,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}; train again") from error

    def to_values(self) -> dict[str, Any]:
        """Returns what stands in the file: tensors and JSON values alone."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "weights": self.weights,
            "backbone": self.backbone,
            "head": self.head,
            "crop": self.crop.to_dict(),
            "mean": self.mean,
            "std": self.std,
            "label": self.label,
            "age_range": list(AGE_RANGE),
            "decode": self.decode,
            "age_std_kind": self.age_std_kind,
            "label_offset": self.label_offset,
            "calibration": self.calibration.to_dict(),
            "mirrored": self.mirrored,
            "training": self.training,
            "metrics": list(self.metrics),
        }

    def network(self) -> AgeNet:
        """Builds the network, in evaluation mode, on the CPU.

        A backbone that a function of the user's own makes is looked for in the current folder.

        Raises:
            CheckpointError: the weights do not fit the network that the checkpoint names, or it cannot be made here.
            MissingDependencyError: timm is not installed.
        """
        try:
            network = AgeNet(self.backbone, self.head, size=self.crop.size, trust_code=self.trust_code)
            self._warn_of_other_code()
            network.load_state_dict(self.weights)
        except UsageError as error:  # which says what to do
            raise CheckpointError(str(error)) from error
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(f"the weights do not fit {self.backbone}/{self.head}: {reason}") from error
        network.calibration, network.mirrored = self.calibration, self.mirrored
        return network.eval()

    def _warn_of_other_code(self) -> None:
        name, known = BackboneName.parse(self.backbone), self.training.get("backbone_sha256")
        if name.source == "file" and known and sha256_of(name) != known:
            log.warning("%s: the file has changed since this checkpoint was trained", self.backbone)

    @property
    def mean(self) -> list[float]:
        """Mean that the network takes off its input, RGB, 0 to 1."""
        return (self.weights["mean"] / 255).flatten().tolist()

    @property
    def std(self) -> list[float]:
        """Deviation that the network divides its input by, RGB, 0 to 1."""
        return (self.weights["std"] / 255).flatten().tolist()

    @property
    def decode(self) -> str:
        """How the head's output becomes years: ``expectation`` or ``linear``."""
        return "expectation" if self.head == "distribution" else "linear"

    @property
    def age_std_kind(self) -> str:
        """Where the deviation comes from: ``distribution`` or ``constant``."""
        return "distribution" if self.head == "distribution" else "constant"


def write(path: str | Path, values: dict[str, Any]) -> None:
    """Writes tensors and plain values in one piece.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as unfinished:
            torch.save(values, unfinished)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise OutputError(f"{path}: cannot write the checkpoint: {error}; free some space") from error


def read(path: str | Path) -> dict[str, Any]:
    """Reads tensors and plain values, on the CPU, without executing anything in the file.

    Raises:
        CheckpointError: it is not there, broken, or holds more than that.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint; make one with python -m agetrain") from None
    except Exception as error:  # torch raises zipfile, pickle, EOF, runtime and other errors for a broken file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        remedy = "train again"
        if isinstance(error, pickle.UnpicklingError):
            reason = "it is no file of torch"
        # Torch's words for a class or a function, and for a network that is stored with its code.
        if any(word in str(error).lower() for word in ("global", "torchscript")):
            reason = "it holds more than tensors and plain values; loading that could run code, so it is refused"
            remedy = "where it was made, save the state_dict alone again: torch.save(network.state_dict(), FILE)"
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason}); {remedy}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a checkpoint of agetrain; give the best.pth of a run")
    return values


def environment() -> dict[str, str | None]:
    """Returns the versions and the commit that a result was made with."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy"):
        versions[package] = metadata.version(package)
    return {**versions, "git_commit": _git_commit()}


def _git_commit() -> str | None:
    """Returns the commit of this checkout, with a ``+`` where files differ from it, or None outside of one."""
    here = Path(__file__).parent
    try:
        # The repository may be another one that merely lies round the environment which this was installed into.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=here, capture_output=True, timeout=10,
            check=True,
        )  # fmt: skip
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")
