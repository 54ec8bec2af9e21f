"""``python -m ageexport.elsewhere MODEL PICTURE ...``: proves a model file where else it will run."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ageexport._place_options import add_places, places_of
from ageexport.errors import EvidenceError, RungError
from ageinfer.console import guarded, put
from ageinfer.errors import DATA_STATUSES, ExitStatus, status_table


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ageexport.elsewhere",
        description="Compare a model file in a browser and on an emulated arm64 processor with the runtime here: the "
        "faces, boxes, crops and ages of the same picture files.",
        epilog=status_table(*DATA_STATUSES, ExitStatus.UNPROVED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by ageexport, or the name of a shipped model")
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE", help="picture files, or folders of them")
    add_places(parser)
    parser.add_argument(
        "--card", action="store_true", help="put what comes out into the card and the proof beside the model"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> ExitStatus:
    """Compares the file, and prints what came out.

    Raises:
        RungError: the file answers something else there.
        AgeError: it cannot be compared, or the card cannot be written.
    """
    from ageexport.elsewhere.places import rungs
    from ageexport.files import note_rungs
    from ageexport.ladder import Bounds
    from ageinfer.engine.modelfile import model_files, read_model
    from ageinfer.pipeline import Pipeline

    path = model_files(options.model)[0]
    given = [file for place in options.pictures for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    pipeline = Pipeline.default(path, provider="cpu", threads=1)
    found = rungs(read_model(path), pipeline, given, Bounds(), places_of(options))
    for rung in found:
        put(str(rung))
    if options.card:
        note_rungs(path, found)
    failed = [rung for rung in found if rung.status == "failed"]
    if failed:
        more = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise RungError(f"{path}: does not answer elsewhere what it answers here: {failed[0]}{more}")
    if not any(rung.status == "passed" for rung in found):
        raise EvidenceError(f"{path}: nothing could be compared: {'; '.join(rung.note for rung in found)}")
    return ExitStatus.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    logging.getLogger("ageexport").setLevel(logging.INFO)
    return guarded("ageexport.elsewhere", lambda: run(options), debug=options.debug, extra="export")


if __name__ == "__main__":
    sys.exit(main())
