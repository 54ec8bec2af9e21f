"""An evaluation picture by picture: a row for each, as CSV or Parquet."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agetrain._files import replacing
from agetrain.datasets import Sample
from agetrain.errors import MissingDependencyError, OutputError
from agetrain.evaluation.figures import Answers

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """What a model answered to one picture.

    Attributes:
        model, dataset, part: which.
        file: the picture's path.
        subject: who it is; empty where that is not told.
        age_years: the label; None where it is an interval.
        low_years, high_years: the interval; None where the label is exact.
        answer_years: of the model; the training median where no face was found.
        std_years: the model's deviation; None where no face was found.
        error_years: answer minus label; of an interval, how far the answer lies from it.
        found: a face was found.
        groups: what else is known of the picture.
        view: how the face is seen, see `agetrain.evaluation.figures.VIEW`; empty where nobody has looked.
    """

    model: str
    dataset: str
    part: str
    file: str
    subject: str
    age_years: float | None
    low_years: float | None
    high_years: float | None
    answer_years: float
    std_years: float | None
    error_years: float
    found: bool
    groups: tuple[tuple[str, str], ...]
    view: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What a picture is known by among the rows of several models."""
        return self.dataset, self.part, self.file

    @property
    def exact(self) -> bool:
        """Whether the label is an exact age."""
        return self.age_years is not None

    def to_dict(self) -> dict[str, Any]:
        """Returns the row as plain values by column; a group is a column of its own."""
        own = {name: getattr(self, name) for name in self.__slots__ if name not in ("groups", "view")}
        own |= {f"face_{name}": value for name, value in self.view}
        return {**own, **{(name if name not in own else f"{name}_group"): value for name, value in self.groups}}


def rows_of(model: str, dataset: str, part: str, samples: Sequence[Sample], answers: Answers) -> Iterator[Row]:
    """Yields a row for each picture, in the order of the samples."""
    columns = (answers.answers, answers.stds, answers.errors, answers.found)
    for i, (sample, answer, std, error, found) in enumerate(zip(samples, *(c.tolist() for c in columns), strict=True)):
        view = tuple((name, round(float(values[i]), 4)) for name, values in answers.views.items())
        low, high = sample.interval_years or (None, None)
        yield Row(
            model, dataset, part, sample.path.as_posix(), sample.subject or "",
            sample.age_years if sample.interval_years is None else None, low, high, round(answer, 4),
            None if math.isnan(std) else round(std, 4), round(error, 4), found, sample.attributes,
            view if found else (),
        )  # fmt: skip


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as a table, by the suffix of the path: ``.csv`` or ``.parquet``.

    Raises:
        MissingDependencyError: Parquet is asked for and pyarrow is not installed.
        OutputError: it cannot be written.
    """
    values = [row.to_dict() for row in rows]
    columns = list(dict.fromkeys(name for row in values for name in row))
    try:
        if path.suffix == ".parquet":
            _write_parquet(path, columns, values)
            return
        with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(values)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error


def _write_parquet(path: Path, columns: Sequence[str], values: Sequence[dict[str, Any]]) -> None:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: Parquet is written with pyarrow: pip install 'ageinfer[train]'"
        ) from error
    table = arrow.table({name: [row.get(name) for row in values] for name in columns})
    with replacing(path) as unfinished:
        parquet.write_table(table, unfinished)
