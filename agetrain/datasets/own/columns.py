"""What the columns of somebody's own list mean: which one names the picture, which the age, and so on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agetrain.datasets.base import Problem, Sample
from agetrain.datasets.own.ages import Age, age_between, parse_age
from agetrain.errors import DatasetError, UsageError

# For each meaning the names by which a column is known, best first; letters may be of either case.
MEANINGS: dict[str, tuple[str, ...]] = {
    "file": ("file", "file_name", "filename", "path", "image", "picture"),
    "age": ("age", "age_years", "real_age", "years"),
    "age_min": ("age_min", "min_age"),
    "age_max": ("age_max", "max_age"),
    "subject": ("subject", "person", "subject_id", "person_id", "identity"),
    "part": ("part", "split", "subset"),
    "std": ("std", "age_std"),
    "apparent": ("apparent", "apparent_age", "apparent_age_avg"),
    "apparent_std": ("apparent_std", "apparent_age_std"),
}
_PARTS = {
    "train": "train", "training": "train", "calibration": "train", "valid": "valid", "val": "valid",
    "validation": "valid", "dev": "valid", "test": "test", "testing": "test",
}  # fmt: skip


def part_of(text: str) -> str | None:
    """Returns ``train``, ``valid`` or ``test`` for what people call these; None for anything else."""
    return _PARTS.get(text.strip().lower())


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a list by their meaning.

    Attributes:
        of: for each meaning that the list has, the name of its column.
        groups: all other columns; the report gives figures for their values.
    """

    of: Mapping[str, str]
    groups: tuple[str, ...] = field(default=())

    @classmethod
    def find(cls, names: tuple[str, ...], told: Mapping[str, str], where: Path) -> "Columns":
        """Finds out what the columns of a list mean.

        Args:
            names: of the columns.
            told: the names of columns by meaning, as ``--columns`` gives them; they come before all others.
            where: the list, for messages.

        Raises:
            UsageError: there is no such meaning.
            DatasetError: a column that was told is not there, or there is none for file or age.
        """
        unknown = [meaning for meaning in told if meaning not in MEANINGS]
        if unknown:
            raise UsageError(f"--columns {unknown[0]}=...: no such meaning; use {', '.join(MEANINGS)}")
        found: dict[str, str] = {}
        for meaning, usual in MEANINGS.items():
            wanted = (told[meaning],) if meaning in told else usual
            by_name = {name.lower(): name for name in reversed(names) if name not in told.values() or meaning in told}
            match = next((by_name[name.lower()] for name in wanted if name.lower() in by_name), None)
            if match is not None and match not in found.values():
                found[meaning] = match
            elif meaning in told:
                raise DatasetError(f"{where}: has no column {told[meaning]!r}; it has {_listed(names)}")
        if "file" not in found:
            raise DatasetError(
                f"{where}: no column names the picture; say which does: --columns file=... of {_listed(names)}"
            )
        if "age" not in found and not {"age_min", "age_max"} <= set(found):
            raise DatasetError(f"{where}: no column has the age; say which does: --columns age=... of {_listed(names)}")
        return cls(found, tuple(n for n in names if n and n not in found.values()))

    def get(self, row: Mapping[str, str], meaning: str) -> str:
        """Returns the value of a meaning in a row; empty where the list has no such column."""
        return row.get(self.of[meaning], "") if meaning in self.of else ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(name for name in names if name)


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a list, before it is known which age is asked for.

    Attributes:
        path: of the picture.
        real, apparent: ages, None where the list has none.
        std_years, apparent_std_years: how much raters disagreed.
        subject: who it is; None: not told.
        part: ``train``, ``valid`` or ``test``; None: not told.
        groups: all other columns.
    """

    path: Path
    real: Age | None
    apparent: Age | None = None
    std_years: float | None = None
    apparent_std_years: float | None = None
    subject: str | None = None
    part: str | None = None
    groups: tuple[tuple[str, str], ...] = ()

    def sample(self, label: str) -> Sample | None:
        """Returns the picture with one of its labels, ``real`` or ``apparent``; None where it has no such age."""
        ages = {"real": (self.real, self.std_years), "apparent": (self.apparent, self.apparent_std_years)}
        age, std = ages.pop(label)
        [(other, other_std)] = ages.values()
        if age is None:
            return None
        return Sample(
            self.path, age.years, std if age.exact else None, other.years if other and other.exact else None,
            other_std if other and other.exact else None, self.subject, self.groups, age.interval,
        )  # fmt: skip


def entry_of(row: Mapping[str, str], columns: Columns, place: Callable[[str], Path], label: str) -> Entry | Problem:
    """Reads a row of a list.

    Args:
        row: values by column.
        columns: what they mean.
        place: finds the picture that a row names.
        label: what the column ``age`` is: ``real`` or ``apparent``.

    Returns:
        The entry, or what is wrong with it.
    """
    file = columns.get(row, "file")
    if not file:
        return Problem("", "not there", "names no picture")
    try:
        told = _age(columns.get(row, "age"), columns.get(row, "age_min"), columns.get(row, "age_max"))
        apparent = _age(columns.get(row, "apparent"))
        stds = [_std(columns.get(row, meaning)) for meaning in ("std", "apparent_std")]
        part = columns.get(row, "part")
        if part and part_of(part) is None:
            raise ValueError(f"part {part!r} is none; write train, valid or test")
    except ValueError as error:
        return Problem(file, "unlabelled", str(error))
    if told is None and apparent is None:
        return Problem(file, "unlabelled", "its age is empty")
    path = place(file)
    if not _is_file(path):
        return Problem(file, "not there", f"{path} is not there")
    real, own_std = (told, stds[0])
    if label == "apparent":
        real, own_std, apparent, stds[1] = None, None, told, stds[0]
    groups = tuple((name, row[name]) for name in columns.groups if row.get(name))
    return Entry(
        path,
        real,
        apparent,
        own_std,
        stds[1],
        columns.get(row, "subject") or None,
        part_of(part) if part else None,
        groups,
    )


def _age(text: str, low: str = "", high: str = "") -> Age | None:
    if text:
        return parse_age(text)
    if not low and not high:
        return None
    if not low or not high:
        raise ValueError("has one end of an interval only; write both age_min and age_max")
    ends = [parse_age(low), parse_age(high)]
    return age_between(ends[0].low_years, ends[1].high_years)


def _std(text: str) -> float | None:
    if not text:
        return None
    try:
        std = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no deviation in years") from None
    if not 0 <= std <= 100:  # a NaN fails too
        raise ValueError(f"{text[:40]} is no deviation in years")
    return std


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False
