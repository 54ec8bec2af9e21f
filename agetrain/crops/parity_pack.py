"""The parity pack: the pictures on which an export is proved to answer what its checkpoint answers."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._files import replacing
from agetrain.crops.cache import CropCache
from agetrain.datasets import Sample

PARITY_PICTURES = 500
CALIBRATION_PICTURES = 300


@dataclass(frozen=True, slots=True)
class ParityPictures:
    """What the pictures of a parity pack are chosen from.

    Attributes:
        valid: pictures that an export is proved on.
        train: pictures that int8 is calibrated on.
        unreadable: pictures among them that cannot be read.
    """

    valid: tuple[Sample, ...]
    train: tuple[Sample, ...]
    unreadable: frozenset[Path] = frozenset()


def write_parity_pack(path: Path, pictures: ParityPictures, crops: CropCache, label: str, seed: int) -> None:
    """Writes the pictures on which an export is proved, and pictures from train to calibrate int8 on.

    The file holds their encoded bytes, one behind the other (``valid_bytes``, ``valid_ends``, and the same with
    ``calibration_``), and as JSON in ``facts`` all that is known of them and a hash of the pixels that training cropped
    from each validation picture. It contains pictures of the data set: its licence applies.

    Args:
        path: of the pack.
        pictures: to choose from.
        crops: of ``pictures.valid``, in its order.
        label: ``real`` or ``apparent``: what ``age_years`` of the samples is.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"label": label, "seed": seed}
    for name, samples, most in (
        ("valid", pictures.valid, PARITY_PICTURES),
        ("calibration", pictures.train, CALIBRATION_PICTURES),
    ):
        order = random.permutation(len(samples)).tolist()
        chosen = [i for i in order if samples[i].path not in pictures.unreadable][:most]
        encoded = [samples[i].path.read_bytes() for i in chosen]
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(e) for e in encoded])
        facts[name] = [{k: v for k, v in asdict(samples[i]).items() if k != "path"} for i in chosen]
        if name == "valid":
            facts["pixels"] = [pixels_digest(crops, i) for i in chosen]
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def pixels_digest(crops: CropCache, i: int) -> str:
    """Returns the first half of the SHA-256 of a crop's pixels, or an empty text where no face was found."""
    if not crops.found[i]:
        return ""
    return hashlib.sha256(crops.crops[np.array([i])].tobytes()).hexdigest()[:32]
