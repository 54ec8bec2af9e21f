"""The gate of an export: bounds on the figures of groups of people, beyond which a model file is not written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agetrain.evaluation.aev import LEGAL_YEARS, MINORS_BELOW, share_interval
from agetrain.evaluation.bootstrap import Bootstrap
from agetrain.evaluation.figures import Answers, decades

ALL, AGE = "all", "age"
# What a bound is on: its words, its unit, and how its figure is written.
BOUNDS = {
    "mae_years": ("MAE", " years", ".2f"),
    "bias_years": ("bias", " years", "+.2f"),
    "mae_ratio": ("MAE over that of all", "", ".2f"),
    "false_positive_percent": ("false positives", " %", ".2f"),
}
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Gate:
    """Bounds that each group of people must keep; None is no bound.

    Attributes:
        name: its heading in the file.
        groups: ``all`` for everybody, ``age`` for decades of the labelled age, or an attribute of the pictures.
        mae_years: the mean absolute error, at most.
        bias_years: the mean of answer minus label, at most, to either side.
        mae_ratio: the MAE of a group over that of everybody, at most.
        false_positive_percent: of the people in the five years below the legal age who got an answer, those who are
            answered as of the cut-off or older, at most.
        legal_years, cutoff_years: ages of ``false_positive_percent``.
        least_n: pictures that a group needs to be judged.
        surely: a group only fails where all of the 95 % interval of its figure is beyond the bound.
    """

    name: str
    groups: str
    mae_years: float | None = None
    bias_years: float | None = None
    mae_ratio: float | None = None
    false_positive_percent: float | None = None
    legal_years: int = LEGAL_YEARS
    cutoff_years: float = 25
    least_n: int = 30
    surely: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of one figure of one group.

    Attributes:
        gate: its name.
        attribute, group: which people: ``sex`` and ``female``; ``all`` and nothing for everybody.
        key: of the bound in the gate file.
        what: the figure is, in words.
        n: pictures that it is of.
        figure, interval_95: in the unit of ``key``; None where it is not judged.
        bound: at most.
        status: ``kept``, ``failed`` or ``not judged``.
        note: how many are needed, or that the figure is beyond its bound, but not surely.
    """

    gate: str
    attribute: str
    group: str
    key: str
    what: str
    n: int
    figure: float | None
    interval_95: tuple[float, float] | None
    bound: float
    status: Literal["kept", "failed", "not judged"]
    note: str = ""

    @property
    def people(self) -> str:
        """The group in words."""
        return f"{self.attribute} {self.group}".strip()

    @property
    def measured(self) -> str:
        """The figure with its interval in words, or a dash."""
        if self.figure is None or self.interval_95 is None:
            return "-"
        _, unit, form = BOUNDS[self.key]
        low, high = self.interval_95
        return f"{self.figure:{form}}{unit} ({low:{form}} to {high:{form}})"

    @property
    def limit(self) -> str:
        """The bound in words."""
        return f"{self.bound:g}{BOUNDS[self.key][1]}"

    @property
    def outcome(self) -> str:
        """The status in words."""
        return f"{self.status}: {self.note}" if self.note else self.status

    def __str__(self) -> str:
        return (
            f"gate {self.gate}: {self.people}: {self.what}: {self.measured}, at most {self.limit}, n {self.n}: "
            f"{self.outcome}"
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gates of a file say of one model file.

    Attributes:
        file, sha256: the gate file's name and hash.
        verdicts: in the order of the gates.
    """

    file: str
    sha256: str
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The groups that are beyond their bound; empty when the gates are kept."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "failed")

    @property
    def unjudged(self) -> tuple[str, ...]:
        """The gates by which nobody was judged, because all of their groups have too few pictures."""
        judged = {verdict.gate for verdict in self.verdicts if verdict.status != "not judged"}
        return tuple(dict.fromkeys(verdict.gate for verdict in self.verdicts if verdict.gate not in judged))

    def __str__(self) -> str:
        told = (f"{sum(v.status == s for v in self.verdicts)} {s}" for s in ("kept", "failed", "not judged"))
        return f"{self.file}: " + ", ".join(text for text in told if not text.startswith("0 "))


def verdicts_of(gate: Gate, answers: Answers, resamples: int) -> Iterator[Verdict]:
    """Yields what a gate says of each figure of each group.

    Args:
        gate: the bounds.
        answers: of the model file to pictures of exact ages.
        resamples: of the bootstrap for the intervals.
    """
    bounds = {key: bound for key in BOUNDS if (bound := getattr(gate, key)) is not None}
    minors = range(gate.legal_years - MINORS_BELOW, gate.legal_years)
    for group, people in _groups(gate.groups, answers).items():
        for key, bound in bounds.items():
            what, chosen = BOUNDS[key][0], people
            if key == "false_positive_percent":
                what += f" of {minors[0]} to {minors[-1]} at cut-off {gate.cutoff_years:g}"
                chosen = people & np.isin(np.floor(answers.labels), minors) & answers.found
            n = int(chosen.sum())
            head = (gate.name, gate.groups, group, key, what, n)
            if n < gate.least_n:
                yield Verdict(*head, None, None, bound, "not judged", f"{n} of {gate.least_n}")
                continue
            figure, (low, high) = _measured(gate, key, chosen, answers, resamples)
            surely = max(low, -high) > bound  # of a bias, the end that is nearer to 0
            beyond = abs(figure) > bound
            spared = beyond and gate.surely and not surely
            yield Verdict(
                *head, figure, (low, high), bound, "failed" if beyond and not spared else "kept",
                "beyond the bound, but not surely" if spared else "",
            )  # fmt: skip


def _groups(name: str, answers: Answers) -> dict[str, Bools]:
    """Who belongs to each group, ``[n]``; a group of nobody stands for an attribute that no picture has a value of."""
    if name == ALL:
        return {"": np.ones(len(answers.labels), bool)}
    values = decades(answers.labels) if name == AGE else answers.attributes[name]
    return {v: values == v for v in sorted(set(values.tolist())) if v} or {"": np.zeros(len(values), bool)}


def _measured(
    gate: Gate, key: str, chosen: Bools, answers: Answers, resamples: int
) -> tuple[float, tuple[float, float]]:  # fmt: skip
    """A figure of the chosen people and its 95 % interval, to 4 decimals."""
    subjects, errors = answers.subjects[chosen], answers.errors[chosen]
    scale = 1.0
    if key == "false_positive_percent":
        hits = answers.estimates[chosen] >= gate.cutoff_years
        figure, (low, high), scale = float(hits.mean()), share_interval(hits, subjects, resamples), 100.0
    else:
        values = errors if key == "bias_years" else np.abs(errors)
        figure, (low, high) = float(values.mean()), Bootstrap(subjects, resamples, 0).of_mean(values)
        if key == "mae_ratio" and (mae := float(np.abs(answers.errors).mean())):
            scale = 1 / mae
    return round(figure * scale, 4), (round(low * scale, 4), round(high * scale, 4))
