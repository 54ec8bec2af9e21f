"""What a run leaves beside its checkpoint: metrics as JSON, the learning curve as a picture, the parity pack."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agetrain.datasets import Sample
from agetrain.files import replacing

PARITY_PICTURES = 500
CALIBRATION_PICTURES = 300


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file in one piece."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(values, indent=2) + "\n")


def draw_curve(path: Path, history: Sequence[dict[str, float]], title: str) -> None:
    """Draws loss and MAE over the epochs into a PNG.

    Args:
        path: the PNG.
        history: one entry an epoch, with ``train_loss``, ``train_mae`` and ``selection_mae``.
        title: of the figure.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = range(1, len(history) + 1)
    figure, (loss_axis, mae_axis) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    loss_axis.plot(epochs, [h["train_loss"] for h in history], label="train, augmented")
    loss_axis.set(xlabel="epoch", ylabel="loss")
    mae_axis.plot(epochs, [h["train_mae"] for h in history], label="train, augmented")
    mae_axis.plot(epochs, [h["selection_mae"] for h in history], label="selection (kept out of train)")
    best = int(np.argmin([h["selection_mae"] for h in history]))
    mae_axis.plot(best + 1, history[best]["selection_mae"], "o", label=f"kept: epoch {best + 1}")
    mae_axis.set(xlabel="epoch", ylabel="MAE in years")
    for axis in (loss_axis, mae_axis):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=120)
    pyplot.close(figure)


def write_parity_pack(path: Path, valid: Sequence[Sample], train: Sequence[Sample], seed: int) -> None:
    """Packs the pictures on which an export is proved equal, and calibration pictures from train.

    The file holds their encoded bytes, one behind the other (``valid_bytes``, ``valid_ends``, ``valid_ages``, and
    the same with ``calibration_``). It contains pictures of the data set: its licence applies.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for name, samples, most in (
        ("valid", valid, PARITY_PICTURES),
        ("calibration", train, CALIBRATION_PICTURES),
    ):
        chosen = random.permutation(len(samples))[:most]
        encoded = [samples[i].path.read_bytes() for i in chosen]
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(e) for e in encoded])
        arrays[f"{name}_ages"] = np.array([samples[i].age_years for i in chosen], np.float32)
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
