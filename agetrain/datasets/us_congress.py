"""Official portraits of members of the US Congress, each with the youngest and the oldest that the person can be.

The portraits are works of the US government. The ages are intervals, because the year of a portrait is not known: what
people's own lists often look like.
"""

import csv
import math
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample, hold_out, only_real
from agetrain.errors import DatasetError

NAME = "us-congress"
PAGE = "https://bioguide.congress.gov/"
LICENCE = "public domain (US government)"
LABEL_OFFSET = 0
PICTURES = 681
VALID_PICTURES = 100
LISTS = "labels.csv"
_COLUMNS = ("file", "age_min", "age_max", "person")


def subject_of(file: str) -> str | None:
    """Not told by the file's name; the list has the persons."""
    return None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads ``labels.csv``: file, age_min, age_max, person.

    The label is the middle of the interval. Its deviation is that of an age anywhere in the interval, beside the 2.5
    years of an exact label.

    Raises:
        UsageError: the label is not ``real``.
        DatasetError: there is no list, or a line of it is wrong.
    """
    only_real(NAME, label)
    samples = read_intervals(folder, _COLUMNS, PAGE)
    return Dataset(NAME, label, PAGE, LICENCE, hold_out(samples, VALID_PICTURES), "100 held out by a hash")


def read_intervals(folder: Path, columns: tuple[str, ...], page: str) -> list[Sample]:
    """Reads a list with ``age_min`` and ``age_max``; an exact ``age`` counts before them where it is given.

    Raises:
        DatasetError: there is no list, it names no picture, or a line of it is wrong.
    """
    lists = folder / LISTS
    try:
        with lists.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{lists}: has no column {missing[0]}; it needs {', '.join(columns)}")
            samples = [_sample(folder, row, f"{lists} line {i}") for i, row in enumerate(reader, 2)]
    except FileNotFoundError:
        raise DatasetError(f"{lists}: not there; a list with {', '.join(columns)} is needed") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{lists}: cannot be read ({error}); put the list there again") from error
    if not samples:
        raise DatasetError(f"{lists}: names no picture; it can be had from {page}")
    return samples


def _sample(folder: Path, row: dict[str, str], where: str) -> Sample:
    try:
        low, high = float(row["age_min"]), float(row["age_max"])
        exact = float(row["age"]) if row.get("age") else None
    except (TypeError, ValueError):
        raise DatasetError(f"{where}: its ages are not numbers; write age_min and age_max in years") from None
    if not row["file"]:
        raise DatasetError(f"{where}: names no picture; write its path in the folder of the list")
    if exact is not None and not 0 <= exact <= 130:  # a NaN fails too
        raise DatasetError(f"{where}: {exact:g} years is no age; leave it empty where only the interval is known")
    if not 0 <= low <= high <= 120:
        raise DatasetError(f"{where}: {low:g} to {high:g} years is no interval; write the smaller age first")
    std = None if exact is not None or low == high else math.hypot((high - low) / math.sqrt(12), 2.5)
    middle = (low + high) / 2
    sex = (("sex", row["sex"]),) if row.get("sex") else ()
    return Sample(folder / row["file"], middle if exact is None else exact, std, subject=row["person"], attributes=sex)
