"""The audit of a split: what it really holds, before a figure on it is believed.

It works on lists alone; with the pictures it finds duplicates as well.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._progress import progress
from agetrain.datasets import Dataset
from agetrain.datasets.parts import PARTS, open_dataset, overlap, read_csv
from agetrain.errors import DatasetError, UsageError

# A part whose ages differ more than this from those of another is not of the same population.
_DISTANCE_YEARS = 2.0
_FEW_AGES_SHARE = 0.5
# Perceptual hashes of 64 bits: real copies differ in at most this many.
_HASH_BITS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of a split, as its list has it.

    Attributes:
        name: ``train``, ``valid``, ``test``.
        files: as listed.
        ages: float64 ``[n]``, true years.
        stored: float64 ``[n]``, the labels as they stand in the list; without one, the true years.
        subjects: who it is, None where the list does not tell.
        paths: of the pictures, empty without them.
    """

    name: str
    files: tuple[str, ...]
    ages: np.ndarray
    stored: np.ndarray
    subjects: tuple[str | None, ...]
    paths: tuple[Path, ...] = ()


def open_parts(
    dataset: str, *, lists: Mapping[str, Path] | None = None, split: Path | None = None, folder: Path | None = None
) -> list[Part]:
    """Opens the parts of a split.

    Args:
        dataset: name of the data set.
        lists: original lists by the part that they hold; without ``folder`` they are read alone, without any picture.
        split: a split file instead of lists.
        folder: of the data set.

    Raises:
        UsageError: the arguments do not fit together.
        DatasetError: a list or the data set cannot be read.
    """
    if lists and split:
        raise UsageError("give one of --csv and --split")
    if lists and folder is None:
        parts = [_of_list(name, path, dataset) for name, path in lists.items()]
        return sorted(parts, key=lambda part: PARTS.index(part.name))
    if lists and not {"train", "valid"} <= set(lists):
        raise UsageError("--csv together with --data needs the lists train and valid")
    in_order = [lists[name] for name in PARTS if name in lists] if lists else []
    text = dataset if folder is None else f"{dataset}={folder}"
    opened, _ = open_dataset(text, split=split, split_csv=in_order)
    # Labels of the data set itself, and of split files, are true years already.
    return _of_dataset(opened, opened.label_offset if lists else 0.0)


def _of_list(name: str, path: Path, dataset: str) -> Part:
    rows = read_csv(path, dataset)
    return Part(
        name, tuple(r.file for r in rows), np.array([r.age_years for r in rows]),
        np.array([r.stored_age for r in rows]), tuple(r.subject for r in rows),
    )  # fmt: skip


def _of_dataset(dataset: Dataset, offset: float) -> list[Part]:
    return [
        Part(
            name, tuple(s.path.name for s in samples), np.array([s.age_years for s in samples]),
            np.array([s.age_years - offset for s in samples]), tuple(s.subject for s in samples),
            tuple(s.path for s in samples),
        )
        for name, samples in dataset.parts.items()
        if samples
    ]  # fmt: skip


def audit(parts: Sequence[Part]) -> dict[str, Any]:
    """Audits a split; returns JSON values, with what is wrong in words under the key ``findings``."""
    by_name = {part.name: part for part in parts}
    train = by_name.get("train")
    described = {}
    for part in parts:
        own = float(np.median(part.ages))
        described[part.name] = {
            "n": len(part.ages),
            "ages": {f"{age:g}": n for age, n in sorted(Counter(part.ages.tolist()).items())},
            "youngest": float(part.ages.min()),
            "oldest": float(part.ages.max()),
            "own_median": own,
            "stored_labels_from": float(part.stored.min()),
            "subjects": len({s for s in part.subjects if s is not None}),
            "constant_mae_own_median": round(float(np.abs(part.ages - own).mean()), 4),
            "constant_mae_other_medians": {
                other.name: round(float(np.abs(part.ages - np.median(other.ages)).mean()), 4)
                for other in parts
                if other is not part
            },
            "repeated_files": len(part.files) - len(set(part.files)),
        }
    figures: dict[str, Any] = {
        "parts": described,
        "age_distance_years": {
            f"{a.name} to {b.name}": round(wasserstein(a.ages, b.ages), 4) for a, b in _pairs(parts)
        },
        "subject_overlap": {
            f"{b} in {a}": {"shared": n, "of": total}
            for (a, b), (n, total) in overlap({part.name: part.subjects for part in parts}).items()
        },
        "pictures_listed_in_two_parts": {
            f"{a.name} and {b.name}": len(set(a.files) & set(b.files))
            for a, b in _pairs(parts)
            if set(a.files) & set(b.files)
        },
    }
    if all(part.paths for part in parts):
        figures["duplicates"] = duplicates(parts)
    figures["findings"] = findings(figures, has_train=train is not None)
    return figures


def _pairs(parts: Sequence[Part]) -> list[tuple[Part, Part]]:
    return [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the first Wasserstein distance: how many years ages must be moved on average to become the others.

    Example:
        >>> wasserstein(np.array([20.0, 30.0]), np.array([25.0, 35.0]))
        5.0
    """
    years = np.sort(np.concatenate([a, b]))
    below_a, below_b = (np.searchsorted(np.sort(v), years[:-1], side="right") / len(v) for v in (a, b))
    return float((np.abs(below_a - below_b) * np.diff(years)).sum())


def findings(figures: Mapping[str, Any], *, has_train: bool) -> list[str]:
    """Lists what makes figures on this split worth less than they seem, a sentence each."""
    found = []
    parts = figures["parts"]
    most = max(len(p["ages"]) for p in parts.values())
    for name, p in parts.items():
        if len(p["ages"]) < _FEW_AGES_SHARE * most or len(p["ages"]) < 5:
            ages = list(p["ages"])
            listed = ", ".join(ages[:8]) + (", ..." if len(ages) > 8 else "")
            found.append(
                f"{name} holds {len(ages)} different ages only ({listed}), another part has {most}: an error on it "
                "says little about the data set"
            )
    for pair, years in figures["age_distance_years"].items():
        if years > _DISTANCE_YEARS:
            found.append(
                f"the ages of {pair.replace(' to ', ' and ')} are {years:.2f} years apart: errors on them cannot be "
                "compared"
            )
    for name, p in parts.items():
        for other, mae in p["constant_mae_other_medians"].items():
            if mae > 1.5 * p["constant_mae_own_median"] + 0.5:
                median = parts[other]["own_median"]
                found.append(
                    f"always answering {other}'s median ({median:g}) has a MAE of {mae:.2f} on {name}, where its own "
                    f"median ({p['own_median']:g}) has {p['constant_mae_own_median']:.2f}"
                )
    for pair, shared in figures["subject_overlap"].items():
        part, _, first = pair.partition(" in ")
        found.append(
            f"{shared['shared']} of {shared['of']} persons of {part} "
            f"({100 * shared['shared'] / shared['of']:.1f} %) are in {first} too: a network can know them by sight"
        )
    for pair, n in figures["pictures_listed_in_two_parts"].items():
        found.append(f"{n} pictures are listed in {pair}")
    for name, p in parts.items():
        if p["repeated_files"]:
            found.append(f"{name} lists {p['repeated_files']} pictures more than once")
    for kind, text in (("same_bytes", "files of the same bytes"), ("alike", "pictures that look alike")):
        for pair, n in figures.get("duplicates", {}).get(kind, {}).items():
            found.append(f"{n} {text} in {pair}")
    offsets = {p["youngest"] - p["stored_labels_from"] for p in parts.values()}
    if offsets != {0.0}:
        found.append(
            f"the lists store the age less {max(offsets):g} years: a network that learns them as they stand answers "
            "that much too young"
        )
    if not has_train:
        found.append("no train list was given: nothing can be said about what is shared with it")
    return found


def duplicates(parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    """Counts pairs of pictures, within and across parts, that are the same file or look alike by a perceptual hash.

    Raises:
        DatasetError: a picture cannot be read.
    """
    same: dict[bytes, list[str]] = defaultdict(list)
    hashes, of_part = [], []
    for part in parts:
        for path in progress(part.paths, f"{part.name}: duplicates", "img"):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read: {error.strerror}; unpack the data set again") from error
            same[hashlib.sha256(data).digest()].append(part.name)
            hashes.append(difference_hash(data, path))
            of_part.append(part.name)
    by_bytes: Counter[str] = Counter()
    for names in same.values():
        by_bytes.update(_pair(a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    alike: Counter[str] = Counter()
    codes = np.array(hashes, np.uint64)
    for i in range(len(codes) - 1):
        distance = np.bitwise_count(codes[i + 1 :] ^ codes[i])
        for j in np.flatnonzero(distance <= _HASH_BITS).tolist():
            alike[_pair(of_part[i], of_part[i + 1 + j])] += 1
    return {"same_bytes": dict(by_bytes), "alike": dict(alike)}


def _pair(a: str, b: str) -> str:
    return f"{a} alone" if a == b else " and ".join(sorted((a, b), key=PARTS.index))


def difference_hash(data: bytes, path: Path) -> int:
    """Returns 64 bits that say where a small grey copy of the picture gets brighter (dHash, Krawetz 2013).

    Raises:
        DatasetError: it cannot be decoded.
    """
    from ageinfer.images import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DatasetError(f"{path}: cannot be decoded; unpack the data set again")
    small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    bits = (small[:, 1:] > small[:, :-1]).flatten()
    return int("".join("1" if bit else "0" for bit in bits), 2)
