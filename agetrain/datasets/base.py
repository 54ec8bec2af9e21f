"""What every data set hands out."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture.

    Attributes:
        path: of the picture file.
        age_years: the label that was asked for, in true years.
        std_years: how much human raters disagreed, in years; None where nobody asked them or for real age.
    """

    path: Path
    age_years: float
    std_years: float | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The lists of a data set.

    Attributes:
        name: as on the command line.
        label: ``real`` or ``apparent``.
        page: where it can be had.
        licence: what its owners allow, in a few words.
        parts: ``train``, ``valid`` and where there is one ``test``.
    """

    name: str
    label: str
    page: str
    licence: str
    parts: dict[str, tuple[Sample, ...]]

    def split_sha256(self) -> str:
        """SHA-256 over every part's file names and labels: two equal hashes are the same split."""
        digest = hashlib.sha256()
        for part, samples in sorted(self.parts.items()):
            for sample in sorted(samples, key=lambda s: s.path.name):
                digest.update(f"{part},{sample.path.name},{sample.age_years:g}\n".encode())
        return digest.hexdigest()


def hold_out(samples: Sequence[Sample], groups: Sequence[str], count: int) -> dict[str, tuple[Sample, ...]]:
    """Keeps about ``count`` samples for ``valid``, whole groups of them, and leaves the others for ``train``.

    A group's side depends on a hash of its name, so that a picture more or less in the folder moves few others.
    At most half of the samples are kept.

    Args:
        samples: all of them.
        groups: of each sample: the person or the original picture.
        count: of samples to keep, at least.
    """
    count = min(count, len(samples) // 2)
    order = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    sizes = Counter(groups)
    kept: set[str] = set()
    total = 0
    for group in order:
        if total >= count:
            break
        kept.add(group)
        total += sizes[group]
    sides: dict[str, list[Sample]] = {"train": [], "valid": []}
    for sample, group in zip(samples, groups, strict=True):
        sides["valid" if group in kept else "train"].append(sample)
    return {part: tuple(side) for part, side in sides.items()}
