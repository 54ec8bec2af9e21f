"""The JavaScript library refuses the model files that Python refuses, in the same words."""

import json

import pytest
from web_library import MODELS, YUNET, Library, Refused

from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, check_age_model, metadata_properties, sealed_json
from ageinfer.errors import ModelError

SMALL = MODELS / "age-small.onnx"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return Library(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def shipped():
    return SMALL.read_bytes()


def replaced(data, before, after):
    assert before in data
    assert len(before) == len(after)
    return data.replace(before, after, 1)


def with_metadata(data, **changes):
    """The same model with other metadata, whose own hash fits."""
    import onnx

    properties = metadata_properties(data)
    values = json.loads(properties[METADATA_KEY])
    values.pop("metadata_sha256")
    crop = changes.pop("crop", {})
    values |= changes
    values["crop"] = {**values["crop"], **crop}
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {**properties, METADATA_KEY: sealed_json(values)})
    return model.SerializeToString()


def with_graph(data, change):
    from portraits import tampered

    return tampered(data, change)


def loop(graph):
    from onnx import helper

    graph.node.append(helper.make_node("Loop", [], [], body=helper.make_graph([], "inner", [], [])))


def outside(graph):
    graph.initializer[0].data_location = 1


def foreign(graph):
    graph.node[0].domain = "com.microsoft"


def flipped(data):
    """One bit of one weight is another one."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


CHANGES = {
    "weight": flipped,
    "margin": lambda data: replaced(data, b'"margin": 0.15', b'"margin": 0.25'),
    "number written otherwise": lambda data: replaced(data, b'"age_range": [0.0, ', b'"age_range": [0.00,'),
    "schema": lambda data: with_metadata(data, schema=3),
    "label": lambda data: with_metadata(data, label="guessed"),
    "ages": lambda data: with_metadata(data, age_range=[40, 20]),
    "crop kind": lambda data: with_metadata(data, crop={"kind": "circle"}),
    "crop size": lambda data: with_metadata(data, crop={"size": 160.0}),
    "crop margin": lambda data: with_metadata(data, crop={"margin": 5}),
    "crop key": lambda data: with_metadata(data, crop={"more": 1}),
    "kind of value": lambda data: with_metadata(data, metrics={}),
    "no metadata": lambda data: YUNET.read_bytes(),
    "no model": lambda data: b"\xff" * 40,
    "cut off": lambda data: data[:-200],
    "loop": lambda data: with_graph(data, loop),
    "weights elsewhere": lambda data: with_graph(data, outside),
    "foreign operator": lambda data: with_graph(data, foreign),
}


def test_what_python_refuses_is_refused_for_the_same_reason(library, shipped, tmp_path):
    pytest.importorskip("onnx")
    cases, reasons = [], {}
    for name, change in CHANGES.items():
        path = tmp_path / f"{len(cases)}.onnx"
        path.write_bytes(change(shipped))
        cases.append({"op": "check", "file": str(path)})
        try:
            check_age_model(path.read_bytes(), "it")
            reasons[name] = None
        except ModelError as error:
            reasons[name] = str(error).removeprefix("it: ")
    assert reasons.pop("number written otherwise") is None
    for name, found in zip(CHANGES, library.run(cases), strict=True):
        if name == "number written otherwise":
            assert found["name"] == "age-small"
            continue
        assert isinstance(found, Refused), name
        assert found.kind == "AgeError", (name, found.args)
        assert "\n" not in str(found)
        # What else Python says is how it writes a value, and where in a file that is no model the reader gave up.
        assert str(found)[:13] == reasons[name][:13], name


def test_shipped_models_say_of_themselves_what_python_reads(library):
    models = sorted(MODELS.glob("age-*.onnx"))
    assert len(models) == 4
    for path, found in zip(models, library.run([{"op": "check", "file": str(path)} for path in models]), strict=True):
        metadata = check_age_model(path.read_bytes(), path)
        assert found["name"] == metadata.name
        assert found["crop"] == metadata.crop.to_dict()
        assert found["precision"] == metadata.precision


def test_a_page_that_cannot_check_a_model_says_so(library):
    """Browsers compute hashes in secure contexts only."""
    [found] = library.run([{"op": "insecure", "file": str(SMALL)}])
    assert isinstance(found, Refused)
    assert (found.kind, "https" in str(found)) == ("AgeError", True)


def test_the_hash_of_metadata_is_over_the_text_that_python_writes(library, shipped):
    """Numbers, escapes and the order of keys are as `json.dumps` has them."""
    values = json.loads(metadata_properties(shipped)[METADATA_KEY])
    values.pop("metadata_sha256")
    values["training"] = {
        "numbers": [5.0, 5, -0.0, 1e-5, 0.0001, 123456.789, 1e15, 1e16, 1.5e22, 2**60, -3, 1e-320, 100.0, 0.1 + 0.2],
        "text": 'é \x7f \t \\ "quoted" \ud83d\ude00 \u2028 n5', "B": None, "a": True, "__proto__": {"x": [[], {}]},
        "": "s", "s": "", "10": 1, "9": 2,
    }  # fmt: skip
    texts = [sealed_json(values), json.dumps(json.loads(sealed_json(values)), indent=2, ensure_ascii=False)]
    texts.append(texts[0].replace("123456.789", "123456.788"))
    first, second, changed = library.run([{"op": "metadata", "text": text} for text in texts])
    assert ModelMetadata.from_json(texts[1]).training["numbers"][4] == 0.0001
    assert first["training"]["a"] is True
    assert second["training"]["text"] == values["training"]["text"].encode("utf-16", "surrogatepass").decode("utf-16")
    assert isinstance(changed, Refused)
    assert "changed after the export" in str(changed)


def test_a_network_that_answers_no_ages_is_refused(library, tiny_model, tmp_path):
    """On trial the tiny model answers 128 years, the mean of the red channel."""
    from onnx import TensorProto

    models = [tiny_model(), tiny_model(age_range=[0, 107]), tiny_model(age_range=[0, 120], decode="expectation"),
              tiny_model(input_type=TensorProto.FLOAT), tiny_model(crop_changes={"size": 9})]  # fmt: skip
    cases = []
    for number, model in enumerate(models):
        (tmp_path / f"{number}.onnx").write_bytes(model)
        cases.append({"op": "open", "files": [str(tmp_path / f"{number}.onnx"), str(YUNET)]})
    name, *refused = library.run_networks(cases)
    assert name == "tiny"
    assert [found.kind for found in refused] == ["AgeError"] * 4, refused
    reasons = [str(found) for found in refused]
    assert all("an age of 128 years" in reason for reason in reasons[:2])
    assert all("not what its metadata say" in reason for reason in reasons[2:])


def test_a_detector_that_is_no_yunet_is_refused(library, tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    files = [[SMALL, SMALL], [SMALL, tmp_path / "empty.onnx"], [tmp_path / "empty.onnx", YUNET], [SMALL, YUNET]]
    *refused, name = library.run_networks([{"op": "open", "files": list(map(str, pair))} for pair in files])
    assert [found.kind for found in refused] == ["AgeError"] * 3, refused
    assert "not a YuNet model (no output bbox_16)" in str(refused[0])
    assert name == "age-small"
