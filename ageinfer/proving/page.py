"""Evidence for people: as Markdown, and as one page of HTML that needs nothing else."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ageinfer.console import printable
from ageinfer.proving.answers import STAGES, TOTAL
from ageinfer.proving.counting import FEWEST

_TITLE = "What this model does here"
_SAYS = (
    "These figures hold for this model file, on this machine and on these pictures. They verify nobody's age, and say "
    "nothing of other people, cameras or light. No conformity with any standard is claimed.",
    "Shares have 95 % intervals (Wilson); several pictures of one person count as one in an interval. A share of fewer "
    f"than {FEWEST} people is marked as too few.",
)
_LISTED_PICTURES = 50  # on the page; the JSON file has all
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #d5dae0; text-align: left; }
td { overflow-wrap: anywhere; }
h2 { margin: 1.5rem 0 0; font-size: 1.1rem; }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e6e9ec; } td, th { border-color: #3a4046; } }
@media print { body { font-size: 10px; } }
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def in_words(found: Mapping[str, Any]) -> str:
    """A share with its interval; of too few people the counts alone."""
    if not found["n"]:
        return "-"
    counts = f"{found['hits']} of {found['n']}"
    if found["people"] < FEWEST:
        return f"{counts}; too few people ({found['people']})"
    low, high = found["interval_95_percent"]
    return f"{found['percent']:.1f} % ({low:.1f} to {high:.1f}; {counts})"


def number(value: float | None, unit: str, digits: int = 2) -> str:
    """A figure with its unit; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f} {unit}"


def tables(evidence: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of a piece of evidence."""
    yield Table("Bound to", ("what", "which"), tuple(_bound(evidence)))
    outcomes, no_face = evidence["outcomes"], evidence["no_face"]
    yield Table(
        "Pictures", ("outcome", "pictures"), tuple((name, str(count)) for name, count in outcomes.items())
    )  # fmt: skip
    rows = [("all", in_words(no_face["all"]))]
    rows += [
        (f"{name}: {value}", in_words(found))
        for name, values in no_face["groups"].items()
        for value, found in values.items()
    ]
    yield Table("No face was found", ("among", "share"), tuple(rows))
    if evidence["accuracy"]:
        yield from _accuracy(evidence["accuracy"])
    yield _speed(evidence["speed"])
    if stored := evidence["stored"]:
        yield _stored(evidence, stored)
    missed = [answer for answer in evidence["answers"] if answer["outcome"] != "face"]
    if missed:
        more = f" (the first {_LISTED_PICTURES} of {len(missed)})" if len(missed) > _LISTED_PICTURES else ""
        yield Table(
            f"Pictures without an age{more}",
            ("file", "outcome"),
            tuple(
                (answer["file"], ": ".join(filter(None, [answer["outcome"], answer["why"]])))
                for answer in missed[:_LISTED_PICTURES]
            ),
        )


def _bound(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model, detector, machine, pictures = (evidence[key] for key in ("model", "detector", "machine", "pictures"))
    yield "model", f"{model['name']}@{model['precision']}, {model['file']}, {model['bytes'] / 1e6:.1f} MB"
    yield "SHA-256 of the model", model["sha256"]
    yield "SHA-256 of its graph", model["graph_sha256"]
    size = f", {detector['file']}, {detector['bytes'] / 1e6:.1f} MB" if detector["file"] else ""
    yield "detector", f"{detector['name']}{size}"
    if detector["sha256"]:
        yield "SHA-256 of the detector", detector["sha256"]
    yield "pictures", f"{pictures['count']}, of which {pictures['labelled']} have a label"
    yield "SHA-256 of all pictures", pictures["sha256"]
    if pictures["labels_sha256"]:
        yield "SHA-256 of the labels", pictures["labels_sha256"]
    looking = evidence["looking"]
    yield "looked for", f"longer side {looking['max_side_px'] or 'full'}, faces from {looking['least_face_px']:g} px"
    instructions = ", ".join(machine["instructions"]) or "none that are known"
    yield "processor", f"{machine['processor']}, {machine['architecture']}, {instructions}"
    memory = "" if machine["memory_mb"] is None else f", {machine['memory_mb']} MB of memory"
    yield "machine", f"{machine['system']}, {machine['cores_usable']:g} of {machine['cores']} cores{memory}"
    yield "run on", f"{model['provider']}, {model['threads']} thread(s) a network"
    yield "versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield "made at (UTC)", evidence["made_at"]
    yield "SHA-256 of the evidence", evidence["evidence_sha256"]


def _accuracy(found: Mapping[str, Any]) -> Iterator[Table]:
    yield Table(
        "Ages of labelled pictures with a face",
        ("what", "figure"),
        (
            ("pictures", str(found["n"])), ("mean absolute error", number(found["mae_years"], "years")),
            ("bias (estimate less label)", number(found["bias_years"], "years")),
        ),
    )  # fmt: skip
    (young, last), (adult, old) = found["minors_years"], found["adults_years"]
    yield Table(
        f"Legal age {found['legal_years']}: people of {young} to {last} who are taken for older, and of {adult} to "
        f"{old} who are taken for younger",
        ("cut-off", "false positives", "false negatives"),
        (
            *(
                (years, in_words(at["false_positive"]), in_words(at["false_negative"]))
                for years, at in found["cutoffs"].items()
            ),
            ("no answer", in_words(found["no_answer"]["minors"]), in_words(found["no_answer"]["adults"])),
        ),
    )
    if found["operating_points"]:
        yield Table(
            "Operating points of the model file: what it states, and what is found here",
            ("over", "wrongly answered", "the file states", "measured for the file", "here", "verdict"),
            tuple(row for point in found["operating_points"] for row in _point(point)),
        )


def _point(point: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for what, answer, years in (
        ("false_positive", "over", point["below_years"]), ("false_negative", "under", point["above_years"]),
    ):  # fmt: skip
        stated, here = point["stated"][what], point["here"][what]
        measured = f"{100 * stated['hits'] / max(1, stated['n']):.1f} % ({stated['hits']} of {stated['n']})"
        verdict = here["verdict"] + (
            f" (everybody is referred: {point['why_referred']})" if point["why_referred"] else ""
        )
        yield (
            str(point["years"]), f"{answer}, people of {years[0]} to {years[1]}",
            f"at most {point['stated_percent']:g} %", measured, in_words(here), verdict,
        )  # fmt: skip
    stated, here = point["stated"], point["here"]
    shown = [
        " and ".join(number(each[f"referred_{side}_percent"], "%", 1) for side in ("below", "above"))
        for each in (stated, here)
    ]
    yield str(point["years"]), "referred, of the younger and of the older", "-", *shown, "-"


def _speed(speed: Mapping[str, Any]) -> Table:
    memory = number(speed["memory_mb"], "MB", 0)
    return Table(
        f"Time of a picture, of {speed['pictures']} one after the other",
        ("stage", "median", "95th percentile"),
        (
            *(
                (stage, *(number(speed[key][stage], "ms") for key in ("median_ms", "p95_ms")))
                for stage in (*STAGES, TOTAL)
            ),
            ("pictures a second", f"{speed['pictures_per_s']:.1f}", ""),
            ("opening both networks", number(speed["open_ms"], "ms", 0), ""),
            ("largest resident memory", memory, ""),
        ),
    )  # fmt: skip


def _stored(evidence: Mapping[str, Any], stored: Mapping[str, Any]) -> Table:
    accuracy = evidence["accuracy"] or {"mae_years": None}
    kept = "" if stored["of_this_file"] else ", which is of another file"
    return Table(
        f"Beside the proof of the export, {stored['file']}{kept}: it has no answers to single pictures, so none are "
        "compared",
        ("what", "in the proof", "here"),
        (
            ("pictures", f"{stored['pictures']} of {stored['origin']}", str(evidence["pictures"]["count"])),
            ("processor", stored["processor"], evidence["machine"]["processor"]),
            ("no face", number(stored["no_face_percent"], "%", 1), in_words(evidence["no_face"]["all"])),
            ("mean absolute error", *(number(each["mae_years"], "years") for each in (stored, accuracy))),
        ),
    )


def markdown(evidence: Mapping[str, Any]) -> str:
    """Writes evidence as Markdown."""
    lines = [f"# {_TITLE}", *(f"\n{text}" for text in _SAYS)]
    for table in tables(evidence):
        lines += ["", f"## {table.title}", "", _row(table.head), "|" + "---|" * len(table.head), *map(_row, table.rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    shown = (html.escape(printable(cell), quote=False).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(shown)} |"


def page(evidence: Mapping[str, Any]) -> str:
    """Writes evidence as one page of HTML."""
    parts = [f"<h1>{_TITLE}</h1>", *(f"<p>{html.escape(text)}</p>" for text in _SAYS)]
    for table in tables(evidence):
        head = "".join(f'<th scope="col">{_cell(cell)}</th>' for cell in table.head)
        rows = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
        parts.append(f"<h2>{_cell(table.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_TITLE}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{"".join(parts)}'
        "</body></html>\n"
    )


def _cell(text: str) -> str:
    return html.escape(printable(text))
