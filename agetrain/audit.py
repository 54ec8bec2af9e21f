"""``python -m agetrain.audit DATASET --csv FILE ...``: reports what a split really holds."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain._files import write_json, write_text
from agetrain.datasets.audit_report import draw, markdown
from agetrain.datasets.auditing import Part, audit, counted, look_at, open_parts, write_pairs
from agetrain.datasets.parts import PARTS
from agetrain.datasets.problems import LIST, write_problems
from agetrain.errors import UsageError


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.audit",
        description="Report what a split really holds: ages, shared persons, duplicates.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "datasets", nargs="+", metavar=DATASET_METAVAR,
        help=f"{DATASET_HELP}; several are audited one by one, and searched for the same photographs together",
    )  # fmt: skip
    parser.add_argument(
        "--csv", type=Path, nargs="+", metavar="[PART=]FILE",
        help="lists of the original work; without PART= the part is taken from the file's name (train, valid, test)",
    )  # fmt: skip
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder of the pictures of a known data set, to look for the same photographs too",
    )  # fmt: skip
    parser.add_argument(
        "--duplicates", type=Path, metavar="FILE",
        help="write the pairs of pictures that show the same photograph as a CSV, with score and both labels",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="DIR",
        help="folder of what is made of pictures once (default: cache)",
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write audit.json, audit.md and audit.png there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parts_of(text: str, options: argparse.Namespace) -> list[Part]:
    """Opens the parts of a data set that the command line names.

    Raises:
        UsageError: the options do not fit together.
        DatasetError: a list or the data set cannot be read.
    """
    named = [_named(str(argument)) for argument in options.csv or []]
    if len({name for name, _ in named}) < len(named):
        raise UsageError("--csv: two lists for one part; write --csv train=FILE valid=FILE test=FILE")
    return open_parts(
        text, lists=dict(named), split=options.split, folder=options.data, reading=reading_of(options),
        problems=options.out / LIST if options.out else None,
    )  # fmt: skip


def _named(argument: str) -> tuple[str, Path]:
    part, equals, path = argument.partition("=")
    if equals and part in PARTS:
        return part, Path(path)
    found = [name for name in PARTS if re.search(rf"(^|[^a-z]){name}([^a-z]|$)", Path(argument).name.lower())]
    if len(found) != 1:
        raise UsageError(f"--csv {argument}: which part is it? Write train={argument}, valid=... or test=...")
    return found[0], Path(argument)


def report_audit(options: argparse.Namespace) -> None:
    """Audits the splits that the options name; prints and writes the result.

    Raises:
        AgeError: the options do not fit together, or a split cannot be read.
    """
    if len(options.datasets) > 1 and (options.csv or options.split or options.data):
        raise UsageError("--csv, --split and --data serve one data set; with several, write NAME=DIR")
    sets = [parts_of(text, options) for text in options.datasets]
    pictures = all(part.paths for parts in sets for part in parts)
    if options.duplicates and not pictures:
        raise UsageError("--duplicates needs the pictures; name their folder with --data")
    looked = look_at([part for parts in sets for part in parts], options.cache) if pictures else None
    for text, parts in zip(options.datasets, sets, strict=True):
        name = parts[0].dataset or text
        own = looked.of(name, {file for part in parts for file in part.files}) if looked else None
        figures = audit(parts, looked=own)
        document = markdown(name, figures)
        print(document, end="")
        if options.out:
            out = options.out if len(sets) == 1 else options.out / name
            write_json(out / "audit.json", figures)
            write_text(out / "audit.md", document)
            draw(out / "audit.png", name, parts)
            write_problems(out / LIST, own.broken if own else ())
            print(f"\n{out}: audit.json, audit.md, audit.png")
    if looked is None:
        return
    for place, counts in counted(looked.across).items():
        print(f"- {counts['pairs']} pairs of pictures in {place} show the same photograph")
    if options.duplicates:
        write_pairs(options.duplicates, looked.pairs)
        print(f"{options.duplicates}: {len(looked.pairs)} pairs of pictures that show the same photograph")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.audit", lambda: report_audit(options), debug=options.debug, level=logging.INFO, extra="train"
    )


if __name__ == "__main__":
    sys.exit(main())
