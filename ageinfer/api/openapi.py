"""Describes the service in the words of OpenAPI 3.1."""

import json
from importlib import resources
from typing import Any

import ageinfer
from ageinfer.sinks import record_schema


def description() -> dict[str, Any]:
    """The description of the service, with the schema of the records among its components.

    Example:
        >>> sorted(description()["paths"])
        ['/metrics', '/openapi.json', '/v1/faces', '/v1/health']
    """
    text = resources.files("ageinfer.api").joinpath("openapi.json").read_text(encoding="utf-8")
    described: dict[str, Any] = json.loads(text)
    described["info"]["version"] = ageinfer.__version__
    record: dict[str, Any] = _moved(record_schema())
    del record["$schema"]
    parts: dict[str, Any] = record.pop("$defs")
    described["components"]["schemas"] |= {"record": record, **parts}
    return described


def _moved(value: Any) -> Any:
    """A schema whose references lead to the components."""
    if isinstance(value, list):
        return [_moved(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: entry.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(entry)
        for key, entry in value.items()
    }
