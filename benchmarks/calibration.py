"""How often the label lies within one deviation, by bands of age, for several ways to calibrate the deviation.

    python benchmarks/calibration.py CHECKPOINT NAME=FOLDER ... [--json FILE]

NAME is a data set of agetrain; its part valid is used. Every way is fitted on one half of the people, as
``python -m agetrain.calibrate`` does it, and measured on the other half: the network's own deviation, two numbers, two
numbers and years by age, and split conformal prediction by bands of the answered age. Prints Markdown.
"""

import argparse
import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ageexport import providers
from agetrain.evaluation.answers import answers_of, open_detector, open_part
from agetrain.evaluation.calibrating import in_first_half
from agetrain.evaluation.coverage import BANDS, BY_AGE, bands, coverage
from agetrain.evaluation.figures import FEWEST
from agetrain.evaluation.models import open_checkpoint
from agetrain.network.calibration import WITHIN_1_STD, Calibration, fit_calibration
from agetrain.network.checkpoint import Checkpoint

Way = Callable[[np.ndarray, np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    told = {text.partition("=")[0]: answers(options.checkpoint, text) for text in options.datasets}
    first, other = ({name: {k: v[half] for k, v in t.items()} for name, (t, f) in told.items()
                     for half in [f if is_first else ~f]} for is_first in (True, False))  # fmt: skip
    found = ways(**{k: np.concatenate([f[k] for f in first.values()]) for k in ("ages", "labels", "stds")})
    groups = {**other, "all": {k: np.concatenate([o[k] for o in other.values()]) for k in ("ages", "labels", "stds")}}
    results: dict[str, Any] = {
        name: {way: coverage(g["ages"], g["labels"], g["stds"], of(g["stds"], g["ages"])) for way, of in found.items()}
        for name, g in groups.items()
    }
    print(f"{options.checkpoint.name}, {providers.machine()['processor']}, {datetime.date.today()}\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def answers(path: Path, dataset: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ages, labels and the network's own deviations of the faces of valid, and which belong to the first half."""
    checkpoint = replace(Checkpoint.load(path), calibration=Calibration())
    model = open_checkpoint(checkpoint, path)
    _, _, samples = open_part(dataset, "valid", model.label)
    told = answers_of(model, samples, open_detector("yunet"), model.label, title=dataset)
    used = told.exact & told.found
    rows = told.rows(used)
    first = np.array([in_first_half(s) for s, use in zip(samples, used.tolist(), strict=True) if use])
    return {"ages": rows.estimates, "labels": rows.labels, "stds": rows.stds}, first


def ways(ages: np.ndarray, labels: np.ndarray, stds: np.ndarray) -> dict[str, Way]:
    """Fits every way on the faces of one half."""
    bent = fit_calibration(ages - labels, stds, ages)
    line = fit_calibration(ages - labels, stds, np.full(len(ages), 30.0))
    print(f"{len(ages)} faces: {bent}\n")
    return {"own": lambda stds, _: stds, "two numbers": line.apply, "and by age": bent.apply,
            "conformal": conformal(ages, np.abs(ages - labels), stds, line)}  # fmt: skip


def conformal(ages: np.ndarray, errors: np.ndarray, stds: np.ndarray, line: Calibration) -> Way:
    """Split conformal prediction (Vovk, ACML 2012) by bands: in each, a factor on the deviation of two numbers."""
    ratios, names = errors / line.apply(stds, ages), bands(ages)
    factors = dict.fromkeys(BANDS, 1.0)
    for name in BANDS:
        n = int((names == name).sum())
        if n >= FEWEST:
            factors[name] = float(np.quantile(ratios[names == name], min(1.0, WITHIN_1_STD * (n + 1) / n)))
    return lambda stds, ages: line.apply(stds, ages) * np.array([factors[name] for name in bands(ages).tolist()])


def table(results: dict[str, Any]) -> str:
    """One row for each data set and band, one column for each way."""
    names = list(next(iter(results.values())))
    lines = [f"| faces | by | band | n | {' | '.join(names)} |", "|---" * (4 + len(names)) + "|"]
    for group, of_way in results.items():
        for by, title in BY_AGE.items():
            for band in BANDS:
                found = [of_way[way][by][band] for way in names]
                if "within_1_std_percent" in found[0]:
                    percents = " | ".join(f"{f['within_1_std_percent']:.1f}" for f in found)
                    lines.append(f"| {group} | {title} | {band} | {found[0]['n']} | {percents} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
