"""The labels of pictures: ``labels.csv`` in their folder, as the data sets of `agetrain` have it."""

import csv
import hashlib
import io
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ageinfer.errors import SourceError

LABELS_FILE = "labels.csv"
_SUBJECT = ("subject", "person")
_DELIMITERS = ",;\t|"
_OLDEST_YEARS = 130.0


@dataclass(frozen=True, slots=True)
class Label:
    """What is known of a picture.

    Attributes:
        age_years: whole or decimal years.
        subject: who it is; empty where that is not told.
        groups: all other columns of the list that are not empty, by name.
    """

    age_years: float
    subject: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a folder.

    Attributes:
        of: by the name of the picture, relative to the folder.
        sha256: of the list; None where there is none.
    """

    of: Mapping[str, Label]
    sha256: str | None = None


def read_labels(folder: Path, pictures: Collection[str]) -> Labels:
    """Reads ``labels.csv`` with the columns ``file`` and ``age``, and perhaps ``subject`` and groups.

    Cells are separated by commas, semicolons, tabs or bars. A line without an age labels nothing.

    Args:
        folder: of the pictures.
        pictures: their names, relative to it.

    Raises:
        SourceError: the list is broken, or names a picture that is not there.
    """
    path = folder / LABELS_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Labels({})
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    try:
        return Labels(_labels(data.decode("utf-8-sig"), set(pictures)), hashlib.sha256(data).hexdigest())
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8; save it as CSV in UTF-8") from error
    except (ValueError, csv.Error) as error:
        raise SourceError(f"{path}: {error}") from error


def _labels(text: str, pictures: set[str]) -> dict[str, Label]:
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns = [(name or "").strip() for name in reader.fieldnames or ()]
    if missing := [name for name in ("file", "age") if name not in columns]:
        raise ValueError(f"has no column {missing[0]}; its first line must name the columns, as file,age")
    if repeated := next((name for name in columns if columns.count(name) > 1), None):
        raise ValueError(f"has two columns {repeated!r}; rename one of them")
    reader.fieldnames = columns
    subject = next((name for name in _SUBJECT if name in columns), "")
    groups = [name for name in columns if name and name not in ("file", "age", subject)]
    found: dict[str, Label] = {}
    for row in reader:
        where = f"line {reader.line_num}"
        if None in row:
            raise ValueError(f"{where}: has more cells than columns; put a cell with a {delimiter!r} in quotes")
        cells = {name: (value or "").strip() for name, value in row.items()}
        file = cells["file"].replace("\\", "/").removeprefix("./")  # as lists from Windows have it
        if file not in pictures:
            raise ValueError(f"{where}: {file[:80]!r} is no picture of this folder; take the line out, or copy it")
        if file in found:
            raise ValueError(f"{where}: {file[:80]!r} has a label already; take one of the lines out")
        if cells["age"]:
            told = {name: cells[name] for name in groups if cells[name]}
            found[file] = Label(_age(cells["age"], where), cells.get(subject, ""), told)
    return found


def _age(text: str, where: str) -> float:
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= _OLDEST_YEARS:  # a NaN fails, too
        raise ValueError(f"{where}: age {text[:40]!r}; write years, 0 to {_OLDEST_YEARS:g}, as 23 or 23.5")
    return age
