"""APPA-REAL (Agustsson et al., FG 2017): real age, and apparent age as judged by about 38 raters a picture."""

import csv
from pathlib import Path

from agetrain.datasets.base import Dataset, Sample
from agetrain.errors import DatasetError, UsageError

NAME = "appa-real"
PAGE = "http://158.109.8.102/AppaRealAge/appa-real-release.zip"
LICENCE = "research use only"
_PARTS = ("train", "valid", "test")
_LABEL_COLUMNS = {"real": "real_age", "apparent": "apparent_age_avg"}


def load(folder: Path, label: str = "real") -> Dataset:
    """Reads the release's own lists; pictures on its ignore list are left out of train and kept elsewhere.

    Args:
        folder: the unpacked ``appa-real-release``: ``gt_avg_{train,valid,test}.csv`` and
            ``{train,valid,test}/NNNNNN.jpg_face.jpg``. The test part may be absent.
        label: ``real`` or ``apparent``.

    Raises:
        UsageError: the label is neither.
        DatasetError: a list, a column or a picture is missing.
    """
    if label not in _LABEL_COLUMNS:
        raise UsageError(f"{NAME} has no label {label!r}: use real or apparent")
    ignored = _ignored(folder / "ignore_list.csv")
    parts = {}
    for part in _PARTS:
        file = folder / f"gt_avg_{part}.csv"
        if part == "test" and not file.exists():
            continue
        samples = _read_part(file, folder / part, label)
        # Figures stay comparable with published ones: only what we learn from is cleaned.
        parts[part] = tuple(s for s in samples if part != "train" or s.path.name not in ignored)
    return Dataset(NAME, label, PAGE, LICENCE, parts)


def _ignored(file: Path) -> set[str]:
    if not file.exists():
        return set()
    with file.open(newline="") as stream:
        try:
            return {f"{row['img_name']}_face.jpg" for row in csv.DictReader(stream)}
        except KeyError as error:
            raise DatasetError(f"{file}: no column {error}; the list of the original release has it") from error


def _read_part(file: Path, pictures: Path, label: str) -> list[Sample]:
    column = _LABEL_COLUMNS[label]
    samples = []
    try:
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream):
                std = float(row["apparent_age_std"]) if label == "apparent" else None
                age = float(row[column])
                if not 0 <= age <= 130:  # a NaN fails too
                    raise ValueError(f"{column} {row[column]!r} is no age")
                samples.append(Sample(pictures / f"{row['file_name']}_face.jpg", age, std))
    except FileNotFoundError:
        raise DatasetError(f"{file}: not there; is this the unpacked release? It can be had from {PAGE}") from None
    except KeyError as error:
        raise DatasetError(f"{file}: no column {error}; the list of the original release has it") from error
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{file}: line {len(samples) + 2}: {error}; fetch the release again") from error
    if not samples:
        raise DatasetError(f"{file}: the list is empty; fetch the release again")
    missing = [s.path for s in samples if not s.path.is_file()]
    if missing:
        raise DatasetError(f"{missing[0]}: not there, nor {len(missing) - 1} more of {file.name}; unpack it again")
    return samples
