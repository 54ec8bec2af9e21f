"""All-Age-Faces (Cheng et al., IEEE Access 2019): mostly East Asian faces, one picture a person, ages 2 to 80."""

import re
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, hold_out, only_real, without_copies
from agetrain.errors import DatasetError

NAME = "all-age-faces"
PAGE = "https://github.com/JingchunCheng/All-Age-Faces-Dataset"
LICENCE = "research use only"
LABEL_OFFSET = 0
PICTURES = 13322
VALID_PICTURES = 1500
_NAME = re.compile(r"(?P<person>\d{5})A(?P<age>\d{2,3})\.jpg")
_LAST_WOMAN = 7380


def subject_of(file: str) -> str | None:
    """Returns the number of the person in the file's name."""
    match = _NAME.fullmatch(file)
    return match["person"] if match else None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads ``original images/PPPPPAYY.jpg``: person and age; persons up to 07380 are women.

    Its official lists are made for another task; here 1,500 persons are kept for ``valid``, chosen by a hash.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no such picture in the folder.
    """
    only_real(NAME, label)
    pictures = folder / "original images"
    if not pictures.is_dir():
        raise DatasetError(f"{pictures}: not there; is this the unpacked release? Download it from {PAGE}")
    samples = []
    for path in sorted(pictures.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            sex = "female" if int(match["person"]) <= _LAST_WOMAN else "male"
            samples.append(Sample(path, float(match["age"]), subject=match["person"], attributes=(("sex", sex),)))
    if not samples:
        raise DatasetError(f"{pictures}: no picture PPPPPAYY.jpg; download it from {PAGE}")
    parts = hold_out(samples, VALID_PICTURES)
    return without_copies(Dataset(NAME, label, PAGE, LICENCE, parts, "1,500 held out by a hash, less copies"))
