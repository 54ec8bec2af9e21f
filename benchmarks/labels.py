"""What a teacher says of the labels of a data set: ages that stand out, and labels that it contradicts.

    python -m agetrain.evaluate TEACHER --dataset NAME=FOLDER --part train --predictions teacher.npz
    python benchmarks/labels.py NAME=FOLDER --teacher teacher.npz [--around 26] [--beyond 3]

For the ages round the one that is asked for, and for each decade: pictures in train, how many times the mean of the two
neighbouring ages that is, the teacher's mean absolute difference from the label, and the share of labels that it
contradicts by more than so many of its own deviations (``--doubt-beyond`` of the training).
"""

import argparse
from pathlib import Path

import numpy as np

from agetrain.crops.cache import picture_digest
from agetrain.datasets import load_dataset
from agetrain.training.teachers import Teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", metavar="NAME=FOLDER")
    parser.add_argument("--teacher", type=Path, action="append", required=True)
    parser.add_argument("--around", type=int, default=26, metavar="AGE")
    parser.add_argument("--beyond", type=float, default=3.0, metavar="K")
    options = parser.parse_args()
    name, _, folder = options.dataset.partition("=")
    samples = load_dataset(name, folder or None)[0].parts["train"]
    labels = np.array([s.age_years for s in samples], float)
    digests = np.frombuffer(b"".join(picture_digest(s.path)[:8] for s in samples), np.uint64)
    ages, stds = Teacher.load(options.teacher).lookup(digests)
    print("| age | pictures | of neighbours | teacher's difference, years | contradicted |\n|---|---|---|---|---|")
    near = range(options.around - 3, options.around + 4)
    for title, chosen, times in [
        *((str(a), labels == a, times_neighbours(labels, a)) for a in near),
        *((f"{a} to {a + 9}", (labels >= a) & (labels < a + 10), "") for a in range(0, 100, 10)),
        ("all", labels >= 0, ""),
    ]:
        seen = chosen & np.isfinite(ages)
        if seen.any():
            difference = np.abs(ages - labels)[seen]
            contradicted = difference > options.beyond * stds[seen]
            print(f"| {title} | {chosen.sum()} | {times} | {difference.mean():.2f} | {contradicted.mean():.2%} |")


def times_neighbours(labels: np.ndarray, age: int) -> str:
    neighbours = ((labels == age - 1).sum() + (labels == age + 1).sum()) / 2
    return f"{(labels == age).sum() / neighbours:.2f}" if neighbours else ""


if __name__ == "__main__":
    main()
