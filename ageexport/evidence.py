"""The real pictures on which an export is proved: a parity pack, a data set that agetrain knows, or anybody's own."""

import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ageexport.errors import EvidenceError
from agetrain.data import Data, opened
from agetrain.datasets import DATASETS, Dataset, Sample, load_dataset
from agetrain.datasets.base import samples_of
from agetrain.datasets.opening import named
from agetrain.datasets.own import Reading
from agetrain.errors import AgeError
from agetrain.network.checkpoint import Checkpoint

PARTS = ("valid", "calibration")
CALIBRATION_FACES = 300
PNG_SIGNATURE = b"\x89PNG"

log = logging.getLogger("ageexport")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Labelled pictures to prove an export on.

    Attributes:
        samples: to be proved on; ``age_years`` is the age that the checkpoint answers (real or apparent).
        calibration: other pictures, from which an int8 model learns the ranges of its activations.
        origin: where they are from, for the report.
        pixels: for each of ``samples`` the hash of the pixels that training cropped from it, see
            `agetrain.crops.parity_pack.pixels_digest`; None where that is not known.
    """

    samples: tuple[Sample, ...]
    calibration: tuple[Sample, ...]
    origin: str
    pixels: tuple[str, ...] | None = None


def open_evidence(
    checkpoint: Checkpoint, path: Path, data: str | Path | Data | None, folder: Path, reading: Reading | None = None
) -> Evidence:
    """Opens what an export is to be proved on.

    Args:
        checkpoint: that is exported.
        path: its file: beside it lies the parity pack.
        data: a data set as `agetrain.datasets.opening.open_dataset` takes it, the folder of the first one that the
            checkpoint learned from, or `Data`; None for the parity pack.
        folder: an empty one, for the pictures of a pack.
        reading: how own data is read.

    Raises:
        EvidenceError: there is nothing, or it cannot be read.
    """
    if data is None:
        pack = path.with_name("parity.npz")
        if not pack.is_file():
            raise EvidenceError(
                f"no faces to prove the export on: neither --data nor {pack}; nothing was written; name the data set "
                "with --data NAME=DIR, or keep parity.npz beside the checkpoint"
            )
        return from_pack(pack, checkpoint.label, folder)
    if isinstance(data, Data):
        return from_own(data, checkpoint)
    text = str(data)
    try:
        name, place = named(text)
    except AgeError as error:
        raise EvidenceError(f"--data {text}: {str(error).partition(': ')[2]}") from error
    first = next((d["dataset"] for d in checkpoint.training["data"]), "")
    if not name and first in DATASETS and place is not None and not is_own(place, reading):
        name = first
    if name in DATASETS:
        return from_dataset(name, place, checkpoint)
    return from_own(text, checkpoint, reading)


def is_own(place: Path, reading: Reading | None) -> bool:
    """Says whether a folder, or a file, can be read as anybody's own data."""
    try:
        opened(place, reading=reading, deal=False)
    except AgeError:
        return place.is_file() or (place / "labels.csv").is_file()
    return True


def from_pack(path: Path, label: str, folder: Path) -> Evidence:
    """Reads a parity pack that agetrain wrote.

    Args:
        path: of the pack.
        label: ``real`` or ``apparent``, what the checkpoint answers.
        folder: the pictures are unpacked into it.

    Raises:
        EvidenceError: it is broken, or does not know that label.
    """
    try:
        with zipfile.ZipFile(path):  # else NumPy would take the file for an array or a pickle
            pass
        with np.load(path, allow_pickle=False) as pack:
            facts = json.loads(pack["facts"].tobytes())
            samples = {part: _unpacked(pack, part, facts[part], folder / part) for part in PARTS}
            pixels = tuple(facts["pixels"])
        if facts["label"] != label:
            samples = {part: [_with_other_label(s) for s in of_part] for part, of_part in samples.items()}
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise EvidenceError(f"{path}: not a parity pack ({error!r}); train again or give --data") from error
    return Evidence(tuple(samples["valid"]), tuple(samples["calibration"]), f"{path.name} of the training run", pixels)


def _unpacked(pack: Any, part: str, facts: Sequence[dict[str, Any]], folder: Path) -> list[Sample]:
    data, ends = pack[f"{part}_bytes"].tobytes(), pack[f"{part}_ends"].tolist()
    folder.mkdir(parents=True)
    samples = []
    for i, (start, end, known) in enumerate(zip([0, *ends], ends, facts, strict=False)):
        picture = data[start:end]
        path = folder / f"{i:06d}{'.png' if picture.startswith(PNG_SIGNATURE) else '.jpg'}"
        path.write_bytes(picture)
        attributes = tuple((str(name), str(value)) for name, value in known["attributes"])
        samples.append(Sample(path, **{**known, "attributes": attributes}))
    if len(samples) != len(facts):
        raise ValueError("fewer pictures than labels")
    return samples


def _with_other_label(sample: Sample) -> Sample:
    if sample.other_years is None:
        raise ValueError("the checkpoint's label is not in it")
    return replace(
        sample, age_years=sample.other_years, std_years=sample.other_std_years, other_years=sample.age_years,
        other_std_years=sample.std_years,
    )  # fmt: skip


def from_own(data: str | Path | Data, checkpoint: Checkpoint | None = None, reading: Reading | None = None) -> Evidence:
    """Reads anybody's own pictures with their ages.

    Where the list names parts, those of ``valid`` prove the export and those of ``train`` (or ``calibration``)
    calibrate int8. Without parts all of them prove it, but where the checkpoint learned from this data: then it is
    dealt as the run dealt it.

    Args:
        data: what names it, see `agetrain.datasets.opening.open_dataset`, or `Data`.
        checkpoint: that is exported, which says what it learned from.
        reading: how it is read.

    Raises:
        EvidenceError: it cannot be read, or holds nothing to prove an export on.
    """
    label = checkpoint.label if checkpoint else None
    learned = {d["dataset"]: d for d in checkpoint.training["data"]} if checkpoint else {}
    try:
        dataset, _ = opened(data, label, reading=reading, deal=False)
        if not dataset.split and dataset.name in learned:
            dataset, _ = opened(data, label, reading=reading)
    except AgeError as error:
        raise EvidenceError(f"--data: {error}") from error
    train = dataset.parts.get("train", ())
    if not dataset.split:
        return Evidence(tuple(samples_of(dataset)), (), dataset.name)
    if not dataset.parts.get("valid"):
        raise EvidenceError(f"--data: {dataset.name} has no part valid; the export is proved on that one")
    origin = f"{dataset.name} valid"
    told = learned.get(dataset.name)
    if told and told.get("split_sha256") != dataset.split_sha256():
        origin += (
            f", split {dataset.split}, not the one that it learned by: some of these pictures may have been learned"
        )
        log.warning("proof on %s", origin)
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_FACES].tolist()
    return Evidence(tuple(dataset.parts["valid"]), tuple(train[i] for i in chosen), origin)


def from_dataset(name: str, folder: Path | None, checkpoint: Checkpoint) -> Evidence:
    """Takes the validation part of a known data set, and seeded pictures of its train part for calibration.

    Args:
        name: of the data set.
        folder: that it lies in; None for the usual places.
        checkpoint: that is exported.

    Raises:
        EvidenceError: it cannot be read.
    """
    learned = {d["dataset"]: d for d in checkpoint.training["data"]}
    try:
        dataset, folder = load_dataset(name, folder, checkpoint.label)
        origin = f"{name} valid{_split_in_words(dataset, folder, learned.get(name))}"
    except AgeError as error:
        raise EvidenceError(
            f"--data {folder or name}: neither your own pictures (labels.csv with file and age) nor {name}: {error}"
        ) from error
    train = dataset.parts["train"]
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_FACES].tolist()
    return Evidence(tuple(dataset.parts["valid"]), tuple(train[i] for i in chosen), origin)


def _split_in_words(dataset: Dataset, folder: Path, learned: dict[str, Any] | None) -> str:
    """Says how the split differs from the one that the checkpoint learned by; empty where it is the same.

    Args:
        dataset: as it is proved on.
        folder: that it lies in.
        learned: what the checkpoint says of this data set; None where it did not learn it.
    """
    if learned is None:
        return f", split {dataset.split}"
    # The hash of a split is over its labels too, and one run may leave a checkpoint for the other label as well.
    label = learned.get("label") or dataset.label
    same = dataset if label == dataset.label else load_dataset(dataset.name, folder, label)[0]
    if learned.get("split_sha256") == same.split_sha256():
        return ""
    other = (
        "not the one that it learned by" if learned.get("split_sha256") else "and by which it learned is not recorded"
    )
    text = f", split {dataset.split}, {other}: some of these pictures may have been learned"
    log.warning("proof on %s valid%s", dataset.name, text)
    return text
