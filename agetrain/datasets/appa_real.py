"""APPA-REAL (Agustsson et al., FG 2017): real age, and apparent age as judged by about 38 raters a picture."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample
from agetrain.errors import DatasetError, UsageError

NAME = "appa-real"
PAGE = "http://158.109.8.102/AppaRealAge/appa-real-release.zip"
DOWNLOADS = (PAGE,)
LICENCE = "research use only"
LABEL_OFFSET = 0
PICTURES = 7591
_PARTS = ("train", "valid", "test")
_LABEL_COLUMNS = {"real": "real_age", "apparent": "apparent_age_avg"}
_ATTRIBUTES = {"gender": "sex", "race": "ethnicity", "makeup": "makeup", "happiness": "happiness", "time": "time"}


def subject_of(file: str) -> str | None:
    """Returns None: APPA-REAL names nobody."""
    return None


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads the release's own lists; pictures on its ignore list are left out of train and kept elsewhere.

    Args:
        folder: the unpacked ``appa-real-release``: ``gt_avg_{train,valid,test}.csv`` and
            ``{train,valid,test}/NNNNNN.jpg_face.jpg``. The test part may be absent, and so may the
            ``allcategories_*.csv`` with sex, ethnicity and others.
        label: ``real`` or ``apparent``.

    Raises:
        UsageError: the label is neither.
        DatasetError: a list, a column or a picture is missing.
    """
    if label not in _LABEL_COLUMNS:
        raise UsageError(f"{NAME} has no label {label!r}: use real or apparent")
    ignored = _ignored(folder / "ignore_list.csv")
    parts: dict[str, tuple[Sample, ...]] = {}
    bad: tuple[Sample, ...] = ()
    for part in _PARTS:
        file = folder / f"gt_avg_{part}.csv"
        if part == "test" and not file.exists():
            continue
        attributes = _attributes(folder / f"allcategories_{part}.csv")
        samples = _read_part(file, folder / part, label, attributes)
        # Figures stay comparable with published ones: only what we learn from is cleaned.
        if part == "train":
            bad = tuple(s for s in samples if s.path.name in ignored)
        parts[part] = tuple(s for s in samples if part != "train" or s.path.name not in ignored)
    return Dataset(NAME, label, PAGE, LICENCE, parts, ignored=bad)


def _ignored(file: Path) -> set[str]:
    if not file.exists():
        return set()
    with _opened(file) as rows:
        return {f"{row['img_name']}_face.jpg" for row in rows}


def _attributes(file: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """Attributes by file name; none where there is no such list."""
    if not file.exists():
        return {}
    with _opened(file) as rows:
        return {
            row["file"]: tuple((name, row[column]) for column, name in _ATTRIBUTES.items() if row.get(column))
            for row in rows
        }


def _read_part(
    file: Path, pictures: Path, label: str, attributes: dict[str, tuple[tuple[str, str], ...]]
) -> list[Sample]:
    samples = []
    with _opened(file) as rows:
        for row in rows:
            real = (_number(row, "real_age"), None)
            apparent = (_number(row, "apparent_age_avg"), _number(row, "apparent_age_std"))
            (age, std), (other, other_std) = (real, apparent) if label == "real" else (apparent, real)
            name = row["file_name"]
            path = pictures / f"{name}_face.jpg"
            samples.append(Sample(path, age, std, other, other_std, attributes=attributes.get(name, ())))
    if not samples:
        raise DatasetError(f"{file}: the list is empty; fetch the release again")
    missing = [s.path for s in samples if not os.path.isfile(s.path)]  # noqa: PTH113, Path raises for long names
    if missing:
        raise DatasetError(f"{missing[0]}: not there, nor {len(missing) - 1} more of {file.name}; unpack it again")
    return samples


def _number(row: dict[str, str], column: str) -> float:
    """An age or a deviation, in years."""
    years = float(row[column])
    if not 0 <= years <= 130:  # a NaN fails too
        raise ValueError(f"{column} {row[column]!r} is no age")
    return years


@contextmanager
def _opened(file: Path) -> Iterator[Iterator[dict[str, str]]]:
    """The rows of a list; whatever is wrong with one becomes an error that names list and line.

    Raises:
        DatasetError: the list is not there, lacks a column, or holds what is none of its values.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            try:
                yield rows
            except KeyError as error:
                raise DatasetError(f"{file}: no column {error}; the list of the original release has it") from error
            except (TypeError, ValueError, csv.Error) as error:
                raise DatasetError(f"{file}: line {rows.line_num}: {error}; fetch the release again") from error
    except FileNotFoundError:
        raise DatasetError(f"{file}: not there; is this the unpacked release? Download it from {PAGE}") from None
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}; unpack the release again") from error
