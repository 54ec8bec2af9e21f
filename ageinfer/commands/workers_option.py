"""The option that says how many processes work side by side."""

import argparse

from ageinfer.errors import UsageError

_MOST_WORKERS = 256


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option to a parser."""
    parser.add_argument(
        "--workers", default="auto", metavar="N",
        help="read many pictures, or several videos, in this many processes side by side; auto (default): one for each "
        "core; 1: in this process alone",
    )  # fmt: skip


def workers_of(options: argparse.Namespace) -> int:
    """The number of processes that ``--workers`` asks for; 0 for ``auto``.

    Raises:
        UsageError: it is neither ``auto`` nor a number.
    """
    if options.workers == "auto":
        return 0
    if not options.workers.isdecimal() or not 1 <= int(options.workers) <= _MOST_WORKERS:
        raise UsageError(f"--workers {options.workers}: use auto, or 1 to {_MOST_WORKERS}")
    return int(options.workers)
