"""The lines of the report, as text and as JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ageinfer.errors import ExitStatus


class State(StrEnum):
    """The state of a part; it is the first word of its line."""

    OK = "ok"
    MISSING = "missing"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        area: the area of the part, such as ``packages``.
        name: the name of the part.
        state: OK: it works. MISSING: it is not there, which may be intended. FAULT: it is broken.
        text: what was found.
        remedy: how to mend it; empty if there is nothing to do.
        values: the same as JSON values for programs, with units in their names.
        status: the exit status that a run of ageinfer would have because of it.
    """

    area: str
    name: str
    state: State
    text: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    status: ExitStatus = ExitStatus.OK


def exit_status(findings: Iterable[Finding]) -> ExitStatus:
    """Returns the status of the first finding that stops a run, or OK."""
    return next((finding.status for finding in findings if finding.status != ExitStatus.OK), ExitStatus.OK)


def as_line(finding: Finding) -> str:
    """Returns a finding as one line of text."""
    line = f"{finding.state:<8} {finding.area:<10} {finding.name}: {finding.text}"
    return " ".join((f"{line} -> {finding.remedy}" if finding.remedy else line).splitlines())


def as_json(version: str, findings: Iterable[Finding]) -> str:
    """Returns all findings as JSON text for programs."""
    findings = list(findings)
    return json.dumps(
        {
            "ageinfer": version,
            "exit_status": int(exit_status(findings)),
            "findings": [
                {
                    "area": f.area, "name": f.name, "state": f.state, "text": f.text, "remedy": f.remedy,
                    "values": dict(f.values),
                }
                for f in findings
            ],
        },
        indent=1,
    )  # fmt: skip
