"""Metadata of a model may hold any JSON: they are taken or refused in one line. A name may hold any letters."""

import csv
import json
import math

import cv2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ageinfer.commands.main import main
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.graph import check_graph
from ageinfer.engine.modelfile import METADATA_SCHEMA, ModelMetadata, sealed_json
from ageinfer.errors import ExitStatus

pytest_plugins = ["command_line"]

GOOD = ModelMetadata("tiny", CropSpec(size=8, margin=0.0), "real", (0.0, 100.0), "linear", "constant", "ab")
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text(st.characters())),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=8,
)
KEYS = [*ModelMetadata.__slots__, "schema", "more", *(f"crop.{key}" for key in (*CropSpec().to_dict(), "resize_to"))]


def changed(changes) -> str:
    values = json.loads(GOOD.to_json())
    del values["metadata_sha256"]
    for key, value in changes.items():
        place, _, name = key.rpartition(".")
        if not place:
            values[name] = value
        elif isinstance(values["crop"], dict):
            values["crop"][name] = value
    return sealed_json(values)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3))
@example({"age_range": [0, math.nan]})
@example({"name": "\ud800"})
@example({"schema": float(METADATA_SCHEMA)})
def test_any_values_are_taken_or_refused_in_one_line(changes):
    try:
        metadata = ModelMetadata.from_json(changed(changes))
    except ValueError:
        return
    assert ModelMetadata.from_json(metadata.to_json()) == metadata or "nan" in str(metadata).lower()
    assert isinstance(metadata.crop, CropSpec)
    assert 0 <= metadata.age_range[0] < metadata.age_range[1]


@given(st.text())
@example('{"schema": 2, "schema": 3}')
def test_any_text_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        ModelMetadata.from_json(text)


@pytest.mark.parametrize("brackets", [("[", "1", "]"), ('{"a":', "1", "}")])
def test_metadata_of_any_depth_are_refused_by_their_reader_or_writer(brackets):
    """The one that makes the hash has a little less room than the one that reads."""
    opening, middle, closing = brackets
    keys = ",".join(f'"{key}": 1' for key in (*ModelMetadata.__slots__, "metadata_sha256") if key != "training")
    for depth in range(850, 1010):
        text = f'{{"schema": 2, {keys}, "training": {opening * depth + middle + closing * depth}}}'
        with pytest.raises(ValueError, match=r"nested too deeply|changed after the export"):
            ModelMetadata.from_json(text)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_graph_or_a_value_error(data):
    for model in (data, b"\x3a" + bytes([len(data) & 0x7F]) + data[: len(data) & 0x7F]):
        try:
            check_graph(model)
        except ValueError as error:
            assert "\n" not in repr(error)  # noqa: PT017


@pytest.mark.parametrize("name", ["\ud800", "a\nb\x1b[2J", "\u202e", "=1+1", '",\r\n', "\0"])
def test_a_name_of_any_letters_is_written_and_read_again(tiny_model, portrait, tmp_path, capfd, name):
    cv2.imwrite(str(tmp_path / "p.png"), portrait)
    (tmp_path / "m.onnx").write_bytes(tiny_model(name=name))
    records, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    given = [tmp_path / "p.png", "--model", tmp_path / "m.onnx", "--jsonl", records, "--csv", table]
    assert main([*map(str, given), "--provider", "cpu"]) == ExitStatus.OK
    said = capfd.readouterr().err
    assert all(line.startswith(("ageinfer ", "frames ")) for line in said.split("\n")[:-1])
    assert "\x1b" not in said
    assert json.loads(records.read_text())["model"] == f"{name}@fp32"
    with table.open(newline="", encoding="utf-8", errors="surrogatepass") as stream:
        [row] = csv.DictReader(stream)
    assert row["model"]
