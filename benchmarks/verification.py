"""The figures of age verification of the shipped models, and of another estimator, on the same faces.

    python benchmarks/verification.py NAME=FOLDER [NAME=FOLDER ...] [--peer NAME ...] [--peer-files FOLDER]
        [--crops FILE] --out FOLDER

NAME is a data set of agetrain, FOLDER where it lies unpacked; the valid part is measured, as by ``python -m
agetrain.evaluate --report aev``. Faces are found by YuNet for all, the one nearest the centre counts. Each peer has the
crop that an earlier ``accuracy.py --json`` has chosen for it on train (--crops). Writes aev.json, aev.md, aev.html,
aev.png and rows.csv, and prints a table of all of them side by side.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
from accuracy import MODELS, SHIPPED, Ours, Picture, ask, found_in, take_crops
from peer_estimators import PEERS, Estimator, open_peer

from ageinfer.detect import YuNet
from agetrain._files import file_sha256
from agetrain.datasets import Dataset, load_dataset
from agetrain.evaluation import aev, aev_report
from agetrain.evaluation.aev_document import document
from agetrain.evaluation.answers import OTHER_DATA, seen_in_training
from agetrain.evaluation.models import open_model
from agetrain.evaluation.rows import Row, write_rows


def rows_of(name: str, dataset: str, pictures: list[Picture], answers: list[float]) -> list[Row]:
    return [
        Row(
            name, dataset, "valid", sample.path.as_posix(), sample.subject or "", sample.age_years, None, None,
            round(answer, 4) if answer == answer else 0.0, None, round(answer - sample.age_years, 4), answer == answer,
            sample.attributes,
        )
        for sample, answer in zip((picture.sample for picture in pictures), answers, strict=True)
    ]  # fmt: skip


def about(estimator: Estimator, dataset: Dataset, detector: YuNet) -> dict[str, Any]:
    """What `agetrain.evaluate` says of a model and of a data set; of a peer no single file answers."""
    file = MODELS / estimator.version if isinstance(estimator, Ours) else None
    return {
        "model_sha256": file and file_sha256(file), "label": "real", "split": dataset.split,
        "split_sha256": dataset.split_sha256(), "detector": detector.identifier,
        "seen_in_training": seen_in_training(open_model(file), dataset) if file else OTHER_DATA,
    }  # fmt: skip


def side_by_side(records: list[dict[str, Any]]) -> str:
    """A row for each model and data set."""
    cutoffs = list(records[0]["cutoffs"])
    head = [
        "set", "model", "minors, adults", *(f"minors taken for {c} or older" for c in cutoffs),
        *(f"adults taken for younger than {c}" for c in cutoffs), "the same at 1, 5, 10 % of minors", "no answer",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for r in records:
        minors = [r["cutoffs"][c]["false_positive"]["minors"] for c in cutoffs]
        adults = [r["cutoffs"][c]["false_negative"]["adults"] for c in cutoffs]
        at = [one.get("false_negative", {}) for one in r["at_false_positive_percent"].values()]
        lines.append(
            f"| {r['dataset']} | {r['model']} | {minors[0]['n']}, {adults[0]['n']} | "
            + " | ".join(map(percent, [*minors, *adults]))
            + f" | {', '.join(map(percent, at))} | {percent(r['no_answer']['all'])} |"
        )
    return "\n".join(lines)


def percent(figures: dict[str, Any]) -> str:
    return f"{figures['percent']:.1f}" if "percent" in figures else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--peer", action="append", choices=PEERS, default=[])
    parser.add_argument("--peer-files", type=Path, default=Path("../shared/peers"), metavar="FOLDER")
    parser.add_argument("--crops", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = YuNet(provider="cpu", threads=1)
    models = [path for path in SHIPPED if "fp32" not in path.name]
    estimators: list[Estimator] = [Ours(path, detector) for path in models]
    estimators += [open_peer(name, options.peer_files) for name in options.peer]
    if options.crops:
        take_crops(estimators, json.loads(options.crops.read_text()))
    rows: list[Row] = []
    records = []
    for argument in options.datasets:
        name, _, folder = argument.partition("=")
        dataset, _ = load_dataset(name, folder or None)
        pictures = found_in([s for s in dataset.parts["valid"] if s.interval_years is None], detector)
        for estimator, answers in zip(estimators, ask([e.ages for e in estimators], pictures), strict=True):
            of_one = rows_of(estimator.name, name, pictures, answers.tolist())
            rows += of_one
            records.append(about(estimator, dataset, detector) | aev.report(of_one))
            print(side_by_side(records[-1:]).splitlines()[-1], flush=True)
    aev_report.save(options.out, document(records))
    write_rows(options.out / "rows.csv", rows)
    print(f"\n{side_by_side(records)}")


if __name__ == "__main__":
    main()
