"""Every network with every head, converted and through the ladder; and checkpoints of the original work."""

import collections
import copy

import numpy as np
import onnx
import pytest
import torch
import torchvision
from portraits import checkpoint_of, lively_network

from ageexport import evidence, export, graph, original, parity
from ageexport.__main__ import main
from ageexport.errors import CheckpointError, UsageError
from ageexport.ladder import Bounds
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from ageinfer.pipeline import Pipeline
from ageinfer.sources import read_picture
from agetrain.crops import cache
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint

SIDE = 64
BOUNDS = Bounds(fewest_labelled=20)
BACKBONES = ("mobilenet_v2", "resnet34", "vgg16")


pytestmark = pytest.mark.usefixtures("cpu_alone")


@pytest.fixture(scope="module")
def some(proof):
    """Twenty-four pictures of three faces."""
    whole = evidence.from_own(proof)
    return evidence.Evidence(whole.samples[:24], whole.calibration, whole.origin)


@pytest.fixture(scope="module")
def crops(some, tmp_path_factory):
    return np.array(
        cache.open_crops(some.samples, CropSpec(size=SIDE), tmp_path_factory.mktemp("crops"), "crops").crops
    )


HEADS = (("linear", 0.0), ("linear", 0.5), ("distribution", 0.2))
# Each backbone once and each head once; all pairs are for the long suite.
FAST = {("mobilenet_v2", HEADS[2])}
LADDERS = [
    pytest.param(backbone, *head, marks=[] if (backbone, head) in FAST else [pytest.mark.slow])
    for backbone in BACKBONES
    for head in HEADS
]


@pytest.mark.parametrize(("backbone", "head", "dropout"), LADDERS)
def test_the_ladder(backbone, head, dropout, crops, some, tmp_path):
    network = lively_network(head, crops, 1, backbone, dropout)
    values = checkpoint_of(network, CropSpec(size=SIDE))
    before = copy.deepcopy(values.weights["head.1.weight"])
    model = graph.convert(values)
    data = graph.sealed(model, values, "m", "0" * 64)
    ladder = parity.prove(data, "fp32", parity.reference(values, some, tmp_path, BOUNDS), bounds=BOUNDS)
    assert not ladder.failed, [str(r) for r in ladder.failed]
    assert ladder.faces == 24
    assert torch.equal(before, values.weights["head.1.weight"])  # converting changes no checkpoint
    # Against the network that was never taken apart, and whose answers differ from face to face.
    with torch.inference_mode():
        ages, _ = network.eval().decode(network(torch.from_numpy(crops).permute(0, 3, 1, 2).float()))
    assert ages.std() > 0.3
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    answered = [a.age_years for a in AgeEstimator(path, provider="cpu").estimate(crops)]
    np.testing.assert_allclose(answered, ages, atol=1e-3)
    operators = collections.Counter(node.op_type for node in model.graph.node)
    layers = {"mobilenet_v2": 52, "resnet34": 36, "vgg16": 13}[backbone]
    assert operators["Conv"] == layers
    assert not {"BatchNormalization", "Dropout", "Identity", "Where", "GatherND", "Range", "If"} & set(operators)


@pytest.mark.parametrize("side", [64, 112, 120, 128, 224])
def test_plain_pooling_gives_what_torchvision_gives(side):
    """VGG16 pools adaptively to 7 x 7 whatever comes in: 2, 3, 4 or 7 positions a side, and 120 px rounds down."""
    torch.manual_seed(0)
    network = AgeNet("vgg16", "linear").eval()
    faces = torch.rand(1, 3, side, side) * 255
    features = network.backbone.features((faces - network.mean) / network.std)
    expected = network.backbone.avgpool(features)
    pooled = graph.with_plain_pooling(network, side).avgpool(features)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=1e-5)


def test_multiply_adds_are_those_of_the_literature():
    """ResNet34 has 3.6 G at 224 px (He et al., CVPR 2016)."""
    values = Checkpoint.of_network(AgeNet("resnet34", "linear"), CropSpec(size=224), "real", 0.0, {})
    assert sum(graph.multiply_adds(graph.convert(values)).values()) == pytest.approx(3.66e9, rel=0.02)


@pytest.mark.parametrize("opset", [20])
def test_opsets(exported_linear, opset):
    values = Checkpoint.load(exported_linear.checkpoint)
    model = graph.convert(values, opset)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("opset", ["11", "17", "99"])
def test_an_opset_that_is_not_supported(exported_linear, proof, tmp_path, capsys, opset):
    arguments = [str(exported_linear.checkpoint), "--data", str(proof), "-o", str(tmp_path / "m.onnx")]
    assert main([*arguments, "--opset", opset]) == 2
    assert "--opset" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def bare(backbone, head, seed=0):
    """A state_dict as the original scripts saved it: torchvision's network with its last layer replaced."""
    torch.manual_seed(seed)
    network = torchvision.models.get_model(backbone, weights=None)
    width = {"resnet34": 512, "mobilenet_v2": 1280, "vgg16": 4096}[backbone]
    last = torch.nn.Linear(width, 1)
    torch.nn.init.constant_(last.bias, 33.0)
    layer = torch.nn.Sequential(torch.nn.Dropout(0.5), last) if head == "dropout-linear" else last
    if backbone == "resnet34":
        network.fc = layer
    elif backbone == "mobilenet_v2":
        network.classifier = layer if head == "dropout-linear" else torch.nn.Sequential(torch.nn.Dropout(0.2), layer)
    else:
        network.classifier[6] = layer
    return network.eval()


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("resnet34", "linear"),
        ("resnet34", "dropout-linear"),
        ("mobilenet_v2", "linear"),
        pytest.param("vgg16", "dropout-linear", marks=pytest.mark.slow),
    ],
)
def test_a_bare_state_dict_answers_as_its_network_did(backbone, head, tmp_path):
    network = bare(backbone, head)
    torch.save(network.state_dict(), tmp_path / "best.pth")
    said = original.Description(arch=backbone, head=head, dataset="cacd", label_offset=14, size=64, normalise=False)
    values, _ = export.open_checkpoint(tmp_path / "best.pth", said)
    faces = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(faces.permute(0, 3, 1, 2) / 255)[:, 0] + 14
        age, _ = graph.DeployedNet.of_checkpoint(values)(faces)
    torch.testing.assert_close(age, expected, atol=1e-3, rtol=0)
    assert values.crop.kind == "resize"
    assert (values.label_offset, values.training["data"][0]["dataset"]) == (14, "cacd")


def test_a_run_of_the_original_work_becomes_a_model_file(tmp_path, proof, capsys):
    """By its row in the table: CACD's final run, with labels 14 years too low and pictures that are not normalised."""
    network = bare("resnet34", "linear")
    torch.save(network.state_dict(), tmp_path / "best.pth")
    arguments = [str(tmp_path / "best.pth"), "--data", str(proof), "--experiment", "C1", "--quiet"]
    assert main(arguments) == 0, capsys.readouterr().err
    metadata = ModelMetadata.from_json(metadata_properties((tmp_path / "best.onnx").read_bytes())[METADATA_KEY])
    crop = metadata.crop
    assert (crop.kind, crop.size, crop.resize_to, crop.keep_aspect, crop.detector) == (
        "resize",
        120,
        128,
        False,
        "none",
    )
    assert metadata.training["experiment"] == "C1"
    assert metadata.training["train_median"] > 0
    # The network of the original, on its own preprocessing of one picture.
    picture = sorted(proof.glob("*.jpg"))[5]
    [face] = Pipeline.default(tmp_path / "best.onnx", provider="cpu")(read_picture(picture)).faces
    rgb = torch.from_numpy(read_picture(picture)[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(rgb, (128, 128), mode="area")
    assert face.age.std_years > 0  # the spread of its errors on these pictures
    with torch.inference_mode():
        age = float(network(resized[..., 4:124, 4:124] / 255)) + 14
    assert face.age.age_years == pytest.approx(age, abs=1.0)
    assert "No face is looked for" in (tmp_path / "best.md").read_text()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({}, UsageError, "--experiment A8"), ({"arch": "resnet34"}, UsageError, "--head"),
        ({"experiment": "Z9"}, UsageError, "Z9"), ({"experiment": "F2"}, CheckpointError, "not a vgg16"),
        ({"experiment": "A8", "head": "distribution"}, CheckpointError, "with 101 output"),
        ({"experiment": "A8", "size": 200, "resize_to": 100}, UsageError, "--resize-to"),
        ({"arch": "resnet99", "head": "linear", "dataset": "x"}, UsageError, "resnet99"),
    ],
)  # fmt: skip
def test_a_bare_state_dict_of_which_too_little_or_something_wrong_is_said(tmp_path, options, error, told):
    torch.save(bare("resnet34", "linear").state_dict(), tmp_path / "best.pth")
    with pytest.raises(error, match=told) as caught:
        export.open_checkpoint(tmp_path / "best.pth", original.Description(**options))
    assert "\n" not in str(caught.value)


def test_a_state_dict_with_a_layer_missing(tmp_path):
    weights = bare("resnet34", "linear").state_dict()
    del weights["layer3.0.conv1.weight"]
    torch.save(weights, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"it has no layer3.0.conv1.weight"):
        export.open_checkpoint(tmp_path / "best.pth", original.Description(experiment="A8"))


def test_what_a_checkpoint_says_itself_need_not_be_said(exported_linear):
    with pytest.raises(CheckpointError, match="says itself"):
        export.open_checkpoint(exported_linear.checkpoint, original.Description(arch="resnet34"))
