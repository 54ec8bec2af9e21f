"""Official portraits of members of the UK parliament, photographed in June 2017 (CC BY 3.0): to measure on alone.

They are faces of a kind that no training set here holds, so that errors on them tell how a model does on faces that it
never saw. Whoever learns from them, or chooses by them, loses that measure: there is no train part.
"""

from dataclasses import replace
from pathlib import Path

from agetrain.datasets.base import Dataset, samples_of
from agetrain.datasets.us_congress import read_list

NAME = "uk-mps-2017"
PAGE = "https://members.parliament.uk/"
LICENCE = "CC BY 3.0"
LABEL_OFFSET = 0
PICTURES = 499


def subject_of(file: str) -> str | None:
    """Not told by the file's name; the list has the persons."""
    return None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads ``labels.csv``: file, age, age_min, age_max, person; all of it is ``valid``.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no list, or a line of it is wrong.
    """
    dataset = read_list(folder, NAME, label, PAGE, LICENCE)
    parts = {"train": (), "valid": tuple(samples_of(dataset))}
    return replace(dataset, parts=parts, split="all of it is measured on")
