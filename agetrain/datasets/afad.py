"""AFAD-Full (Niu et al., CVPR 2016): 165,000 faces of Asian people, nearly all of them 15 to 40 years old."""

import re
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, by_hash, only_real
from agetrain.errors import DatasetError

NAME = "afad"
PAGE = "https://github.com/John-niu-07/tarball"
# One .tar.xz in 46 parts of 50 MB: aa to bt.
_SUFFIXES = [f"{a}{b}" for a, last in (("a", "z"), ("b", "t")) for b in map(chr, range(ord("a"), ord(last) + 1))]
DOWNLOADS = tuple(f"{PAGE}/raw/master/AFAD-Full.tar.xz{suffix}" for suffix in _SUFFIXES)
LICENCE = "academic research only"
LABEL_OFFSET = 15
PICTURES = 165501
FOLDS, ROTATIONS = 10, 5
_NAME = re.compile(r"(?P<id>\d+)-(?P<k>\d+)\.jpg")
_SEXES = {"111": "male", "112": "female"}


def subject_of(file: str) -> str | None:
    """Returns the number before the hyphen; pictures with the same number show the same person."""
    match = _NAME.fullmatch(Path(file).name)
    return match["id"] if match else None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads the tree ``AGE/(111|112)/ID-K.jpg``; 111 are men, 112 women. Names of any other form are passed over.

    There is no official split. By default identities are dealt by a hash into 10 folds, of which 6 are ``train`` and 2
    each ``valid`` and ``test``: the first of 5 rotations (`parts_of_rotation`).

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no such tree in the folder.
    """
    only_real(NAME, label)
    samples = []
    for age_folder in sorted((p for p in folder.iterdir() if p.name.isdecimal() and p.is_dir()), key=lambda p: p.name):
        for code, sex in _SEXES.items():
            if not (age_folder / code).is_dir():
                continue
            for path in sorted((age_folder / code).iterdir()):
                match = _NAME.fullmatch(path.name)
                if match:
                    samples.append(
                        Sample(path, float(age_folder.name), subject=match["id"], attributes=(("sex", sex),))
                    )
    if not samples:
        raise DatasetError(f"{folder}: no picture AGE/111/ID-K.jpg or AGE/112/ID-K.jpg; download it from {PAGE}")
    parts = parts_of_rotation(samples, 0)
    return Dataset(NAME, label, PAGE, LICENCE, parts, "identity-exclusive, rotation 0 of 5", LABEL_OFFSET)


def parts_of_rotation(samples: list[Sample], rotation: int) -> dict[str, tuple[Sample, ...]]:
    """Deals identities into 10 folds by a hash; 2 are ``test``, the next 2 ``valid``, the other 6 ``train``.

    Args:
        samples: all of them.
        rotation: 0 to 4; the test folds of the five rotations are all ten.
    """
    sides: dict[str, list[Sample]] = {"train": [], "valid": [], "test": []}
    for sample in samples:
        after = (by_hash(str(sample.subject)) % FOLDS - 2 * rotation) % FOLDS
        sides["test" if after < 2 else "valid" if after < 4 else "train"].append(sample)
    return {part: tuple(side) for part, side in sides.items()}
