"""The figures of age verification as Markdown, as one page of HTML, and as a plot."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agetrain._files import replacing, write_json, write_text
from agetrain.errors import MissingDependencyError

Record = Mapping[str, Any]
_TITLE = "Age verification"
_SAYS = (
    "Shares in percent, with 95 % intervals (Wilson; bootstrap over people where some have several pictures), of those "
    "who got an answer. Who got none, because no face was found, is counted apart. Cells with fewer than 20 people are "
    "marked as too few.",
    "These figures hold for these pictures. They do not verify anybody's age, and say nothing about people of other "
    "places, cameras or lights. No conformity with any standard is claimed.",
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #d5dae0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e6e9ec; } td, th { border-color: #3a4046; } }
@media print { body { font-size: 10px; } }
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _rate(found: Record) -> str:
    if "percent" not in found:
        return f"too few ({found['n']})" if found["n"] else "-"
    low, high = found["interval_95"]
    return f"{found['percent']:.1f} ({low:.1f} to {high:.1f}; {found['hits']} of {found['n']})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def tables(record: Record) -> Iterator[Table]:
    """The tables of one model on one part of a data set."""
    legal, (young, last), (adult, old) = record["legal_years"], record["minors_years"], record["adults_years"]
    cutoffs = record["cutoffs"]
    yield Table(
        f"Legal age {legal}: minors of {young} to {last} taken for older, adults of {adult} to {old} taken for younger",
        ("cut-off", "false positives", "false negatives"),
        tuple(
            (years, _rate(at["false_positive"]["minors"]), _rate(at["false_negative"]["adults"]))
            for years, at in cutoffs.items()
        ),
    )
    yield Table(
        "Adults taken for younger where a share of the minors is taken for older",
        ("false positives of minors", "cut-off", "found", "false negatives"),
        tuple(
            (
                f"{percent} %", _number(at["cutoff_years"]), _rate(at.get("false_positive", at)),
                _rate(at.get("false_negative", at)),
            )
            for percent, at in record["at_false_positive_percent"].items()
        ),
    )  # fmt: skip
    for what, title in (("false_positive", "False positives"), ("false_negative", "False negatives")):
        ages = next(iter(cutoffs.values()))[what]["by_age"]
        yield Table(
            f"{title} by age",
            ("age", *(f"cut-off {years}" for years in cutoffs)),
            tuple((age, *(_rate(at[what]["by_age"][age]) for at in cutoffs.values())) for age in ages),
        )
        yield Table(
            f"{title} by group",
            ("group", *(f"cut-off {years}" for years in cutoffs)),
            tuple(_groups(what, cutoffs)),
        )
    missed = record["no_answer"]
    yield Table(
        "No answer",
        ("who", "share"),
        (
            ("all", _rate(missed["all"])), ("minors", _rate(missed["minors"])), ("adults", _rate(missed["adults"])),
            *(
                (f"{name}: {value}", _rate(found))
                for name, of_name in missed["groups"].items()
                for value, found in of_name.items()
            ),
        ),
    )  # fmt: skip


def _groups(what: str, cutoffs: Record) -> Iterator[tuple[str, ...]]:
    first = next(iter(cutoffs.values()))[what]
    for name, of_name in first["groups"].items():
        for value in of_name:
            yield (f"{name}: {value}", *(_rate(at[what]["groups"][name][value]) for at in cutoffs.values()))
        if name not in first["spread"]:
            continue
        spreads = [at[what]["spread"][name] for at in cutoffs.values()]
        yield (f"{name}: smallest over largest", *(_number(each["ratio"]) for each in spreads))
        yield (f"{name}: Gini", *(_number(each["gini"]) for each in spreads))


def markdown(records: Sequence[Record]) -> str:
    """Writes all records as one Markdown document."""
    lines = [f"# {_TITLE}", *(f"\n{text}" for text in _SAYS)]
    for record in records:
        lines += ["", f"## {_name(record)}"]
        for table in tables(record):
            lines += ["", f"### {table.title}", "", _row(table.head), "|" + "---|" * len(table.head)]
            lines += [_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def page(records: Sequence[Record], plot: bytes) -> str:
    """Writes all records as one page of HTML that needs nothing else.

    Args:
        records: of `agetrain.evaluation.aev.report`.
        plot: a PNG, see `curves`.
    """
    parts = [f"<h1>{_TITLE}</h1>", *(f"<p>{html.escape(text)}</p>" for text in _SAYS)]
    picture = base64.b64encode(plot).decode()
    parts.append(
        f'<img alt="False negatives over false positives of every model" src="data:image/png;base64,{picture}">'
    )
    for record in records:
        parts.append(f"<h2>{html.escape(_name(record))}</h2>")
        for table in tables(record):
            head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.head)
            rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
            parts.append(f"<h3>{html.escape(table.title)}</h3><table><thead><tr>{head}</tr></thead>{rows}</table>")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_TITLE}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{"".join(parts)}'
        "</body></html>\n"
    )


def _name(record: Record) -> str:
    return f"{record['model']} on {record['dataset']} {record['part']} ({record['n']} pictures)"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def curves(records: Sequence[Record]) -> bytes:
    """Draws the detection-error trade-off of every record, a panel for each set of pictures; returns a PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install 'ageinfer[train]'") from error
    places = list(dict.fromkeys(f"{r['dataset']} {r['part']}" for r in records if r["curve"]))
    models = list(dict.fromkeys(r["model"] for r in records))
    drawn = Figure(figsize=(4.6 * max(1, len(places)), 4.6), layout="constrained")
    panels = drawn.subplots(1, max(1, len(places)), squeeze=False)[0]
    for axes, place in zip(panels, places, strict=False):
        for record in (r for r in records if f"{r['dataset']} {r['part']}" == place and r["curve"]):
            cutoffs, positives, negatives = zip(*record["curve"], strict=True)
            colour = f"C{models.index(record['model']) % 10}"
            axes.plot(positives, negatives, color=colour, label=record["model"])
            for years in map(int, record["cutoffs"]):
                point = positives[cutoffs.index(float(years))], negatives[cutoffs.index(float(years))]
                axes.plot(*point, "o", color=colour, markersize=3)
                axes.annotate(
                    str(years), point, fontsize=8, color=colour, xytext=(3, 3), textcoords="offset points"
                )  # fmt: skip
        axes.set(title=place, xlabel="minors taken for older, %", ylabel="adults taken for younger, %")
        axes.set(xlim=(0, 100), ylim=(0, 100))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def save(folder: Path, records: Sequence[Record]) -> None:
    """Writes ``aev.json``, ``.md``, ``.png`` and ``.html`` into a folder.

    Raises:
        OutputError: one cannot be written.
    """
    plot = curves(records)
    write_json(folder / "aev.json", {"aev": list(records)})
    write_text(folder / "aev.md", markdown(records))
    write_text(folder / "aev.html", page(records, plot))
    with replacing(folder / "aev.png") as unfinished:
        unfinished.write_bytes(plot)
