"""``python -m ageexport best.pth``: makes one ONNX file that is proved to answer what the checkpoint answers."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ageexport._place_options import add_places, places_of
from ageexport.errors import UsageError
from ageexport.ladder import PRECISIONS
from ageinfer.console import guarded
from ageinfer.crop.spec import CROP_KINDS
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table
from agetrain._data_options import add_reading, reading_of
from agetrain.evaluation.metrics import error_in_words

if TYPE_CHECKING:
    from ageexport.export import ProvedModel
    from ageexport.files import ModelFile


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ageexport",
        description="Turn a checkpoint into one ONNX file and prove on real faces that it answers the same, by the "
        "path that is deployed. Without that proof nothing is written.",
        epilog=status_table(*DATA_STATUSES, ExitStatus.UNPROVED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="best.pth",
        help="a checkpoint of python -m agetrain, or one that was made elsewhere (see the last options)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the model file (default: the checkpoint's name with .onnx)"
    )
    parser.add_argument(
        "--precision", nargs="+", default=["fp32"], choices=[*PRECISIONS, "all"], metavar="P",
        help="fp32 (default), int8 for CPUs, fp16 for GPUs, or all; an int8 file is named .int8.onnx",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="NAME=DIR | [NAME=]PATH",
        help="faces for the proof: the valid part of a data set that agetrain knows, or your own pictures: all of "
        "them, or those that the list marks as valid (for int8 it must mark others as train or calibration); default: "
        "parity.npz beside the checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--opset", type=int, default=18, metavar="N", help="version of the standard operators (default: 18)"
    )
    parser.add_argument("--name", help="name of the model (default: the output's name)")
    parser.add_argument(
        "--verify-only", type=Path, metavar="FILE",
        help="verify this file: export --checkpoint again, compare both, and run all checks on it; write nothing",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint",
        type=Path,
        dest="checkpoint_option",
        metavar="best.pth",
        help="the checkpoint to verify against, with --verify-only",
    )
    parser.add_argument(
        "--gate", type=Path, metavar="FILE",
        help="a TOML file of bounds on the figures of groups of people; a model file with a group beyond them is not "
        "written",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_reading(parser)
    add_places(parser)
    parser.add_argument(
        "--trust-code", action="store_true",
        help="allow code of your own to run: the FILE.py that the checkpoint's network was made by, in this folder",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print only the results, without the single checks")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    _add_description(parser)
    return parser


def _add_description(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("description of a checkpoint that was not made here")
    group.add_argument(
        "--experiment", metavar="ID",
        help="the run of the original work that made it, which says the rest (python -m agetrain --list)",
    )  # fmt: skip
    group.add_argument("--arch", metavar="NAME", help="backbone, as --backbone of python -m agetrain has it")
    group.add_argument("--head", choices=("linear", "dropout-linear", "distribution"), help="last layer")
    group.add_argument(
        "--scale", type=float, metavar="YEARS",
        help="years for one unit of a linear head's answer: 100 for a network that answers 0 to 1 (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--label-offset", type=float, metavar="YEARS", help="years to add to its answer (AFAD 15, CACD 14)"
    )
    group.add_argument("--label", choices=("real", "apparent"), help="age that it answers (default: real)")
    group.add_argument("--trained-on", dest="dataset", metavar="TEXT", help="data set that it learned from")
    group.add_argument(
        "--licence", metavar="TEXT", help="licence of that data set (default: that of a known one, else not stated)"
    )
    group.add_argument(
        "--crop", choices=CROP_KINDS, help="what it is given: a crop of a face, or the whole picture resized (default)"
    )
    group.add_argument("--size", type=int, metavar="PX", help="side of its input")
    group.add_argument(
        "--margin", type=float, metavar="SHARE",
        help="room on each side of the face box, as a share of its longer side, for --crop box or landmarks",
    )  # fmt: skip
    group.add_argument(
        "--resize-to", type=int, metavar="PX", help="side before the centre is cut out of a whole picture "
        "(default: --size)",
    )  # fmt: skip
    group.add_argument(
        "--squash", dest="keep_aspect", action="store_false", default=None,
        help="resize both sides of a whole picture, without keeping the aspect ratio",
    )  # fmt: skip
    group.add_argument(
        "--no-normalise", dest="normalise", action="store_false", default=None,
        help="it takes pixels from 0 to 1, not normalised by ImageNet",
    )  # fmt: skip
    group.add_argument(
        "--mean", type=_rgb, metavar="R,G,B", help="mean that it takes off pixels from 0 to 1 (default: ImageNet's)"
    )
    group.add_argument("--std", type=_rgb, metavar="R,G,B", help="deviation that it divides them by")
    group.add_argument(
        "--key", metavar="NAME", help="key of the file that its state_dict lies under (default: the only one with one)"
    )
    group.add_argument(
        "--strip-prefix", metavar="TEXT",
        help="take only tensors whose names begin so, without that beginning (default: found by comparing names)",
    )  # fmt: skip


def _rgb(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers, as in 0.5,0.5,0.5") from None
    return red, green, blue


def write_models(options: argparse.Namespace) -> None:
    """Exports, proves, and only then writes models, cards and proofs.

    Raises:
        AgeError: the options do not fit together, or the model cannot be made or proved.
    """
    from ageexport import original
    from ageexport.files import export_files

    path = options.checkpoint_option or options.checkpoint
    if path is None or (options.checkpoint and options.checkpoint_option):
        raise UsageError("give one checkpoint; with --verify-only FILE, by --checkpoint")
    said = original.Description(**{f.name: getattr(options, f.name) for f in fields(original.Description)})
    if options.verify_only is not None:
        from ageexport.verify import verify

        print(
            verify(
                options.verify_only,
                path,
                options.data,
                said,
                reading=reading_of(options),
                trust_code=options.trust_code,
                places=places_of(options),
                gate=options.gate,
            )
        )
        return
    result, missed = export_files(
        path, options.output, precision=options.precision, data=options.data, name=options.name, opset=options.opset,
        overwrite=options.overwrite, description=said, reading=reading_of(options), trust_code=options.trust_code,
        places=places_of(options), gate=options.gate,
    )  # fmt: skip
    for file in result.files:
        print(_told(file, result.fp32))
    if missed is not None:
        raise missed
    print(f"beside each: its card (.md) and its proof (.parity.json)\nnext: ageinfer SOURCE --model {file.path}")


def _told(file: "ModelFile", fp32: "ProvedModel") -> str:
    model = file.model
    ladder, size = model.ladder, len(model.data)
    text = (
        f"{file.path}: {model.precision}, {size / 1e6:.1f} MB, {model.latency.latency_ms:.2f} ms a face on one CPU "
        f"thread, {error_in_words(ladder.figures)}"
    )
    if model is not fp32:
        text += (
            f" (fp32: {len(fp32.data) / 1e6:.1f} MB, {fp32.latency.latency_ms:.2f} ms, "
            f"{error_in_words(fp32.ladder.figures)})"
        )
    text += f"; proved on {ladder.faces} faces ({ladder.origin})"
    return f"{text}; {ladder.gate}" if ladder.gate else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    logging.getLogger("ageexport").setLevel(logging.WARNING if options.quiet else logging.INFO)
    return guarded("ageexport", lambda: write_models(options), debug=options.debug, extra="export")


if __name__ == "__main__":
    sys.exit(main())
