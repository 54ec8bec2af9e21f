"""Keeps the figures of finished runs, and writes the tables and curves of docs/results/reproduction.md.

    python benchmarks/reproduction.py [RUN_DIR ...] [--note TEXT]

Of each run folder of ``python -m agetrain`` the figures of every epoch and of the kept one are copied; then the tables
between the markers of docs/results/reproduction.md and images/reproduction.png beside it are made anew. Runs
of the AFAD and CACD experiments are taken to be runs on stand-ins (`standins.py`), and stand in a table of their own.
"""

import argparse
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from agetrain.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "docs" / "results" / "reproduction"
DOCUMENT = ROOT / "docs" / "results" / "reproduction.md"
CURVES = ROOT / "docs" / "results" / "images" / "reproduction.png"
RUNS = ("<!-- runs: benchmarks/reproduction.py -->", "<!-- end of runs -->")
STAND_INS = ("<!-- stand-ins: benchmarks/reproduction.py -->", "<!-- end of stand-ins -->")
BEST = ("<!-- best: benchmarks/reproduction.py -->", "<!-- end of best -->")
KEPT = (
    "experiment",
    "start",
    "epoch",
    "train_median",
    "recipe",
    "torch",
    "torchvision",
    "python",
    "git_commit",
    "data",
)


def collect(run: Path, note: str) -> None:
    """Copies what is to be kept of a finished run, for each label that it learned."""
    for file in sorted(run.glob("metrics*.json")):
        record = json.loads(file.read_text())
        training = {k: record["training"][k] for k in KEPT}
        name = training["experiment"] + ("" if run.name == training["experiment"] else f"-{run.name}")
        kept = {"note": note, "metrics": record["metrics"], "training": training, "history": record["history"]}
        target = RECORDS / f"{name}{file.stem.removeprefix('metrics')}.json"
        target.write_text(json.dumps(kept, indent=1) + "\n")


def loss_of(record: dict[str, Any], figures: dict[str, float]) -> float:
    return figures["selection_mse" if record["training"]["recipe"]["loss"] == "mse" else "selection_mae"]


def losses(record: dict[str, Any]) -> tuple[str, str]:
    """Train and valid loss of the epoch that was kept, and of the last one, as cells of a table."""
    history, kept = record["history"], record["training"]["epoch"]
    first, last = (
        f"{figures['train_loss']:.4g} / {loss_of(record, figures):.4g} (epoch {epoch})"
        for epoch, figures in ((kept, history[kept - 1]), (len(history), history[-1]))
    )
    return first, last


def loss_name(record: dict[str, Any]) -> str:
    return {"mse": "MSE", "l1": "L1"}[record["training"]["recipe"]["loss"]]


def table(records: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| run | loss | published train / valid | reproduced, kept epoch | last epoch | valid MAE, years | "
        "always the median | seconds an epoch | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        published = EXPERIMENTS[record["training"]["experiment"]].published
        kept, last = losses(record)
        about = "about " if published and published.approximate else ""
        told = f"{about}{published.train:g} / {about}{published.valid:g}" if published and published.valid else "-"
        [valid] = [m for m in record["metrics"] if m["part"] == "valid"][:1]
        lines.append(
            f"| [{name}](reproduction/{record.get('file', name)}.json) | {loss_name(record)} | {told} | {kept} | "
            f"{last} | {valid['mae']:.2f} | {valid['mae_of_train_median']:.2f} | {spread(record['history'])} | "
            f"{record['note']} |"
        )
    return "\n".join(lines)


def spread(history: list[dict[str, float]]) -> str:
    """The median of the epochs' times, and the range."""
    seconds = [epoch["seconds"] for epoch in history]
    return f"{statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"


def beginning(records: dict[str, dict[str, Any]], of: str, name: str) -> dict[str, dict[str, Any]]:
    """A run that is the first epochs of another one, which keeps its best epoch on valid; nothing if it was run itself.

    With the same seed their epochs are equal to every digit: nothing in the recipe looks ahead to the last epoch.
    """
    if of not in records or name in records:
        return {}
    epochs = EXPERIMENTS[name].recipe.epochs
    whole = records[of]
    if replace(EXPERIMENTS[of].recipe, epochs=epochs) != EXPERIMENTS[name].recipe:
        raise SystemExit(f"{name} is not the beginning of {of}")
    history = whole["history"][:epochs]
    kept = min(range(epochs), key=lambda i: history[i]["selection_mae"])
    valid = {"part": "valid", "mae": history[kept]["selection_mae"]}
    [median] = [m["mae_of_train_median"] for m in whole["metrics"] if m["part"] == "valid"]
    training = {**whole["training"], "experiment": name, "epoch": kept + 1}
    record = {
        "file": of, "history": history, "training": training, "metrics": [{**valid, "mae_of_train_median": median}],
        "note": f"{whole['note']}; the first {epochs} epochs of {of}",
    }  # fmt: skip
    return {name: record}


def stand_in_table(records: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| run | loss | train / valid, kept epoch | last epoch | valid MAE, years | always the median | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        kept, last = losses(record)
        [valid] = [m for m in record["metrics"] if m["part"] == "valid"]
        lines.append(
            f"| [{name}](reproduction/{name}.json) | {loss_name(record)} | {kept} | {last} | {valid['mae']:.2f} | "
            f"{valid['mae_of_train_median']:.2f} | {record['note']} |"
        )
    return "\n".join(lines)


def best_table(records: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| run | start | label | APPA-REAL valid | UTKFace valid | All-Age-Faces valid | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        valid = {m["dataset"]: m for m in record["metrics"] if m["part"] == "valid"}
        label = next(iter(valid.values()))["label"]
        cells = [
            f"{valid[d]['mae']:.2f} ({valid[d]['mae_of_train_median']:.2f})" if d in valid else "-"
            for d in ("appa-real", "utkface", "all-age-faces")
        ]
        start = record["training"]["start"].partition(",")[0]
        lines.append(
            f"| [{name}](reproduction/{name}.json) | {start} | {label} | {' | '.join(cells)} | {record['note']} |"
        )
    return "\n".join(lines)


def draw(records: dict[str, dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 4
    rows = math.ceil(len(records) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(16, 3.4 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(records) :]:
        axis.axis("off")
    for axis, (name, record) in zip(axes.flat, records.items(), strict=False):
        history = record["history"]
        epochs = range(1, len(history) + 1)
        axis.plot(epochs, [h["train_loss"] for h in history], marker="o", markersize=3, label="train")
        axis.plot(epochs, [loss_of(record, h) for h in history], marker="o", markersize=3, label="valid")
        published = EXPERIMENTS[record["training"]["experiment"]].published
        if published and published.valid and published.train:
            axis.axhline(published.train, color="tab:blue", linestyle=":", label="published train")
            axis.axhline(published.valid, color="tab:orange", linestyle=":", label="published valid")
        axis.set(title=name, xlabel="epoch", ylabel=record["training"]["recipe"]["loss"], ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(CURVES, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    RECORDS.mkdir(parents=True, exist_ok=True)
    for run in options.runs:
        collect(run, options.note)
    order = list(EXPERIMENTS)
    files = sorted(RECORDS.glob("*.json"), key=lambda f: (order.index(f.stem.partition("-")[0]), f.stem))
    records = {file.stem: json.loads(file.read_text()) for file in files}
    dataset_of = {name: EXPERIMENTS[record["training"]["experiment"]].dataset for name, record in records.items()}
    original = {k: r for k, r in records.items() if dataset_of[k] == "appa-real"}
    original = dict(sorted((original | beginning(original, "A8", "A6")).items()))
    stand_ins = {k: r for k, r in records.items() if dataset_of[k] in ("afad", "cacd")}
    text = DOCUMENT.read_text()
    for (begin, end), made in (
        (RUNS, table(original)),
        (STAND_INS, stand_in_table(stand_ins)),
        (BEST, best_table({k: r for k, r in records.items() if not dataset_of[k]})),
    ):
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n\n{made}\n\n{end}{after}"
    DOCUMENT.write_text(text)
    if original:
        draw(original)
    print(f"{DOCUMENT}, {CURVES}: {len(records)} runs")


if __name__ == "__main__":
    main()
