"""``python -m ageexport.points MODEL --dataset ...``: measures from which estimate on a model may say "over 18".

The points are put into the model file, for ``ageinfer --over``; its graph stays as it is.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from ageexport.errors import EvidenceError, ExportError, UsageError
from ageexport.files import rewrite
from ageinfer.console import guarded, put
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, check_age_model, model_files, read_model
from ageinfer.engine.operating import OperatingPoint
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain.data import Data
from agetrain.evaluation.answers import OTHER_DATA, THIS_SPLIT
from agetrain.evaluation.models import open_model
from agetrain.evaluation.operating import (
    LEAST_QUALITY,
    STATED_PERCENT,
    YEARS,
    Answered,
    TooFewPeopleError,
    operating_point,
)  # fmt: skip
from agetrain.evaluation.records import Evaluation, Setup, check_datasets, evaluate_part

log = logging.getLogger("ageexport")


def measure_points(
    model: str | Path, data: Sequence[str | Path | Data], *, years: Sequence[int] = YEARS,
    stated_percent: float = STATED_PERCENT, least_quality: float = LEAST_QUALITY, setup: Setup | None = None,
) -> tuple[OperatingPoint, ...]:  # fmt: skip
    """Chooses the operating points of a model file on one half of the people, and measures them on the other half.

    Args:
        model: a file written by ageexport.
        data: labelled pictures that training did not see: what names a data set, or `agetrain.Data`.
        years: the ages that are asked about. Those for which there are too few people are left out, with a warning.
        stated_percent: at most so many people below the age may be answered ``over``, above 0 and below 100.
        least_quality: faces that are seen worse are referred, 0 to 1.
        setup: which part of the data; labels are real ages, and faces are found by the runtime's own detector.

    Raises:
        UsageError: the data was learned from, or a value is out of range.
        DatasetError: the data cannot be read.
        EvidenceError: there are too few people for any of the ages.
        ageinfer.errors.ModelError: the runtime refuses the file.
    """
    if not 0 < stated_percent < 100 or not 0 <= least_quality <= 1:
        raise UsageError("--stated is a percentage above 0 and below 100, --least-quality is 0 to 1")
    if not all(1 <= age <= 100 for age in years):
        raise UsageError("--years: use whole years, 1 to 100")
    path = Path(model)
    setup = replace(setup or Setup(), label="real", detector=None)
    check_datasets(data, setup)
    metadata = check_age_model(read_model(path), path)
    opened = open_model(path)
    evaluations = [evaluate_part(opened, path, each, setup) for each in data]
    for evaluation in evaluations:
        _refuse_learned(evaluation)
    told = Answered.of(evaluations)
    points = []
    for age in sorted(set(years)):
        try:
            point = operating_point(
                told, age, graph_sha256=metadata.graph_sha256, detector=evaluations[0].record["detector"],
                stated_percent=stated_percent, least_quality=least_quality,
            )  # fmt: skip
        except TooFewPeopleError as error:
            log.warning("%d years: no operating point: %s", age, error)
            continue
        points.append(point)
    if not points:
        raise EvidenceError(f"{path}: too few people for any of these ages; nothing was written; add labelled pictures")
    return tuple(points)


def _refuse_learned(evaluation: Evaluation) -> None:
    record = evaluation.record
    seen, part = record["seen_in_training"], record["part"]
    if seen == OTHER_DATA or (seen == THIS_SPLIT and part not in ("train", "all")):
        return
    raise UsageError(
        f"{record['dataset']} {part}: the model learned from it, or may have, so its errors there say nothing of "
        "others; name a part that was held out (--part valid), or other pictures"
    )


def with_points(model: bytes, points: Sequence[OperatingPoint], path: Path) -> bytes:
    """Returns a model file with these operating points in the place of earlier ones of the same ages.

    Raises:
        ExportError: it cannot be written so that its graph stays as it is.
        ageinfer.errors.ModelError: it is no age model.
    """
    metadata = check_age_model(model, path)
    kept = [point for point in metadata.operating_points if point.years not in {new.years for new in points}]
    points = sorted((*kept, *points), key=lambda point: point.years)
    proto = onnx.load_from_string(model)
    properties = {p.key: p.value for p in proto.metadata_props}
    properties[METADATA_KEY] = replace(metadata, operating_points=tuple(points)).to_json()
    onnx.helper.set_model_props(proto, properties)
    written = proto.SerializeToString()
    if check_age_model(written, path).graph_sha256 != metadata.graph_sha256:
        raise ExportError(f"{path}: its graph cannot be written again as it is; export it again with this release")
    return written


def note_points(model: str | Path, points: Sequence[OperatingPoint]) -> ModelMetadata:
    """Puts operating points into a model file, and into its card and proof where they lie beside it.

    Args:
        model: the file; it is replaced.
        points: of `measure_points` for this very file.

    Returns:
        What the file says of itself from then on.

    Raises:
        UsageError: they were measured of another model, or card and proof belong to another file.
        OutputError: a file cannot be written; none is replaced then.
    """
    path = Path(model)
    data = read_model(path)
    expected = check_age_model(data, path).graph_sha256
    if any(point.graph_sha256 != expected for point in points):
        raise UsageError(f"{path}: these operating points were measured of another model; measure them again")
    written = with_points(data, points, path)
    rewrite(path, data, written)
    return check_age_model(written, path)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ageexport.points",
        description="Measure from which estimated age on a model file may answer that somebody has reached an age, on "
        "people whom training did not see: chosen on one half of them, measured on the other. The points are put into "
        "the file, for ageinfer --over. They verify nobody's age.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by ageexport, or the name of a shipped model")
    parser.add_argument(
        "--dataset", action="append", required=True, metavar=DATASET_METAVAR, help=f"{DATASET_HELP}; may be repeated"
    )
    parser.add_argument("--part", help="part to use (default: valid; all of own data that was not learned from)")
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    parser.add_argument(
        "--years", type=int, nargs="+", default=list(YEARS), metavar="Y",
        help=f"the ages that are asked about (default: {' '.join(map(str, YEARS))})",
    )  # fmt: skip
    parser.add_argument(
        "--stated", type=float, default=STATED_PERCENT, metavar="PERCENT",
        help="at most so many of the people in the five years below an age may be answered over, and of those in the "
        f"thirteen years from it on under (default: {STATED_PERCENT:g})",
    )  # fmt: skip
    parser.add_argument(
        "--least-quality", type=float, default=LEAST_QUALITY, metavar="Q",
        help=f"refer faces that are seen worse than this, 0 to 1 (default: {LEAST_QUALITY:g})",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the points, and write nothing")
    add_reading(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> ExitStatus:
    """Measures the points, prints them, and puts them into the file.

    Raises:
        AgeError: they cannot be measured or written.
    """
    path = model_files(options.model)[0]
    setup = Setup(part=options.part, split=options.split, reading=reading_of(options))
    points = measure_points(
        path, options.dataset, years=options.years, stated_percent=options.stated, least_quality=options.least_quality,
        setup=setup,
    )  # fmt: skip
    for point in points:
        put(in_words(point))
    if not options.dry_run:
        note_points(path, points)
        put(f"{path}: has these operating points now; ageinfer SOURCE --model {path} --over {points[0].years}")
    return ExitStatus.OK


def in_words(point: OperatingPoint) -> str:
    """An operating point in one line."""
    low, high = point.below_years
    first, last = point.above_years
    worst = f"; most in {point.worst.group}, {point.worst}" if point.worst else ""
    missed = [name for name, held in (("over", point.over_held), ("under", point.under_held)) if not held]
    kept = f" {' and '.join(missed)} NOT KEPT and never answered: {point.stated_percent:g} % is stated;" * bool(missed)
    return (
        f"{point.years}: over from {point.over_from_years:.2f}, under below {point.under_below_years:.2f} estimated "
        f"years;{kept} of {low}-{high}, {point.false_positive} over{worst}; of {first}-{last}, {point.false_negative} "
        f"under; referred {point.referred_below_percent:.0f} and {point.referred_above_percent:.0f} %"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    logging.getLogger("ageexport").setLevel(logging.INFO)
    return guarded("ageexport.points", lambda: run(options), debug=options.debug, extra="export")


if __name__ == "__main__":
    sys.exit(main())
