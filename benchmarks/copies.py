"""Finds the same photographs in data sets: how far their scores lie from those of others, and the lists that ship.

    python benchmarks/copies.py utkface=DIR all-age-faces=DIR [--write]

``--write`` writes ``agetrain/datasets/NAME.copies.csv``, by which the built-in splits keep copies on one side.
"""

import argparse
import csv
from pathlib import Path
from unittest import mock

import numpy as np

from agetrain.datasets import copies, load_dataset
from agetrain.datasets.base import copies_file
from agetrain.datasets.opening import named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--write", action="store_true", help="write the lists that ship")
    options = parser.parse_args()
    print("| data set | pictures | pairs | mirrored | score 0.60 | 0.65 | 0.70 | 0.75 | 0.80 | 0.85 | 0.90 | 0.95 |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for text in options.datasets:
        name, folder = named(text)
        dataset, _ = load_dataset(name, folder)
        paths = sorted(s.path for part in dataset.parts.values() for s in part)
        with mock.patch.object(copies, "SAME_SCORE", 0.6):
            loose = copies.find_copies(paths)
        scores = np.array([pair.score for pair in loose.pairs])
        counts = np.histogram(scores, np.append(np.arange(0.6, 0.98, 0.05), 1.01))[0]
        same = [pair for pair in loose.pairs if pair.score >= copies.SAME_SCORE]
        print(
            f"| {name} | {len(paths)} | {len(same)} | {sum(pair.mirrored for pair in same)} | "
            + " | ".join(map(str, counts.tolist()))
            + " |"
        )
        if options.write:
            with Path(copies_file(name)).open("w", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(("file", "copy"))
                writer.writerows((paths[pair.first].name, paths[pair.second].name) for pair in same)


if __name__ == "__main__":
    main()
