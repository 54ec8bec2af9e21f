"""The proof of ageexport: it must notice whatever makes a model file answer something else than its checkpoint."""

import dataclasses
import math

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from portraits import change_initializer, tampered, write_pack

from ageexport import evidence, export, graph, parity
from ageexport.errors import ParityError
from ageexport.ladder import Bounds, Ladder, Rung
from ageexport.parity import prove
from ageinfer import pipeline as runtime
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain.network.checkpoint import Checkpoint

FEW = Bounds(fewest_labelled=20, int8_time=math.inf)


pytestmark = pytest.mark.usefixtures("cpu_alone")


@pytest.fixture(scope="module")
def values(exported_distribution):
    return Checkpoint.load(exported_distribution.checkpoint)


@pytest.fixture(scope="module")
def good(exported_distribution):
    """The bytes of a model that was proved."""
    return exported_distribution.model.read_bytes()


@pytest.fixture(scope="module")
def some(proof):
    """Thirty pictures."""
    whole = evidence.from_own(proof)
    return dataclasses.replace(whole, samples=whole.samples[:30])


@pytest.fixture(scope="module")
def truth(values, some, tmp_path_factory):
    return parity.reference(values, some, tmp_path_factory.mktemp("truth"), FEW)


def failed(ladder):
    return {rung.level for rung in ladder.failed}


def scale_output(name, factor):
    """Another value under the same name: the node that gave it gives it to a multiplication first."""

    def apply(graph):
        [node] = [n for n in graph.node if name in n.output]
        node.output[list(node.output).index(name)] = "original"
        for other in graph.node:
            for i, given in enumerate(other.input):
                if given == name:
                    other.input[i] = "original"
        graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
        graph.node.append(onnx.helper.make_node("Mul", ["original", "factor"], [name]))

    return apply


def one_weight(array):
    array.flat[5] += 0.5
    return array


FIRST = "network.backbone.features.0.0.weight"
GRAPHS = {
    "one weight": change_initializer(FIRST, one_weight),
    "red and blue swapped": change_initializer(FIRST, lambda w: w[:, ::-1]),
    "another mean": change_initializer("network.mean", lambda m: m + 2),
    "mean in BGR": change_initializer("network.mean", lambda m: m[:, ::-1]),
    "a scale of 0 to 1": change_initializer("network.std", lambda s: s / 255),
    "age bins from 1": change_initializer("network.ages", lambda a: a + 1),
    "age a little off": scale_output("age", 1.0002),
    "deviation halved": scale_output("age_std", 0.5),
    "probabilities halved": scale_output("age_probs", 0.5),
    "probabilities not a number": scale_output("age_probs", np.nan),
}


def test_the_untouched_model_is_proved(good, truth):
    ladder = prove(good, "fp32", truth, bounds=FEW)
    assert (ladder.pictures, ladder.faces) == (30, 30)
    assert not ladder.failed
    export.require(ladder)
    # The helper that tampers changes nothing by itself.
    again = prove(tampered(good), "fp32", truth, bounds=FEW)
    assert [r.figure for r in again.rungs] == [r.figure for r in ladder.rungs]


@pytest.mark.parametrize("change", GRAPHS)
def test_a_changed_graph_is_caught(good, truth, change):
    ladder = prove(tampered(good, GRAPHS[change]), "fp32", truth, bounds=FEW)
    assert "L1" in failed(ladder)
    with pytest.raises(ParityError, match="L1 PyTorch and ONNX Runtime"):
        export.require(ladder)


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize("output", ["age", "age_std", "age_probs"])
def test_what_is_no_number_is_no_proof_in_any_precision(good, truth, output, precision):
    model = tampered(good, scale_output(output, np.nan), precision=precision)
    if output == "age_probs":  # which the runtime does not ask for
        assert "L1" in failed(prove(model, precision, truth, good, FEW))
    else:
        with pytest.raises(ParityError, match=r"the runtime refuses the exported file: .* of nan"):
            prove(model, precision, truth, good, FEW)
    assert not {"L1", "L2"} & failed(prove(tampered(good, precision=precision), precision, truth, good, FEW))


def test_the_deviation_is_compared_by_the_runtime_too(good, truth):
    ladder = prove(tampered(good, scale_output("age_std", 0.5)), "fp32", truth, bounds=FEW)
    assert failed(ladder) == {"L1", "L2"}


def test_a_fault_in_the_form_that_is_exported_is_caught(values, some, tmp_path, monkeypatch):
    """The truth is the network as it was trained: else both sides would pool wrongly and agree."""
    monkeypatch.setattr(graph._Mean, "forward", lambda self, features: features.amax(dim=(2, 3)))
    model = graph.sealed(graph.convert(values), values, "m", "0" * 64)
    ladder = prove(model, "fp32", parity.reference(values, some, tmp_path, FEW), bounds=FEW)
    assert failed(ladder) == {"L1", "L2", "L3"}


def test_a_changed_weight_without_a_new_hash_is_caught_too(good, truth):
    data = bytearray(good)
    data[data.index(FIRST.encode()) + 200] ^= 0x40
    with pytest.raises(ParityError):
        prove(bytes(data), "fp32", truth, bounds=FEW)


@pytest.mark.parametrize("changes", [{"margin": 0.3}, {"fill": (0, 0, 0)}, {"size": 72}])
def test_another_crop_than_in_training_is_caught(good, values, some, tmp_path, changes):
    crop = ModelMetadata.from_json(metadata_properties(good)[METADATA_KEY]).crop
    model = tampered(good, crop=dataclasses.replace(crop, **changes))
    if "fill" in changes:
        # Only where a crop reaches beyond its picture does the fill matter.
        some = dataclasses.replace(some, samples=tuple(cut_close(s, tmp_path) for s in some.samples))
    truth = parity.reference(values, some, tmp_path / "crops", FEW)
    try:
        ladder = prove(model, "fp32", truth, bounds=FEW)
    except ParityError:  # a graph for 64 px refuses 72 px at once
        return
    assert "L2" in failed(ladder)


def cut_close(sample, folder):
    image = cv2.imread(str(sample.path))
    path = folder / f"{sample.path.stem}.png"
    cv2.imwrite(str(path), image[: int(image.shape[0] * 0.8), int(image.shape[1] * 0.2) :])
    return dataclasses.replace(sample, path=path)


def resized_otherwise(image, boxes, spec, landmarks):
    """The runtime's crop as it would be with another filter."""
    crops = []
    for x, y, w, h in boxes:
        side = max(w, h) * (1 + 2 * spec.margin)
        scale = spec.size / side
        move = np.array([[scale, 0, (side / 2 - x - w / 2) * scale], [0, scale, (side / 2 - y - h / 2) * scale]])
        crop = cv2.warpAffine(image, move, (spec.size, spec.size), flags=cv2.INTER_NEAREST, borderValue=spec.fill[::-1])
        crops.append(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB))
    return np.array(crops).reshape(-1, spec.size, spec.size, 3)


def test_another_filter_in_the_runtime_is_caught(good, truth, monkeypatch):
    monkeypatch.setattr(runtime, "crop_faces", resized_otherwise)
    ladder = prove(good, "fp32", truth, bounds=FEW)
    assert failed(ladder) >= {"L2"}
    pixels = next(r for r in ladder.rungs if r.what.startswith("crops by training"))
    assert (pixels.status, pixels.figure) == ("failed", 30)


def test_bgr_instead_of_rgb_in_the_runtime_is_caught(good, truth, monkeypatch):
    whole = runtime.crop_faces
    monkeypatch.setattr(runtime, "crop_faces", lambda *a: np.ascontiguousarray(whole(*a)[..., ::-1]))
    ladder = prove(good, "fp32", truth, bounds=FEW)
    assert [r.status for r in ladder.rungs if r.level == "L2"] == ["failed", "not measured", "failed"]
    assert ladder.figure("L2", "crops by training") == 30


def test_another_filter_than_at_training_time_is_caught_by_the_pack(good, values, proof, tmp_path, monkeypatch):
    """Both paths of today agree with each other, and neither with what the network was trained on."""
    write_pack(tmp_path, proof, CropSpec(size=64), 40)
    pack = evidence.from_pack(tmp_path / "parity.npz", "real", tmp_path / "pictures")
    truth = parity.reference(values, pack, tmp_path / "crops", FEW)
    ladder = prove(good, "fp32", truth, bounds=FEW)
    as_trained = next(r for r in ladder.rungs if "training run saw" in r.what)
    assert (as_trained.status, as_trained.figure, as_trained.n) == ("passed", 100, 40)

    from ageinfer.crop import cut as runtime

    monkeypatch.setattr(runtime.cv2, "INTER_LINEAR", cv2.INTER_CUBIC)
    monkeypatch.setattr(runtime.cv2, "INTER_AREA", cv2.INTER_NEAREST)
    truth = parity.reference(values, pack, tmp_path / "other crops", FEW)
    ladder = prove(good, "fp32", truth, bounds=FEW)
    as_trained = next(r for r in ladder.rungs if "training run saw" in r.what)
    assert as_trained.status == "failed"
    assert as_trained.figure < 10
    assert [r.what for r in ladder.failed] == [as_trained.what]


def test_an_offset_of_the_labels_must_not_be_forgotten(good, values, some, tmp_path):
    """By docs/reference/checkpoint.md, `label_offset` is to be added to what the network answers."""
    truth = parity.reference(dataclasses.replace(values, label_offset=10.0), some, tmp_path, FEW)
    ladder = prove(good, "fp32", truth, bounds=FEW)
    assert failed(ladder) >= {"L1", "L2", "L3"}


def test_a_missed_face_counts_with_the_training_median_in_both(good, values, some, astronaut, tmp_path):
    nobody = tmp_path / "nobody.png"
    cv2.imwrite(str(nobody), astronaut[280:, 300:])
    samples = (*some.samples, dataclasses.replace(some.samples[0], path=nobody, age_years=90))
    with_one = dataclasses.replace(some, samples=samples)
    ladder = prove(good, "fp32", parity.reference(values, with_one, tmp_path / "crops", FEW), bounds=FEW)
    assert (ladder.pictures, ladder.faces) == (31, 30)
    found = prove(good, "fp32", parity.reference(values, some, tmp_path / "crops", FEW), bounds=FEW)
    missed = 90 - values.training["train_median"]
    # The first rung so named is the difference of two MAEs; the figure itself is the last.
    mae = {r.what: r.figure for r in ladder.rungs}["MAE by the runtime"]
    expected = (30 * {r.what: r.figure for r in found.rungs}["MAE by the runtime"] + missed) / 31
    assert mae == pytest.approx(expected, abs=1e-4)
    assert ladder.figures["mae"] == pytest.approx(expected, abs=1e-3)


def test_faces_that_only_training_sees_are_an_error(good, truth, monkeypatch):
    from ageinfer.detect import YuNet

    monkeypatch.setattr(YuNet, "detect", lambda self, image: [])
    with pytest.raises(ParityError, match="disagree whether there is a face"):
        prove(good, "fp32", truth, bounds=FEW)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_fails(value):
    assert Rung.at_most("L1", "x", value, 1.0, 5).status == "failed"
    assert Rung.at_most("L1", "x", 1.0, 1.0, 5).status == "passed"


def test_every_failed_rung_is_told():
    rungs = (
        Rung.at_most("L1", "tensor", 3, 1, 5),
        Rung.at_most("L3", "data", 2, 1, 5),
        Rung.at_most("L4", "b", 0, 1, 5),
    )
    ladder = Ladder("fp32", "x", 5, 5, {}, rungs, {})
    with pytest.raises(ParityError, match=r"L1 tensor: 3 \(bound 1\).*; L3 data: 2 \(bound 1\)") as caught:
        export.require(ladder)
    assert "L4" not in str(caught.value)


@pytest.mark.parametrize("model", [b"", b"no model at all", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_model_is_no_proof(truth, model):
    with pytest.raises(ParityError):
        prove(model, "fp32", truth, bounds=FEW)


def test_metadata_against_the_schema(good, truth):
    model = tampered(good, training={"backbone": "x", "head": "y", "data": [], "train_median": -1})
    ladder = prove(model, "fp32", truth, bounds=FEW)
    [rung] = ladder.failed
    assert (rung.level, rung.figure) == ("L0", 3)
    assert "checkpoint_sha256" in rung.note


def test_another_precision_than_it_says(good, truth):
    ladder = prove(tampered(good, precision="int8"), "fp32", truth, bounds=FEW)
    assert [r.what for r in ladder.failed] == ["the file's metadata against the schema"]


def test_operators_outside_of_the_standard_are_caught(good, truth):
    def private(graph):
        [node] = [n for n in graph.node if n.op_type == "Gemm"]
        node.domain, node.op_type = "com.microsoft", "FusedGemm"
        node.attribute.append(onnx.helper.make_attribute("activation", "Relu"))

    model = onnx.load_from_string(good)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ParityError, match=r"the runtime refuses the exported file: .*com\.microsoft"):
        prove(tampered(model.SerializeToString(), private), "fp32", truth, bounds=FEW)
