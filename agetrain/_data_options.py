"""The options by which every command takes data sets, those that agetrain knows and anybody's own."""

import argparse
from pathlib import Path

from agetrain.datasets import DATASETS
from agetrain.datasets.own import Reading
from agetrain.datasets.own.columns import MEANINGS

DATASET_METAVAR = "NAME[=DIR] | [NAME=]PATH"
DATASET_HELP = (
    f"a data set that agetrain knows ({', '.join(DATASETS)}), or your own: a folder with labels.csv, a folder for each "
    "age or interval (23/x.jpg, 20-29/x.jpg), a list, or Parquet with pictures inside"
)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how own data is read; `reading_of` takes them."""
    group = parser.add_argument_group("own data")
    group.add_argument(
        "--labels", type=Path, dest="label_list", metavar="FILE",
        help="the list of labels, a CSV or Parquet file (default: labels.csv in the folder)",
    )  # fmt: skip
    group.add_argument(
        "--columns", type=_columns, metavar="MEANING=COLUMN,...", default={},
        help=f"which columns of the list mean what, as file=path,age=years,subject=person ({', '.join(MEANINGS)}); all "
        "others are groups of the report",
    )  # fmt: skip
    group.add_argument(
        "--name-pattern",
        metavar="PATTERN",
        help="ages stand in the names of the pictures, as {age}_{sex}_*.jpg; there is no list then",
    )
    group.add_argument(
        "--max-broken", type=_percent, metavar="PERCENT",
        help="leave out pictures that are broken or have no age, and those of own data without a face, up to so many "
        "percent, else end (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--strict", action="store_const", const=0.0, dest="max_broken", help="the same as --max-broken 0"
    )


def reading_of(options: argparse.Namespace) -> Reading:
    """Returns how own data is read, by the options of `add_reading` and, where there is one, ``--cache``.

    Raises:
        UsageError: they do not fit together.
    """
    cache = getattr(options, "cache", None) or Path("cache")
    return Reading(options.label_list, options.columns, options.name_pattern, options.max_broken, cache)


def _columns(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split(",")]
    if not all(equals and meaning and column for meaning, equals, column in pairs):
        raise argparse.ArgumentTypeError(f"{text}: write MEANING=COLUMN, several with commas, as file=path,age=years")
    return {meaning.strip(): column.strip() for meaning, _, column in pairs}


def _percent(text: str) -> float:
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: use a number of percent, as 1 or 1%") from None
