"""``--verify-only`` and ``python -m ageexport.inspect``: whether a file is what it says."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from portraits import change_initializer, tampered, write_pack

from ageexport import graph, inspect
from ageexport.__main__ import main
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, check_age_model, metadata_properties
from agetrain.network.checkpoint import Checkpoint

FIRST = "network.backbone.features.0.0.weight"


pytestmark = pytest.mark.usefixtures("cpu_alone")


@pytest.fixture
def verify(exported_distribution, proof, tmp_path, capsys, converted):
    """Runs --verify-only with these bytes; returns the exit status and what was said."""

    def run(model, *options, data=proof, weights=exported_distribution.checkpoint):
        (tmp_path / "m.onnx").write_bytes(model)
        arguments = ["--verify-only", tmp_path / "m.onnx", "--checkpoint", weights, "--quiet", *options]
        before = sorted(p.name for p in tmp_path.iterdir())
        status = main([str(a) for a in (*arguments, *(["--data", data] if data else []))])
        assert sorted(p.name for p in tmp_path.iterdir()) == before  # writes nothing
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


@pytest.fixture(scope="module")
def converted(exported_distribution, cpu_alone):
    """Converts the checkpoint once: torch takes ten seconds for it."""
    from ageexport import graph

    model = graph.convert(Checkpoint.load(exported_distribution.checkpoint))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "convert", lambda values, opset: graph.without_metadata(model))
        yield


@pytest.fixture(scope="module")
def good(exported_distribution):
    return exported_distribution.model.read_bytes()


def test_a_file_that_is_what_its_checkpoint_gives(good, verify):
    status, said = verify(good)
    assert status == 0, said
    assert "verified" in said
    assert "100 faces" in said


def one_step(array):
    """The smallest change that there is: one weight by one unit in the last place."""
    array.flat[5] = np.nextafter(array.flat[5], np.float32(np.inf))
    return array


def test_one_weight_by_one_unit_in_the_last_place_and_the_hash_made_anew(good, verify):
    """No comparison of ages could ever notice it."""
    changed = tampered(good, change_initializer(FIRST, one_step))
    check_age_model(changed, "m.onnx")  # the runtime accepts it: its hashes fit
    status, said = verify(changed)
    assert status == 10
    assert f"{FIRST}: 1 of" in said


def test_one_weight_and_the_old_hash(good, verify):
    changed = onnx.load_from_string(good)
    change_initializer(FIRST, one_step)(changed.graph)
    status, said = verify(changed.SerializeToString())
    assert status == 10
    assert "changed after the export" in said


def swapped(graph):
    """Red and blue exchanged on the way in."""
    weight = next(t for t in graph.initializer if t.name == FIRST)
    change_initializer(FIRST, lambda w: w[:, ::-1])(graph)
    assert weight.dims[1] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.node[5].attribute.append(onnx.helper.make_attribute("group", 1)),
        change_initializer("network.mean", lambda m: m + 1e-5 * m),
        swapped,
    ],
    ids=["a node", "the mean, a little", "colours"],
)
def test_other_changes_of_the_graph(good, verify, change):
    status, _ = verify(tampered(good, change))
    assert status == 10


@pytest.mark.parametrize(
    "changes", [{"label": "apparent"}, {"age_std_kind": "constant"}, {"crop": CropSpec(size=64, margin=0.25)}]
)
def test_other_words_about_the_same_graph(good, verify, changes):
    status, said = verify(tampered(good, **changes))
    assert status == 10
    assert f"says {next(iter(changes))}" in said


def forged(**changes):
    """Other words about the training, or one of the figures."""

    def apply(data):
        metadata = ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY])
        return tampered(data, training={**metadata.training, **changes})

    return apply


def better_figures(data):
    metadata = ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY])
    return tampered(data, metrics=[{**metadata.metrics[0], "mae": 1.23}])


def without_figures(data):
    return tampered(data, metrics=[])


def another_licence(data):
    metadata = ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY])
    [learned] = metadata.training["data"]
    return tampered(data, training={**metadata.training, "data": [{**learned, "licence": "any use"}]})


def another_export(data):
    metadata = ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY])
    return tampered(data, export={**metadata.export, "quantised_share": 0.9})


def with_model(change):
    """A change of what is round the graph; its hash is made anew where the graph is meant."""

    def apply(data):
        model = onnx.load_from_string(data)
        change(model)
        return tampered(model.SerializeToString())

    return apply


def set_property(key, value):
    def change(model):
        kept = {p.key: p.value for p in model.metadata_props if p.key != key}
        onnx.helper.set_model_props(model, {**kept, **({key: value} if value else {})})

    return with_model(change)


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (better_figures, "says metrics.0.mae 1.23, the checkpoint gives 9.5"), (without_figures, "says metrics."),
        (forged(train_median=99.0), "says training.train_median 99.0, the checkpoint gives 34.0"),
        (another_licence, 'says training.data.0.licence "any use"'), (forged(mirrored=True), "says training.mirrored"),
        (forged(calibration={"n": 9999}), "says training.calibration.n 9999, the checkpoint gives nothing"),
        (another_export, "says export.quantised_share"), (set_property("model_license", "CC0"), "says model_license"),
        (set_property("model_author", None), "says model_author nothing"),
        (set_property("more", "x"), "says metadata_props"),
    ],
)  # fmt: skip
def test_forged_metadata_with_the_hash_made_anew(good, verify, forge, told):
    """The graph is the checkpoint's to the last bit; what the file says of it is not."""
    changed = forge(good)
    check_age_model(changed, "m.onnx")  # the runtime accepts it: its hashes fit
    status, said = verify(changed)
    assert status == 10, said
    assert told in said


def other_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def other_output(model):
    model.graph.output[2].type.tensor_type.shape.dim[1].dim_param = "years"


def other_opset(model):
    model.opset_import[0].version = 19


def a_function(model):
    identity = onnx.helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(
        onnx.helper.make_function("mine", "F", ["a"], ["b"], [identity], [onnx.helper.make_opsetid("", 18)])
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_input, "other inputs"), (other_output, "other outputs"), (other_opset, "other operator sets"),
        (a_function, "operators of its own"),
    ],
)  # fmt: skip
def test_other_things_round_the_same_nodes(good, verify, change, told):
    status, said = verify(with_model(change)(good))
    assert status == 10, said
    assert told in said


def test_other_versions_and_another_name_are_no_forgery(good, verify):
    """A file of last year's packages, under a name of its own, is still what the checkpoint gives."""
    metadata = ModelMetadata.from_json(metadata_properties(good)[METADATA_KEY])
    older = tampered(good, name="mine", export={**metadata.export, "torch": "2.0", "python": "3.9"})
    status, said = verify(older)
    assert status == 0, said


def test_the_file_of_another_checkpoint(exported_linear, good, verify):
    status, said = verify(good, weights=exported_linear.checkpoint)
    assert status == 10
    assert "another checkpoint" in said


def test_without_faces(good, verify, exported_distribution):
    assert not exported_distribution.checkpoint.with_name("parity.npz").exists()
    assert verify(good, data=None)[0] == 3


@pytest.mark.parametrize("arguments", [["--verify-only", "m.onnx"], [], ["a.pth", "--checkpoint", "b.pth"]])
def test_one_checkpoint_is_needed(arguments, capsys):
    assert main(arguments) == 2
    assert "one checkpoint" in capsys.readouterr().err


@pytest.mark.slow  # minutes on a busy machine
def test_int8_is_made_again_from_the_same_faces(
    exported_distribution, proof, tmp_path, capsys, converted, monkeypatch, bounds
):
    """A weight changed by one step of 64 is noticed; so are faces that are not those of the calibration."""
    from ageexport import precision

    monkeypatch.setattr(precision, "METHODS", ("minmax",))
    monkeypatch.setattr(precision, "COUNTS", (0, 1))
    bounds(int8_mae=5, int8_decade_mae=9)
    shutil.copy(exported_distribution.checkpoint, tmp_path / "best.pth")
    write_pack(tmp_path, proof, CropSpec(size=64))
    model, weights = tmp_path / "best.int8.onnx", tmp_path / "best.pth"
    assert main([str(weights), "--precision", "int8", "--quiet"]) == 0
    assert main(["--verify-only", str(model), "--checkpoint", str(weights), "--quiet"]) == 0
    assert "verified" in capsys.readouterr().out

    data = model.read_bytes()
    name = next(t.name for t in onnx.load_from_string(data).graph.initializer if t.data_type == onnx.TensorProto.INT8)

    def step(array):
        array.flat[3] += 1
        return array

    model.write_bytes(tampered(data, change_initializer(name, step)))
    assert main(["--verify-only", str(model), "--checkpoint", str(weights), "--quiet"]) == 10
    assert f"{name}: 1 of" in capsys.readouterr().err

    # The last layer comes from a calibration: another processor may round it otherwise, nobody may move it.
    for last in graph.last_layer(onnx.load_from_string(data)).input[1:3]:
        for factor, status in ((1 + 1e-6, 0), (1.2, 10)):
            model.write_bytes(tampered(data, change_initializer(last, lambda values, factor=factor: values * factor)))
            assert main(["--verify-only", str(model), "--checkpoint", str(weights), "--quiet"]) == status
        assert last in capsys.readouterr().err

    model.write_bytes(data)
    lines = (proof / "labels.csv").read_text().splitlines(keepends=True)
    other = tmp_path / "other"
    shutil.copytree(proof, other)
    (other / "labels.csv").write_text("".join(lines[:-2]))
    arguments = ["--verify-only", str(model), "--checkpoint", str(weights), "--data", str(other), "--quiet"]
    assert main(arguments) == 10
    assert "calibrated on" in capsys.readouterr().err


def test_inspect_says_what_a_file_says(exported_distribution, good, capsys):
    assert inspect.main([str(exported_distribution.model)]) == 0
    out = capsys.readouterr().out
    metadata = ModelMetadata.from_json(metadata_properties(good)[METADATA_KEY])
    for fact in (metadata.graph_sha256, metadata.training["checkpoint_sha256"], "64 x 64 px", "margin 0.2", "real age",
                 "mobilenet_v2, distribution head, fp32", "research use only", "MAE 9.50", "opset 18",
                 "the runtime accepts it"):  # fmt: skip
        assert fact in out
    assert inspect.main([str(exported_distribution.model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(metadata_properties(good)[METADATA_KEY])


@pytest.mark.parametrize("kind", ["missing", "text", "detector", "changed", "wrong shape", "folder"])
def test_inspect_refuses_what_the_runtime_refuses(kind, good, tmp_path, capsys):
    from ageinfer.engine.modelfile import packaged_model

    path = tmp_path / "m.onnx"
    if kind == "text":
        path.write_text("<html>")
    elif kind == "detector":
        path = packaged_model("face_detection_yunet_2023mar.onnx")
    elif kind == "changed":
        path.write_bytes(good.replace(b'"margin": 0.2', b'"margin": 0.3'))
    elif kind == "wrong shape":
        crop = ModelMetadata.from_json(metadata_properties(good)[METADATA_KEY]).crop
        path.write_bytes(tampered(good, crop=dataclasses.replace(crop, size=72)))
    elif kind == "folder":
        path.mkdir()
    assert inspect.main([str(path)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith(f"ageexport.inspect: refused: {path}")


def test_inspect_of_a_shipped_model(capsys):
    from ageinfer.engine.modelfile import DEFAULT_MODEL, packaged_model

    assert inspect.main([str(packaged_model(DEFAULT_MODEL))]) == 0
    assert "utkface" in capsys.readouterr().out


def test_a_pack_of_another_label_is_turned_round(exported_distribution, proof, tmp_path):
    """One run learns real and apparent age and leaves one pack: each checkpoint is proved on its own label."""
    from ageexport import evidence
    from agetrain.crops import cache
    from agetrain.crops.parity_pack import ParityPictures, write_parity_pack
    from agetrain.datasets import Sample

    pictures = evidence.from_own(proof).samples[:5]
    samples = [
        Sample(s.path, 30 + i, None, 40 + i, 3.0 + i, f"p{i}", (("sex", "female"),)) for i, s in enumerate(pictures)
    ]
    crops = cache.open_crops(samples, CropSpec(size=64), tmp_path / "cache", "crops")
    write_parity_pack(tmp_path / "parity.npz", ParityPictures(tuple(samples), tuple(samples[:2])), crops, "real", 0)
    real = evidence.from_pack(tmp_path / "parity.npz", "real", tmp_path / "a")
    apparent = evidence.from_pack(tmp_path / "parity.npz", "apparent", tmp_path / "b")
    assert sorted(s.age_years for s in real.samples) == [30, 31, 32, 33, 34]
    assert [s.age_years for s in apparent.samples] == [s.other_years for s in real.samples]
    assert [s.std_years for s in apparent.samples] == [s.age_years - 37 for s in apparent.samples]
    assert {s.attributes for s in real.samples} == {(("sex", "female"),)}
    by_subject = {s.subject: s for s in samples}
    for sample in real.samples:
        assert sample.path.read_bytes() == by_subject[sample.subject].path.read_bytes()
    assert torch.load(exported_distribution.checkpoint, weights_only=True)["label"] == "real"
