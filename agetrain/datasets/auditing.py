"""The audit of a split: what it really holds, before a figure on it is believed.

It works on lists alone; with the pictures it finds duplicates as well.
"""

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._files import replacing
from agetrain.datasets import Dataset
from agetrain.datasets.base import Problem
from agetrain.datasets.copies import find_copies
from agetrain.datasets.opening import open_dataset
from agetrain.datasets.own import Reading
from agetrain.datasets.parts import PARTS, overlap, read_csv
from agetrain.errors import OutputError, UsageError

# A part whose ages differ more than this from those of another is not of the same population.
_DISTANCE_YEARS = 2.0
_FEW_AGES_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of a split, as its list has it.

    Attributes:
        name: ``train``, ``valid``, ``test``.
        files: as listed.
        ages: float64 ``[n]``, true years.
        stored: float64 ``[n]``, the labels as they stand in the list; without one, the true years.
        subjects: who it is, None where the list does not tell.
        paths: of the pictures, empty without them.
        dataset: name of the data set; empty where a list was read alone.
    """

    name: str
    files: tuple[str, ...]
    ages: np.ndarray
    stored: np.ndarray
    subjects: tuple[str | None, ...]
    paths: tuple[Path, ...] = ()
    dataset: str = ""


def open_parts(
    text: str, *, lists: Mapping[str, Path] | None = None, split: Path | None = None, folder: Path | None = None,
    reading: Reading | None = None, problems: Path | None = None,
) -> list[Part]:  # fmt: skip
    """Opens the parts of a split.

    Args:
        text: names the data set, see `agetrain.datasets.opening.open_dataset`.
        lists: original lists by the part that they hold; without ``folder`` they are read alone, without any picture.
        split: a split file instead of lists.
        folder: of a known data set.
        reading: how own data is read.
        problems: where to list pictures that cannot be used, if there are too many of them.

    Raises:
        UsageError: the arguments do not fit together.
        DatasetError: a list or the data set cannot be read.
    """
    if lists and split:
        raise UsageError("give one of --csv and --split")
    if lists and folder is None:
        parts = [_of_list(name, path, text) for name, path in lists.items()]
        return sorted(parts, key=lambda part: PARTS.index(part.name))
    if lists and not {"train", "valid"} <= set(lists):
        raise UsageError("--csv together with --data needs the lists train and valid")
    in_order = [lists[name] for name in PARTS if name in lists] if lists else []
    named = text if folder is None else f"{text}={folder}"
    dataset, _ = open_dataset(named, split=split, split_csv=in_order, reading=reading, problems=problems)
    # Labels of the data set itself, and of split files, are true years already.
    return parts_of_dataset(dataset, dataset.label_offset if lists else 0.0)


def _of_list(name: str, path: Path, dataset: str) -> Part:
    rows = read_csv(path, dataset)
    return Part(
        name, tuple(r.file for r in rows), np.array([r.age_years for r in rows]),
        np.array([r.stored_age for r in rows]), tuple(r.subject for r in rows),
    )  # fmt: skip


def parts_of_dataset(dataset: Dataset, offset: float = 0.0) -> list[Part]:
    """Returns the parts of a data set, those without pictures left out.

    Args:
        dataset: as it was opened.
        offset: years that its lists store less than the age.
    """
    return [
        Part(
            name, tuple(str(s.path) for s in samples), np.array([s.age_years for s in samples]),
            np.array([s.age_years - offset for s in samples]), tuple(s.subject for s in samples),
            tuple(s.path for s in samples), dataset.name,
        )
        for name, samples in dataset.parts.items()
        if samples
    ]  # fmt: skip


def audit(parts: Sequence[Part], *, looked: "Looked | None" = None, pictures: bool = True) -> dict[str, Any]:
    """Audits a split; returns JSON values, with what is wrong in words under the key ``findings``.

    Args:
        parts: of one data set.
        looked: what was found in its pictures; None to open them.
        pictures: whether to open the pictures, where there are any.
    """
    by_name = {part.name: part for part in parts}
    train = by_name.get("train")
    described = {}
    for part in parts:
        own = float(np.median(part.ages))
        described[part.name] = {
            "n": len(part.ages),
            "ages": {f"{age:g}": n for age, n in sorted(Counter(part.ages.tolist()).items())},
            "youngest": float(part.ages.min()),
            "oldest": float(part.ages.max()),
            "own_median": own,
            "stored_labels_from": float(part.stored.min()),
            "subjects": len({s for s in part.subjects if s is not None}),
            "constant_mae_own_median": round(float(np.abs(part.ages - own).mean()), 4),
            "constant_mae_other_medians": {
                other.name: round(float(np.abs(part.ages - np.median(other.ages)).mean()), 4)
                for other in parts
                if other is not part
            },
            "repeated_files": len(part.files) - len(set(part.files)),
        }
    figures: dict[str, Any] = {
        "parts": described,
        "age_distance_years": {
            f"{a.name} to {b.name}": round(wasserstein(a.ages, b.ages), 4) for a, b in _pairs(parts)
        },
        "subject_overlap": {
            f"{b} in {a}": {"shared": n, "of": total}
            for (a, b), (n, total) in overlap({part.name: part.subjects for part in parts}).items()
        },
        "pictures_listed_in_two_parts": {
            f"{a.name} and {b.name}": len(set(a.files) & set(b.files))
            for a, b in _pairs(parts)
            if set(a.files) & set(b.files)
        },
    }
    told = {part.name: sum(s is not None for s in part.subjects) for part in parts}
    figures["pictures_without_person"] = {name: len(by_name[name].ages) - n for name, n in told.items()}
    if looked is None and pictures and all(part.paths for part in parts):
        looked = look_at(parts)
    if looked is not None:
        figures["copies"] = counted(looked.pairs)
        figures["broken"] = [problem.reason for problem in looked.broken]
    figures["findings"] = findings(figures, has_train=train is not None)
    return figures


def _pairs(parts: Sequence[Part]) -> list[tuple[Part, Part]]:
    return [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the first Wasserstein distance: how many years ages must be moved on average to become the others.

    Example:
        >>> wasserstein(np.array([20.0, 30.0]), np.array([25.0, 35.0]))
        5.0
    """
    years = np.sort(np.concatenate([a, b]))
    below_a, below_b = (np.searchsorted(np.sort(v), years[:-1], side="right") / len(v) for v in (a, b))
    return float((np.abs(below_a - below_b) * np.diff(years)).sum())


def findings(figures: Mapping[str, Any], *, has_train: bool) -> list[str]:
    """Lists what makes figures on this split worth less than they seem, a sentence each."""
    found = []
    parts = figures["parts"]
    most = max(len(p["ages"]) for p in parts.values())
    for name, p in parts.items():
        if len(p["ages"]) < _FEW_AGES_SHARE * most or len(p["ages"]) < 5:
            ages = list(p["ages"])
            listed = ", ".join(ages[:8]) + (", ..." if len(ages) > 8 else "")
            found.append(
                f"{name} holds {len(ages)} different ages only ({listed}), another part has {most}: an error on it "
                "says little about the data set"
            )
    for pair, years in figures["age_distance_years"].items():
        if years > _DISTANCE_YEARS:
            found.append(
                f"the ages of {pair.replace(' to ', ' and ')} are {years:.2f} years apart: errors on them cannot be "
                "compared"
            )
    for name, p in parts.items():
        for other, mae in p["constant_mae_other_medians"].items():
            if mae > 1.5 * p["constant_mae_own_median"] + 0.5:
                median = parts[other]["own_median"]
                found.append(
                    f"always answering {other}'s median ({median:g}) has a MAE of {mae:.2f} on {name}, where its own "
                    f"median ({p['own_median']:g}) has {p['constant_mae_own_median']:.2f}"
                )
    for pair, shared in figures["subject_overlap"].items():
        part, _, first = pair.partition(" in ")
        found.append(
            f"{shared['shared']} of {shared['of']} persons of {part} "
            f"({100 * shared['shared'] / shared['of']:.1f} %) are in {first} too: a network can know them by sight"
        )
    for pair, n in figures["pictures_listed_in_two_parts"].items():
        found.append(f"{n} pictures are listed in {pair}")
    for name, p in parts.items():
        if p["repeated_files"]:
            found.append(f"{name} lists {p['repeated_files']} pictures more than once")
    for place, c in figures.get("copies", {}).items():
        apart = f", {c['other_label']} of them with labels that differ" if c["other_label"] else ""
        found.append(
            f"{c['pairs']} pairs of pictures in {place} show the same photograph ({c['pictures']} pictures){apart}"
            + ("; a network can know them by sight" if " and " in place else "")
        )
    if figures.get("broken"):
        found.append(f"{len(figures['broken'])} pictures cannot be read: {'; '.join(figures['broken'][:3])}")
    unknown = {name: n for name, n in figures["pictures_without_person"].items() if n}
    if len(parts) > 1 and unknown:
        listed = ", ".join(f"{n} of {name}" for name, n in unknown.items())
        found.append(f"who is on pictures is not told ({listed}): persons may be in several parts")
    offsets = {p["youngest"] - p["stored_labels_from"] for p in parts.values()}
    if offsets != {0.0}:
        found.append(
            f"the lists store the age less {max(offsets):g} years: a network that learns them as they stand answers "
            "that much too young"
        )
    if not has_train:
        found.append("no train list was given: nothing can be said about what is shared with it")
    return found


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that show the same photograph.

    Attributes:
        score: see `agetrain.datasets.copies.Copy`.
        mirrored: one is the mirror image of the other.
        first, second: their files.
        first_age, second_age: their labels in years.
        first_place, second_place: data set and part of each.
    """

    score: float
    mirrored: bool
    first: str
    first_age: float
    first_place: tuple[str, str]
    second: str
    second_age: float
    second_place: tuple[str, str]

    @property
    def place(self) -> str:
        """Where they are, in words: ``train alone``, ``train and valid``, or parts of two data sets."""
        a, b = self.first_place, self.second_place
        if a == b:
            return f"{a[1]} alone"
        if a[0] == b[0]:
            return " and ".join(sorted((a[1], b[1]), key=PARTS.index))
        return " and ".join(sorted((f"{a[0]} {a[1]}", f"{b[0]} {b[1]}")))


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in the pictures of parts.

    Attributes:
        pairs: of the same photograph, the surest first.
        broken: pictures that cannot be read.
    """

    pairs: tuple[Pair, ...]
    broken: tuple[Problem, ...]

    def of(self, dataset: str, files: Collection[str]) -> "Looked":
        """Returns what is within one data set, and broken among these files."""
        pairs = tuple(p for p in self.pairs if p.first_place[0] == p.second_place[0] == dataset)
        return Looked(pairs, tuple(problem for problem in self.broken if problem.file in files))

    @property
    def across(self) -> list[Pair]:
        """The pairs of pictures from two data sets."""
        return [pair for pair in self.pairs if pair.first_place[0] != pair.second_place[0]]


def look_at(parts: Sequence[Part], cache: Path | None = None) -> Looked:
    """Opens all pictures, and finds the same photographs within and across parts, of one or of several data sets.

    Args:
        parts: with pictures.
        cache: folder that keeps the result.
    """
    listed = [
        (path, age, (part.dataset, part.name))
        for part in parts
        for path, age in zip(part.paths, part.ages.tolist(), strict=True)
    ]
    found = find_copies([path for path, _, _ in listed], cache)
    pairs = []
    for copy in found.pairs:
        (a, age_a, place_a), (b, age_b, place_b) = listed[copy.first], listed[copy.second]
        pairs.append(Pair(copy.score, copy.mirrored, str(a), age_a, place_a, str(b), age_b, place_b))
    broken = [Problem(str(listed[i][0]), "broken", reason) for i, reason in sorted(found.unreadable.items())]
    return Looked(tuple(sorted(pairs, key=lambda p: (-p.score, p.first, p.second))), tuple(broken))


def counted(pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    """Counts pairs by where they are: ``pairs``, ``pictures`` in them, and pairs whose labels are not the same."""
    figures: dict[str, dict[str, int]] = {}
    for place in sorted({pair.place for pair in pairs}):
        of = [pair for pair in pairs if pair.place == place]
        figures[place] = {
            "pairs": len(of),
            "pictures": len({file for pair in of for file in (pair.first, pair.second)}),
            "other_label": sum(pair.first_age != pair.second_age for pair in of),
        }
    return figures


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Writes pairs as a CSV with scores, files, labels and parts, the surest first.

    Raises:
        OutputError: it cannot be written.
    """
    columns = ("score", "mirrored", "first", "first_age", "first_dataset", "first_part", "second", "second_age",
               "second_dataset", "second_part")  # fmt: skip
    try:
        with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            for p in pairs:
                first = (p.first, f"{p.first_age:g}", *p.first_place)
                second = (p.second, f"{p.second_age:g}", *p.second_place)
                writer.writerow((p.score, "yes" if p.mirrored else "no", *first, *second))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error
