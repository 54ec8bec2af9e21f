"""``python -m agetrain.calibrate best.pth --dataset NAME``: makes the deviation of a checkpoint mean what it says.

With ``--mirror`` the model also answers with the mean over a face and its mirror image from then on, with
``--no-mirror`` with the face alone; without either it answers as it did.

The subjects of the part are divided in two by a hash. One half says how the network's own deviation must be stretched
and moved (`agetrain.network.calibration`); on the other half it is measured how often the label then lies within it.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain.datasets import Dataset, Sample
from agetrain.errors import CheckpointError, DatasetError
from agetrain.evaluate import OTHER_DATA, THIS_SPLIT, add_part, answers_of, open_detector, open_part, seen_in_training
from agetrain.evaluation.figures import Answers, Array
from agetrain.evaluation.models import Model, open_checkpoint
from agetrain.network import checkpoint
from agetrain.network.calibration import FEWEST_FACES, Calibration, coverage_percent, fit

log = logging.getLogger("agetrain")
Told = dict[str, tuple[Answers, npt.NDArray[np.bool_]]]


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.calibrate",
        description="Calibrate the uncertainty of a checkpoint: on one half of the people, measured on the other.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="best.pth; the calibration is written into it")
    add_part(parser)
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction,
        help="let the model answer with the mean over a face and its mirror image: a little better, twice the time; or "
        "with the face alone (default: as the checkpoint does)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write another file and leave this one as it is")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def in_first_half(sample: Sample) -> bool:
    """Which half a picture belongs to: all pictures of a subject to one, whatever else is in the data set."""
    subject = sample.subject.encode() if sample.subject else sample.path.read_bytes()
    return hashlib.sha256(subject).digest()[0] % 2 == 0


def run(options: argparse.Namespace) -> None:
    """Calibrates, measures, writes and prints."""
    values = checkpoint.load(options.checkpoint)
    values["calibration"] = Calibration().to_dict()  # an earlier one is not calibrated again
    if options.mirror is not None:
        values["mirrored"] = options.mirror
    mirrored = bool(values.get("mirrored", False))
    model = open_checkpoint(values, options.checkpoint, options.device)
    detector = open_detector("none" if model.crop.kind == "resize" else "yunet")
    told: Told = {}
    for argument in options.dataset:
        dataset, samples = open_part(options, argument, model.label)
        _warn_of_learned(model, dataset, options.part)
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
    # Training measured them of the face alone, whatever the network answers from here on.
    values["metrics"] = [{"mirrored": False, **figures} for figures in values["metrics"]]
    out = options.out or options.checkpoint
    checkpoint.save(out, values)
    print(f"deviation = {found.slope:g} x the network's own {found.offset_years:+g} years, from {len(errors)} faces")
    for m in measured:
        print(
            f"{m['dataset']}: {m['within_1_std_percent']:.1f} % of {m['n']} other faces within one deviation "
            f"(before: {m['within_1_std_percent_before']:.1f} %)"
        )
    whom = "a face and its mirror image, in twice the time (--mirror)" if mirrored else "the face alone (--no-mirror)"
    print(f"it answers for {whom}")
    print(f"{out}: calibrated\nnext: python -m ageexport {out}")


def _warn_of_learned(model: Model, dataset: Dataset, part: str) -> None:
    """Says that the network may know the pictures by heart: its errors on them tell nothing of its errors on others."""
    # The hash of a split is over the labels too, and a second head answers the other label than the run learned by.
    seen = {seen_in_training(model, d) for d in (dataset, _by_other_label(dataset))}
    if seen == {OTHER_DATA} or (THIS_SPLIT in seen and part != "train"):
        return
    learned = "learned this part"
    if THIS_SPLIT not in seen:
        learned = "learned from another split of this data set, perhaps from some of these pictures"
    log.warning(
        "%s %s: the network %s: its deviation would be found too small; calibrate on a part that was held out",
        dataset.name, part, learned,
    )  # fmt: skip


def _by_other_label(dataset: Dataset) -> Dataset:
    """The same pictures by the other of real and apparent age, where they have one."""
    parts = {
        part: tuple(s if s.other_years is None else replace(s, age_years=s.other_years) for s in samples)
        for part, samples in dataset.parts.items()
    }
    return replace(dataset, parts=parts)


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
    options = build_parser().parse_args(arguments)
    return guarded("agetrain.calibrate", lambda: run(options), debug=options.debug, level=logging.INFO, extra="train")


if __name__ == "__main__":
    sys.exit(main())
