import json
import math
import shutil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ageinfer.crop.cut import CropSpec
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.modelfile import (
    DEFAULT_MODEL,
    METADATA_KEY,
    ModelMetadata,
    check_age_model,
    graph_sha256,
    metadata_properties,
    model_files,
    packaged_model,
    read_model,
    sealed_json,
    shipped_names,
    stated_metadata,
)
from ageinfer.errors import ModelError


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return read_model(packaged_model(DEFAULT_MODEL))


def with_properties(model: bytes, **properties) -> bytes:
    """The model with other metadata and the same graph."""
    onnx = pytest.importorskip("onnx")
    edited = onnx.load_from_string(model)
    del edited.metadata_props[:]
    onnx.helper.set_model_props(edited, properties)
    return edited.SerializeToString()


def refusal(model: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        check_age_model(model, "m.onnx")
    message = str(caught.value)
    assert message.startswith("m.onnx: ")
    assert "\n" not in message
    return message


def test_the_shipped_model_is_accepted_and_says_what_it_needs(shipped):
    metadata = check_age_model(shipped, "shipped")
    assert metadata.crop.detector == "yunet-2023mar"
    assert 32 <= metadata.crop.size <= 512
    assert metadata.label in ("real", "apparent")
    assert 0 <= metadata.age_range[0] < 10
    assert 80 < metadata.age_range[1] <= 120
    assert metadata.training
    assert all({"mae", "n", "part"} <= set(metric) for metric in metadata.metrics)
    assert metadata.metrics


def test_onnx_reads_the_same_metadata_and_finds_no_external_data(shipped):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(shipped)
    assert {p.key: p.value for p in model.metadata_props} == metadata_properties(shipped)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


@pytest.mark.parametrize("bit", [0, 7])
def test_one_bit_of_one_weight_is_noticed(shipped, bit):
    onnx = pytest.importorskip("onnx")
    weights = max((t.raw_data for t in onnx.load_from_string(shipped).graph.initializer), key=len)
    place = shipped.index(weights) + len(weights) // 2
    changed = bytearray(shipped)
    changed[place] ^= 1 << bit
    assert "changed" in refusal(bytes(changed))


def test_metadata_of_another_model_do_not_fit(shipped, tiny_model):
    borrowed = with_properties(tiny_model(), **metadata_properties(shipped))
    assert "changed" in refusal(borrowed)


def test_a_model_without_metadata_is_refused(shipped):
    kept = metadata_properties(shipped)
    assert check_age_model(with_properties(shipped, **kept), "again")  # editing alone is not what is refused
    del kept[METADATA_KEY]
    assert "does not say how to crop" in refusal(with_properties(shipped, **kept))


def test_the_detector_is_not_taken_for_an_age_model():
    assert "does not say how to crop" in refusal(packaged_model("face_detection_yunet_2023mar.onnx").read_bytes())


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, 2.5])
def test_another_schema_version_is_refused_by_number(tiny_model, version):
    assert f"schema version {version!r}" in refusal(tiny_model(schema=version))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "1", '"age"', "{}", "\x00", "NaN", '{"schema": 2}', "9" * 5000, "[" * 100_000],
    ids=lambda text: text[:12] or "nothing",
)
def test_metadata_that_are_not_the_expected_json_are_refused(tiny_model, text):
    refusal(tiny_model(text or " "))


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "guessed"}, {"label": None}, {"label": ["real"]}, {"decode": "argmax"}, {"age_std_kind": 3},
        {"age_range": 5}, {"age_range": [0]}, {"age_range": ["0", "100"]}, {"age_range": [0, None]},
        {"age_range": [0, 10**400]}, {"age_range": [0, math.nan]}, {"age_range": [0, math.inf]}, {"age_range": [90, 0]},
        {"crop": None}, {"crop": []}, {"crop": {}}, {"graph_sha256": 5}, {"graph_sha256": None}, {"graph_sha256": ""},
        {"name": None}, {"name": ["x"]}, {"training": "x"}, {"metrics": 1}, {"precision": "int4"}, {"precision": None},
        {"export": []},
        *({"crop_changes": change} for change in (
            {"version": 2}, {"kind": "resize"}, {"size": 0}, {"size": "8"}, {"size": 8.0}, {"size": True},
            {"margin": "0"}, {"margin": math.nan}, {"margin": 10**400}, {"fill": 3}, {"fill": "abc"}, {"fill": [1, 2]},
            {"fill": [0, 0, 999]}, {"detector": 5}, {"unknown": 1},
        )),
    ],
    ids=lambda changes: str(changes)[:40],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(tiny_model, changes):
    assert check_age_model(tiny_model(), "m.onnx").name == "tiny"  # without the change it is accepted
    refusal(tiny_model(**changes))


def test_metadata_survive_json():
    crop = CropSpec(size=96, margin=0.3, fill=(1, 2, 3))
    metadata = ModelMetadata(
        "é", crop, "apparent", (0.0, 100.0), "expectation", "distribution", "ab", "int8", {"opset": 18},
        {"a": [1.1, 1e-7]}, [{"n": 2}],
    )  # fmt: skip
    assert ModelMetadata.from_json(metadata.to_json()) == metadata
    assert json.loads(metadata.to_json())["schema"] == 2


@settings(max_examples=40)
@given(st.data())
def test_the_shipped_model_cut_anywhere_is_refused(shipped, data):
    refusal(shipped[: data.draw(st.integers(0, len(shipped) - 1))])


def test_a_model_cut_at_any_byte_is_refused(tiny_model):
    whole = tiny_model()
    for length in range(len(whole)):
        refusal(whole[:length])


@settings(max_examples=300)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changed_nothing(tiny_model, data):
    whole = tiny_model()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        metadata = check_age_model(bytes(changed), "m.onnx")
    except ModelError:
        return
    assert metadata == check_age_model(whole, "m.onnx")


def test_a_changed_margin_is_noticed(shipped):
    changed = shipped.replace(b'"margin": 0.15', b'"margin": 0.35')
    assert changed != shipped
    assert "metadata were changed" in refusal(changed)


@given(st.binary(max_size=600))
@example(b"\x3a\x00")  # a graph with nothing in it
@example(b"\x3a\x00\x72\x0c\x0a\x08ageinfer\x12\x00")
@example(b"\x38\x00\x72\x02\x0a\x00")
@example(b"\x3a\x00\x72\x06\x0a\x04\xff\xff\xff\xff")  # a key that is not UTF-8
def test_random_bytes_are_refused(data):
    refusal(data)


def test_two_graphs_are_one_too_many(tiny_model):
    # Protobuf readers merge them, so the runtime would load something that no hash was made of.
    assert "not an ONNX model" in refusal(tiny_model() + b"\x3a\x02\x12\x00")


@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_a_file_that_cannot_be_read_says_why(tmp_path, kind):
    path = tmp_path / "m.onnx"
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    reason = {"missing": "no such model file", "empty": "is empty", "folder": "not a file"}[kind]
    with pytest.raises(ModelError, match=rf"m\.onnx: .*{reason}"):
        AgeEstimator(path)


def test_a_broken_graph_with_the_right_hash_is_still_a_model_error(tiny_model, tmp_path):
    # Somebody may sign nonsense; ONNX Runtime then refuses it with exceptions of its own.
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_model())
    model.graph.node[0].op_type = "NoSuchOperator"
    values = json.loads(metadata_properties(tiny_model())[METADATA_KEY])
    del values["metadata_sha256"]
    values["graph_sha256"] = graph_sha256(model.SerializeToString())
    onnx.helper.set_model_props(model, {METADATA_KEY: sealed_json(values)})
    path = tmp_path / "signed.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it") as caught:
        AgeEstimator(path, provider="cpu")
    assert "\n" not in str(caught.value)


def test_a_model_given_by_path_is_the_one_that_is_used(tmp_path, shipped):
    path = tmp_path / "copy with space.onnx"
    shutil.copyfile(packaged_model(DEFAULT_MODEL), path)
    assert AgeEstimator(path, provider="cpu").metadata == check_age_model(shipped, "shipped")


def test_a_packaged_model_that_is_not_there_is_a_model_error():
    with pytest.raises(ModelError, match="install ageinfer again"):
        packaged_model("age-of-nothing.onnx")


# By name


def names_of(model) -> list[str]:
    return [path.name for path in model_files(model)]


@pytest.mark.parametrize(
    ("model", "files"),
    [
        (None, ["age-tiny.onnx", "age-tiny.fp32.onnx"]),
        ("age-tiny", ["age-tiny.onnx", "age-tiny.fp32.onnx"]),
        ("age-tiny.onnx", ["age-tiny.onnx", "age-tiny.fp32.onnx"]),
        ("age-tiny.fp32", ["age-tiny.fp32.onnx"]),
        ("age-other", ["age-other.onnx"]),
    ],
)
def test_a_packaged_model_is_found_by_name_in_every_precision(two_precisions, model, files):
    assert names_of(model) == files
    assert {path.parent for path in model_files(model)} == {two_precisions}


def test_a_file_that_is_there_comes_before_a_packaged_model_of_its_name(two_precisions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "age-tiny").mkdir()  # a folder is no file
    assert names_of("age-tiny") == ["age-tiny.onnx", "age-tiny.fp32.onnx"]
    (tmp_path / "age-tiny.onnx").write_bytes(b"mine")
    assert model_files("age-tiny.onnx") == [tmp_path.relative_to(tmp_path) / "age-tiny.onnx"]
    assert names_of("age-tiny") == ["age-tiny.onnx", "age-tiny.fp32.onnx"]
    assert AgeEstimator("age-tiny", precision="fp32", provider="cpu").metadata.name == "tiny"
    with pytest.raises(ModelError, match=r"age-tiny\.onnx: not an ONNX model"):
        AgeEstimator("age-tiny.onnx", provider="cpu")


@pytest.mark.parametrize("model", ["age-small", "age-tiny.int8", "AGE", "folder", "", "..", "age-tiny\0"])
def test_an_unknown_name_is_refused_with_those_that_are_shipped(two_precisions, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    shipped = "shipped age model; check it, or use age-other, age-tiny$"  # neither detector nor fp32
    with pytest.raises(ModelError, match=shipped):
        AgeEstimator(model, provider="cpu")


@pytest.mark.parametrize("model", ["./age-tiny", "package/age-tiny", "/age-tiny.onnx"])
def test_with_a_folder_it_is_a_path_and_no_name(two_precisions, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such model file"):
        AgeEstimator(model, provider="cpu")


def test_the_names_of_what_is_really_shipped():
    names = shipped_names()
    assert DEFAULT_MODEL.removesuffix(".onnx") in names
    assert all(AgeEstimator(name, provider="cpu").metadata.crop.kind != "resize" for name in names)


def test_a_file_states_its_metadata_without_being_read(shipped, two_precisions):
    path = packaged_model("age-tiny.fp32.onnx")
    assert stated_metadata(path) == check_age_model(path.read_bytes(), path)
    for broken in (b"", b"Dear diary", path.read_bytes()[:-9]):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=r"fp32\.onnx: not an ONNX model"):
            stated_metadata(path)
    path.write_bytes(with_properties(shipped))
    with pytest.raises(ModelError, match="does not say how to crop"):
        stated_metadata(path)
    path.unlink()
    with pytest.raises(ModelError, match="no such model file"):
        stated_metadata(path)
