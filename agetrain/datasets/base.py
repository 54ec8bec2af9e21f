"""Samples and data sets: what every module of a data set returns."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agetrain.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture.

    Attributes:
        path: of the picture file.
        age_years: the label that was asked for, in true years.
        std_years: how much human raters disagreed about it, in years; None where nobody asked them or for real age.
        other_years, other_std_years: the same of the other label (apparent age where real was asked for, and the other
            way round); None where it is not known.
        subject: who it is, or the picture it was cut from, as far as the data set tells; pictures of one subject belong
            in one part. None: not told.
        attributes: what else is known, as pairs of name and value, such as ``("sex", "female")``.
    """

    path: Path
    age_years: float
    std_years: float | None = None
    other_years: float | None = None
    other_std_years: float | None = None
    subject: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


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
    """

    name: str
    label: str
    page: str
    licence: str
    parts: dict[str, tuple[Sample, ...]]
    split: str = "official"
    label_offset: float = 0.0
    ignored: tuple[Sample, ...] = ()

    def split_sha256(self) -> str:
        """Returns the SHA-256 over every part's file names and labels; equal hashes mean the same split."""
        digest = hashlib.sha256()
        for part, samples in sorted(self.parts.items()):
            for sample in sorted(samples, key=lambda s: s.path.name):
                digest.update(f"{part},{sample.path.name},{sample.age_years:g}\n".encode())
        return digest.hexdigest()

    @property
    def train_median(self) -> float:
        """The median label of train in years: the constant answer with the lowest MAE there."""
        ages = sorted(s.age_years for s in self.parts["train"])
        middle = len(ages) // 2
        return (ages[middle] + ages[~middle]) / 2


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
