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
from agetrain.evaluation import film_tables
from agetrain.evaluation.tables import Table, number

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
p { overflow-wrap: anywhere; }
div { overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { background: #14171a; color: #e6e9ec; } td, th { border-color: #3a4046; } }
@media print { body { font-size: 10px; } }
"""


def _rate(found: Record) -> str:
    if "percent" not in found:
        return f"too few ({found['n']})" if found["n"] else "-"
    low, high = found["interval_95"]
    return f"{found['percent']:.1f} ({low:.1f} to {high:.1f}; {found['hits']} of {found['n']})"


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
                f"{percent} %", number(at["cutoff_years"]), _rate(at.get("false_positive", at)),
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
        yield (f"{name}: smallest over largest", *(number(each["ratio"]) for each in spreads))
        yield (f"{name}: Gini", *(number(each["gini"]) for each in spreads))


@dataclass(frozen=True, slots=True)
class _Section:
    """A title, paragraphs and tables."""

    title: str
    says: tuple[str, ...]
    tables: tuple[Table, ...]


def _sections(document: Record) -> Iterator[_Section]:
    for record in document["aev"]:
        name = f"{record['model']} on {record['dataset']} {record['part']} ({record['n']} pictures)"
        about = (
            f"Compared with {record['label']} age. Faces are found by {record['detector']}. The model learned from: "
            f"{record['seen_in_training']}. Split: {record['split']}, SHA-256 {record['split_sha256']}. "
            f"{_file(record)}"
        )
        yield _Section(name, (about,), tuple(tables(record)))
    for place, found in enumerate(document["films"]):
        about = f"Faces are found by {found['detector']}. {_file(found)}"
        says = (about,) if place else (*film_tables.SAYS, about)
        yield _Section(f"{film_tables.TITLE}: {found['model']}", says, tuple(film_tables.tables(found)))


def _file(record: Record) -> str:
    return f"SHA-256 of the model file: {record['model_sha256'] or 'none, it is no single file'}."


def _made(document: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return f"Measured on {document['date']} with {versions}."


def markdown(document: Record) -> str:
    """Writes a document of `agetrain.evaluation.aev_document.document` as Markdown."""
    parts = [f"# {_TITLE}", *_SAYS, _made(document)]
    for section in _sections(document):
        parts += [f"## {section.title}", *section.says, *(table.markdown() for table in section.tables)]
    return "\n\n".join(parts) + "\n"


def page(document: Record, plot: bytes) -> str:
    """Writes such a document as one page of HTML that needs nothing else.

    Args:
        document: of `agetrain.evaluation.aev_document.document`.
        plot: a PNG, see `curves`.
    """
    parts = [f"<h1>{_TITLE}</h1>", *map(_paragraph, (*_SAYS, _made(document)))]
    picture = base64.b64encode(plot).decode()
    parts.append(
        f'<img alt="False negatives over false positives of every model" src="data:image/png;base64,{picture}">'
    )
    for section in _sections(document):
        parts += [f"<h2>{html.escape(section.title)}</h2>", *map(_paragraph, section.says)]
        parts += [table.html() for table in section.tables]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_TITLE}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{"".join(parts)}'
        "</body></html>\n"
    )


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


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


def save(folder: Path, document: Record) -> None:
    """Writes ``aev.json``, ``.md``, ``.png`` and ``.html`` into a folder.

    Args:
        folder: that they are written into.
        document: of `agetrain.evaluation.aev_document.document`.

    Raises:
        OutputError: one cannot be written.
    """
    plot = curves(document["aev"])
    write_json(folder / "aev.json", dict(document))
    write_text(folder / "aev.md", markdown(document))
    write_text(folder / "aev.html", page(document, plot))
    with replacing(folder / "aev.png") as unfinished:
        unfinished.write_bytes(plot)
