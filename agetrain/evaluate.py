"""``python -m agetrain.evaluate MODEL --dataset NAME``: measures checkpoints and model files on data sets."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.console import guarded
from ageinfer.errors import DATA_STATUSES, status_table
from agetrain._data_options import DATASET_HELP, DATASET_METAVAR, add_reading, reading_of
from agetrain._files import write_json, write_text
from agetrain.datasets.parts import PARTS
from agetrain.datasets.problems import LIST, write_problems
from agetrain.errors import UsageError
from agetrain.evaluation import aev_report, report
from agetrain.evaluation.aev_document import aev_schema, document, record_of
from agetrain.evaluation.answers import DETECTORS, write_predictions
from agetrain.evaluation.comparing import are_seeds, differences, over_seeds
from agetrain.evaluation.evaluated import Report
from agetrain.evaluation.models import open_model
from agetrain.evaluation.records import Evaluation, Setup, check_datasets, evaluate_part
from agetrain.evaluation.rows import SUFFIXES, write_rows

if TYPE_CHECKING:
    from ageinfer.pipeline import Pipeline


class _PrintSchema(argparse.Action):
    """Prints the schema while the arguments are read, so that none of the others is needed."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(json.dumps(aev_schema(), indent=2))
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m agetrain.evaluate",
        description="Measure age models on data sets, picture file in, detector and crop included.",
        epilog=status_table(*DATA_STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL",
        help="a checkpoint (best.pth) or a model file (*.onnx); several are compared picture by picture, and of runs "
        "that differ in their seed alone mean and deviation are printed",
    )  # fmt: skip
    add_part(parser)
    parser.add_argument(
        "--label", choices=("real", "apparent"), help="age to compare with (default: what the model answers)"
    )
    parser.add_argument(
        "--detector", choices=DETECTORS,
        help="face detector; none takes the whole picture for the face (default: yunet, or none for a model of whole "
        "pictures)",
    )  # fmt: skip
    parser.add_argument(
        "--box-margin", type=float, default=0.4, metavar="M",
        help="for a model of whole pictures with a detector: margin round the box, as a share of its longer side "
        "(default: 0.4, as in APPA-REAL's face pictures)",
    )  # fmt: skip
    parser.add_argument("--no-landmarks", action="store_true", help="crop by boxes alone, without landmarks")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for evaluation.json, .md and .png, and rows.csv"
    )
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="write a row for each picture (.csv or .parquet): file, label, answer"
    )
    parser.add_argument(
        "--report", choices=("aev",), action="append", default=[],
        help="also write this report into --out: aev, the figures of age verification (false positives of minors at "
        "several cut-offs, false negatives of adults, no answer, by group)",
    )  # fmt: skip
    parser.add_argument(
        "--films", nargs="+", type=Path, default=[], metavar="FILM",
        help="with --report aev: also measure in these films how far the answers to one face differ from frame to "
        "frame, and how often they cross a cut-off; no ages need to be known",
    )  # fmt: skip
    parser.add_argument("--json-schema", action=_PrintSchema, help="print the JSON schema of aev.json, and exit")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="write the answers for a teacher (.npz)")
    parser.add_argument(
        "--robustness", type=int, nargs="?", const=500, default=0, metavar="N",
        help="measure N pictures (default: 500) under other margins, blur, JPEG, size, rotation and light as well",
    )  # fmt: skip
    parser.add_argument(
        "--leave-one-out", action="store_true",
        help="instead: for each data set, learn a head on the frozen network's features of the train parts of all "
        "others, and measure it on the train part of that one; MODEL is a checkpoint, or the start file of the face "
        "network",
    )  # fmt: skip
    parser.add_argument(
        "--start-weight", type=float, default=0.3, metavar="W",
        help="with --leave-one-out: share of the network's own answers in what is learned (default: 0.3)",
    )  # fmt: skip
    parser.add_argument(
        "--age-balance", type=float, default=0.0, metavar="P",
        help="with --leave-one-out: how far rare ages count more (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="DIR",
        help="folder of what is made of pictures once (default: cache)",
    )  # fmt: skip
    parser.add_argument("--resamples", type=int, default=2000, help="resamples of the bootstrap (default: 2000)")
    parser.add_argument("--device", default="cpu", help="device for checkpoints: cpu, cuda (default: cpu)")
    add_trust(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_part(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which pictures are used; see `agetrain.evaluation.answers.open_part`."""
    parser.add_argument(
        "--dataset", action="append", required=True, metavar=DATASET_METAVAR, help=f"{DATASET_HELP}; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--part", choices=(*PARTS, "all"),
        help="part to use (default: valid; all of own data that is in no parts and that the model did not learn from)",
    )  # fmt: skip
    parser.add_argument("--split", type=Path, metavar="FILE", help="a split file of python -m agetrain.splits")
    parser.add_argument("--split-csv", type=Path, nargs="+", metavar="CSV", help="the lists of the original work")
    add_reading(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust-code`` to the parser of a command that builds the networks of checkpoints."""
    parser.add_argument(
        "--trust-code", action="store_true",
        help="allow code of your own to run: the FILE.py that a checkpoint's network was made by, in this folder",
    )  # fmt: skip


def evaluations(options: argparse.Namespace) -> list[Evaluation]:
    """Measures every model on every data set, and prints a line for each.

    Raises:
        AgeError: the options do not fit together, or a model or a data set cannot be read.
    """
    setup = Setup(
        part=options.part, label=options.label, split=options.split, split_csv=tuple(options.split_csv or ()),
        detector=options.detector, box_margin=options.box_margin, landmarks=not options.no_landmarks,
        robustness=options.robustness, resamples=options.resamples, reading=reading_of(options),
        problems=options.out / LIST if options.out else None,
    )  # fmt: skip
    check_datasets(options.dataset, setup)
    if options.predictions and len(options.models) > 1:
        raise UsageError("--predictions takes the answers of one model")
    if options.report and not options.out:
        raise UsageError("--report writes into a folder; name it with --out DIR")
    if options.rows and options.rows.suffix not in SUFFIXES:
        raise UsageError(f"--rows {options.rows}: the name must end in {' or '.join(SUFFIXES)}")
    models = [(open_model(path, options.device, trust_code=options.trust_code), path) for path in options.models]
    learned = {str(data["dataset"]) for model, _ in models for data in model.data}
    seeds = are_seeds([model.recipe for model, _ in models])
    done: list[Evaluation] = []
    for dataset in options.dataset:
        of_models: list[Evaluation] = []
        for model, path in models:
            of_models.append(evaluate_part(model, path, dataset, setup, learned=learned))
            print(report.line(of_models[-1].record))
        if seeds and of_models[0].record["n"]:
            spread = over_seeds([evaluation.record["mae"] for evaluation in of_models])
            name = of_models[0].record["dataset"]
            print(f"{name}: {spread['n']} seeds, MAE {spread['mean']:.2f}, sd {spread['sd']:.2f}")
            for evaluation in of_models:
                evaluation.record["over_seeds"] = spread
        elif len(models) > 1:
            for other in of_models[1:]:
                found = differences(of_models[0].rows, other.rows, resamples=options.resamples)
                other.record["differences"] = [asdict(difference) for difference in found]
                print("\n".join(map(str, found)))
        done += of_models
    return done


def report_evaluations(options: argparse.Namespace) -> None:
    """Measures, prints, and writes the files that were asked for."""
    if options.leave_one_out:
        report_leave_one_out(options)
        return
    pipelines = pipelines_for_films(options)
    done = evaluations(options)
    if options.predictions:
        write_predictions(options.predictions, [(e.samples, e.answers) for e in done])
    if options.rows:
        write_rows(options.rows, [row for evaluation in done for row in evaluation.rows])
    if options.out:
        Report(tuple(done)).save(options.out)
        write_problems(options.out / LIST, {p: None for e in done for p in e.problems})
        print(f"{options.out}: evaluation.json, evaluation.md, evaluation.png, rows.csv")
        if "aev" in options.report:
            report_aev(options, done, pipelines)


def report_aev(
    options: argparse.Namespace, done: Sequence[Evaluation], pipelines: Sequence[tuple[Path, "Pipeline"]]
) -> None:
    """Measures the films, and writes the report of age verification.

    Raises:
        AgeError: a film cannot be read, or a file cannot be written.
    """
    from agetrain.evaluation import film_steadiness

    records = [record_of(e, resamples=options.resamples) for e in done if e.record["n"]]
    films = []
    for path, pipeline in pipelines:
        films.append(film_steadiness.measure(path, pipeline, options.films))
        print(film_steadiness.line(films[-1]))
    aev_report.save(options.out, document(records, films))
    print(f"{options.out}: aev.json, aev.md, aev.html, aev.png")


def pipelines_for_films(options: argparse.Namespace) -> list[tuple[Path, "Pipeline"]]:
    """Opens what ``--films`` needs: every model with the runtime.

    Raises:
        AgeError: the options do not fit together, or a model or a film cannot be read.
    """
    from agetrain.evaluation import film_steadiness

    if not options.films:
        return []
    if "aev" not in options.report:
        raise UsageError("--films adds to the figures of age verification; give --report aev as well")
    pipelines = [(path, film_steadiness.open_pipeline(path, options.detector or "yunet")) for path in options.models]
    film_steadiness.check_films(options.films)
    return pipelines


def report_leave_one_out(options: argparse.Namespace) -> None:
    """Prints the table of ``--leave-one-out``, and writes it where that was asked for.

    Raises:
        AgeError: the options do not fit together, or the model or a data set cannot be read.
    """
    from agetrain.evaluation.leave_one_out import leave_one_out, markdown

    if len(options.models) > 1:
        raise UsageError("--leave-one-out takes one checkpoint, or start file")
    records = leave_one_out(
        options.models[0], options.dataset, options.cache, start_weight=options.start_weight,
        age_balance=options.age_balance, reading=reading_of(options),
    )  # fmt: skip
    text = markdown(records)
    print(text, end="")
    if options.out:
        write_json(options.out / "leave-one-out.json", {"leave_one_out": records})
        write_text(options.out / "leave-one-out.md", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(
        "agetrain.evaluate", lambda: report_evaluations(options), debug=options.debug, level=logging.INFO, extra="train"
    )


if __name__ == "__main__":
    sys.exit(main())
