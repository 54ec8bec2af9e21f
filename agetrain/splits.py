"""Splits: which picture is in which part. They are files with a hash; ``python -m agetrain.splits`` makes them.

A split file is a CSV with the columns ``part`` and ``file`` (the picture's path in the data set's folder), and for the
reader ``age_years`` and ``subject``. The lists of the original work are read as they are (`read_csv`).
"""

import argparse
import csv
import hashlib
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._files import replacing
from agetrain.datasets import DATASETS, Dataset, Sample, afad, cacd, load_dataset, module_of
from agetrain.errors import DatasetError, UsageError

PARTS = ("train", "valid", "test")
KINDS = ("default", "random", "identity", "rank")

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
    """Reads a list of the original work, or one of APPA-REAL: no picture is needed for it.

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
        with path.open(newline="") as stream:
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
    """The data set in the parts of original lists: train, valid and if given test, with the labels that they give.

    What they name is used, bad pictures too; what they do not name is not.

    Raises:
        UsageError: there are not two or three lists.
        DatasetError: a list cannot be read, or names a picture that is not there.
    """
    if not 2 <= len(files) <= 3:
        raise UsageError("--split-csv takes two or three lists: train, valid and if you like test")
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


def _all(dataset: Dataset) -> list[Sample]:
    return [s for part in dataset.parts.values() for s in part]


def _listed(dataset: Dataset) -> list[Sample]:
    """All that a list may name: the owners' own lists hold the bad pictures as well."""
    return [*_all(dataset), *dataset.ignored]


def write_split(path: Path, dataset: Dataset, folder: Path) -> str:
    """Writes a split file; returns its SHA-256.

    Raises:
        DatasetError: it cannot be written.
    """
    try:
        with replacing(path) as unfinished, unfinished.open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("part", "file", "age_years", "subject"))
            for part, samples in dataset.parts.items():
                for s in sorted(samples, key=lambda s: str(s.path)):
                    file = s.path.relative_to(folder).as_posix()
                    writer.writerow((part, file, f"{s.age_years:g}", s.subject or ""))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_split_file(dataset: Dataset, path: Path) -> Dataset:
    """The data set in the parts of a split file; pictures that it does not name are left out, bad ones included.

    Raises:
        DatasetError: it cannot be read, or names a picture that is not there, or one twice.
    """
    known = _by_name(dataset)
    for sample in _listed(dataset):
        known["/".join(sample.path.parts[-2:])] = sample
    parts: dict[str, list[Sample]] = defaultdict(list)
    named: set[Path] = set()
    try:
        data = path.read_bytes()
        for row in csv.DictReader(data.decode().splitlines()):
            part, file = row["part"], row["file"]
            if file is None:
                raise DatasetError(f"{path}: a line names no file; make one with python -m agetrain.splits")
            if part not in PARTS:
                raise DatasetError(f"{path}: part {part!r}: use {', '.join(PARTS)}")
            candidates = ("/".join(Path(file).parts[-n:]) for n in (3, 2, 1))
            found = next((known[c] for c in candidates if c in known), None)
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
    """Which parts share subjects.

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
        log.warning("%s: persons in more than one part (%s): figures on them are too good", dataset.name, figures)
        return
    raise DatasetError(
        f"{dataset.name}: persons in more than one part ({figures}), so figures would be too good; make an "
        f"identity-exclusive split (python -m agetrain.splits {dataset.name} --kind identity) or give --allow-overlap"
    )


def stratified(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> dict[str, tuple[Sample, ...]]:
    """Deals pictures at random so that every part has the same ages; persons may be in several parts.

    Args:
        samples: all of them.
        shares: of train, valid and test.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    by_age: dict[float, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        by_age[sample.age_years].append(i)
    # Ages in order, pictures of an age shuffled: then every run of this list has all ages in their shares.
    order = np.concatenate([random.permutation(by_age[age]) for age in sorted(by_age)])
    points = (np.arange(len(order)) + random.random()) * 0.6180339887498949 % 1  # evenly spread along the order
    bounds = np.cumsum(np.array(shares) / np.sum(shares))
    chosen = np.searchsorted(bounds, points, side="right").clip(max=len(shares) - 1)
    sides: dict[str, list[Sample]] = {part: [] for part in PARTS[: len(shares)]}
    for i, side in zip(order.tolist(), chosen.tolist(), strict=True):
        sides[PARTS[side]].append(samples[i])
    return {part: tuple(side) for part, side in sides.items() if side}


def identity_exclusive(samples: Sequence[Sample], shares: Sequence[float], seed: int) -> dict[str, tuple[Sample, ...]]:
    """Deals whole subjects at random.

    Raises:
        UsageError: the data set does not tell who is who.
    """
    if any(s.subject is None for s in samples):
        raise UsageError("--kind identity: this data set does not tell who is who; use default or random")
    subjects = sorted({str(s.subject) for s in samples})
    bounds = np.cumsum(np.array(shares) / np.sum(shares))
    points = np.random.default_rng(seed).random(len(subjects))
    side_of = dict(zip(subjects, np.searchsorted(bounds, points, side="right").clip(max=len(shares) - 1), strict=True))
    sides: dict[str, list[Sample]] = {part: [] for part in PARTS[: len(shares)]}
    for sample in samples:
        sides[PARTS[int(side_of[str(sample.subject)])]].append(sample)
    return {part: tuple(side) for part, side in sides.items() if side}


def make(dataset: Dataset, kind: str, *, rotation: int, shares: Sequence[float], seed: int, folder: Path) -> Dataset:
    """A data set in other parts.

    Args:
        dataset: as it was loaded.
        kind: one of `KINDS`.
        rotation: of AFAD's identity-exclusive split, 0 to 4.
        shares: of train, valid and test.
        seed: of the draw.
        folder: of the data set, for CACD's metadata.

    Raises:
        UsageError: the data set has no such split.
    """
    samples = _all(dataset)
    if kind == "default":
        return dataset
    if kind == "random":
        return replace(
            dataset, parts=stratified(samples, shares, seed), split=f"random, stratified by age, seed {seed}"
        )
    if kind == "rank":
        if dataset.name != cacd.NAME:
            raise UsageError("--kind rank is a split of cacd")
        ranks = cacd.read_ranks(
            next((p for p in (folder, folder.parent) if (p / cacd.METADATA).is_file()), folder) / cacd.METADATA
        )
        return replace(dataset, parts=cacd.parts_by_rank(samples, ranks), split="identity-exclusive by celebrity rank")
    if dataset.name == afad.NAME:
        if not 0 <= rotation < afad.ROTATIONS:
            raise UsageError(f"--rotation {rotation}: use 0 to {afad.ROTATIONS - 1}")
        name = f"identity-exclusive, rotation {rotation} of {afad.ROTATIONS}"
        return replace(dataset, parts=afad.parts_of_rotation(samples, rotation), split=name)
    parts = identity_exclusive(samples, shares, seed)
    return replace(dataset, parts=parts, split=f"identity-exclusive, seed {seed}")


def build_parser() -> argparse.ArgumentParser:
    """The options of ``python -m agetrain.splits``."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.splits", description="Make a split file of a data set.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("--data", type=Path, metavar="DIR", help="its folder (else $AGETRAIN_DATA/NAME, data/NAME)")
    parser.add_argument("--kind", choices=KINDS, default="default", help="default: the official or the data set's own")
    parser.add_argument("--rotation", type=int, default=0, help="of afad's identity split, 0 to 4")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8, 0.1, 0.1], help="train, valid, test")
    parser.add_argument("--seed", type=int, default=0, help="of random and identity")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the split file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> None:
    """Makes the split file that the options describe.

    Raises:
        AgeError: the options do not fit together, or the data set does not have what they need.
    """
    if not 2 <= len(options.shares) <= 3 or min(options.shares) <= 0:
        raise UsageError("--shares takes two or three numbers above 0")
    dataset, folder = load_dataset(options.dataset, options.data)
    dataset = make(
        dataset, options.kind, rotation=options.rotation, shares=options.shares, seed=options.seed, folder=folder
    )
    digest = write_split(options.output, dataset, folder)
    counts = ", ".join(f"{part} {len(samples)}" for part, samples in dataset.parts.items())
    print(f"{options.output}: {dataset.split}; {counts}; SHA-256 {digest}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded("agetrain.splits", lambda: run(options), debug=options.debug, level=logging.INFO, extra="train")


if __name__ == "__main__":
    sys.exit(main())
