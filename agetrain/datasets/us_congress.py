"""Official portraits of members of the US Congress, each with the youngest and the oldest that the person can be.

The portraits are works of the US government. The ages are intervals, because the year of a portrait is not known: what
people's own lists often look like.
"""

from dataclasses import replace
from pathlib import Path

from agetrain.datasets.base import Dataset, hold_out, only_real, samples_of
from agetrain.datasets.own.reading import load_own
from agetrain.errors import DatasetError

NAME = "us-congress"
PAGE = "https://bioguide.congress.gov/"
LICENCE = "public domain (US government)"
LABEL_OFFSET = 0
PICTURES = 681
VALID_PICTURES = 100
LIST = "labels.csv"


def subject_of(file: str) -> str | None:
    """Not told by the file's name; the list has the persons."""
    return None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads ``labels.csv``: file, age_min, age_max, person.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no list, or a line of it is wrong.
    """
    dataset = read_list(folder, NAME, label, PAGE, LICENCE)
    parts = hold_out(samples_of(dataset), VALID_PICTURES)
    return replace(dataset, parts=parts, split="100 held out by a hash")


def read_list(folder: Path, name: str, label: str, page: str, licence: str) -> Dataset:
    """Reads the ``labels.csv`` of a known set as anybody's own list, all of it in one part; every line must be right.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no list, it names no picture, or a line of it is wrong.
    """
    only_real(name, label)
    if not (folder / LIST).is_file():
        raise DatasetError(f"{folder / LIST}: not there; it comes with the pictures of {name}, from {page}")
    dataset, _ = load_own(folder / LIST, name, label)
    if dataset.problems:
        raise DatasetError(f"{folder / LIST}: {dataset.problems[0].reason}; fetch the release again, from {page}")
    return replace(dataset, page=page, licence=licence, listed=0)
