"""The real pictures on which an export is proved: a parity pack, a data set, or a folder of portraits with ages."""

import csv
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ageexport.errors import EvidenceError
from agetrain.datasets import DATASETS, Dataset, Sample, load_dataset
from agetrain.errors import AgeError
from agetrain.network.checkpoint import Checkpoint

LABELS_FILE = "labels.csv"
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


def open_evidence(checkpoint: Checkpoint, path: Path, data: str | None, folder: Path) -> Evidence:
    """Opens what an export is to be proved on.

    Args:
        checkpoint: that is exported.
        path: its file: beside it lies the parity pack.
        data: of the command line: a folder with ``labels.csv``, or a data set as ``NAME=DIR`` or ``DIR``; None for the
            parity pack.
        folder: an empty one, for the pictures of a pack.

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
    name, _, place = data.rpartition("=")
    if not name and (Path(place) / LABELS_FILE).is_file():
        return from_folder(Path(place))
    return from_dataset(name, Path(place), checkpoint)


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


def from_folder(folder: Path) -> Evidence:
    """Reads the pictures that ``labels.csv`` of a folder lists, one a line.

    Its columns: ``file`` (within the folder), ``age`` (years), and where int8 is wanted ``part``: ``valid`` for what is
    proved on, ``calibration`` for what int8 is calibrated on.

    Raises:
        EvidenceError: a column, an age or a picture is missing.
    """
    file = folder / LABELS_FILE
    samples: dict[str, list[Sample]] = {part: [] for part in PARTS}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):
                where, part = f"{file}, line {number}", row.get("part") or "valid"
                if part not in PARTS:
                    raise EvidenceError(f"{where}: part {part!r} is neither {' nor '.join(PARTS)}")
                path = folder / row["file"]
                if not path.is_file():
                    raise EvidenceError(f"{where}: {path} is not there")
                age = float(row["age"])
                if not 0 <= age <= 130:
                    raise EvidenceError(f"{where}: {row['age']} is no age in years")
                samples[part].append(Sample(path, age))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{file}: not a list of pictures with columns file and age ({error!r})") from error
    return Evidence(tuple(samples["valid"]), tuple(samples["calibration"]), f"{LABELS_FILE} of folder {folder.name}")


def from_dataset(name: str, folder: Path, checkpoint: Checkpoint) -> Evidence:
    """Takes the validation part of a data set, and seeded pictures of its train part for calibration.

    Args:
        name: of the data set; empty for the first that the checkpoint learned from.
        folder: that it lies in.
        checkpoint: that is exported.

    Raises:
        EvidenceError: it cannot be read.
    """
    if name and name not in DATASETS:
        raise EvidenceError(f"--data {name}={folder}: unknown data set {name!r}, use one of {', '.join(DATASETS)}")
    learned = {d["dataset"]: d for d in checkpoint.training["data"]}
    name = name or next(iter(learned), "")
    if name not in DATASETS:
        raise EvidenceError(
            f"--data {folder}: holds no {LABELS_FILE}, and the checkpoint names no data set that could lie there; give "
            f"NAME=DIR with one of {', '.join(DATASETS)}"
        )
    try:
        dataset, _ = load_dataset(name, folder, checkpoint.label)
        origin = f"{name} valid{_split_in_words(dataset, folder, learned.get(name))}"
    except AgeError as error:
        raise EvidenceError(
            f"--data {folder}: neither a folder with {LABELS_FILE} (columns file, age) nor {name}: {error}"
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
