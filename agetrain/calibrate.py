"""``python -m agetrain.calibrate best.pth --dataset NAME``: makes the deviation of a checkpoint mean what it says.

With ``--mirror`` the model also answers with the mean over a face and its mirror image from then on.

The subjects of the part are divided in two by a hash. One half says how the network's own deviation must be stretched
and moved (`agetrain.calibration`); on the other half it is measured how often the label then lies within it.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agetrain import checkpoint
from agetrain.calibration import FEWEST_FACES, Calibration, coverage_percent, fit
from agetrain.command import add_debug, guarded
from agetrain.datasets import Sample
from agetrain.errors import CheckpointError, DatasetError
from agetrain.evaluate import add_part, answers_of, open_detector, open_part
from agetrain.evaluation import Answers, Array
from agetrain.models import open_checkpoint

Told = dict[str, tuple[Answers, npt.NDArray[np.bool_]]]


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.calibrate",
        description="Calibrate the uncertainty of a checkpoint: on one half of the people, measured on the other.",
        epilog="exit status: 0 done, 1 internal error, 2 wrong options, 3 data set, 5 checkpoint, 6 missing package, "
        "130 interrupted",
    )
    parser.add_argument("checkpoint", type=Path, help="best.pth; the calibration is written into it")
    add_part(parser)
    parser.add_argument(
        "--mirror", action="store_true",
        help="let the model answer with the mean over a face and its mirror image: a little better, twice the time "
        "(without this, with the face alone)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write another file and leave this one as it is")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    add_debug(parser)
    return parser


def in_first_half(sample: Sample) -> bool:
    """Which half a picture belongs to: all pictures of a subject to one, whatever else is in the data set."""
    subject = sample.subject.encode() if sample.subject else sample.path.read_bytes()
    return hashlib.sha256(subject).digest()[0] % 2 == 0


def run(options: argparse.Namespace) -> None:
    """Calibrates, measures, writes and prints."""
    values = checkpoint.load(options.checkpoint)
    values["calibration"] = Calibration().to_dict()  # an earlier one is not calibrated again
    values["mirrored"] = options.mirror
    model = open_checkpoint(values, options.checkpoint, options.device)
    detector = open_detector("none" if model.crop.kind == "resize" else "yunet")
    told: Told = {}
    for argument in options.dataset:
        dataset, samples = open_part(options, argument, model.label)
        answers = answers_of(model, samples, detector, model.label, title=dataset.name)
        told[dataset.name] = (answers, np.array([in_first_half(sample) for sample in samples]))
    errors, stds = _together(told, first_half=True)
    if len(errors) < FEWEST_FACES or len(_together(told, first_half=False)[0]) == 0:
        raise DatasetError(f"{len(errors)} faces to calibrate on; {FEWEST_FACES} are needed, and others to measure on")
    try:
        found = fit(errors, stds)
    except ValueError as error:
        raise CheckpointError(f"{options.checkpoint}: {error}; train again") from error
    groups = {**{name: {name: told[name]} for name in told}, "all": told}
    measured = [
        {"dataset": name, "part": options.part, **_coverage(*_together(group, first_half=False), found)}
        for name, group in groups.items()
    ]
    measured = [m for m in measured if m["n"]]
    facts = {"n": len(errors), **found.to_dict(), "other_half": measured}
    values["calibration"] = found.to_dict()
    values["training"] = {**values["training"], "calibration": facts}
    out = options.out or options.checkpoint
    checkpoint.save(out, values)
    print(f"deviation = {found.slope:g} x the network's own {found.offset_years:+g} years, from {len(errors)} faces")
    for m in measured:
        print(
            f"{m['dataset']}: {m['within_1_std_percent']:.1f} % of {m['n']} other faces within one deviation "
            f"(before: {m['within_1_std_percent_before']:.1f} %)"
        )
    print(f"{out}: calibrated\nnext: python -m ageexport {out}")


def _together(told: Told, *, first_half: bool) -> tuple[Array, Array]:
    """Errors and deviations of the faces of one half."""
    chosen = [(a, a.found & (first == first_half)) for a, first in told.values()]
    return np.concatenate([a.errors[c] for a, c in chosen]), np.concatenate([a.stds[c] for a, c in chosen])


def _coverage(errors: Array, stds: Array, found: Calibration) -> dict[str, Any]:
    if len(errors) == 0:
        return {"n": 0}
    return {
        "n": len(errors),
        "within_1_std_percent": coverage_percent(errors, found.apply(stds)),
        "within_1_std_percent_before": coverage_percent(errors, stds),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return guarded("agetrain.calibrate", run, build_parser().parse_args(arguments), unwritten=CheckpointError)


if __name__ == "__main__":
    sys.exit(main())
