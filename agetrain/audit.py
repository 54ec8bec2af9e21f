"""``python -m agetrain.audit DATASET --csv FILE ...``: what a split really holds, before a figure on it is believed.

Works on lists alone; with the pictures (``--data``) it finds duplicates as well.
"""

import argparse
import hashlib
import logging
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._files import replacing, write_json, write_text
from agetrain._progress import progress
from agetrain.datasets import DATASETS, load_dataset
from agetrain.errors import DatasetError, MissingDependencyError, UsageError
from agetrain.splits import PARTS, overlap, read_csv, with_csvs, with_split_file

# A part whose ages differ more than this from those of another is not of the same population.
_DISTANCE_YEARS = 2.0
_FEW_AGES_SHARE = 0.5
# Perceptual hashes of 64 bits: real copies differ in at most this many.
_HASH_BITS = 3


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
    """

    name: str
    files: tuple[str, ...]
    ages: np.ndarray
    stored: np.ndarray
    subjects: tuple[str | None, ...]
    paths: tuple[Path, ...] = ()


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.audit", description="Say what a split really holds.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument(
        "--csv", type=Path, nargs="+", metavar="[PART=]FILE",
        help="lists of the original work; the part is taken from the name (train, valid, test) if it is not given",
    )  # fmt: skip
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the pictures: duplicates are looked for too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write audit.json, audit.md and audit.png there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parts_of(options: argparse.Namespace) -> list[Part]:
    """The parts that the command line names.

    Raises:
        UsageError: options do not fit together.
        DatasetError: a list or the data set cannot be read.
    """
    if options.csv and options.data is None:
        named = [_named(str(argument)) for argument in options.csv]
        if len({name for name, _ in named}) < len(named):
            raise UsageError("--csv: two lists for one part; write --csv train=FILE valid=FILE test=FILE")
        parts = []
        for name, path in named:
            rows = read_csv(path, options.dataset)
            parts.append(
                Part(
                    name, tuple(r.file for r in rows), np.array([r.age_years for r in rows]),
                    np.array([r.stored_age for r in rows]), tuple(r.subject for r in rows),
                )
            )  # fmt: skip
        return sorted(parts, key=lambda part: PARTS.index(part.name))
    dataset, _ = load_dataset(options.dataset, options.data)
    if options.csv:
        lists = dict(_named(str(argument)) for argument in options.csv)
        if not {"train", "valid"} <= set(lists):
            raise UsageError("--csv together with --data needs the lists train and valid")
        dataset = with_csvs(dataset, [lists[name] for name in PARTS if name in lists])
    elif options.split:
        dataset = with_split_file(dataset, options.split)
    # Labels of the data set itself, and of split files, are true years already.
    offset = dataset.label_offset if options.csv else 0.0
    return [
        Part(
            name, tuple(s.path.name for s in samples), np.array([s.age_years for s in samples]),
            np.array([s.age_years - offset for s in samples]), tuple(s.subject for s in samples),
            tuple(s.path for s in samples),
        )
        for name, samples in dataset.parts.items()
        if samples
    ]  # fmt: skip


def _named(argument: str) -> tuple[str, Path]:
    part, equals, path = argument.partition("=")
    if equals and part in PARTS:
        return part, Path(path)
    found = [name for name in PARTS if re.search(rf"(^|[^a-z]){name}([^a-z]|$)", Path(argument).name.lower())]
    if len(found) != 1:
        raise UsageError(f"--csv {argument}: which part is it? Write train={argument}, valid=... or test=...")
    return found[0], Path(argument)


def audit(parts: Sequence[Part]) -> dict[str, Any]:
    """All that can be said of a split, as JSON values; the key ``findings`` holds what is wrong with it in words."""
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
    if all(part.paths for part in parts):
        figures["duplicates"] = duplicates(parts)
    figures["findings"] = findings(figures, has_train=train is not None)
    return figures


def _pairs(parts: Sequence[Part]) -> list[tuple[Part, Part]]:
    return [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """How many years the ages of one part must be moved on average to become those of the other (first Wasserstein).

    Example:
        >>> wasserstein(np.array([20.0, 30.0]), np.array([25.0, 35.0]))
        5.0
    """
    years = np.sort(np.concatenate([a, b]))
    below_a, below_b = (np.searchsorted(np.sort(v), years[:-1], side="right") / len(v) for v in (a, b))
    return float((np.abs(below_a - below_b) * np.diff(years)).sum())


def findings(figures: Mapping[str, Any], *, has_train: bool) -> list[str]:
    """What makes figures on this split worth less than they seem, a sentence each."""
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
    for kind, text in (("same_bytes", "files of the same bytes"), ("alike", "pictures that look alike")):
        for pair, n in figures.get("duplicates", {}).get(kind, {}).items():
            found.append(f"{n} {text} in {pair}")
    offsets = {p["youngest"] - p["stored_labels_from"] for p in parts.values()}
    if offsets != {0.0}:
        found.append(
            f"the lists store the age less {max(offsets):g} years: a network that learns them as they stand answers "
            "that much too young"
        )
    if not has_train:
        found.append("no train list was given: nothing can be said about what is shared with it")
    return found


def duplicates(parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    """Pairs of pictures that are the same file, or look alike by a perceptual hash, within and across parts.

    Raises:
        DatasetError: a picture cannot be read.
    """
    same: dict[bytes, list[str]] = defaultdict(list)
    hashes, of_part = [], []
    for part in parts:
        for path in progress(part.paths, f"{part.name}: duplicates", "img"):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read: {error.strerror}; unpack the data set again") from error
            same[hashlib.sha256(data).digest()].append(part.name)
            hashes.append(difference_hash(data, path))
            of_part.append(part.name)
    by_bytes: Counter[str] = Counter()
    for names in same.values():
        by_bytes.update(_pair(a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    alike: Counter[str] = Counter()
    codes = np.array(hashes, np.uint64)
    for i in range(len(codes) - 1):
        distance = np.bitwise_count(codes[i + 1 :] ^ codes[i])
        for j in np.flatnonzero(distance <= _HASH_BITS).tolist():
            alike[_pair(of_part[i], of_part[i + 1 + j])] += 1
    return {"same_bytes": dict(by_bytes), "alike": dict(alike)}


def _pair(a: str, b: str) -> str:
    return f"{a} alone" if a == b else " and ".join(sorted((a, b), key=PARTS.index))


def difference_hash(data: bytes, path: Path) -> int:
    """64 bits that say where a small grey copy of the picture gets brighter (dHash, Krawetz 2013).

    Raises:
        DatasetError: it cannot be decoded.
    """
    from ageinfer.images import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DatasetError(f"{path}: cannot be decoded; unpack the data set again")
    small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    bits = (small[:, 1:] > small[:, :-1]).flatten()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def markdown(dataset: str, figures: Mapping[str, Any]) -> str:
    """The audit as a document."""
    lines = [f"# Audit of a split of {dataset}", "", "## Findings", ""]
    lines += [f"- {text}" for text in figures["findings"]] or ["- nothing"]
    lines += [
        "",
        "| part | pictures | persons | different ages | from | to | median | MAE of answering its own median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, p in figures["parts"].items():
        lines.append(
            f"| {name} | {p['n']} | {p['subjects'] or 'not told'} | {len(p['ages'])} | {p['youngest']:g} | "
            f"{p['oldest']:g} | {p['own_median']:g} | {p['constant_mae_own_median']:.2f} |"
        )
    lines += ["", "| MAE of answering the median of | " + " | ".join(figures["parts"]) + " |"]
    lines += ["|---" * (len(figures["parts"]) + 1) + "|"]
    for answered, of in figures["parts"].items():
        cells = [
            f"{p['constant_mae_own_median'] if name == answered else p['constant_mae_other_medians'][answered]:.2f}"
            for name, p in figures["parts"].items()
        ]
        lines.append(f"| {answered} ({of['own_median']:g}) | " + " | ".join(cells) + " |")
    if figures["age_distance_years"]:
        lines += ["", "| ages of | distance, years (first Wasserstein) |", "|---|---|"]
        lines += [f"| {pair} | {years:.2f} |" for pair, years in figures["age_distance_years"].items()]
    if figures["subject_overlap"]:
        lines += ["", "| persons | shared | of |", "|---|---|---|"]
        lines += [f"| {pair} | {s['shared']} | {s['of']} |" for pair, s in figures["subject_overlap"].items()]
    return "\n".join(lines) + "\n"


def draw(path: Path, dataset: str, parts: Sequence[Part]) -> None:
    """Draws the age histogram of each part into a PNG, on one scale of years.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'ageinfer[train]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(parts), 1, figsize=(9, 2.2 * len(parts) + 0.6), sharex=True, layout="constrained", squeeze=False
    )
    low, high = min(p.ages.min() for p in parts), max(p.ages.max() for p in parts)
    edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.5)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        axis.hist(part.ages, bins=edges)
        axis.axvline(np.median(part.ages), color="black", linewidth=1, label=f"median {np.median(part.ages):g}")
        different = len(np.unique(part.ages))
        axis.set(title=f"{part.name}: {len(part.ages)} pictures, {different} different ages", ylabel="pictures")
        axis.legend(loc="upper right")
        axis.grid(alpha=0.3)
    axes[-1, 0].set(xlabel="age in years")
    figure.suptitle(f"{dataset}: ages by part")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=100)
    pyplot.close(figure)


def run(options: argparse.Namespace) -> None:
    """Audits the split that the options name; prints and writes what it found.

    Raises:
        AgeError: the options do not fit together, or the split cannot be read.
    """
    if options.csv and options.split:
        raise UsageError("give one of --csv and --split")
    parts = parts_of(options)
    figures = audit(parts)
    text = markdown(options.dataset, figures)
    print(text, end="")
    if options.out:
        write_json(options.out / "audit.json", figures)
        write_text(options.out / "audit.md", text)
        draw(options.out / "audit.png", options.dataset, parts)
        print(f"\n{options.out}: audit.json, audit.md, audit.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded("agetrain.audit", lambda: run(options), debug=options.debug, level=logging.INFO, extra="train")


if __name__ == "__main__":
    sys.exit(main())
