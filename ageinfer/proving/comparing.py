"""Compares two pieces of evidence: the answers to the pictures that are in both, the figures and the speed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.proving.agreement import Agreement
from ageinfer.proving.answers import STAGES, TOTAL, Answer
from ageinfer.proving.evidence import read_evidence

_NAMED_PICTURES = 5  # of those that differ


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a comparison.

    Attributes:
        text: what was compared, and what came out.
        agrees: whether it is as it has to be.
    """

    text: str
    agrees: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What is compared of a piece of evidence.

    Attributes:
        values: all of it.
        answers: to the pictures that can be opened, by the SHA-256 of their files.
    """

    values: Mapping[str, Any]
    answers: Mapping[str, Answer]

    @classmethod
    def read(cls, path: Path) -> "Told":
        """Reads evidence.

        Raises:
            SourceError: see `read_evidence`.
        """
        values = read_evidence(path)
        try:
            answers = [Answer.from_dict(each) for each in values["answers"]]
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path}: {error}; make it again with ageinfer prove") from error
        return cls(values, {answer.sha256: answer for answer in answers if answer.sha256 is not None})


def compare(first: Path, second: Path) -> list[Line]:
    """Compares two pieces of evidence.

    Args:
        first: a file of `ageinfer.proving.write_evidence`.
        second: another one.

    Returns:
        What came out, line by line. The pieces agree where every line does.

    Raises:
        SourceError: one of them cannot be used.
    """
    one, other = Told.read(first), Told.read(second)
    try:
        return [*_model(one, other), *_answers(one, other), *_figures(one, other), *_speed(one, other)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SourceError(f"{first}, {second}: one of them lacks what is compared ({error}); make it again") from error


def _model(one: Told, other: Told) -> Iterator[Line]:
    a, b = one.values["model"], other.values["model"]
    names = [f"{m['name']}@{m['precision']} (graph {m['graph_sha256'][:12]})" for m in (a, b)]
    same = a["graph_sha256"] == b["graph_sha256"]
    yield Line(f"model: the same, {names[0]}" if same else f"model: another one, {' and '.join(names)}", same)
    if same and a["sha256"] != b["sha256"]:
        yield Line(f"model: the same graph in another file, {a['sha256'][:12]} and {b['sha256'][:12]}")
    a, b = one.values["detector"], other.values["detector"]
    if a != b:
        shown = " and ".join(f"{d['name']} ({(d['sha256'] or 'no file')[:12]})" for d in (a, b))
        yield Line(f"detector: another one, {shown}")
    for name in ("processor", "architecture", "instructions", "versions"):
        a, b = one.values["machine"][name], other.values["machine"][name]
        if a != b:
            yield Line(f"{name}: {_shown(a, b)} and {_shown(b, a)}")


def _shown(value: Any, beside: Any) -> str:
    """A fact of a machine in words; of several, those that another machine does not have."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items() if beside.get(key) != each) or "no more"
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)


def _answers(one: Told, other: Told) -> Iterator[Line]:
    both = sorted(one.answers.keys() & other.answers.keys(), key=lambda digest: one.answers[digest].file)
    shown = f"{len(both)} of {len(one.answers)} and {len(other.answers)} are in both"
    yield Line(f"pictures: {shown}" + ("" if both else "; nothing can be compared"), bool(both))
    pairs = [(one.answers[digest], other.answers[digest]) for digest in both]
    unlike = [pair for pair in pairs if not _alike(*pair)]
    if pairs:
        named = _named(unlike, lambda answer: f"{answer.outcome}, {answer.faces} faces")
        yield Line(f"faces: alike in {len(pairs) - len(unlike)} of {len(pairs)} pictures{named}", not unlike)
    alike = [pair for pair in pairs if _alike(*pair) and pair[0].outcome == "face"]
    if alike:
        yield from _apart(one, other, alike)
    asked = [{years for pair in alike for years in pair[i].over} for i in (0, 1)]
    if asked[0] != asked[1]:
        ages = [", ".join(sorted(years, key=int)) or "none" for years in asked]
        yield Line(f"operating points: not for the same ages, {ages[0]} and {ages[1]}")
    for years in sorted(asked[0] & asked[1], key=int):
        differ = [pair for pair in alike if pair[0].over.get(years) != pair[1].over.get(years)]
        yield Line(f"over {years}: {len(differ)} of {len(alike)} answers differ{_named(differ, _over(years))}")


def _alike(a: Answer, b: Answer) -> bool:
    return (a.outcome, a.faces) == (b.outcome, b.faces)


def _over(years: str) -> Callable[[Answer], str]:
    return lambda answer: answer.over.get(years, "none")


def _apart(one: Told, other: Told, alike: Sequence[tuple[Answer, Answer]]) -> Iterator[Line]:
    bounds = Agreement.of(one.values["model"]["precision"], other.values["model"]["precision"])
    # Of values with 2 decimals; what is beyond them is rounding of this subtraction.
    boxes = [
        round(max(abs(x - y) for x, y in zip(a.box_px or (), b.box_px or (), strict=True)), 2) for a, b in alike
    ]  # fmt: skip
    ages = [round(abs((a.age_years or 0.0) - (b.age_years or 0.0)), 2) for a, b in alike]
    largest, mean = max(ages), fmean(ages)
    yield Line(
        f"boxes: at most {max(boxes):.2f} px apart, {fmean(boxes):.3f} on average (bound {bounds.box_px:g})",
        max(boxes) <= bounds.box_px,
    )
    yield Line(
        f"ages: at most {largest:.2f} years apart, {mean:.3f} on average, {sum(age == 0 for age in ages)} of "
        f"{len(ages)} equal (bounds {bounds.age_years:g} and {bounds.mean_years:g})",
        largest <= bounds.age_years and mean <= bounds.mean_years,
    )


def _named(pairs: Sequence[tuple[Answer, Answer]], shown: Callable[[Answer], str]) -> str:
    """The first of some pictures with both answers; empty where there is none."""
    if not pairs:
        return ""
    more = f" and {len(pairs) - _NAMED_PICTURES} more" if len(pairs) > _NAMED_PICTURES else ""
    return ": " + "; ".join(f"{a.file}: {shown(a)} and {shown(b)}" for a, b in pairs[:_NAMED_PICTURES]) + more


def _figures(one: Told, other: Told) -> Iterator[Line]:
    if not _same_pictures(one, other):
        yield Line("figures: of other pictures or labels, so they are not compared")
        return

    def line(name: str, mine: float | None, theirs: float | None, unit: str) -> Line:
        return Line(f"{name}: {_number(mine)} and {_number(theirs)} {unit}")

    yield line("no face", one.values["no_face"]["all"]["percent"], other.values["no_face"]["all"]["percent"], "%")
    a, b = one.values["accuracy"], other.values["accuracy"]
    if a is None:
        return
    yield line("mean absolute error", a["mae_years"], b["mae_years"], "years")
    yield line("bias", a["bias_years"], b["bias_years"], "years")
    for years in a["cutoffs"]:
        for what in ("false_positive", "false_negative"):
            mine, theirs = (each["cutoffs"][years][what]["percent"] for each in (a, b))
            yield line(f"{what.replace('_', ' ')}s at cut-off {years}", mine, theirs, "%")


def _same_pictures(one: Told, other: Told) -> bool:
    a, b = one.values["pictures"], other.values["pictures"]
    return bool(a["sha256"] == b["sha256"] and a["labels_sha256"] == b["labels_sha256"])


def _speed(one: Told, other: Told) -> Iterator[Line]:
    a, b = one.values["speed"], other.values["speed"]
    note = "" if _same_pictures(one, other) else ", of other pictures"
    for stage in (*STAGES, TOTAL):
        times = a["median_ms"][stage], b["median_ms"][stage]
        yield Line(f"time, {stage}: {times[0]:.2f} and {times[1]:.2f} ms a picture, {_ratio(*times)}{note}")
    if a["memory_mb"] and b["memory_mb"]:
        sizes = a["memory_mb"], b["memory_mb"]
        yield Line(f"memory: {sizes[0]:.0f} and {sizes[1]:.0f} MB, {_ratio(*sizes)}{note}")


def _ratio(a: float, b: float) -> str:
    return f"{b / a:.2f} times as much" if a else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
