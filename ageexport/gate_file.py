"""Reads the gates of an export from a TOML file."""

import difflib
import hashlib
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ageexport.errors import UsageError
from ageexport.gate import AGE, ALL, BOUNDS, Gate, Judgement, verdicts_of
from agetrain.datasets import Sample
from agetrain.evaluation.aev import MINORS_BELOW
from agetrain.evaluation.figures import MOST_GROUPS, Answers

_NAME = re.compile(r"[\w][\w .:-]{0,39}")


def _number(value: Any, low: float = 0, high: float = 100) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int) and _number(value, low, high)


_FROM_0_TO_100: tuple[Callable[[Any], bool], str] = _number, "use a number from 0 to 100"
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "groups": (lambda v: isinstance(v, str) and v != "", f'use "{ALL}", "{AGE}" or an attribute of the pictures'),
    **dict.fromkeys(BOUNDS, _FROM_0_TO_100),
    "legal_years": (lambda v: _whole(v, MINORS_BELOW, 100), f"use a whole number from {MINORS_BELOW} to 100"),
    "cutoff_years": _FROM_0_TO_100,
    "least_n": (lambda v: _whole(v, 1, math.inf), "use a whole number of 1 or more"),
    "surely": (lambda v: isinstance(v, bool), "use true or false"),
}


@dataclass(frozen=True, slots=True)
class GateFile:
    """The gates of a file.

    Attributes:
        path: of the file.
        sha256: of the file.
        gates: in their order.
    """

    path: Path
    sha256: str
    gates: tuple[Gate, ...]

    def check(self, samples: Sequence[Sample], origin: str) -> None:
        """Refuses a gate whose groups the pictures do not have, before anything is measured.

        Args:
            samples: the pictures of the proof.
            origin: what they are called.

        Raises:
            UsageError: they have no such attribute, or it has so many values that they are no groups.
        """
        values: dict[str, set[str]] = {}
        for name, value in (pair for sample in samples for pair in sample.attributes):
            values.setdefault(name, set()).add(value)
        for gate in self.gates:
            if gate.groups in (ALL, AGE):
                continue
            place = f"{self.path}: [{gate.name}]: groups: {gate.groups}:"
            if gate.groups not in values:
                raise UsageError(
                    f"{place} the pictures of the proof ({origin}) do not have it; use {', '.join([ALL, AGE, *values])}"
                )
            if (count := len(values[gate.groups])) > MOST_GROUPS:
                raise UsageError(
                    f"{place} has {count} values in the pictures of the proof ({origin}), and at most {MOST_GROUPS} "
                    "are groups; use another attribute"
                )

    def judge(self, answers: Answers, resamples: int) -> Judgement:
        """Judges a model by its answers to pictures; those whose age is only known as an interval are left out.

        Args:
            answers: of the model file.
            resamples: of the bootstrap for the intervals.
        """
        exact = answers.rows(answers.exact)
        verdicts = tuple(verdict for gate in self.gates for verdict in verdicts_of(gate, exact, resamples))
        return Judgement(self.path.name, self.sha256, verdicts)


def read_gates(path: Path) -> GateFile:
    """Reads a gate file: TOML, in which each heading begins a gate, and its keys are those of `Gate`.

    Raises:
        UsageError: it cannot be read, or a value is wrong; the message names the file, the gate and the key.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; check --gate"
        ) from error
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}; write a heading [NAME], and key = value below it") from error
    if not tables:
        raise UsageError(f"{path}: has no gate; write a heading [NAME], and groups and a bound below it")
    gates = tuple(_gate(f"{path}: ", name, table) for name, table in tables.items())
    return GateFile(path, hashlib.sha256(data).hexdigest(), gates)


def _gate(file: str, name: str, table: Any) -> Gate:
    if not isinstance(table, dict):
        raise UsageError(f"{file}{name}: no gate; write a heading [{name}], and groups and a bound below it")
    place = f"{file}[{name}]: "
    if not _NAME.fullmatch(name):
        raise UsageError(f"{place}use up to 40 letters, digits, spaces, and _ . : - for its name")
    for key, value in table.items():
        if key not in _ALLOWED:
            near = difflib.get_close_matches(key, _ALLOWED, 1)
            remedy = f"did you mean {near[0]}?" if near else f"use {', '.join(_ALLOWED)}"
            raise UsageError(f"{place}{key}: unknown; {remedy}")
        allowed, remedy = _ALLOWED[key]
        if not allowed(value):
            raise UsageError(f"{place}{key}: {remedy}")
    if fault := _fault(table):
        raise UsageError(place + fault)
    return Gate(name, **table)


def _fault(table: dict[str, Any]) -> str:
    """What is wrong with keys that are right by themselves; else nothing."""
    if "groups" not in table:
        return f"groups: missing; {_ALLOWED['groups'][1]}"
    if not set(table) & set(BOUNDS):
        return f"has no bound; use {', '.join(BOUNDS)}"
    if table["groups"] == ALL and "mae_ratio" in table:
        return f'mae_ratio: compares a group with everybody; use other groups than "{ALL}"'
    if "false_positive_percent" not in table:
        used = [key for key in ("legal_years", "cutoff_years") if key in table]
        return f"{used[0]}: is for false_positive_percent; add that, or leave {used[0]} out" if used else ""
    if table["groups"] == AGE:
        return f'false_positive_percent: is of people below the legal age; use other groups than "{AGE}"'
    gate = Gate("", **table)
    if gate.cutoff_years < gate.legal_years:
        return f"cutoff_years: {gate.cutoff_years:g} is below legal_years, {gate.legal_years}; use that or more"
    return ""
