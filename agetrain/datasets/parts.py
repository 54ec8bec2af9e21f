"""The parts of a data set: split files, the lists of the original work, and subjects that several parts share.

A split file is a CSV with the columns ``part`` and ``file`` (the picture's path in the data set's folder), and for the
reader ``age_years`` and ``subject``. ``python -m agetrain.splits`` makes one. `read_csv` reads the original lists.
"""

import csv
import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agetrain.datasets import Dataset, Sample, module_of
from agetrain.datasets.base import samples_of
from agetrain.errors import DatasetError, UsageError

PARTS = ("train", "valid", "test")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an original list.

    Attributes:
        file: the picture's name or path as it is listed.
        stored_age: as it stands there.
        age_years: the true age, with the data set's offset added.
        subject: who it is, None where the name does not tell.
        sex: where it is listed.
    """

    file: str
    stored_age: float
    age_years: float
    subject: str | None
    sex: str | None = None


def read_csv(path: Path, dataset: str) -> list[Row]:
    """Reads a list of the original work, or one of APPA-REAL, without any picture.

    Args:
        path: a CSV with the columns ``file`` (or ``file_name``) and ``age`` (or ``real_age``); ``path`` and ``gender``
            are used where they are there.
        dataset: whose list it is; that decides the offset of the labels and what a name tells.

    Raises:
        DatasetError: it is not there, or not such a list.
    """
    module = module_of(dataset)
    rows: list[Row] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            file_column = _first(columns, ("path", "file", "file_name"), path)
            age_column = _first(columns, ("age", "real_age"), path)
            for row in reader:
                stored = float(row[age_column])
                if not 0 <= stored <= 130:
                    raise ValueError(f"{age_column} {row[age_column]!r} is no age")
                file = row[file_column]
                subject = module.subject_of(Path(file).name)
                years = stored + module.LABEL_OFFSET
                rows.append(Row(file, stored, years, subject, row.get("gender")))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; name a list that is there") from error
    except (TypeError, ValueError, csv.Error) as error:
        raise DatasetError(f"{path}: line {len(rows) + 2}: {error}") from error
    if not rows:
        raise DatasetError(f"{path}: the list is empty")
    return rows


def _first(columns: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise DatasetError(f"{path}: no column {' or '.join(wanted)}; it has {', '.join(columns) or 'none'}")


def with_csvs(dataset: Dataset, files: Sequence[Path]) -> Dataset:
    """Returns a data set in the parts of original lists (train, valid, optionally test), with the labels in them.

    What they name is used, bad pictures too; what they do not name is not.

    Raises:
        UsageError: there are not two or three lists.
        DatasetError: a list cannot be read, or names a picture that is not there.
    """
    if not 2 <= len(files) <= 3:
        raise UsageError("--split-csv takes two or three lists: train, valid and, optionally, test")
    if dataset.label != "real":
        raise UsageError("--split-csv: the lists hold real ages; use --label real, or --split")
    known = _by_name(dataset)
    parts = {}
    for part, file in zip(PARTS, files, strict=False):
        samples = []
        for row in read_csv(file, dataset.name):
            sample = known.get(row.file) or known.get(Path(row.file).name)
            if sample is None:
                raise DatasetError(
                    f"{file}: lists {row.file}, which is not among the pictures of {dataset.name}; unpack all of it"
                )
            samples.append(replace(sample, age_years=row.age_years))
        parts[part] = tuple(samples)
    return replace(dataset, parts=parts, split="original lists", ignored=())


def _by_name(dataset: Dataset) -> dict[str, Sample]:
    """Samples by file name and by the last three parts of their path."""
    known = {}
    for sample in _listed(dataset):
        known[sample.path.name] = sample
        known[sample.path.name.removesuffix("_face.jpg")] = sample  # as APPA-REAL's own lists name it
        known["/".join(sample.path.parts[-3:])] = sample
    return known


def _listed(dataset: Dataset) -> list[Sample]:
    """All that a list may name: the owners' own lists hold the bad pictures as well."""
    return [*samples_of(dataset), *dataset.ignored]


def with_split_file(dataset: Dataset, path: Path, folder: Path) -> Dataset:
    """Returns a data set in the parts of a split file; pictures that it does not name are left out.

    Args:
        dataset: as it was loaded.
        path: of the split file.
        folder: of the data set, which the names in the split file are relative to.

    Raises:
        DatasetError: it cannot be read, or names a picture that is not there, or one twice.
    """
    known = _by_name(dataset)
    for sample in _listed(dataset):
        known["/".join(sample.path.parts[-2:])] = sample
    by_path = {Path(os.path.relpath(sample.path, folder)).as_posix(): sample for sample in _listed(dataset)}
    parts: dict[str, list[Sample]] = defaultdict(list)
    named: set[Path] = set()
    try:
        data = path.read_bytes()
        for row in csv.DictReader(data.decode("utf-8-sig").splitlines()):
            part, file = row["part"], row["file"]
            if file is None:
                raise DatasetError(f"{path}: a line names no file; make one with python -m agetrain.splits")
            if part not in PARTS:
                raise DatasetError(f"{path}: part {part!r}: use {', '.join(PARTS)}")
            candidates = ("/".join(Path(file).parts[-n:]) for n in (3, 2, 1))
            found = by_path.get(file) or next((known[c] for c in candidates if c in known), None)
            if found is None:
                raise DatasetError(f"{path}: names {file}, which is not among the pictures of {dataset.name}")
            if found.path in named:
                raise DatasetError(f"{path}: names {file} twice; a picture belongs in one part")
            named.add(found.path)
            parts[part].append(found)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a split file ({error}); make one with python -m agetrain.splits") from error
    if not {"train", "valid"} <= set(parts):
        raise DatasetError(f"{path}: a split needs the parts train and valid")
    name = f"{path.name}, SHA-256 {hashlib.sha256(data).hexdigest()[:16]}"
    return replace(dataset, parts={k: tuple(v) for k, v in parts.items()}, split=name, ignored=())


def overlap(parts: dict[str, Iterable[str | None]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Finds which parts share subjects.

    Args:
        parts: the subject of each picture, None where it is not known.

    Returns:
        For each pair of parts that do: how many subjects of the second part are in the first as well, of how many.
    """
    subjects = {part: {s for s in of if s is not None} for part, of in parts.items()}
    names = list(subjects)
    found = {}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            common = subjects[first] & subjects[second]
            if common:
                found[first, second] = (len(common), len(subjects[second]))
    return found


def check_overlap(dataset: Dataset, *, consent: bool) -> None:
    """Refuses a data set whose parts share subjects; with consent, one line of warning says how many.

    Raises:
        DatasetError: they do, and there is no consent.
    """
    shared = overlap({part: [s.subject for s in samples] for part, samples in dataset.parts.items()})
    if not shared:
        return
    figures = ", ".join(f"{n} of {total} in {b} are in {a} too" for (a, b), (n, total) in shared.items())
    if consent:
        log.warning(
            "%s: persons are in more than one part (%s), so figures on them are too good", dataset.name, figures
        )
        return
    raise DatasetError(
        f"{dataset.name}: persons are in more than one part ({figures}), so figures would be too good; make an "
        f"identity-exclusive split (python -m agetrain.splits {dataset.name} --kind identity) or give --allow-overlap"
    )
