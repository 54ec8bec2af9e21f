"""The JSON schema of the records, and the page of the documentation about it."""

import copy
import json
import re
from dataclasses import replace

import jsonschema
import pytest
from conftest import ROOT
from sink_frames import SCHEMA, TRACKED, annotated

from ageinfer.sinks import CSV_COLUMNS, record_schema
from ageinfer.types import Over


def changed(record: dict, path: str, value) -> dict:
    """A copy with one value replaced; `path` as in ``faces.0.box``."""
    record = copy.deepcopy(record)
    at, *keys = record, *path.split(".")
    for key in keys[:-1]:
        at = at[int(key) if key.isdigit() else key]
    at[keys[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2), ("source", None), ("frame", -1), ("frame", 1.5), ("time_s", "0"), ("size", [96]),
        ("size", [0, 1]), ("faces", None), ("faces.0.box", [1, 2, 3]), ("faces.0.box", [1, 2, -3, 4]),
        ("faces.0.score", None), ("faces.0.landmarks", [[1, 2]] * 4), ("faces.0.landmarks", [[1, 2, 3]] * 5),
        ("faces.0.track", 1.5), ("faces.0.age", None), ("faces.0.age_std", -1), ("faces.0.age_smoothed", "30"),
        ("faces.0.age_lag_s", -1),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_no_record_may_hold(path, value):
    record = annotated(TRACKED).result.to_record()
    SCHEMA.validate(record)
    SCHEMA.validate(record | {"of a later version": 1})
    assert not SCHEMA.is_valid(changed(record, path, value))


def test_the_schema_is_one_and_asks_for_every_key_of_a_record():
    schema = record_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    record = annotated(replace(TRACKED, over=Over(18, 0.9, "over"))).result.to_record()
    face = schema["$defs"]["face"]
    damaged = replace(annotated().result, damaged=True).to_record()
    SCHEMA.validate(damaged)
    assert list(schema["properties"]) == ["schema", "source", "frame", "time_s", "size", "model", "damaged", "faces"]
    assert list(record) == [key for key in schema["properties"] if key != "damaged"]
    assert set(damaged) == set(schema["properties"])
    # What came later is no duty: records of older releases stay valid.
    assert schema["required"] == [key for key in record if key != "model"]
    assert list(face["properties"]) == list(record["faces"][0])
    assert face["required"] == [key for key in face["properties"] if key not in ("quality", "over")]
    assert all(len(value["description"]) > 15 for value in (schema["properties"] | face["properties"]).values())


def test_the_document_has_the_keys_of_the_schema_and_the_columns_of_the_table():
    text = (ROOT / "docs" / "reference" / "records.md").read_text()
    keys, columns = (part[part.index("|---|---|") :].split("\n\n")[0] for part in text.split("\n## ")[1:3])
    schema = record_schema()
    assert re.findall(r"^\| `(\w+)` \|", keys, re.MULTILINE) == [
        *schema["properties"], *schema["$defs"]["face"]["properties"],
    ]  # fmt: skip
    first_cells = [line.split("|")[1] for line in columns.splitlines()[1:]]
    assert re.findall(r"`(\w+)`", "".join(first_cells)) == list(CSV_COLUMNS)


def test_the_example_of_the_document_is_a_record():
    [example] = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "reference" / "records.md").read_text(), re.DOTALL)
    SCHEMA.validate(json.loads(example))
