"""The parts of a model card that are about groups of people: their figures, and the gates that these kept."""

from typing import Any

from ageexport.gate import Judgement

_FEWEST = 20


def groups_table(figures: dict[str, Any]) -> str:
    """Writes the errors of each group; for the argument see `agetrain.evaluation.figures.evaluate`."""
    if not figures["n"]:
        return _groups_of_intervals(figures["intervals"])
    groups = {"age": figures["by_true_decade"], **figures["by_attribute"]}
    rows = [
        f"| {name} {group} | {f['n']} | {f['mae']:.2f} ({f['mae_interval_95'][0]:.2f} to "
        f"{f['mae_interval_95'][1]:.2f}) | {f['bias']:+.2f} |"
        for name, of_name in groups.items()
        for group, f in of_name.items()
        if f["n"] >= _FEWEST
    ]
    if not rows:
        return f"No group has {_FEWEST} pictures.\n"
    return "\n".join(["| group | n | MAE, years (95 % interval) | bias |", "|---|---|---|---|", *rows]) + "\n"


def _groups_of_intervals(figures: dict[str, Any]) -> str:
    rows = [
        f"| {name} {group} | {f['n']} | {f['interval_error']:.2f} | {f['bias']:+.2f} |"
        for name, of_name in figures["by_attribute"].items()
        for group, f in of_name.items()
        if f["n"] >= _FEWEST
    ]
    if not rows:
        return f"No group has {_FEWEST} pictures.\n"
    return "\n".join(["| group | n | distance to the interval, years | bias |", "|---|---|---|---|", *rows]) + "\n"


def gate_section(judgement: Judgement | None) -> str:
    """Writes the section of the gates; nothing without any."""
    if judgement is None:
        return ""
    rows = "\n".join(
        f"| `{v.gate}` | {cell(v.people)} | {v.n} | {v.what} | {v.measured} | {v.limit} | {v.outcome} |"
        for v in judgement.verdicts
    )
    unjudged = "".join(
        f"Nobody is judged by `{name}`: each group has too few pictures.\n\n" for name in judgement.unjudged
    )
    return f"""## Gate

This file was written because no group of the pictures of the proof is beyond the bounds of `{judgement.file}` \
(SHA-256 `{judgement.sha256}`).

| gate | group | n | figure | value (95 % interval) | at most | |
|---|---|---|---|---|---|---|
{rows}

{unjudged}"""


def cell(text: str) -> str:
    """Returns a text of any origin as one cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
