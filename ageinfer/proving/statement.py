"""A draft of a practice statement, filled with what was measured; what only the deployer knows is left to fill in.

The headings are those under which ISO/IEC 27566-1 describes age assurance (functional, performance, privacy, security
and acceptability characteristics). A draft under these headings is no conformity, and says so.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from string import Template
from typing import Any

from ageinfer.proving.page import in_words

_SHOWN = 16  # characters of a hash


def statement(evidence: Mapping[str, Any]) -> str:
    """Writes the draft as Markdown.

    Args:
        evidence: see `ageinfer.proving.evidence.prove`.
    """
    model, machine, pictures = evidence["model"], evidence["machine"], evidence["pictures"]
    text = resources.files("ageinfer.proving").joinpath("practice-statement.md").read_text(encoding="utf-8")
    return Template(text).substitute(
        made_at=evidence["made_at"], seal=evidence["evidence_sha256"][:_SHOWN], detector=evidence["detector"]["name"],
        model=model["name"], precision=model["precision"], sha256=model["sha256"][:_SHOWN],
        graph=model["graph_sha256"][:_SHOWN], processor=machine["processor"], architecture=machine["architecture"],
        system=machine["system"], count=pictures["count"], labelled=pictures["labelled"],
        pictures=pictures["sha256"][:_SHOWN], per_s=f"{evidence['speed']['pictures_per_s']:.1f}",
        figures="\n".join(_figures(evidence)),
    )  # fmt: skip


def _figures(evidence: Mapping[str, Any]) -> Iterator[str]:
    yield f"- No face found: {in_words(evidence['no_face']['all'])}."
    accuracy = evidence["accuracy"]
    if not accuracy or accuracy["mae_years"] is None:
        yield "- Errors are not known: no picture with a face has a label."
        return
    yield (
        f"- Mean absolute error: {accuracy['mae_years']:.2f} years, bias {accuracy['bias_years']:+.2f} years, on "
        f"{accuracy['n']} faces."
    )
    minors, adults = ("{} to {}".format(*accuracy[f"{name}_years"]) for name in ("minors", "adults"))
    for years, at in accuracy["cutoffs"].items():
        yield (
            f"- At a cut-off of {years} years: of people of {minors}, taken for older: {in_words(at['false_positive'])}"
            f"; of people of {adults}, taken for younger: {in_words(at['false_negative'])}."
        )
    for point in accuracy["operating_points"]:
        here = point["here"]["false_positive"]
        yield (
            f"- Over {point['years']}, from {point['over_from_years']:.1f} estimated years: of people of "
            "{} to {}, ".format(*point["below_years"])
            + f"answered over: {in_words(here)}; at most {point['stated_percent']:g} % is stated: {here['verdict']}."
        )
