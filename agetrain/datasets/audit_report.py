"""The audit of a split as Markdown and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._files import replacing
from agetrain.datasets.auditing import Part
from agetrain.errors import MissingDependencyError


def markdown(dataset: str, figures: Mapping[str, Any]) -> str:
    """Returns the audit as Markdown."""
    lines = [f"# Audit of a split of {dataset}", "", "## Findings", ""]
    lines += [f"- {text}" for text in figures["findings"]] or ["- nothing"]
    lines += [
        "",
        "| part | pictures | persons | different ages | from | to | median | MAE of answering its own median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, p in figures["parts"].items():
        lines.append(
            f"| {name} | {p['n']} | {p['subjects'] or 'not told'} | {len(p['ages'])} | {p['youngest']:g} | "
            f"{p['oldest']:g} | {p['own_median']:g} | {p['constant_mae_own_median']:.2f} |"
        )
    lines += ["", "| MAE of answering the median of | " + " | ".join(figures["parts"]) + " |"]
    lines += ["|---" * (len(figures["parts"]) + 1) + "|"]
    for answered, of in figures["parts"].items():
        cells = [
            f"{p['constant_mae_own_median'] if name == answered else p['constant_mae_other_medians'][answered]:.2f}"
            for name, p in figures["parts"].items()
        ]
        lines.append(f"| {answered} ({of['own_median']:g}) | " + " | ".join(cells) + " |")
    if figures["age_distance_years"]:
        lines += ["", "| ages of | distance, years (first Wasserstein) |", "|---|---|"]
        lines += [f"| {pair} | {years:.2f} |" for pair, years in figures["age_distance_years"].items()]
    if figures["subject_overlap"]:
        lines += ["", "| persons | shared | of |", "|---|---|---|"]
        lines += [f"| {pair} | {s['shared']} | {s['of']} |" for pair, s in figures["subject_overlap"].items()]
    return "\n".join(lines) + "\n"


def draw(path: Path, dataset: str, parts: Sequence[Part]) -> None:
    """Draws the age histogram of each part into a PNG, on one scale of years.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'ageinfer[train]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(parts), 1, figsize=(9, 2.2 * len(parts) + 0.6), sharex=True, layout="constrained", squeeze=False
    )
    low, high = min(p.ages.min() for p in parts), max(p.ages.max() for p in parts)
    edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.5)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        axis.hist(part.ages, bins=edges)
        axis.axvline(np.median(part.ages), color="black", linewidth=1, label=f"median {np.median(part.ages):g}")
        different = len(np.unique(part.ages))
        axis.set(title=f"{part.name}: {len(part.ages)} pictures, {different} different ages", ylabel="pictures")
        axis.legend(loc="upper right")
        axis.grid(alpha=0.3)
    axes[-1, 0].set(xlabel="age in years")
    figure.suptitle(f"{dataset}: ages by part")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=100)
    pyplot.close(figure)
