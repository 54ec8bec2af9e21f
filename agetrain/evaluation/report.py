"""Evaluations written as a line, as Markdown and as a picture."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agetrain._files import replacing
from agetrain.errors import MissingDependencyError
from agetrain.evaluation.figures import CHILDREN_BELOW_YEARS, FEWEST, Answers

log = logging.getLogger(__name__)
Record = Mapping[str, Any]


def line(record: Record) -> str:
    """Returns one evaluation as a line for a terminal."""
    told = []
    if record["n"]:
        low, high = record["mae_interval_95"]
        told.append(
            f"MAE {record['mae']:.2f} ({low:.2f} to {high:.2f}), within 5 years {record['cs5_percent']:.1f} %, bias "
            f"{record['bias']:+.2f}, face found {record['detection_rate_percent']:.1f} %, always answering the "
            f"training median {record['mae_of_train_median']:.2f}"
        )
    if "intervals" in record:
        i = record["intervals"]
        low, high = i["interval_error_interval_95"]
        told.append(
            f"of {i['n']} ages known as intervals {i['inside_percent']:.1f} % inside, distance "
            f"{i['interval_error']:.2f} "
            f"({low:.2f} to {high:.2f}), always answering the training median {i['interval_error_of_train_median']:.2f}"
        )
    place = f"{record['model']} on {record['dataset']} {record['part']}, {record['label']} age"
    return f"{place}: {'; '.join(told)}"


def table(records: Sequence[Record]) -> list[str]:
    """Returns the lines of a Markdown table of evaluations; ages only known as intervals have one of their own."""
    lines = []
    if any(r["n"] for r in records):
        lines += [
            "| model | pictures | label | n | MAE | interval | of found faces | RMSE | within 5 | bias | slope | "
            "found |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
    for r in (r for r in records if r["n"]):
        lines.append(
            f"| {r['model']} | {r['dataset']} {r['part']} | {r['label']} | {r['n']:.0f} | {r['mae']:.2f} | "
            f"{_interval(r)} | {_years(r['mae_found'])} | {r['rmse']:.2f} | {r['cs5_percent']:.1f} % | "
            f"{r['bias']:+.2f} | {_years(r['slope'])} | {r['detection_rate_percent']:.1f} % |"
        )
    if any("intervals" in r for r in records):
        lines += [""] if lines else []
        lines += [
            "| model | pictures with an interval of ages | label | n | distance to it | interval | inside | found |",
            "|---|---|---|---|---|---|---|---|",
        ]
    for r in (r for r in records if "intervals" in r):
        i = r["intervals"]
        low, high = i["interval_error_interval_95"]
        lines.append(
            f"| {r['model']} | {r['dataset']} {r['part']} | {r['label']} | {i['n']} | {i['interval_error']:.2f} | "
            f"{low:.2f} to {high:.2f} | {i['inside_percent']:.1f} % | {i['detection_rate_percent']:.1f} % |"
        )
    return lines


def markdown(records: Sequence[Record]) -> str:
    """Returns all evaluations as one Markdown document."""
    lines = [
        "# Evaluation",
        "",
        "Years unless said otherwise. A picture in which no face was found is answered with the training median and "
        "counts. Intervals: 95 %, bootstrap over subjects.",
        "",
        *table(records),
    ]
    for r in records:
        lines += ["", *_one(r)]
    return "\n".join(lines) + "\n"


def _one(r: Record) -> list[str]:
    lines = [
        f"## {r['model']} on {r['dataset']} {r['part']}, {r['label']} age",
        "",
        f"Split: {r['split']} (`{r['split_sha256'][:16]}`); the model learned from: {r['seen_in_training']}. Faces by "
        f"{r['detector']}.",
    ]
    return [*lines, *(_exact(r) if r["n"] else []), *(_by_interval(r["intervals"]) if "intervals" in r else [])]


def _by_interval(i: Record) -> list[str]:
    lines = []
    for title, groups in i["by_attribute"].items():
        lines += ["", f"| {title} | n | distance to the interval | bias |", "|---|---|---|---|"]
        for name, g in groups.items():
            told = f"{g['interval_error']:.2f} | {g['bias']:+.2f}" if "interval_error" in g else "too few |"
            lines.append(f"| {name} | {g['n']} | {told} |")
    return lines


def _exact(r: Record) -> list[str]:
    b = r["baselines"]
    lines = [
        "",
        "| beside it | MAE |",
        "|---|---|",
        f"| this model | {r['mae']:.2f} |",
        f"| always answering the training median | {b['train_median']:.2f} |",
        f"| always answering the median of these pictures | {b['own_median']:.2f} |",
    ]
    if "crowd_mean" in b:
        lines.append(f"| the mean of all raters | {b['crowd_mean']:.2f} |")
    if "single_rater_estimate" in b:
        lines.append(f"| a single rater (an estimate from the raters' deviation) | {b['single_rater_estimate']:.2f} |")
    if "epsilon_error" in r:
        lines += ["", f"Epsilon-error: {r['epsilon_error']:.3f}."]
    if r["uncertainty"]:
        u = r["uncertainty"]
        lines += [
            "",
            f"The label lies within one of the model's standard deviations for {u['within_1_std_percent']:.1f} % of "
            f"the found faces (a normal error: 68.3 %), within two for {u['within_2_std_percent']:.1f} % (95.4 %).",
        ]
    curve = r["cs_curve_percent"]
    lines += ["", "| error of at most, years | " + " | ".join(curve) + " |", "|---" * (len(curve) + 1) + "|"]
    lines += ["| pictures, % | " + " | ".join(f"{v:.1f}" for v in curve.values()) + " |"]
    for title, groups in (
        ("true decade", r["by_true_decade"]),
        ("predicted decade", r["by_predicted_decade"]),
        *r["by_attribute"].items(),
    ):
        lines += [
            "",
            f"| {title} | n | MAE | interval | bias | face found | within one std |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, g in groups.items():
            covered = f"{g['within_1_std_percent']:.1f} %" if "within_1_std_percent" in g else "-"
            figures = (
                f"{g['mae']:.2f} | {_interval(g)} | {g['bias']:+.2f} | {g['detection_rate_percent']:.1f} % | {covered}"
                if "mae" in g
                else "too few | | | | "
            )
            lines.append(f"| {name} | {g['n']} | {figures} |")
    worst, children = r["worst_group"], r["children"]
    if worst:
        lines += ["", f"The worst group: {worst['attribute']} {worst['group']}, MAE {worst['mae']:.2f} ({worst['n']})."]
    if "mae" in children:
        lines += [
            "",
            f"Children below {CHILDREN_BELOW_YEARS}: MAE {children['mae']:.2f}, {children['of_overall']:.2f} times "
            f"that of all ({children['n']}).",
        ]
    lines += [
        "",
        "| threshold | younger | answered as of that age or older | older | answered as younger |",
        "|---|---|---|---|---|",
    ]
    for years, t in r["thresholds"].items():
        lines.append(
            f"| {years} | {t['younger']} | {_percent(t['false_adult_percent'])} | {t['older']} | "
            f"{_percent(t['false_minor_percent'])} |"
        )
    if "robustness" in r:
        lines += ["", "| change | value | n | MAE | bias | face found |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {row['change']} | {row['value']:g} | {row['n']} | {row['mae']:.2f} | {row['bias']:+.2f} | "
            f"{row['detection_rate_percent']:.1f} % |"
            for row in r["robustness"]
        ]
    return lines


def _interval(record: Record) -> str:
    low, high = record["mae_interval_95"]
    return f"{low:.2f} to {high:.2f}"


def _years(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def draw(path: Path, records: Sequence[Record], answers: Sequence[Answers]) -> None:
    """Draws `figure` into a PNG. Without matplotlib it only says so."""
    try:
        drawn = figure(records, answers)
    except MissingDependencyError as error:
        log.warning("no %s: %s", path.name, error)
        return
    with replacing(path) as unfinished:
        drawn.savefig(unfinished, dpi=90)


def figure(records: Sequence[Record], answers: Sequence[Answers]) -> Any:
    """Draws four panels a row: estimates over labels, the cumulative score, MAE by decade, and the robustness sweep.

    Returns:
        The figure of matplotlib, which belongs to no window.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'ageinfer[train]'") from error
    robust = any("robustness" in r for r in records)
    columns = 4 if robust else 3
    drawn = Figure(figsize=(4.6 * columns, 4.2 * len(records)), layout="constrained")
    axes = drawn.subplots(len(records), columns, squeeze=False)
    for row, record, a in zip(axes, records, answers, strict=True):
        _draw_scatter(row[0], record, a)
        for axis in row[1:]:
            axis.axis("off")
        if record["n"]:
            _draw_scores(row[1], record, a.rows(a.exact))
            _draw_decades(row[2], record)
        if "robustness" in record:
            _draw_robustness(row[3], record)
    return drawn


def _draw_scatter(axis: Any, record: Record, a: Answers) -> None:
    top = max(100.0, float(a.labels.max()))
    axis.plot([0, top], [0, top], color="black", linewidth=0.8)
    exact = a.exact & a.found
    axis.scatter(a.labels[exact], a.estimates[exact], s=5, alpha=0.3, linewidths=0)
    of = ~a.exact & a.found
    axis.hlines(a.estimates[of], a.lows[of], a.highs[of], alpha=0.3, linewidth=1)
    if not a.found.all():
        axis.scatter(a.labels[~a.found], a.answers[~a.found], s=8, color="tab:red", label="no face found")
        axis.legend(loc="upper left")
    axis.set(
        title=f"{record['model']}, {record['dataset']} {record['part']}", xlabel=f"{record['label']} age",
        ylabel="estimate", xlim=(0, top), ylim=(0, top),
    )  # fmt: skip
    axis.grid(alpha=0.3)


def _draw_scores(axis: Any, record: Record, a: Answers) -> None:
    axis.axis("on")
    years = np.arange(16)
    curve = list(record["cs_curve_percent"].values())
    constant = [100 * float((np.abs(a.labels - a.train_median) <= k).mean()) for k in years]
    axis.plot(years, curve, marker="o", markersize=3, label=f"model, MAE {record['mae']:.2f}")
    axis.plot(
        years, constant, linestyle="--", color="grey", label=f"training median, MAE {record['mae_of_train_median']:.2f}"
    )
    axis.set(title="cumulative score", xlabel="error of at most, years", ylabel="pictures, %", ylim=(0, 100))
    axis.legend(loc="lower right")
    axis.grid(alpha=0.3)


def _draw_decades(axis: Any, record: Record) -> None:
    axis.axis("on")
    groups = {k: g for k, g in record["by_true_decade"].items() if "mae" in g}
    if not groups:
        axis.axis("off")
        axis.set(title=f"no decade has {FEWEST} pictures")
        return
    maes = np.array([g["mae"] for g in groups.values()])
    ends = np.array([g["mae_interval_95"] for g in groups.values()]).reshape(-1, 2)
    axis.bar(range(len(groups)), maes, yerr=np.abs(ends.T - maes), capsize=3)
    axis.plot(range(len(groups)), [g["bias"] for g in groups.values()], "kx", label="bias")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(groups)), [f"{k}\nn={g['n']}" for k, g in groups.items()], fontsize=7)
    axis.set(title="MAE by true age", ylabel="years")
    axis.legend()
    axis.grid(alpha=0.3, axis="y")


def _draw_robustness(axis: Any, record: Record) -> None:
    axis.axis("on")
    rows = record["robustness"]
    names = [f"{r['change'].partition(',')[0]} {r['value']:g}" if r["value"] else "unchanged" for r in rows]
    axis.barh(range(len(rows)), [r["mae"] for r in rows])
    axis.axvline(rows[0]["mae"], color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set(title="MAE when pictures get worse", xlabel="years")
    axis.grid(alpha=0.3, axis="x")
