"""What the doctor says, line by line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ageinfer.errors import ExitStatus


class State(StrEnum):
    """How it stands with a part; the first word of its line, so that no colour is needed."""

    OK = "ok"
    MISSING = "missing"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        area: what it belongs to, such as ``packages``.
        name: of the part.
        state: works; is not there, which may be as it should; or is there and broken.
        text: what was found.
        remedy: what to do about it; empty where nothing is to be done.
        values: the same for programs: JSON values, with units in their names.
        status: with what a run of ageinfer would end because of it.
    """

    area: str
    name: str
    state: State
    text: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    status: ExitStatus = ExitStatus.OK


def exit_status(findings: Iterable[Finding]) -> ExitStatus:
    """That of the first finding that keeps pictures from being processed."""
    return next((finding.status for finding in findings if finding.status != ExitStatus.OK), ExitStatus.OK)


def as_line(finding: Finding) -> str:
    """A finding for a person, in one line."""
    line = f"{finding.state:<8} {finding.area:<10} {finding.name}: {finding.text}"
    return " ".join((f"{line} -> {finding.remedy}" if finding.remedy else line).splitlines())


def as_json(version: str, findings: Iterable[Finding]) -> str:
    """All findings for a program."""
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
