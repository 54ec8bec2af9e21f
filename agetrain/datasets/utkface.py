"""UTKFace (Zhang, Song and Qi, CVPR 2017): aligned and cropped faces of all ages; labels partly estimated, noisy."""

import re
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, hold_out
from agetrain.errors import DatasetError, UsageError

NAME = "utkface"
PAGE = "https://susanqq.github.io/UTKFace/"
LICENCE = "research use only"
VALID_PICTURES = 1500
_NAME = re.compile(r"(?P<age>\d{1,3})_[01]_[0-4]_(?P<stamp>\d+)\.jpg(\.chip\.jpg)?")


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads the file names ``AGE_SEX_RACE_STAMP.jpg.chip.jpg``; names of any other form are passed over.

    There is no official split: 1,500 pictures are kept for ``valid``, chosen by a hash of their time stamps, so that
    pictures of one stamp are never on both sides.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no such picture in the folder.
    """
    if label != "real":
        raise UsageError(f"{NAME} has no label {label!r}: use real")
    samples, stamps = [], []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            samples.append(Sample(path, float(match["age"])))
            stamps.append(match["stamp"])
    if not samples:
        raise DatasetError(f"{folder}: no picture AGE_SEX_RACE_STAMP.jpg.chip.jpg; it can be had from {PAGE}")
    return Dataset(NAME, label, PAGE, LICENCE, hold_out(samples, stamps, VALID_PICTURES))
