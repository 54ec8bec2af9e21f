"""UTKFace (Zhang, Song and Qi, CVPR 2017): aligned and cropped faces of all ages; labels partly estimated, noisy."""

import re
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, hold_out, only_real, without_copies
from agetrain.errors import DatasetError

NAME = "utkface"
PAGE = "https://susanqq.github.io/UTKFace/"
LICENCE = "research use only"
LABEL_OFFSET = 0
PICTURES = 23708
VALID_PICTURES = 1500
_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<sex>[01])_(?P<race>[0-4])_(?P<stamp>\d+)\.jpg(\.chip\.jpg)?")
_RACES = ("White", "Black", "Asian", "Indian", "Other")


def subject_of(file: str) -> str | None:
    """Returns the time stamp in the file's name; faces of one stamp were cut from one picture."""
    match = _NAME.fullmatch(file)
    return match["stamp"] if match else None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads the file names ``AGE_SEX_RACE_STAMP.jpg.chip.jpg``; names of any other form are passed over.

    There is no official split: 1,500 pictures are kept for ``valid``, chosen by a hash of their time stamps, so that
    pictures of one stamp are never on both sides.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no such picture in the folder.
    """
    only_real(NAME, label)
    samples = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            attributes = (("sex", ("male", "female")[int(match["sex"])]), ("ethnicity", _RACES[int(match["race"])]))
            samples.append(Sample(path, float(match["age"]), subject=match["stamp"], attributes=attributes))
    if not samples:
        raise DatasetError(f"{folder}: no picture AGE_SEX_RACE_STAMP.jpg.chip.jpg; download it from {PAGE}")
    parts = hold_out(samples, VALID_PICTURES)
    return without_copies(Dataset(NAME, label, PAGE, LICENCE, parts, "1,500 held out by a hash, less copies"))
