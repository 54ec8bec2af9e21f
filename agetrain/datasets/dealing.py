"""New splits: which picture goes into which part, and the file that records it."""

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agetrain._files import replacing
from agetrain.datasets import Dataset, Sample, afad, cacd
from agetrain.datasets.base import samples_of
from agetrain.datasets.parts import PARTS
from agetrain.errors import DatasetError, UsageError

KINDS = ("default", "random", "identity", "rank")


def stratified(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> dict[str, tuple[Sample, ...]]:
    """Deals pictures at random so that every part has the same ages; persons may be in several parts.

    Args:
        samples: all of them.
        shares: of train, valid and test.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    by_age: dict[float, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        by_age[sample.age_years].append(i)
    # Ages in order, pictures of an age shuffled: then every run of this list has all ages in their shares.
    order = np.concatenate([random.permutation(by_age[age]) for age in sorted(by_age)])
    points = (np.arange(len(order)) + random.random()) * 0.6180339887498949 % 1  # evenly spread along the order
    bounds = np.cumsum(np.array(shares) / np.sum(shares))
    chosen = np.searchsorted(bounds, points, side="right").clip(max=len(shares) - 1)
    sides: dict[str, list[Sample]] = {part: [] for part in PARTS[: len(shares)]}
    for i, side in zip(order.tolist(), chosen.tolist(), strict=True):
        sides[PARTS[side]].append(samples[i])
    return {part: tuple(side) for part, side in sides.items() if side}


def grouped(
    samples: Sequence[Sample], groups: Sequence[str], shares: Sequence[float], seed: int
) -> dict[str, tuple[Sample, ...]]:
    """Deals whole groups of pictures so that every part has about the same ages.

    Args:
        samples: all of them.
        groups: of each of them.
        shares: of train, valid and, optionally, test.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    # Groups by age, those of an age shuffled, and each to the part that lacks most by then.
    chance = dict(zip(sorted(members), random.permutation(len(members)).tolist(), strict=True))
    middle = {group: float(np.median([samples[i].age_years for i in of])) for group, of in members.items()}
    wanted = np.array(shares) / np.sum(shares)
    counts = -wanted * random.random() * len(wanted)  # so that it is not always the youngest who are held out
    sides: dict[str, list[Sample]] = {part: [] for part in PARTS[: len(shares)]}
    for group in sorted(members, key=lambda g: (middle[g], chance[g])):
        size = len(members[group])
        side = int(np.argmax(wanted * (counts.sum() + size) - counts))
        counts[side] += size
        sides[PARTS[side]] += [samples[i] for i in members[group]]
    return {part: tuple(side) for part, side in sides.items() if side}


def identity_exclusive(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> dict[str, tuple[Sample, ...]]:
    """Deals whole subjects, the same ages to each part.

    Raises:
        UsageError: the data set does not tell who is who.
    """
    if any(s.subject is None for s in samples):
        raise UsageError("--kind identity: this data set does not tell who is who; use default or random")
    return grouped(samples, [str(s.subject) for s in samples], shares, seed)


def make_parts(
    dataset: Dataset, kind: str, *, rotation: int, shares: Sequence[float], seed: int, folder: Path
) -> Dataset:
    """Returns a data set in other parts.

    Args:
        dataset: as it was loaded.
        kind: one of `KINDS`.
        rotation: of AFAD's identity-exclusive split, 0 to 4.
        shares: of train, valid and test.
        seed: of the draw.
        folder: of the data set, for CACD's metadata.

    Raises:
        UsageError: the data set has no such split.
    """
    samples = samples_of(dataset)
    if kind == "default":
        return dataset
    if kind == "random":
        return replace(
            dataset, parts=stratified(samples, shares, seed), split=f"random, stratified by age, seed {seed}"
        )
    if kind == "rank":
        if dataset.name != cacd.NAME:
            raise UsageError("--kind rank is a split of cacd")
        ranks = cacd.read_ranks(
            next((p for p in (folder, folder.parent) if (p / cacd.METADATA).is_file()), folder) / cacd.METADATA
        )
        return replace(dataset, parts=cacd.parts_by_rank(samples, ranks), split="identity-exclusive by celebrity rank")
    if dataset.name == afad.NAME:
        if not 0 <= rotation < afad.ROTATIONS:
            raise UsageError(f"--rotation {rotation}: use 0 to {afad.ROTATIONS - 1}")
        name = f"identity-exclusive, rotation {rotation} of {afad.ROTATIONS}"
        return replace(dataset, parts=afad.parts_of_rotation(samples, rotation), split=name)
    parts = identity_exclusive(samples, shares, seed)
    return replace(dataset, parts=parts, split=f"identity-exclusive, seed {seed}")


def write_split(path: Path, dataset: Dataset, folder: Path) -> str:
    """Writes a split file and returns its SHA-256.

    Raises:
        DatasetError: it cannot be written.
    """
    try:
        with replacing(path) as unfinished, unfinished.open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("part", "file", "age_years", "subject"))
            for part, samples in dataset.parts.items():
                for s in sorted(samples, key=lambda s: str(s.path)):
                    file = Path(os.path.relpath(s.path, folder)).as_posix()
                    writer.writerow((part, file, f"{s.age_years:g}", s.subject or ""))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error
    return hashlib.sha256(path.read_bytes()).hexdigest()
