"""Labelled pictures as a value: a data set that agetrain knows, or anybody's own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agetrain.datasets import Dataset, Sample, load_dataset
from agetrain.datasets.base import Problem
from agetrain.datasets.opening import dealt, open_dataset
from agetrain.datasets.own import Reading, load_own
from agetrain.datasets.parts import PARTS
from agetrain.datasets.problems import check_problems
from agetrain.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Labelled pictures in the parts train, valid and, optionally, test.

    `from_csv`, `from_folder`, `from_parquet` and `known` make one; no picture is opened by that. All pictures of own
    data are in the part train until `split` deals them, unless the list or the folders name parts.

    Attributes:
        dataset: the pictures with their labels.
        folder: that they lie in.
        place: what was opened: the folder, or a list in it.
        reading: how it was read.

    Example:
        >>> import agetrain
        >>> data = agetrain.Data.from_csv(faces / "labels.csv").split(valid=0.25, seed=1)
        >>> data.name, data.counts
        ('faces', {'train': 18, 'valid': 6})
    """

    dataset: Dataset
    folder: Path
    place: Path
    reading: Reading = field(default_factory=Reading)

    @classmethod
    def from_csv(
        cls, path: str | Path, *, folder: str | Path | None = None, columns: Mapping[str, str] | None = None,
        name: str = "", label: str | None = None, max_broken_percent: float | None = None,
    ) -> "Data":  # fmt: skip
        """Reads a list of pictures with their ages.

        Args:
            path: of the list: CSV with commas, semicolons or tabs.
            folder: that the names in it are relative to; None for the list's own.
            columns: names of columns by their meaning, see `agetrain.datasets.own.columns.MEANINGS`.
            name: of the data set; empty for what ``dataset.json`` says, or the folder's name.
            label: ``real`` or ``apparent``; None for what the data has.
            max_broken_percent: how many pictures may be unusable and left out; None for 1 %.

        Raises:
            DatasetError: the list cannot be read, or holds no picture with an age.
        """
        reading = Reading(Path(path), dict(columns or {}), None, max_broken_percent)
        return cls._own(Path(folder) if folder is not None else Path(path), name, label, reading)

    @classmethod
    def from_folder(
        cls, path: str | Path, *, name_pattern: str | None = None, name: str = "", label: str | None = None,
        max_broken_percent: float | None = None,
    ) -> "Data":  # fmt: skip
        """Reads a folder: with ``labels.csv`` in it, with a folder for each age, or with ages in the names of pictures.

        Args:
            path: of the folder.
            name_pattern: as ``{age}_{sex}_*.jpg``; None: the ages are not in the names.
            name: see `from_csv`.
            label: see `from_csv`.
            max_broken_percent: see `from_csv`.

        Raises:
            DatasetError: it is not there, or holds no picture with an age.
        """
        return cls._own(Path(path), name, label, Reading(None, {}, name_pattern, max_broken_percent))

    @classmethod
    def from_parquet(
        cls, path: str | Path, *, columns: Mapping[str, str] | None = None, name: str = "", label: str | None = None,
        max_broken_percent: float | None = None, cache: str | Path = "cache",
    ) -> "Data":  # fmt: skip
        """Reads a Parquet file, or a folder of them; pictures inside are unpacked into the cache.

        Args:
            path: of the file or the folder.
            columns: see `from_csv`.
            name: see `from_csv`.
            label: see `from_csv`.
            max_broken_percent: see `from_csv`.
            cache: folder of all caches.

        Raises:
            MissingDependencyError: pyarrow is not installed.
            DatasetError: it cannot be read, or holds no picture with an age.
        """
        return cls._own(
            Path(path), name, label, Reading(None, dict(columns or {}), None, max_broken_percent, Path(cache))
        )

    @classmethod
    def known(cls, name: str, folder: str | Path | None = None, *, label: str = "real") -> "Data":
        """Reads a data set that agetrain knows, in its own parts.

        Args:
            name: one of `agetrain.datasets.DATASETS`.
            folder: where it lies; None for ``$AGETRAIN_DATA/NAME``, then ``data/NAME``.
            label: ``real`` or ``apparent``.

        Raises:
            UsageError: there is no such data set or label.
            DatasetError: it is not there or not complete.
        """
        dataset, found = load_dataset(name, folder, label)
        return cls(dataset, found, found)

    @classmethod
    def _own(cls, place: Path, name: str, label: str | None, reading: Reading) -> "Data":
        dataset, folder = load_own(place, name, label, reading)
        return cls(dataset, folder, place, reading)

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.dataset.name

    @property
    def label(self) -> str:
        """``real`` or ``apparent``."""
        return self.dataset.label

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Pictures that are listed and cannot be used."""
        return self.dataset.problems

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures each part has."""
        return {part: len(samples) for part, samples in self.dataset.parts.items()}

    def part(self, name: str) -> tuple[Sample, ...]:
        """Returns the pictures of ``train``, ``valid`` or ``test``; empty where there is no such part.

        Raises:
            UsageError: it is none of these.
        """
        if name not in PARTS:
            raise UsageError(f"part {name!r}: use {', '.join(PARTS)}")
        return self.dataset.parts.get(name, ())

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __repr__(self) -> str:
        parts = ", ".join(f"{part} {n}" for part, n in self.counts.items())
        return (
            f"Data({self.name}, {self.label} age, {parts}{f', {len(self.problems)} problems' if self.problems else ''})"
        )

    def split(
        self, *, valid: float | None = None, test: float = 0.0, seed: int = 0, cache: str | Path | None = "cache"
    ) -> "Data":
        """Deals the pictures into parts anew, the same ages in each; see `agetrain.datasets.opening.dealt`.

        Args:
            valid: share of the pictures; None for a fifth, and at most 1,500 pictures.
            test: share of the pictures.
            seed: of the draw.
            cache: folder that keeps which pictures are copies; None keeps nothing.

        Raises:
            UsageError: the shares leave nothing to learn from.
            DatasetError: there are too few pictures.
        """
        folder = Path(cache) if cache is not None else None
        return replace(self, dataset=dealt(self.dataset, folder, valid=valid, test=test, seed=seed))

    def audit(self, *, duplicates: bool = True) -> dict[str, Any]:
        """Returns what the split really holds as JSON values, with what is wrong in words under ``findings``.

        Args:
            duplicates: whether to open the pictures, and look for the same photographs.
        """
        from agetrain.datasets.auditing import audit, parts_of_dataset

        return audit(parts_of_dataset(self.dataset), pictures=duplicates)

    @property
    def ages(self) -> dict[str, Counter[float]]:
        """How many pictures of each age every part has; of an interval, a year within it stands for it."""
        return {part: Counter(s.age_years for s in samples) for part, samples in self.dataset.parts.items()}


def opened(
    data: "str | Path | Data", label: str | None = None, *, split: Path | None = None, split_csv: Sequence[Path] = (),
    reading: Reading | None = None, problems: Path | None = None, deal: bool = True,
) -> tuple[Dataset, Path]:  # fmt: skip
    """Opens what names a data set, or takes the one that is open; see `agetrain.datasets.opening.open_dataset`.

    Raises:
        UsageError: `Data` is asked for another label or split than it has.
        DatasetError: it cannot be read.
    """
    if not isinstance(data, Data):
        return open_dataset(
            str(data), label, split=split, split_csv=split_csv, reading=reading, problems=problems, deal=deal
        )
    if split or split_csv:
        raise UsageError("Data is in parts already; give a split to its split method, or name the data set by its path")
    if label is not None and label != data.label:
        raise UsageError(
            f"{data.name} has {data.label} ages here, and {label} ages are asked for; open it with that label"
        )
    if deal and not data.dataset.split:
        data = data.split(cache=data.reading.cache)
    check_problems(data.dataset, data.reading.most_broken_percent, path=problems)
    return data.dataset, data.folder
