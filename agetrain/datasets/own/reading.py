"""Reads somebody's own data into a `Dataset`, whichever of the known forms it has."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agetrain.datasets.base import Dataset, Problem, Sample
from agetrain.datasets.own import folders, parquet, tables
from agetrain.datasets.own.columns import Columns, Entry, entry_of
from agetrain.datasets.problems import in_words
from agetrain.errors import DatasetError, UsageError

DESCRIPTION = "dataset.json"
LISTS = tuple(f"labels{suffix}" for suffix in tables.SUFFIXES)
NO_LICENCE = "licence not stated"


@dataclass(frozen=True, slots=True)
class Reading:
    """How somebody's own data is read; the data sets that agetrain knows need none of it but the last.

    Attributes:
        labels: the list of labels; None for ``labels.csv`` in the folder, if it is there.
        columns: names of columns by their meaning, see `agetrain.datasets.own.columns.MEANINGS`.
        name_pattern: as ``{age}_{sex}_*.jpg``, for ages in the names of pictures; see `folders.by_name`.
        most_broken_percent: how many of the pictures may be unusable and left out, see
            `agetrain.datasets.problems.check_problems`.
        cache: folder that pictures inside of Parquet files are unpacked into.
    """

    labels: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    name_pattern: str | None = None
    most_broken_percent: float | None = None
    cache: Path = Path("cache")

    def __post_init__(self) -> None:
        if self.most_broken_percent is not None and not 0 <= self.most_broken_percent <= 100:
            raise UsageError(f"--max-broken {self.most_broken_percent:g}%: use 0 to 100 percent")
        if self.name_pattern and (self.labels or self.columns):
            raise UsageError("--name-pattern: ages come from the names; leave out --labels and --columns")

    def to_dict(self) -> dict[str, Any]:
        """Returns what decides the labels as JSON values."""
        return {
            "labels": str(self.labels) if self.labels else "", "columns": dict(self.columns),
            "name_pattern": self.name_pattern or "", "most_broken_percent": self.most_broken_percent,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], cache: Path = Path("cache")) -> "Reading":
        """Reads what `to_dict` wrote; whatever is missing is as by default.

        Raises:
            UsageError: a value is none.
        """
        labels = values.get("labels")
        return cls(
            Path(labels) if labels else None, dict(values.get("columns", {})), values.get("name_pattern") or None,
            values.get("most_broken_percent"), cache,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Described:
    """What ``dataset.json`` beside the data says of it."""

    name: str = ""
    licence: str = NO_LICENCE
    page: str = ""
    label: str = "real"
    labels: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    name_pattern: str = ""


def load_own(place: Path, name: str, label: str | None = None, reading: Reading | None = None) -> tuple[Dataset, Path]:
    """Reads somebody's own data; pictures are not opened.

    All pictures are in the part ``train`` unless the list or the folders name parts; `agetrain.datasets.parts` deals
    them then.

    Args:
        place: a folder with ``labels.csv`` (also ``.tsv``, ``.txt``), a folder for each age, a folder of Parquet files,
            or a list or a Parquet file itself.
        name: of the data set; empty for what ``dataset.json`` says, and without that the folder's own name.
        label: ``real`` or ``apparent`` age; None for what the data has.
        reading: how to read it; None for the usual.

    Returns:
        The data set, and the folder of its pictures.

    Raises:
        UsageError: the options do not fit the data.
        DatasetError: it cannot be read, or holds no picture with an age.
    """
    reading = reading or Reading()
    if not place.exists():
        raise DatasetError(f"{place}: not there; name a folder of pictures, a list, or a Parquet file")
    folder = place if place.is_dir() else place.parent
    described = _described(folder / DESCRIPTION)
    entries, folder = _entries(place, folder, reading, described)
    usable = [entry for entry in entries if isinstance(entry, Entry)]
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    if not usable:
        raise DatasetError(_no_picture(place, problems))
    label = label or described.label
    parts: dict[str, list[Sample]] = {}
    for entry in usable:
        sample = entry.sample(label)
        if sample is None:
            problems.append(Problem(_shown(entry.path, folder), "unlabelled", f"has no {label} age"))
        else:
            parts.setdefault(entry.part or "", []).append(sample)
    if not parts:
        raise UsageError(f"--label {label}: {place} has no {label} ages; use --label {_other(label)}")
    told = set(parts) != {""}
    if "" in parts:  # pictures of no part are learned from
        parts["train"] = [*parts.get("train", []), *parts.pop("")]
    dataset = Dataset(
        name or described.name or plain_name(place), label, described.page, described.licence,
        {part: tuple(parts[part]) for part in ("train", "valid", "test") if part in parts},
        "as its list says" if told else "", problems=tuple(problems), listed=len(entries),
    )  # fmt: skip
    return dataset, folder


def _entries(
    place: Path, folder: Path, reading: Reading, described: _Described
) -> tuple[list[Entry | Problem], Path]:  # fmt: skip
    """All pictures that there are, each with its age or what is wrong with it, and the folder of the pictures."""
    pattern = reading.name_pattern or described.name_pattern
    if pattern:
        return list(folders.by_name(folder, pattern)), folder
    table = _table(place, folder, reading, described)
    if table is None:
        found = list(folders.by_age_folder(folder))
        if found and all(isinstance(each, Problem) for each in found):
            raise DatasetError(
                f"{folder}: {len(found)} pictures and no ages: there is no {LISTS[0]}, none of the folders is an age "
                "(23, 20-29), and no --name-pattern says where the age stands in the names"
            )
        return list(found), folder
    columns = {**described.columns, **reading.columns}
    if table.pictures:
        columns.setdefault("file", table.pictures)
    meaning = Columns.find(table.columns, columns, table.path)

    def picture(file: str) -> Path:
        beside = table.folder / file.replace("\\", "/")  # as lists from Windows have it
        return beside if table.folder == folder or beside.is_file() else folder / file.replace("\\", "/")

    entries: list[Entry | Problem] = []
    for number, row in table.rows:
        entry = entry_of(row, meaning, picture, described.label)
        if isinstance(entry, Problem):
            entry = Problem(entry.file, entry.kind, f"{table.path.name} line {number}: {entry.reason}")
        entries.append(entry)
    if not entries:
        raise DatasetError(f"{table.path}: the list is empty; it needs a line for each picture")
    return entries, table.folder if table.pictures else folder


def _table(place: Path, folder: Path, reading: Reading, described: _Described) -> tables.Table | None:
    told = reading.labels or (folder / described.labels if described.labels else None)
    if told is None and place.is_file() and place.suffix.lower() != parquet.SUFFIX:
        told = place
    if told is None and place.is_dir():
        told = next((folder / name for name in LISTS if (folder / name).is_file()), None)
    files = parquet.parquet_files(told or place)
    if files:
        return parquet.read_parquet(files, reading.cache)
    return tables.read_table(told) if told is not None else None


def _described(path: Path) -> _Described:
    """Reads ``dataset.json``.

    Raises:
        DatasetError: it is none.
    """
    if not path.is_file():
        return _Described()
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        if "license" in values:
            values.setdefault("licence", values["license"])
        known = {name: values[name] for name in asdict(_Described()) if name in values}
        for name, value in known.items():
            if not isinstance(value, dict if name == "columns" else str):
                raise ValueError(f"{name} is {value!r}")
        if known.get("label", "real") not in ("real", "apparent"):
            raise ValueError(f"label is {known['label']!r}, not real or apparent")
        return _Described(**{**known, "licence": known.get("licence") or NO_LICENCE})
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    except (ValueError, TypeError) as error:
        raise DatasetError(
            f"{path}: not a description of a data set ({error}); write an object with name, licence, page and label"
        ) from error


def _no_picture(place: Path, problems: list[Problem]) -> str:
    if not problems:
        return f"{place}: holds no picture; name a folder of pictures with ages, a list, or a Parquet file"
    return f"{place}: none of {len(problems)} pictures can be used: {in_words(problems)}"


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _other(label: str) -> str:
    return "real" if label == "apparent" else "apparent"


def plain_name(place: Path) -> str:
    """The name of a folder, or of a list that is not just called ``labels``, as the name of a data set."""
    resolved = place.resolve()
    if place.is_file() and resolved.stem != "labels":
        return resolved.stem
    return (resolved if place.is_dir() else resolved.parent).name or "faces"
