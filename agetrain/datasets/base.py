"""Samples and data sets: what every module of a data set returns."""

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agetrain.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture.

    Attributes:
        path: of the picture file.
        age_years: the label that was asked for, in true years; where only an interval is known, a year within it.
        std_years: how much human raters disagreed about it, in years; None where nobody asked them or for real age.
        other_years, other_std_years: the same of the other label (apparent age where real was asked for, and the other
            way round); None where it is not known.
        subject: who it is, or the picture it was cut from, as far as the data set tells; pictures of one subject belong
            in one part. None: not told.
        attributes: what else is known, as pairs of name and value, such as ``("sex", "female")``.
        interval_years: the youngest and the oldest that the person can be, where no more is known than that; a person
            of 29 is in ``(20, 29)`` to the last day of that year.
    """

    path: Path
    age_years: float
    std_years: float | None = None
    other_years: float | None = None
    other_std_years: float | None = None
    subject: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    interval_years: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A picture that cannot be used, and why.

    Attributes:
        file: as it is listed, or its path in the folder.
        kind: ``unlabelled``, ``not there``, ``broken``, ``no face`` or ``copy``.
        reason: in words.
    """

    file: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The lists of a data set.

    Attributes:
        name: as on the command line.
        label: ``real`` or ``apparent``.
        page: where it can be had.
        licence: what its owners allow, in a few words.
        parts: ``train``, ``valid`` and where there is one ``test``.
        split: how the parts were made, in a few words.
        label_offset: years that its original lists take off the true age; labels handed out are true years.
        ignored: pictures of train that its owners call bad and that are therefore not in ``parts``.
        problems: of what is listed and not in ``parts``.
        listed: how many pictures there were before any was left out; 0: not counted.
        earlier_split_sha256: of the split that an older release made, whose train part holds nothing of today's valid.
    """

    name: str
    label: str
    page: str
    licence: str
    parts: dict[str, tuple[Sample, ...]]
    split: str = "official"
    label_offset: float = 0.0
    ignored: tuple[Sample, ...] = ()
    problems: tuple[Problem, ...] = ()
    listed: int = 0
    earlier_split_sha256: str = ""

    def split_sha256(self) -> str:
        """Returns the SHA-256 over every part's file names and labels; equal hashes mean the same split."""
        digest = hashlib.sha256()
        for part, samples in sorted(self.parts.items()):
            for sample in sorted(samples, key=lambda s: s.path.name):
                interval = "" if sample.interval_years is None else ",{:g},{:g}".format(*sample.interval_years)
                digest.update(f"{part},{sample.path.name},{sample.age_years:g}{interval}\n".encode())
        return digest.hexdigest()

    @property
    def train_median(self) -> float:
        """The median label of train in years: the constant answer with the lowest MAE there."""
        ages = sorted(s.age_years for s in self.parts["train"])
        middle = len(ages) // 2
        return (ages[middle] + ages[~middle]) / 2


def samples_of(dataset: Dataset) -> list[Sample]:
    """Returns the pictures of all parts."""
    return [s for part in dataset.parts.values() for s in part]


def by_hash(name: str) -> int:
    """Returns an evenly spread number that depends on the name alone, to deal the sides of a split by."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def only_real(name: str, label: str) -> None:
    """Refuses a label that the data set does not have.

    Raises:
        UsageError: it is not ``real``.
    """
    if label != "real":
        raise UsageError(f"{name} has no label {label!r}: use real")


def hold_out(samples: Sequence[Sample], count: int) -> dict[str, tuple[Sample, ...]]:
    """Keeps about ``count`` samples for ``valid``, whole subjects of them, and leaves the others for ``train``.

    A subject's side depends on a hash of its name, so that a picture more or less in the folder moves few others.
    At most half of the samples are kept.

    Args:
        samples: all of them, each with a subject.
        count: of samples to keep, at least.
    """
    count = min(count, len(samples) // 2)
    sizes = Counter(str(s.subject) for s in samples)
    order = sorted(sizes, key=lambda subject: hashlib.sha256(subject.encode()).digest())
    kept: set[str] = set()
    total = 0
    for subject in order:
        if total >= count:
            break
        kept.add(subject)
        total += sizes[subject]
    sides: dict[str, list[Sample]] = {"train": [], "valid": []}
    for sample in samples:
        sides["valid" if str(sample.subject) in kept else "train"].append(sample)
    return {part: tuple(side) for part, side in sides.items()}


def copies_file(name: str) -> Path:
    """Returns the list of a data set's pictures of one photograph, as ``benchmarks/copies.py`` found them."""
    return Path(__file__).with_name(f"{name.replace('-', '_')}.copies.csv")


def without_copies(dataset: Dataset) -> Dataset:
    """Moves pictures of ``valid`` whose photograph is in ``train`` too, by the list that ships, over to ``train``.

    A network would know them by sight. Only the pictures that the list names are known to be copies.
    """
    pairs: dict[str, set[str]] = {}
    with copies_file(dataset.name).open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            pairs.setdefault(row["file"], set()).add(row["copy"])
            pairs.setdefault(row["copy"], set()).add(row["file"])
    train, valid = (list(dataset.parts[part]) for part in ("train", "valid"))
    learned = {sample.path.name for sample in train}
    while moved := [s for s in valid if pairs.get(s.path.name, set()) & learned]:  # a copy of a copy follows
        train += moved
        learned.update(s.path.name for s in moved)
        valid = [s for s in valid if s.path.name not in learned]
    parts = {**dataset.parts, "train": tuple(train), "valid": tuple(valid)}
    return replace(dataset, parts=parts, earlier_split_sha256=dataset.split_sha256())
