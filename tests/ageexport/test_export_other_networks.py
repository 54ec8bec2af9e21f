"""Networks of torchvision, of timm and of the user's own, converted, quantised, in half precision, and proved."""

import collections
import json
import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from own_networks import times_executed, write_network
from portraits import checkpoint_of, lively_network
from torch import nn

from ageexport import graph, precision
from ageexport.__main__ import main
from ageexport.errors import ExportError
from ageinfer.crop.spec import CropSpec
from agetrain.crops import cache
from agetrain.network import factory

pytestmark = pytest.mark.usefixtures("cpu_alone")

# Operators that only the shapes of a batch need, which a plain graph does without.
OF_SHAPES = {"Shape", "Gather", "Range", "Squeeze", "GatherND", "If", "Where", "BatchNormalization", "Dropout"}
# Fire modules; squeeze and excitation with SiLU; hard swish in code of the user's own; a transformer.
NETWORKS = {
    "torchvision:squeezenet1_1": 64,
    "timm:test_efficientnet": 64,
    "nets.py:small": 64,
    "timm:test_vit": 160,
}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch, tmp_path):
    """One method and no layer in float; in a folder with ``nets.py``."""
    monkeypatch.setattr(precision, "METHODS", ("minmax",))
    monkeypatch.setattr(precision, "COUNTS", (0,))
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path)
    factory._executed.cache_clear()


@pytest.fixture(scope="module")
def crops(proof, tmp_path_factory):
    """Crops of twelve pictures by the side of a face."""
    from ageexport.evidence import from_own

    samples, folder = from_own(proof).samples[:12], tmp_path_factory.mktemp("crops")
    return {
        side: np.array(cache.open_crops(samples, CropSpec(size=side), folder, "crops").crops)
        for side in set(NETWORKS.values())
    }


def answers(network, faces):
    with torch.inference_mode():
        return network.decode(network(torch.from_numpy(faces).permute(0, 3, 1, 2).float()))[0].numpy()


@pytest.mark.parametrize(("text", "side"), NETWORKS.items())
def test_every_form_answers_what_the_network_answers(text, side, crops):
    faces = crops[side]
    network = lively_network("distribution", faces, 1, text, size=side, trust_code=True).eval()
    ages = answers(network, faces)
    assert ages.std() > 0.1
    model = graph.without_metadata(graph.convert(checkpoint_of(network, CropSpec(size=side))))
    onnx.checker.check_model(model, full_check=True)
    operators = collections.Counter(node.op_type for node in model.graph.node)
    if "vit" not in text:
        assert not OF_SHAPES & set(operators)
        assert operators["Reshape"] <= 1
    np.testing.assert_allclose(graph.ages_of(model, faces), ages, atol=1e-3)
    np.testing.assert_allclose(graph.ages_of(model, faces[:1]), ages[:1], atol=1e-3)  # the batch is free

    layers = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    costs = graph.multiply_adds(model)
    assert len(costs) == len(layers) + 1
    assert sum(costs.values()) == sum(multiply_adds(network, faces))

    int8 = next(precision.int8_attempts(model, faces))
    assert int8.made["quantised_share"] > 0.95
    assert 0 < np.abs(graph.ages_of(int8.model, faces) - ages).mean() < 2 * ages.std()
    fp16 = precision.fp16(model)
    onnx.checker.check_model(fp16.model, full_check=True)
    weights = [t for t in fp16.model.graph.initializer if len(t.dims) > 1 and np.prod(t.dims) > 300]
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}
    assert np.abs(graph.ages_of(fp16.model, faces) - ages).max() < 0.3 * ages.std()


def multiply_adds(network, faces):
    """Those of each layer for one face, counted while it runs."""
    found = []

    def count(layer, given, answer):
        found.append(layer.weight.numel() * answer[0].numel() // answer.shape[1 if answer.ndim == 4 else -1])

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    answers(network, faces[:1])
    return found


@pytest.mark.parametrize("of", [1, (1, 1), 3, (7, 2), (None, 2), (5, 5)])
def test_any_adaptive_pooling_is_plain(of):
    features = torch.rand(2, 3, 11, 5)
    expected = nn.functional.adaptive_avg_pool2d(features, of)
    with graph._PlainPooling():
        torch.testing.assert_close(nn.AdaptiveAvgPool2d(of)(features), expected)


@pytest.mark.slow
def test_own_code_by_one_command(tmp_path, crops, proof, bounds, capsys):
    network = lively_network("linear", crops[64], 1, "nets.py:small", size=64, trust_code=True)
    checkpoint_of(network, CropSpec(size=64)).save("best.pth")
    factory._executed.cache_clear()
    (tmp_path / "executed.txt").unlink()
    bounds(int8_mae=5, int8_decade_mae=9)
    arguments = ["best.pth", "--data", str(proof), "--precision", "all", "--quiet"]
    assert main(arguments) == 4
    assert "nets.py, and allow it to run with --trust-code" in capsys.readouterr().err
    assert times_executed(tmp_path) == 0
    assert main([*arguments, "--trust-code"]) == 0, capsys.readouterr().err
    # So little of it are weights that it is not small enough to be called int8.
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"best.onnx", "best.int8.onnx", "best.fp16.onnx"}
    assert "nets.py:small, linear head; started from random" in (tmp_path / "best.md").read_text()
    rungs = json.loads((tmp_path / "best.int8.parity.json").read_text())["rungs"]
    [rung] = [rung for rung in rungs if rung["what"].startswith("time of a face")]
    assert rung["status"] == "reported"
    verified = ["--verify-only", "best.int8.onnx", "--checkpoint", "best.pth", "--data", str(proof), "--quiet"]
    assert main(verified) == 4
    assert main([*verified, "--trust-code"]) == 0, capsys.readouterr().err


def test_a_network_that_cannot_be_quantised_is_named_and_fp32_is_written(tmp_path, crops, proof, capsys, monkeypatch):
    def refuse(self, method, in_float, weight_bits=7):
        raise ExportError("ONNX Runtime cannot quantise this network: 'Foo'")

    monkeypatch.setattr(precision.Quantiser, "quantise", refuse)
    monkeypatch.setattr(precision.Quantiser, "calibrated", lambda self, method: {})
    network = lively_network("linear", crops[64], 1, "nets.py:small", size=64, trust_code=True)
    checkpoint_of(network, CropSpec(size=64)).save("best.pth")
    arguments = ["best.pth", "--data", str(proof), "--precision", "fp32", "int8", "--quiet", "--trust-code"]
    assert main(arguments) == 10
    assert "int8: nets.py:small cannot be had in it: ONNX Runtime cannot quantise" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["best.onnx"]


def test_the_first_layer_stays_in_float_where_a_form_without_any_is_not_taken(crops, monkeypatch):
    monkeypatch.setattr(precision, "COUNTS", (0, 1))
    monkeypatch.setattr(precision, "INT8_SHARE", 0.1)
    monkeypatch.setattr(precision, "INT8_SIZE", 2.0)
    monkeypatch.setattr(precision.Quantiser, "distance", lambda self, candidate: 1.0)
    network = lively_network("linear", crops[64], 1, "nets.py:small", size=64, trust_code=True)
    model = graph.without_metadata(graph.convert(checkpoint_of(network, CropSpec(size=64))))
    kept = [form.made["kept_in_float"] for form in precision.int8_attempts(model, crops[64])]
    assert kept == [[], list(precision.Quantiser(model, crops[64]).leading(1))]
    monkeypatch.setattr(precision, "INT8_SHARE", 0.99)  # which the first layer is too much of
    monkeypatch.setattr(precision, "MIXED_SHARE", 0.99)
    assert [form.made["kept_in_float"] for form in precision.int8_attempts(model, crops[64])] == [[]]


def test_what_a_network_says_of_its_types_is_said_in_half_precision():
    """Zeros without a type are fp32 by the standard, and a cast to fp32 would end half precision early."""
    zeros = onnx.helper.make_node("ConstantOfShape", ["shape"], ["mask"], "zeros")
    cast = onnx.helper.make_node("Cast", ["a"], ["b"], "cast", to=TensorProto.FLOAT)
    index = onnx.helper.make_node("Cast", ["a"], ["c"], "index", to=TensorProto.INT64)
    for node in (zeros, cast, index):
        precision._say_half(node)
    assert zeros.attribute[0].t.data_type == TensorProto.FLOAT16
    assert (cast.attribute[0].i, index.attribute[0].i) == (TensorProto.FLOAT16, TensorProto.INT64)
    assert math.prod(zeros.attribute[0].t.dims) == 1
