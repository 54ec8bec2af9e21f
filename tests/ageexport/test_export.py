"""What ageexport writes: files that answer like the checkpoint, and say what they are."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from portraits import variation

from ageinfer.detect import YuNet
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, graph_sha256, metadata_properties
from ageinfer.pipeline import Pipeline
from agetrain.network.checkpoint import Checkpoint


@pytest.fixture(params=["distribution", "linear"])
def exported(request):
    return request.getfixturevalue(f"exported_{request.param}")


def torch_answers(exported, crops):
    network = exported.network.eval()
    with torch.inference_mode():
        raw = network(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
        return [t.numpy() for t in network.decode(raw)]


def session_of(exported):
    return onnxruntime.InferenceSession(str(exported.model), providers=["CPUExecutionProvider"])


def test_it_was_proved_and_written(exported):
    assert exported.model.is_file()
    names = {p.name for p in exported.model.parent.iterdir()} - {"cache", "best.pth", "parity.npz"}
    head = exported.network.head_name
    assert names == {f"{head}.onnx", f"{head}.md", f"{head}.parity.json"}


@pytest.mark.parametrize("batch", [1, 2, 7, 30])
def test_answers_are_those_of_torch(exported, batch):
    estimator = AgeEstimator(exported.model, provider="cpu")
    answers = [a for i in range(0, 30, batch) for a in estimator.estimate(exported.crops[i : i + batch])]
    ages, stds = torch_answers(exported, exported.crops)
    assert ages.std() > 0.5  # or anything that answers 50 for every face would pass
    np.testing.assert_allclose([a.age_years for a in answers], ages, atol=1e-3)
    np.testing.assert_allclose([a.std_years for a in answers], stds, atol=1e-3)


def test_the_whole_path_from_the_picture_file(exported, astronaut):
    """Through the runtime, on pictures that no proof has seen, against torch on a crop by hand."""
    from ageinfer.crop.cut import crop_face

    pipeline = Pipeline(YuNet(provider="cpu"), AgeEstimator(exported.model, provider="cpu"))
    for i in range(100, 104):
        picture = variation(astronaut, i)
        [face] = pipeline(picture).faces
        crop = crop_face(picture, face.detection.box, pipeline.estimator.metadata.crop)
        [age], [std] = torch_answers(exported, crop[None])
        assert face.age.age_years == pytest.approx(age, abs=1e-3)
        assert face.age.std_years == pytest.approx(std, abs=1e-3)


def test_inputs_and_outputs(exported):
    session = session_of(exported)
    [face] = session.get_inputs()
    assert (face.name, face.type, face.shape[1:]) == ("face", "tensor(uint8)", [64, 64, 3])
    assert isinstance(face.shape[0], str)
    outputs = {o.name: (o.type, len(o.shape)) for o in session.get_outputs()}
    expected = {"age": ("tensor(float)", 1), "age_std": ("tensor(float)", 1)}
    if exported.network.head_name == "distribution":
        expected["age_probs"] = ("tensor(float)", 2)
    assert outputs == expected


def test_the_probabilities_are_those_of_the_age(exported_distribution):
    crops = exported_distribution.crops[:7]
    age, std, probabilities = session_of(exported_distribution).run(["age", "age_std", "age_probs"], {"face": crops})
    assert probabilities.shape == (7, 101)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    years = np.arange(101)
    np.testing.assert_allclose(probabilities @ years, age, atol=1e-3)
    variance = (probabilities * (years - age[:, None]) ** 2).sum(axis=1)
    np.testing.assert_allclose(np.sqrt(variance), std, atol=1e-3)


def test_a_linear_head_says_that_its_deviation_is_constant(exported_linear):
    stds = {a.std_years for a in AgeEstimator(exported_linear.model, provider="cpu").estimate(exported_linear.crops)}
    assert stds == {4.5}


def test_standard_onnx_in_one_file(exported):
    model = onnx.load(exported.model, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert {n.domain for n in model.graph.node} <= {"", "ai.onnx"}
    assert not model.functions
    for tensor in model.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.DEFAULT
        assert not tensor.external_data


def test_the_graph_is_plain(exported):
    """No leftovers of training or of the exporter: no normalisation layers, no arithmetic on shapes."""
    operators = {n.op_type for n in onnx.load(exported.model).graph.node}
    decoding = {"Gemm", "Softmax", "Mul", "ReduceSum", "Sub", "Unsqueeze", "Pow", "Sqrt"}
    if exported.network.head_name == "linear":
        decoding = {"Gemm", "Gather", "Shape", "Expand"}  # one column, and a constant of as many rows
    backbone = {"Transpose", "Cast", "Sub", "Div", "Conv", "Clip", "Add", "ReduceMean"}
    assert operators - backbone <= decoding


def test_nothing_of_this_machine_is_inside(exported):
    model = onnx.load(exported.model)
    data = exported.model.read_bytes()
    for tensor in model.graph.initializer:
        # Eight million bytes of weights hold any three letters by chance.
        tensor.ClearField("raw_data")
        for node in model.graph.node:
            for attribute in node.attribute:
                attribute.t.ClearField("raw_data")
    text = model.SerializeToString()
    assert 10_000 < len(text) < 200_000
    for trace in (b"/opt", b"site-packages", b".py", b"/home", b"/root", b"Traceback", b'File "', b"pkg.torch"):
        assert trace not in text, trace
    for folder in (Path.home(), Path.cwd(), exported.model.parent, Path(torch.__file__).parent):
        assert str(folder).encode() not in data


def test_it_says_what_it_is(exported):
    properties = metadata_properties(exported.model.read_bytes())
    metadata = ModelMetadata.from_json(properties[METADATA_KEY])
    values = Checkpoint.load(exported.checkpoint)
    assert metadata.name == exported.network.head_name
    assert metadata.crop == values.crop
    assert (metadata.label, metadata.age_range) == ("real", (0.0, 100.0))
    assert (metadata.decode, metadata.age_std_kind) == (values.decode, values.age_std_kind)
    assert metadata.graph_sha256 == graph_sha256(exported.model.read_bytes())
    assert metadata.training["checkpoint_sha256"] == hashlib.sha256(exported.checkpoint.read_bytes()).hexdigest()
    assert metadata.training["backbone"] == "mobilenet_v2"
    assert metadata.training["data"] == values.training["data"]
    assert metadata.metrics == list(values.metrics)
    assert properties["model_author"]
    assert "appa-real (research use only)" in properties["model_license"]


def test_the_proof_is_written_down(exported):
    proof = json.loads(exported.model.with_suffix(".parity.json").read_text())
    assert (proof["pictures"], proof["faces"], proof["precision"]) == (100, 100, "fp32")
    assert proof["sha256"] == hashlib.sha256(exported.model.read_bytes()).hexdigest()
    linear = exported.network.head_name == "linear"
    assert ("parity.npz" if linear else "proof0 valid") in proof["origin"]
    rungs = proof["rungs"]
    assert [r["level"] for r in rungs] == sorted(r["level"] for r in rungs)
    assert {r["level"] for r in rungs} == {"L0", "L1", "L2", "L3", "L4", "L5"}
    for rung in rungs:
        assert rung["status"] != "failed"
        if rung["status"] == "passed" and rung["unit"] == "years":
            assert 0 <= rung["figure"] <= rung["bound"]
    [tensor] = [r for r in rungs if r["level"] == "L1"]
    assert (tensor["bound"], tensor["n"]) == (1e-3, 100)
    assert tensor["figure"] > 0  # two implementations of one network never agree to the last bit
    as_trained = next(r for r in rungs if "training run saw" in r["what"])
    assert (as_trained["status"], as_trained["figure"]) == (("passed", 100) if linear else ("not measured", None))
    assert {r["status"] for r in rungs if r["provider"] == "cuda"} <= {"passed", "not measured"}


def test_the_error_of_the_proof_is_that_of_the_answers(exported, proof):
    """The MAE in the file beside the model against one computed here, from the checkpoint's own crops."""
    from ageexport.evidence import from_own
    from ageinfer.crop.spec import CropSpec
    from agetrain.crops.cache import open_crops

    samples = from_own(proof).samples
    crops = open_crops(samples, CropSpec(size=64), exported.model.parent / "cache", "crops")
    ages, _ = torch_answers(exported, np.array(crops.crops))
    mae = float(np.abs(ages - [s.age_years for s in samples]).mean())
    written = json.loads(exported.model.with_suffix(".parity.json").read_text())
    told = {r["what"]: r["figure"] for r in written["rungs"]}
    assert told["MAE of the checkpoint"] == pytest.approx(mae, abs=1e-4)
    assert told["MAE by the runtime"] == pytest.approx(mae, abs=1e-3)
    assert written["figures"]["mae"] == pytest.approx(mae, abs=1e-3)


def test_the_card(exported):
    text = exported.model.with_suffix(".md").read_text()
    data = exported.model.read_bytes()
    assert hashlib.sha256(data).hexdigest() in text
    assert graph_sha256(data) in text
    assert hashlib.sha256(exported.checkpoint.read_bytes()).hexdigest() in text
    assert "| appa-real selection | 2 | 9.50 | 9.50 | 100.0 % | 30.0 % | -1.00 | 12.00 |" in text
    assert "| L1 | PyTorch and ONNX Runtime on the same pixels, all outputs | 100 | cpu |" in text
    assert re.search(r"\| age 20-29 \| \d+ \| \d+\.\d\d \(\d", text)
    assert re.search(r"\| fp32 \| \d+\.\d \| \d+\.\d\d \| \d+\.\d\d \|", text)
    assert "verifying anybody's age" in text
    assert "appa-real train, 22 pictures with a face; licence: research use only" in text
    assert "64 x 64 px" in text
    assert "| taught by | `large/best.pth` |" in text
    assert "x 1.4 (margin 0.2" in text
    assert ("age_probs" in text) == (exported.network.head_name == "distribution")
    assert not re.search(r"\{[a-z_.]+\}", text)
