"""What each part of the recipe `best` brings: runs with one part left out, beside one with all of them.

    python benchmarks/ablation.py --data appa-real-release RUN_DIR ...

Each RUN_DIR is of ``python -m agetrain --dataset appa-real=DIR --experiment best --epochs N ...``; which part it leaves
out is told by its configuration. Runs of as many epochs are compared on the pictures of valid, the way of the runtime:
the difference of their mean errors, with a 95 % interval by resampling the pictures (the same ones for both). Writes
docs/results/ablation.json, and the table between its markers in docs/results/training.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from agetrain.datasets import load_dataset
from agetrain.evaluation.answers import answers_of, open_detector
from agetrain.evaluation.bootstrap import Bootstrap
from agetrain.evaluation.models import open_model
from agetrain.experiments import EXPERIMENTS
from agetrain.recipe import AUGMENTATIONS, Augmentation, Recipe

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "docs" / "results" / "ablation.json"
DOCUMENT = ROOT / "docs" / "results" / "training.md"
BEGIN, END = "<!-- ablation: benchmarks/ablation.py -->", "<!-- end of ablation -->"
NOT_A_PART = ("epochs", "seed")


def left_out(recipe: Recipe) -> str:
    """How a recipe differs from `best`, as options of the command line."""
    values, whole = recipe.to_dict(), EXPERIMENTS["best"].recipe.to_dict()
    words = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if value == whole[name] or name in NOT_A_PART:
            continue
        if name == "augmentation":
            [value] = [known for known in AUGMENTATIONS if Augmentation.named(known) == recipe.augmentation]
        words.append(f"--{'' if value else 'no-'}{option}" if isinstance(value, bool) else f"--{option} {value}")
    return " ".join(words)


def mae_of(record: dict[str, Any], part: str) -> float:
    """The mean error that a run noted of a part, in years."""
    return next(m["mae"] for m in record["metrics"] if m["part"] == part)


def record_of(run: Path, data: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What is kept of a run, and the absolute errors of its network on valid."""
    training = json.loads((run / "metrics.json").read_text())
    config = json.loads((run / "config.json").read_text())
    recipe = Recipe.from_dict(config["recipe"])
    dataset, _ = load_dataset("appa-real", str(data), config["label"])
    answers = answers_of(
        open_model(run / "best.pth"), dataset.parts["valid"], open_detector("yunet"), config["label"], title=run.name
    )
    errors = np.abs(answers.errors)
    other = run / "metrics-apparent.json"
    apparent = mae_of(json.loads(other.read_text()), "valid") if other.exists() else None
    kept = ("train_mae", "selection_mae", "seconds")
    record = {
        "run": run.name, "options": left_out(recipe), "epochs": recipe.epochs, "seed": recipe.seed,
        "label": config["label"], "start": training["training"]["start"], "n": len(errors),
        "kept_epoch": training["training"]["epoch"], "mae": round(float(errors.mean()), 4),
        "selection_mae": mae_of(training, "selection"), "apparent_mae": apparent,
        "history": [{k: round(epoch[k], 4) for k in kept} for epoch in training["history"]],
    }  # fmt: skip
    return record, errors


def compared(runs: list[tuple[dict[str, Any], np.ndarray]]) -> list[dict[str, Any]]:
    """The records, those of as many epochs together, the whole recipe first and then the worst part to leave out."""
    whole = {record["epochs"]: errors for record, errors in runs if not record["options"]}
    for record, errors in runs:
        if record["epochs"] not in whole:
            raise SystemExit(f"{record['run']}: no run with all parts of {record['epochs']} epochs to compare it with")
        difference = errors - whole[record["epochs"]]
        interval = Bootstrap(np.arange(len(difference)).astype(str), 4000, 0).of_mean(difference)
        record |= {"difference": round(float(difference.mean()), 4), "difference_95": interval}
    return sorted((r for r, _ in runs), key=lambda r: (r["epochs"], bool(r["options"]), -r["difference"]))


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| run | options | epochs | error, train / selection | real age, valid | beside all parts (95 %) | "
        "apparent age, valid |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records:
        low, high = r["difference_95"]
        beside = f"{r['difference']:+.2f} ({low:+.2f} to {high:+.2f})" if r["options"] else "-"
        options = f"`{r['options']}`" if r["options"] else "all parts"
        apparent = "-" if r["apparent_mae"] is None else f"{r['apparent_mae']:.2f}"
        last = r["history"][-1]
        lines.append(
            f"| {r['run']} | {options} | {r['epochs']} | {last['train_mae']:.2f} / {r['selection_mae']:.2f} | "
            f"{r['mae']:.2f} | {beside} | {apparent} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="APPA-REAL")
    options = parser.parse_args()
    records = compared([record_of(run, options.data) for run in options.runs])
    RECORD.write_text(json.dumps(records, indent=1) + "\n")
    text = DOCUMENT.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{DOCUMENT}: no place for the table; put {BEGIN} and {END} there")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table(records)}\n\n{END}{after}")
    print(table(records))


if __name__ == "__main__":
    main()
