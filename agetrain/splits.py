"""``python -m agetrain.splits DATASET -o FILE``: makes a split file of a data set."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain.datasets import DATASETS, load_dataset
from agetrain.datasets.dealing import KINDS, make_parts, write_split
from agetrain.errors import UsageError


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.splits", description="Make a split file of a data set.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data set (default: $AGETRAIN_DATA/NAME, then data/NAME)"
    )
    parser.add_argument(
        "--kind", choices=KINDS, default="default", help="how to split (default: the data set's official or own split)"
    )
    parser.add_argument("--rotation", type=int, default=0, help="rotation of afad's identity split, 0 to 4")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.8, 0.1, 0.1], help="shares of train, valid and, optionally, test"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the kinds random and identity")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the split file to write")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def make_split(options: argparse.Namespace) -> None:
    """Makes the split file that the options describe.

    Raises:
        AgeError: the options do not fit together, or the data set does not have what they need.
    """
    if not 2 <= len(options.shares) <= 3 or min(options.shares) <= 0:
        raise UsageError("--shares takes two or three numbers above 0")
    dataset, folder = load_dataset(options.dataset, options.data)
    dataset = make_parts(
        dataset, options.kind, rotation=options.rotation, shares=options.shares, seed=options.seed, folder=folder
    )
    digest = write_split(options.output, dataset, folder)
    counts = ", ".join(f"{part} {len(samples)}" for part, samples in dataset.parts.items())
    print(f"{options.output}: {dataset.split}; {counts}; SHA-256 {digest}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.splits", lambda: make_split(options), debug=options.debug, level=logging.INFO, extra="train"
    )


if __name__ == "__main__":
    sys.exit(main())
