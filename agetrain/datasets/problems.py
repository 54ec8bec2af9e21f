"""Pictures that cannot be used: named, counted, and refused where they are too many."""

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from agetrain._files import replacing
from agetrain.datasets.base import Dataset, Problem
from agetrain.errors import DatasetError, OutputError

LIST = "problems.csv"
MOST_BROKEN_PERCENT = 1.0  # unless told otherwise
_NAMED = 3  # problems that one message names

log = logging.getLogger(__name__)


def in_words(problems: Sequence[Problem]) -> str:
    """Names the first problems in one line."""
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return "; ".join(p.reason if p.file in p.reason else f"{p.file}: {p.reason}" for p in problems[:_NAMED]) + more


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Writes a list of problems, with the columns file, kind and reason; an older list goes where there are none.

    Raises:
        OutputError: it cannot be written.
    """
    rows = [(p.file, p.kind, p.reason) for p in problems]
    try:
        if not rows:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([("file", "kind", "reason"), *rows])
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another folder") from error


def check_problems(
    dataset: Dataset, most_percent: float | None, more: Sequence[Problem] = (), path: Path | None = None
) -> None:
    """Refuses data of which too many pictures cannot be used, and says how many others are left out.

    Of a known data set pictures without a face do not count: its figures tell how many there are.

    Args:
        dataset: as it was opened.
        most_percent: of the pictures that may be left out; None for 1 %.
        more: problems that were found since then, in its pictures.
        path: of a list of all problems, written where the data is refused.

    Raises:
        DatasetError: there are too many.
        OutputError: the list cannot be written.
    """
    own = dataset.listed > 0
    problems = [p for p in (*dataset.problems, *more) if own or p.kind != "no face"]
    if not problems:
        return
    listed = dataset.listed or sum(map(len, dataset.parts.values()))
    most = MOST_BROKEN_PERCENT if most_percent is None else most_percent
    percent = 100 * len(problems) / max(1, listed)
    counts = f"{len(problems)} of {listed} pictures cannot be used ({percent:.3g} %)"
    if percent <= most:
        log.warning("%s: %s and are left out: %s", dataset.name, counts, in_words(problems))
        return
    if path is not None:
        write_problems(path, problems)
    place = f"; {path} names all" if path is not None else ""
    raise DatasetError(f"{dataset.name}: {counts}, and --max-broken allows {most:g}%: {in_words(problems)}{place}")
