"""Opens data sets as the command lines and the library name them: those that agetrain knows, and anybody's own."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agetrain.datasets import DATASETS, Dataset, load_dataset
from agetrain.datasets.base import Problem, samples_of
from agetrain.datasets.copies import find_copies
from agetrain.datasets.dealing import grouped
from agetrain.datasets.own import Reading, load_own
from agetrain.datasets.own.reading import plain_name
from agetrain.datasets.parts import with_csvs, with_split_file
from agetrain.datasets.problems import check_problems
from agetrain.errors import DatasetError, UsageError

VALID_SHARE, MOST_VALID_PICTURES = 0.2, 1500  # of own data whose list names no parts
_SAME_LABEL_YEARS = 2.0


def named(text: str) -> tuple[str, Path | None]:
    """Splits what names a data set into its name and its place.

    Args:
        text: ``NAME`` of a known data set, ``NAME=PATH``, or ``PATH`` of somebody's own.

    Returns:
        The name, empty where only a path was given, and the path, None where only a name was given.

    Raises:
        UsageError: it is neither the name of a known data set nor a path that is there.
    """
    name, equals, place = text.partition("=")
    if name in DATASETS:
        return name, Path(place) if place else None
    if os.path.exists(text):  # noqa: PTH110, Path raises for long names; a path may hold an equals sign
        return "", Path(text)
    if equals and name and place and "/" not in name:
        return name, Path(place)
    raise UsageError(
        f"--dataset {text}: neither a data set that agetrain knows ({', '.join(DATASETS)}) nor a folder, list or "
        "Parquet file that is there; name your own as PATH or NAME=PATH"
    )


def name_of(text: str) -> str:
    """Returns the name of a data set without opening it; own data may call itself something else.

    Raises:
        UsageError: see `named`.
    """
    name, place = named(text)
    return name or (plain_name(place) if place else "")


def open_dataset(
    text: str, label: str | None = None, *, split: Path | None = None, split_csv: Sequence[Path] = (),
    reading: Reading | None = None, problems: Path | None = None, deal: bool = True,
) -> tuple[Dataset, Path]:  # fmt: skip
    """Opens a data set in its own parts, or in those of a split file or of original lists.

    Pictures are only opened to deal somebody's own into parts, where neither the list nor a split file does.

    Args:
        text: ``NAME``, ``NAME=PATH`` or ``PATH``, see `named`.
        label: ``real`` or ``apparent`` age; None for real age, and for own data what it says itself.
        split: a split file of ``python -m agetrain.splits``.
        split_csv: the lists of the original work: train, valid and, optionally, test.
        reading: how own data is read; None for the usual.
        problems: where to list pictures that cannot be used, if there are too many of them.
        deal: whether own data that is in no parts is dealt into some; else all of it is train, and ``split`` is empty.

    Returns:
        The data set, and its folder.

    Raises:
        UsageError: the name or the label is unknown, or both a split file and lists are given.
        DatasetError: the data set or the split cannot be read, or too many of its pictures cannot be used.
    """
    if split and split_csv:
        raise UsageError("give one of --split and --split-csv")
    reading = reading or Reading()
    name, place = named(text)
    if name in DATASETS:
        if reading.labels or reading.columns or reading.name_pattern:
            raise UsageError(
                f"--dataset {name}: agetrain knows its lists; leave out --labels, --columns and --name-pattern, or "
                "name the folder as your own data, as mine=PATH"
            )
        dataset, folder = load_dataset(name, place, label or "real")
    else:
        dataset, folder = load_own(place or Path(text), name, label, reading)
        if dataset.name in DATASETS:  # figures on it are not figures on the known set
            dataset = replace(dataset, name=f"{dataset.name}-own")
    if split_csv:
        dataset = with_csvs(dataset, split_csv)
    elif split:
        dataset = with_split_file(dataset, split, folder)
    elif deal and not dataset.split:
        dataset = dealt(dataset, reading.cache)
    check_problems(dataset, reading.most_broken_percent, path=problems)
    return dataset, folder


def dealt(
    dataset: Dataset, cache: Path | None, *, valid: float | None = None, test: float = 0.0, seed: int = 0
) -> Dataset:  # fmt: skip
    """Deals the pictures of a data set into parts, the same ages in each.

    All pictures of a person are in one part. Where persons are not told, pictures of one photograph are, and persons
    may be in several parts.

    Args:
        dataset: all of whose pictures are dealt anew.
        cache: folder that keeps which pictures are copies.
        valid: share of the pictures; None for a fifth, and at most 1,500 pictures.
        test: share of the pictures.
        seed: of the draw.

    Raises:
        UsageError: the shares leave nothing to learn from.
        DatasetError: there are fewer than two groups of pictures.
    """
    samples = samples_of(dataset)
    problems = list(dataset.problems)
    if all(sample.subject is not None for sample in samples):
        groups = [str(sample.subject) for sample in samples]
        how = f"a person in one part, seed {seed}"
    else:
        copies = find_copies([s.path for s in samples], cache, f"{dataset.name}: looking for copies")
        leaders = copies.groups(len(samples))
        problems += [Problem(str(samples[i].path), "broken", reason) for i, reason in sorted(copies.unreadable.items())]
        # A person that is told counts as well.
        groups = [
            f"person {s.subject}" if s.subject else f"photograph {leader}"
            for s, leader in zip(samples, leaders, strict=True)
        ]
        groups = _joined(groups, leaders)
        kept = [i for i in range(len(samples)) if i not in copies.unreadable]
        samples, groups = [samples[i] for i in kept], [groups[i] for i in kept]
        how = f"a photograph in one part, persons may be in several, seed {seed}"
    if valid is None:
        valid = min(VALID_SHARE, MOST_VALID_PICTURES / max(1, len(samples)))
    if not 0 < valid + test < 1 or valid <= 0 or test < 0:
        raise UsageError(f"shares of {valid:g} for valid and {test:g} for test leave nothing to learn from; use less")
    parts = grouped(samples, groups, [1 - valid - test, valid, *([test] if test else [])], seed)
    if len(parts) < 2:
        raise DatasetError(
            f"{dataset.name}: cannot be dealt into parts: {len(samples)} pictures of {len(set(groups))} "
            f"{'person' if 'person' in how and 'photograph' not in how else 'photograph'}; take more, or give --split"
        )
    return replace(dataset, parts=parts, split=f"by age, {how}", problems=tuple(problems))


def without_duplicates(dataset: Dataset, cache: Path | None) -> Dataset:
    """Leaves out pictures of a photograph that is there already; they become problems of the kind ``copy``.

    Of the pictures of one photograph the first one stays, in the order of the parts; none where their labels lie more
    than 2 years apart, since nobody knows which is right.

    Args:
        dataset: in any parts, or in none.
        cache: folder that keeps which pictures are copies.
    """
    samples = samples_of(dataset)
    copies = find_copies([s.path for s in samples], cache, f"{dataset.name}: looking for copies")
    leaders = copies.groups(len(samples))
    ages: dict[int, list[float]] = {}
    for leader, sample in zip(leaders, samples, strict=True):
        ages.setdefault(leader, []).append(sample.age_years)
    dropped: dict[Path, Problem] = {}
    for i, (leader, sample) in enumerate(zip(leaders, samples, strict=True)):
        apart = max(ages[leader]) - min(ages[leader])
        if apart > _SAME_LABEL_YEARS:
            reason = f"a photograph whose labels lie {apart:g} years apart"
        elif i != leader:
            reason = f"the same photograph as {samples[leader].path}"
        else:
            continue
        dropped[sample.path] = Problem(str(sample.path), "copy", reason)
    parts = {part: tuple(s for s in of if s.path not in dropped) for part, of in dataset.parts.items()}
    return replace(dataset, parts=parts, problems=(*dataset.problems, *dropped.values()))


def _joined(groups: list[str], leaders: list[int]) -> list[str]:
    """Joins the groups of pictures that are the same photograph: who is told for one of them is told for all."""
    of_photograph: dict[int, str] = {}
    return [of_photograph.setdefault(leader, group) for group, leader in zip(groups, leaders, strict=True)]
