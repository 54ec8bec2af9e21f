"""``python -m agetrain.interpolate START END --share 0.7 -o FILE``: a network between two others.

The straight line between the weights of a start and of what was learned from it keeps much of both: "Robust
fine-tuning of zero-shot models" (WiSE-FT, Wortsman et al., CVPR 2022).
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._files import file_sha256
from agetrain.errors import CheckpointError, UsageError
from agetrain.network.calibration import Calibration
from agetrain.network.checkpoint import Checkpoint


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.interpolate",
        description="Write a checkpoint whose weights lie on the line between those of two others.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("start", type=Path, metavar="START", help="a checkpoint (share 0)")
    parser.add_argument("end", type=Path, metavar="END", help="one that was learned from it (share 1)")
    parser.add_argument("--share", type=float, required=True, metavar="S", help="of the way from START to END, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the checkpoint to be written")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def between(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Computes the weights at a share of the way from ``start`` (0) to ``end`` (1); whole numbers are those of ``end``.

    Raises:
        CheckpointError: they are not of one network.
    """
    if set(start) != set(end) or any(start[name].shape != end[name].shape for name in end):
        raise CheckpointError("the two checkpoints are not of one network; interpolate a run with its own start")
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }


def run(options: argparse.Namespace) -> None:
    """Does what the options say.

    Raises:
        UsageError: the share is not one, or the output is one of the inputs.
        CheckpointError: a checkpoint cannot be used.
        OutputError: the result cannot be written.
    """
    if not 0 <= options.share <= 1:
        raise UsageError(f"--share {options.share}: use 0 to 1")
    if options.output.resolve() in (options.start.resolve(), options.end.resolve()):
        raise UsageError(f"-o {options.output}: would write over what it is made from; choose another file")
    start, end = Checkpoint.load(options.start), Checkpoint.load(options.end)
    try:
        weights = between(start.weights, end.weights, options.share)
    except CheckpointError as error:
        raise CheckpointError(f"{options.start}, {options.end}: {error}") from error
    made = {
        "start": f"{options.start.name}, SHA-256 {file_sha256(options.start)[:16]}",
        "end": f"{options.end.name}, SHA-256 {file_sha256(options.end)[:16]}", "share": options.share,
    }  # fmt: skip
    # What was measured of the end is not true of what lies between, and neither is its calibration.
    replace(
        end, weights=weights, metrics=(), training={**end.training, "interpolated": made}, calibration=Calibration()
    ).save(options.output)
    print(f"{options.output}: {options.share:g} of the way from {options.start} to {options.end}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded("agetrain.interpolate", lambda: run(options), debug=options.debug, level=logging.INFO, extra="train")


if __name__ == "__main__":
    sys.exit(main())
