"""The options of command lines that say where other runtimes are."""

import argparse
from pathlib import Path

from ageexport.elsewhere import Places


def add_places(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a parser."""
    group = parser.add_argument_group("other runtimes, in which the file is compared with the runtime here")
    group.add_argument(
        "--onnxruntime-web", type=Path, metavar="DIR",
        help="the npm package, for a browser (default: node_modules/onnxruntime-web here or above)",
    )  # fmt: skip
    group.add_argument("--arm64", type=Path, metavar="DIR", help="folder of an arm64 Python, for emulated processors")
    group.add_argument(
        "--seconds", type=float, default=Places().seconds, metavar="S",
        help="give each engine of the browser and each processor pictures for so long (default: %(default)g)",
    )  # fmt: skip


def places_of(options: argparse.Namespace) -> Places:
    """Returns what was said by the options."""
    return Places(options.onnxruntime_web, options.arm64, options.seconds)
