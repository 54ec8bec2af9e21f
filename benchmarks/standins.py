"""Trees in the layout of AFAD and CACD from other data sets, to run their code where the real ones are not to be had.

    python benchmarks/standins.py afad ALL_AGE_FACES_DIR OUT [--pictures N] [--seed 0]
    python benchmarks/standins.py cacd UTKFACE_DIR OUT [--pictures N] [--seed 0]

AFAD: pictures of ages 15 to 40 as ``AGE/(111|112)/ID-0.jpg``. CACD: pictures of ages 14 to 62 as
``AGE_First_Last_NNNN.jpg``, a made-up person for every four pictures. Lists in the columns of the original ones (labels
less 15 and 14 years) are written beside them. Whatever is measured on such a tree says nothing about AFAD or CACD: call
it a stand-in.
"""

import argparse
import csv
import random
import shutil
from pathlib import Path

from agetrain.datasets import Sample, load_dataset

PARTS = (("train", 0.7), ("valid", 0.1), ("test", 0.2))
SOURCES = {"afad": ("all-age-faces", 15, 40), "cacd": ("utkface", 14, 62)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=list(SOURCES))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name, youngest, oldest = SOURCES[options.kind]
    dataset, _ = load_dataset(name, options.source)
    samples = [s for part in dataset.parts.values() for s in part if youngest <= s.age_years <= oldest]
    rng = random.Random(options.seed)  # noqa: S311
    samples = rng.sample(sorted(samples, key=lambda s: s.path.name), min(options.pictures, len(samples)))
    rows = [place(options.kind, number, sample, options.out) for number, sample in enumerate(samples)]
    start = 0
    for part, share in PARTS:
        stop = len(rows) if part == "test" else start + round(share * len(rows))
        with (options.out.parent / f"{options.kind}_{part}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("file", "path", "age", "gender") if options.kind == "afad" else ("", "file", "age"))
            writer.writerows(rows[start:stop])
        start = stop
    print(
        f"{options.out}: {len(rows)} pictures of {name}, a stand-in for {options.kind}; lists in {options.out.parent}"
    )


def place(kind: str, number: int, sample: Sample, out: Path) -> tuple[object, ...]:
    """Copies a picture to where it belongs; returns its line of a list."""
    age = int(sample.age_years)
    if kind == "afad":
        sex = dict(sample.attributes)["sex"]
        path = f"{age}/{111 if sex == 'male' else 112}/{number:06d}-0.jpg"
        row: tuple[object, ...] = (f"{number:06d}-0.jpg", path, age - 15, sex)
    else:
        path = f"{age}_Stand_In{number // 4:05d}_{number % 4 + 1:04d}.jpg"
        row = (number, path, age - 14)
    target = out / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sample.path, target)
    return row


if __name__ == "__main__":
    main()
