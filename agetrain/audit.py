"""``python -m agetrain.audit DATASET --csv FILE ...``: reports what a split really holds."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._files import write_json, write_text
from agetrain.datasets import DATASETS
from agetrain.datasets.audit_report import draw, markdown
from agetrain.datasets.auditing import Part, audit, open_parts
from agetrain.datasets.parts import PARTS
from agetrain.errors import UsageError


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.audit",
        description="Report what a split really holds: ages, shared persons, duplicates.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("dataset", choices=list(DATASETS), metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument(
        "--csv", type=Path, nargs="+", metavar="[PART=]FILE",
        help="lists of the original work; without PART= the part is taken from the file's name (train, valid, test)",
    )  # fmt: skip
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the pictures, to look for duplicates too")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write audit.json, audit.md and audit.png there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parts_of(options: argparse.Namespace) -> list[Part]:
    """Opens the parts that the command line names.

    Raises:
        UsageError: the options do not fit together.
        DatasetError: a list or the data set cannot be read.
    """
    named = [_named(str(argument)) for argument in options.csv or []]
    if len({name for name, _ in named}) < len(named):
        raise UsageError("--csv: two lists for one part; write --csv train=FILE valid=FILE test=FILE")
    return open_parts(options.dataset, lists=dict(named), split=options.split, folder=options.data)


def _named(argument: str) -> tuple[str, Path]:
    part, equals, path = argument.partition("=")
    if equals and part in PARTS:
        return part, Path(path)
    found = [name for name in PARTS if re.search(rf"(^|[^a-z]){name}([^a-z]|$)", Path(argument).name.lower())]
    if len(found) != 1:
        raise UsageError(f"--csv {argument}: which part is it? Write train={argument}, valid=... or test=...")
    return found[0], Path(argument)


def report_audit(options: argparse.Namespace) -> None:
    """Audits the split that the options name; prints and writes the result.

    Raises:
        AgeError: the options do not fit together, or the split cannot be read.
    """
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
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.audit", lambda: report_audit(options), debug=options.debug, level=logging.INFO, extra="train"
    )


if __name__ == "__main__":
    sys.exit(main())
