"""How often the label lies within one deviation, by bands of age, for several ways to calibrate the deviation.

    python benchmarks/calibration.py CHECKPOINT NAME=FOLDER ... [--json FILE] [--sizes 200 500 1000 1700]

NAME is a data set of agetrain; its part valid is used. Every way is fitted on one half of the people, as
``python -m agetrain.calibrate`` does it, and measured on the other half: the network's own deviation, two numbers, two
numbers and years by age, and split conformal prediction by bands of the answered age. Prints Markdown.

With ``--sizes`` the other half is left alone: each way is fitted on so many faces of the first half, drawn at random,
and measured on those of the first half that were not drawn, again and again. Choices are made by that.
"""

import argparse
import datetime
import json
from collections.abc import Callable, Sequence
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
from agetrain.network.calibration import WITHIN_1_STD, Calibration, fit_calibration, fit_line
from agetrain.network.checkpoint import Checkpoint

TIMES = 30

Faces = dict[str, np.ndarray]
Way = Callable[[np.ndarray, np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N")
    options = parser.parse_args()
    print(f"{options.checkpoint.name}, {providers.machine()['processor']}, {datetime.date.today()}\n")
    told = {text.partition("=")[0]: answers(options.checkpoint, text) for text in options.datasets}
    first = together([some(t, f) for t, f in told.values()])
    if options.sizes:
        print(by_size(first, options.sizes))
        return
    found = ways(**first)
    other = {name: some(t, ~f) for name, (t, f) in told.items()}
    groups = {**other, "all": together(list(other.values()))}
    results: dict[str, Any] = {
        name: {way: coverage(g["ages"], g["labels"], g["stds"], of(g["stds"], g["ages"])) for way, of in found.items()}
        for name, g in groups.items()
    }
    print(f"fitted on {len(first['ages'])} faces\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def some(faces: Faces, chosen: np.ndarray) -> Faces:
    return {name: values[chosen] for name, values in faces.items()}


def together(parts: Sequence[Faces]) -> Faces:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def answers(path: Path, dataset: str) -> tuple[Faces, np.ndarray]:
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
    line = fit_line(ages - labels, stds)
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


def by_size(faces: Faces, sizes: Sequence[int]) -> str:
    """One row for each number of faces and way: distances from 68.3 %, and the loss of the quantile regression."""
    lines = [f"| fitted on | way | {' | '.join(BANDS)} | mean distance | loss against two numbers |"]
    lines.append("|---" * (4 + len(BANDS)) + "|")
    random = np.random.default_rng(0)
    for size in sizes:
        distances: dict[str, list[list[float]]] = {}
        losses: dict[str, list[float]] = {}
        for _ in range(TIMES):
            order = random.permutation(len(faces["ages"]))
            rest = some(faces, order[size:])
            for way, of in ways(**some(faces, order[:size])).items():
                stds = of(rest["stds"], rest["ages"])
                told = coverage(rest["ages"], rest["labels"], stds, stds)["by_predicted_age"].values()
                percents = [band.get("within_1_std_percent", np.nan) for band in told]
                distances.setdefault(way, []).append([abs(p - 100 * WITHIN_1_STD) for p in percents])
                above = np.abs(rest["ages"] - rest["labels"]) - stds
                losses.setdefault(way, []).append(np.maximum(WITHIN_1_STD * above, (WITHIN_1_STD - 1) * above).mean())
        for way, values in distances.items():
            means = np.nanmean(values, axis=0)
            more = 100 * (np.mean(losses[way]) / np.mean(losses["two numbers"]) - 1)
            cells = " | ".join(f"{mean:.1f}" for mean in means)
            lines.append(f"| {size} | {way} | {cells} | {means.mean():.1f} | {more:+.2f} % |")
    return "\n".join(lines)


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
