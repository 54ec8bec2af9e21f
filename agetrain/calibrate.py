"""``python -m agetrain.calibrate best.pth --dataset NAME``: makes the deviation of a checkpoint mean what it says.

With ``--mirror`` the model also answers with the mean over a face and its mirror image from then on, with
``--no-mirror`` with the face alone; without either it answers as it did.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._data_options import reading_of
from agetrain.errors import UsageError
from agetrain.evaluate import add_part, add_trust
from agetrain.evaluation.calibrating import calibrate_checkpoint, calibrated_path
from agetrain.evaluation.coverage import BANDS, BY_AGE, cells


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.calibrate",
        description="Calibrate the uncertainty of a checkpoint on one half of the people, and measure it on the other.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="the best.pth of a run")
    add_part(parser)
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction,
        help="let the model answer with the mean over a face and its mirror image, which is a little better and takes "
        "twice the time, or with the face alone (default: as the checkpoint does)",
    )  # fmt: skip
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="the file to write (default: best.calibrated.pth beside best.pth)",
    )
    parser.add_argument("--in-place", action="store_true", help="write the calibration into the checkpoint itself")
    parser.add_argument("--device", default="cpu", help="device to compute on: cpu, cuda (default: cpu)")
    add_trust(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def write_calibrated(options: argparse.Namespace) -> None:
    """Calibrates, writes the checkpoint and prints what was measured.

    Raises:
        AgeError: the options do not fit together, or the checkpoint or the pictures cannot be used.
    """
    if options.out and options.in_place:
        raise UsageError("give one of --out and --in-place")
    path: Path = options.checkpoint
    out = options.out or (path if options.in_place else calibrated_path(path))
    done = calibrate_checkpoint(
        path, options.dataset, part=options.part, split=options.split, split_csv=options.split_csv or (),
        mirrored=options.mirror, device=options.device, reading=reading_of(options), trust_code=options.trust_code,
    )  # fmt: skip
    done.checkpoint.save(out)
    found = done.checkpoint.calibration
    print(f"deviation = {found.slope:g} x the network's own {found.offset_years:+g} years, from {done.faces} faces")
    if found.by_age:
        print("and by the answered age: " + ", ".join(f"{years:+g} years at {age:g}" for age, years in found.by_age))
    for m in done.measured:
        print(
            f"{m['dataset']}: {m['within_1_std_percent']:.1f} % of {m['n']} other faces within one deviation "
            f"(before: {m['within_1_std_percent_before']:.1f} %)"
        )
    for by, title in BY_AGE.items():
        percents = [f"{name}: {cell}" for name, cell in zip(BANDS, cells(done.measured[-1], by), strict=True)]
        print(f"by {title}, percent before, after (faces): {'; '.join(percents)}")
    both = done.checkpoint.mirrored
    whom = "a face and its mirror image, in twice the time (--mirror)" if both else "the face alone (--no-mirror)"
    print(f"it answers for {whom}")
    print(f"{out}: calibrated\nnext: python -m ageexport {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.calibrate", lambda: write_calibrated(options), debug=options.debug, level=logging.INFO, extra="train"
    )


if __name__ == "__main__":
    sys.exit(main())
