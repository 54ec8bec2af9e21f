"""``python -m agetrain.splits DATASET -o FILE``: makes a split file of a data set."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain.datasets.dealing import KINDS, make_parts, write_split
from agetrain.datasets.opening import dealt, open_dataset, without_duplicates
from agetrain.datasets.problems import check_problems, write_problems
from agetrain.errors import DatasetError, UsageError


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.splits", description="Make a split file of a data set.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", metavar=DATASET_METAVAR, help=DATASET_HELP)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data set (default: $AGETRAIN_DATA/NAME, then data/NAME)"
    )
    parser.add_argument(
        "--kind", choices=KINDS, default="default",
        help="how to split (default: the data set's official split; of own data, a fifth for valid, the same ages in "
        "each part, a person or, where persons are not told, a photograph in one part)",
    )  # fmt: skip
    parser.add_argument(
        "--drop-duplicates", action="store_true",
        help="leave out pictures of a photograph that is there already, and all of it where its labels contradict each "
        "other by more than 2 years",
    )  # fmt: skip
    parser.add_argument("--rotation", type=int, default=0, help="rotation of afad's identity split, 0 to 4")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        help="shares of train, valid and, optionally, test (default: 0.8 0.1 0.1; of own data what training takes)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="DIR",
        help="folder of what is made of pictures once (default: cache)",
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the split file to write")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def make_split(options: argparse.Namespace) -> None:
    """Makes the split file that the options describe.

    Raises:
        AgeError: the options do not fit together, or the data set does not have what they need.
    """
    shares = options.shares or [0.8, 0.1, 0.1]
    if not 2 <= len(shares) <= 3 or min(shares) <= 0:
        raise UsageError("--shares takes two or three numbers above 0")
    problems = options.output.with_suffix(".problems.csv")
    text = options.dataset if options.data is None else f"{options.dataset}={options.data}"
    dataset, folder = open_dataset(text, reading=reading_of(options), problems=problems, deal=False)
    if options.drop_duplicates:
        dataset = without_duplicates(dataset, options.cache)
    if options.kind == "default" and not dataset.split:
        # Without shares, those that a training without a split file takes.
        valid, test = [*(share / sum(shares) for share in shares[1:]), 0.0][:2] if options.shares else (None, 0.0)
        dataset = dealt(dataset, options.cache, valid=valid, test=test, seed=options.seed)
    else:
        dataset = make_parts(
            dataset, options.kind, rotation=options.rotation, shares=shares, seed=options.seed, folder=folder
        )
    check_problems(replace(dataset, problems=tuple(p for p in dataset.problems if p.kind != "copy")),
                   options.max_broken, path=problems)  # fmt: skip
    empty = [part for part in ("train", "valid") if not dataset.parts.get(part)]
    if empty:
        raise DatasetError(f"{dataset.name}: no picture for {' and '.join(empty)}; take more, or another --kind")
    digest = write_split(options.output, dataset, folder)
    write_problems(problems, dataset.problems)
    if dataset.problems:
        print(f"{problems}: {len(dataset.problems)} pictures that are left out, and why")
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
