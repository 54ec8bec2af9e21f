"""All-Age-Faces (Cheng et al., IEEE Access 2019): mostly East Asian faces, one picture a person, ages 2 to 80."""

import re
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, hold_out
from agetrain.errors import DatasetError, UsageError

NAME = "all-age-faces"
PAGE = "https://github.com/JingchunCheng/All-Age-Faces-Dataset"
LICENCE = "research use only"
VALID_PICTURES = 1500
_NAME = re.compile(r"(?P<person>\d{5})A(?P<age>\d{2,3})\.jpg")


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads ``original images/PPPPPAYY.jpg``: person and age.

    Its official lists are made for another task; here 1,500 persons are kept for ``valid``, chosen by a hash.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no such picture in the folder.
    """
    if label != "real":
        raise UsageError(f"{NAME} has no label {label!r}: use real")
    pictures = folder / "original images"
    if not pictures.is_dir():
        raise DatasetError(f"{pictures}: not there; is this the unpacked release? It can be had from {PAGE}")
    samples, persons = [], []
    for path in sorted(pictures.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            samples.append(Sample(path, float(match["age"])))
            persons.append(match["person"])
    if not samples:
        raise DatasetError(f"{pictures}: no picture PPPPPAYY.jpg; it can be had from {PAGE}")
    return Dataset(NAME, label, PAGE, LICENCE, hold_out(samples, persons, VALID_PICTURES))
