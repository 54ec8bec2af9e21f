"""Checkpoints: tensors and JSON-like values only, so that they load without executing anything."""

import hashlib
import pickle  # for the name of an error alone
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ageinfer.cropspec import CropSpec
from agetrain.calibration import Calibration
from agetrain.errors import CheckpointError, UsageError
from agetrain.files import replacing
from agetrain.networks import AgeNet, Start

FORMAT = "agetrain-checkpoint"
VERSION = 1
_KEYS = {
    "weights", "backbone", "head", "crop", "mean", "std", "label", "age_range", "decode", "age_std_kind",
    "label_offset", "training", "metrics",
}  # fmt: skip


def values_of(
    network: AgeNet, crop: CropSpec, label: str, label_offset: float, training: dict[str, Any],
    metrics: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """What is saved of a network (``docs/checkpoint.md``); a second head is left out.

    Args:
        network: to be kept.
        crop: that it must be given.
        label: ``real`` or ``apparent``.
        label_offset: years to add to what it answers.
        training: how it was made.
        metrics: what was measured of it.
    """
    distribution = network.head_name == "distribution"
    return {
        "weights": {
            k: v.detach().cpu().contiguous().clone()
            for k, v in network.state_dict().items()
            if not k.startswith("auxiliary.")
        },
        "backbone": network.backbone_name,
        "head": network.head_name,
        "crop": crop.to_dict(),
        "mean": (network.mean / 255).flatten().tolist(),
        "std": (network.std / 255).flatten().tolist(),
        "label": label,
        "age_range": [0.0, 100.0],
        "decode": "expectation" if distribution else "linear",
        "age_std_kind": "distribution" if distribution else "constant",
        "label_offset": float(label_offset),
        "calibration": network.calibration.to_dict(),
        "mirrored": network.mirrored,
        "training": training,
        "metrics": metrics,
    }


def save(path: str | Path, values: dict[str, Any]) -> None:
    """Writes a checkpoint in one piece: a crash or a full disk leaves the old file as it was.

    Args:
        path: the file.
        values: the keys of the checkpoint contract (``docs/checkpoint.md``).

    Raises:
        CheckpointError: it cannot be written.
    """
    missing = _KEYS - set(values)
    if missing:
        raise ValueError(f"checkpoint lacks {', '.join(sorted(missing))}")
    write(path, {"format": FORMAT, "version": VERSION, **values})


def write(path: str | Path, values: dict[str, Any]) -> None:
    """Writes tensors and plain values in one piece.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as unfinished:
            torch.save(values, unfinished)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise CheckpointError(f"{path}: cannot write the checkpoint: {error}; free some space") from error


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
        if isinstance(error, pickle.UnpicklingError):
            reason = "it is no file of torch"
        if "global" in str(error).lower():  # torch's word for a class or a function
            reason = "it holds more than tensors and plain values; loading that could run code, so it is refused"
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason}); train again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a checkpoint of agetrain; give the best.pth of a run")
    return values


def load(path: str | Path) -> dict[str, Any]:
    """Reads what `save` wrote.

    Raises:
        CheckpointError: it is not there, broken, a pickle of something else, or of another version.
    """
    return _checked(read(path), path)


def _checked(values: dict[str, Any], path: str | Path) -> dict[str, Any]:
    if values.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of agetrain; give the best.pth of a run")
    if values.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: checkpoint version {values.get('version')}, this release reads {VERSION}; train again"
        )
    missing = _KEYS - set(values)
    if missing:
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(sorted(missing))}; train again")
    try:
        CropSpec.from_dict(values["crop"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}; train again") from error
    training = values["training"]
    if not isinstance(training, dict) or not isinstance(training.get("data"), list):
        raise CheckpointError(f"{path}: the checkpoint does not say what it was trained on; train again")
    return values


def rebuild(values: dict[str, Any]) -> AgeNet:
    """The network of a loaded checkpoint, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit the network that it names.
    """
    try:
        network = AgeNet(values["backbone"], values["head"])
        network.load_state_dict(values["weights"])
        network.calibration = Calibration(**values.get("calibration", {}))
        network.mirrored = bool(values.get("mirrored", False))
    except (RuntimeError, UsageError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"the weights do not fit {values['backbone']}/{values['head']}: {reason}") from error
    return network.eval()


def start_from(network: AgeNet, path: str | Path | None) -> Start | None:
    """Starts a network from a checkpoint instead of ImageNet weights; None where the path is not one of agetrain.

    The head is taken over if it is of the same kind, else it starts at random.

    Args:
        network: to be loaded in place.
        path: of ``--weights``.

    Raises:
        CheckpointError: the checkpoint is of another backbone.
    """
    if path is None or not Path(path).is_file():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever is wrong with it is for load_imagenet_weights to say
        return None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return None
    values = _checked(values, path)
    if values["backbone"] != network.backbone_name:
        raise CheckpointError(f"{path}: a {values['backbone']}, and --backbone is {network.backbone_name}")
    with_head = values["head"] == network.head_name
    parts = ("backbone.", "head.") if with_head else ("backbone.",)
    network.load_state_dict({k: v for k, v in values["weights"].items() if k.startswith(parts)}, strict=False)
    source = f"checkpoint {Path(path).name}, SHA-256 {file_sha256(path)[:16]}"
    terms = values["training"].get("start_terms", "")
    if terms:  # where a start's own weights come from is not lost on the way
        source += f", which started from {values['training']['start'].rpartition('which started from ')[2]}"
    return Start(source, False, (), with_head, terms=terms)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def environment() -> dict[str, str | None]:
    """Versions and commit that a result was made with."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy"):
        versions[package] = metadata.version(package)
    return {**versions, "git_commit": _git_commit()}


def _git_commit() -> str | None:
    """The commit of this checkout, marked ``+`` where files differ from it; None outside of one."""
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
