import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from agetrain import facestart
from agetrain.errors import UsageError, WeightsError
from agetrain.network.agenet import AgeNet
from agetrain.network.mobilenet_face import FaceMobileNet, SameConv2d, put_normalisation_back
from agetrain.network.weights import Start, load_imagenet_weights
from agetrain.training.freezing import backbone_children, freeze, set_training_mode


@pytest.fixture(scope="module")
def folded():
    """Weights of the published layout, whose channels differ by orders of magnitude and of which some are dead."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=random)

    weights = {}
    for i, (conv, _) in enumerate(FaceMobileNet().layers()):
        fan_in = conv.weight[0].numel()
        weight = normal(*conv.weight.shape) * (2 / fan_in) ** 0.5 / (64 if i == 0 else 1)
        weight *= torch.exp(normal(len(weight)))[:, None, None, None]
        weight[1] = 0 if i % 3 == 1 else weight[1]
        weights[f"body.{i}.weight"], weights[f"body.{i}.bias"] = weight, normal(len(weight)) * 0.2 + 0.5
    weights |= {"feats.weight": normal(256, 1024) * 0.02, "feats.bias": normal(256) * 0.1}
    return weights | {"age.weight": normal(100, 256) * 0.003, "age.bias": normal(100) * 0.1}


@pytest.fixture
def start(folded, tmp_path):
    torch.save(folded, tmp_path / "face_mobilenet_v1.pth")
    return tmp_path / "face_mobilenet_v1.pth"


def faces(n=4, side=96, seed=1):
    """Coarse patches of colour, so that each picture is unlike the others as a whole."""
    patches = torch.rand((n, 3, 4, 4), generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(patches, size=(side, side), mode="bilinear").round()


def same_convolution(values, weight, bias, stride):
    """TensorFlow's SAME, written from its definition: ``[n, c, h, w]``, depthwise where a weight has one input."""
    n, c, h, w = values.shape
    outputs, inputs, k, _ = weight.shape
    sides = [-(-side // stride) for side in (h, w)]
    pads = [max((out - 1) * stride + k - side, 0) for out, side in zip(sides, (h, w), strict=True)]
    before = [pad // 2 for pad in pads]
    padded = np.zeros((n, c, h + pads[0], w + pads[1]))
    padded[:, :, before[0] : before[0] + h, before[1] : before[1] + w] = values
    result = np.zeros((n, outputs, *sides))
    for y in range(k):
        for x in range(k):
            seen = padded[:, :, y::stride, x::stride][:, :, : sides[0], : sides[1]]
            if inputs == 1:
                result += seen * weight[:, 0, y, x][:, None, None]
            else:
                result += np.einsum("nchw,oc->nohw", seen, weight[:, :, y, x])
    return result + bias[:, None, None]


def reference(weights, pictures):
    """The published network over BGR pictures less Caffe's means, in NumPy: probabilities of 1 to 100 years."""
    w = {name: value.double().numpy() for name, value in weights.items()}
    values = pictures.double().numpy()[:, ::-1] - np.array([103.939, 116.779, 123.68])[:, None, None]
    strides = [2] + [s for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1) for s in (stride, 1)]
    for i, stride in enumerate(strides):
        values = same_convolution(values, w[f"body.{i}.weight"], w[f"body.{i}.bias"], stride).clip(0, 6)
    hidden = (values.mean(axis=(2, 3)) @ w["feats.weight"].T + w["feats.bias"]).clip(0)
    logits = hidden @ w["age.weight"].T + w["age.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answered(network, pictures):
    with torch.inference_mode():
        return network.eval().probabilities(network(pictures)).numpy()


@pytest.mark.parametrize("side", [96, 97, 101])
def test_the_published_file_is_answered_as_written(folded, start, side):
    network = AgeNet("mobilenet_v1_face", "distribution")
    loaded = load_imagenet_weights(network, start)
    assert loaded.folded
    assert loaded.with_head
    assert not loaded.substitute
    assert "VGGFace2" in loaded.source
    assert "MIT" in loaded.terms
    pictures = faces(2, side)
    expected = reference(folded, pictures)
    assert expected.std(axis=0).max() > 1e-4, expected.std(axis=0).max()  # it tells the pictures apart
    own = answered(network, pictures)
    np.testing.assert_allclose(own[:, 1:], expected, atol=1e-5)
    assert own[:, 0].max() < 1e-6


@pytest.mark.parametrize("side", [6, 7, 112, 113])
def test_with_stride_2_an_even_side_is_padded_below_and_to_the_right_alone(side):
    torch.manual_seed(0)
    conv = SameConv2d(2, 4, 2)
    values = torch.randn(1, 2, side, side)
    with torch.no_grad():
        expected = same_convolution(values.double().numpy(), conv.weight.double().numpy(), np.zeros(4), 2)
        np.testing.assert_allclose(conv(values), expected, atol=1e-5)
        np.testing.assert_allclose(conv.folded(values, conv.weight, torch.ones(4)), expected + 1, atol=1e-5)


@pytest.mark.parametrize("side", [96, 97])
def test_a_depthwise_layer_answers_and_learns_the_same_by_the_shorter_way(side):
    random = torch.Generator().manual_seed(1)
    conv = SameConv2d(6, 6, 2, groups=6)
    faces = torch.randn(2, 6, side, side, generator=random).requires_grad_()
    shorter = conv(faces)
    gradients = torch.autograd.grad(shorter.square().sum(), [faces, conv.weight])
    plain = conv.folded(faces, conv.weight, torch.zeros(6))
    assert shorter.shape == plain.shape == (2, 6, 48 + side % 2, 48 + side % 2)
    torch.testing.assert_close(shorter, plain)
    for one, other in zip(gradients, torch.autograd.grad(plain.square().sum(), [faces, conv.weight]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_normalisation_comes_back_without_changing_an_answer(start):
    network = AgeNet("mobilenet_v1_face", "distribution")
    load_imagenet_weights(network, start)
    pictures = faces(8)
    before = answered(network, pictures)
    seen = {}
    for i, (_, norm) in enumerate(network.backbone.layers()):
        norm.register_forward_pre_hook(lambda _, given, i=i: seen.__setitem__(i, given[0].std(dim=(0, 2, 3))))
    answered(network, pictures)
    assert min(v.min() for v in seen.values()) < 0.05
    assert max(v.max() for v in seen.values()) > 5
    put_normalisation_back(network.backbone, [(pictures - network.mean) / network.std])
    np.testing.assert_allclose(answered(network, pictures), before, atol=1e-5)
    for i, deviation in seen.items():
        living = deviation > 0
        assert living.float().mean() > 0.8
        assert deviation[living].median() == pytest.approx(1, abs=0.1), i
    assert all(conv.weight.abs().max() < 10.001 for conv, _ in network.backbone.layers())
    # In training mode the statistics of these very pictures are those of the layers: answers stay near.
    network.train()
    network.head[0].p = 0.0
    with torch.no_grad():
        learning = network.probabilities(network(pictures)).numpy()
    np.testing.assert_allclose(learning, before, atol=2e-3)


def test_without_pictures_there_is_nothing_to_take_the_statistics_from(start):
    network = AgeNet("mobilenet_v1_face", "distribution")
    load_imagenet_weights(network, start)
    with pytest.raises(UsageError, match="give some pictures"):
        put_normalisation_back(network.backbone, [])


def test_what_stands_still_is_folded_and_answers_the_same(start):
    network = AgeNet("mobilenet_v1_face", "distribution")
    load_imagenet_weights(network, start)
    put_normalisation_back(network.backbone, [(faces() - network.mean) / network.std])
    calls = []
    for _, norm in network.backbone.layers():
        norm.register_forward_hook(lambda *_: calls.append(1))
    folded_answers = answered(network, faces())
    assert not calls
    with torch.enable_grad():
        learned = network.probabilities(network(faces())).detach().numpy()
    assert len(calls) == 27
    np.testing.assert_allclose(folded_answers, learned, atol=1e-5)
    frozen = freeze(network, 6, Start("", False, ()))
    set_training_mode(network, frozen, "eval")
    calls.clear()
    network(faces()).sum().backward()
    assert len(calls) == 27 - 11  # a stem of one layer and five blocks of two stand still
    assert all(p.grad is None for child in frozen for p in child.parameters())
    assert all(p.grad is not None for p in network.backbone.features[6].parameters())


def test_the_hidden_layer_is_a_child_of_its_own():
    network = AgeNet("mobilenet_v1_face", "distribution")
    children = backbone_children(network)
    assert [prefix for prefix, _ in children] == [*(f"features.{i}." for i in range(14)), "feats."]
    freeze(network, 14, Start("", False, ()))
    assert {n.partition(".")[0] for n, p in network.backbone.named_parameters() if p.requires_grad} == {"feats"}


def test_its_own_normalisation_is_kept_whatever_is_asked_for():
    network = AgeNet("mobilenet_v1_face", "linear", normalise=False)
    assert network.mean.flatten().tolist() == pytest.approx([123.68, 116.779, 103.939])
    assert network.std.flatten().tolist() == [64, 64, 64]


def test_without_the_file_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("AGETRAIN_WEIGHTS", raising=False)
    network = AgeNet("mobilenet_v1_face", "distribution")
    for where in (None, tmp_path):
        with pytest.raises(WeightsError, match=r"faceres_hse\.onnx .*agetrain\.facestart .*--weights"):
            load_imagenet_weights(network, where)


def test_weights_of_another_network_are_refused(folded, tmp_path):
    network = AgeNet("mobilenet_v1_face", "distribution")
    for change in ({"body.3.weight": folded["body.1.weight"]}, {"age.bias": torch.zeros(101)}):
        torch.save({**folded, **change}, tmp_path / "face_mobilenet_v1.pth")
        with pytest.raises(WeightsError, match=rf"{next(iter(change))} does not fit"):
            load_imagenet_weights(network, tmp_path)


def test_a_linear_head_starts_anew(start):
    network = AgeNet("mobilenet_v1_face", "linear")
    before = network.head[1].weight.clone()
    assert not load_imagenet_weights(network, start).with_head
    assert torch.equal(network.head[1].weight, before)
    assert isinstance(network.head[1], nn.Linear)


def test_the_start_file_is_made_of_the_onnx_file(folded, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    named = {"feats.weight": "feats_w", "feats.bias": "feats_b", "age.weight": "age_w", "age.bias": "age_b"}
    constants = []
    for name, value in folded.items():
        own = named.get(name) or name.replace("weight", "w").replace("bias", "b")
        values = value.T if name in ("feats.weight", "age.weight") else value
        constants.append(onnx.numpy_helper.from_array(values.contiguous().numpy(), own))
    constants.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "other"))
    graph = onnx.helper.make_graph([], "g", [], [], constants)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "peer.onnx")
    made = tmp_path / "face_mobilenet_v1.pth"
    assert facestart.main([str(tmp_path / "peer.onnx"), "-o", str(made)]) == 0
    weights = torch.load(made, weights_only=True)
    assert set(weights) == set(folded)
    assert all(torch.equal(weights[name], folded[name]) for name in folded)
    del graph.initializer[0]
    onnx.save(onnx.helper.make_model(graph), tmp_path / "peer.onnx")
    assert facestart.main([str(tmp_path / "peer.onnx"), "-o", str(made)]) == 4
    assert facestart.main([str(tmp_path / "none.onnx"), "-o", str(made)]) == 4
    made.with_name("peer.onnx").write_bytes(b"no onnx")
    assert facestart.main([str(tmp_path / "peer.onnx"), "-o", str(made)]) == 4
    assert capsys.readouterr().err.count("faceres_hse.onnx") >= 2


@pytest.mark.shared
def test_real_faces_are_answered_as_by_the_published_file(shared_data, tmp_path):
    """Within 1e-4 on real faces, at 224 px and at another side."""
    import onnxruntime

    from ageinfer.crop.cut import crop_face
    from ageinfer.crop.spec import CropSpec
    from ageinfer.detect.search import detect_closely
    from ageinfer.detect.yunet import YuNet
    from ageinfer.sources import read_picture

    peer = Path(os.environ.get("AGEINFER_TEST_PEERS", shared_data.parent / "peers")) / "faceres_hse.onnx"
    pictures = sorted((shared_data / "public-domain").glob("*.jpg"))[:12]
    if not peer.is_file() or not pictures:
        pytest.skip(f"no {peer}, or no portraits in {shared_data}")
    assert facestart.main([str(peer), "-o", str(tmp_path / "face_mobilenet_v1.pth")]) == 0
    network = AgeNet("mobilenet_v1_face", "distribution")
    load_imagenet_weights(network, tmp_path)
    detector = YuNet(provider="cpu")
    spec = CropSpec(size=224, margin=0.15)
    crops = []
    for path in pictures:
        image = read_picture(path)
        crops += [crop_face(image, face.box, spec) for face in detect_closely(detector, image)[:1]]
    assert len(crops) > 8
    shown = np.stack(crops)
    session = onnxruntime.InferenceSession(str(peer), providers=["CPUExecutionProvider"])
    given = shown[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    [expected] = session.run(["age_probs"], {"image": np.ascontiguousarray(given.transpose(0, 3, 1, 2))})
    pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float()
    for _ in range(2):
        np.testing.assert_allclose(answered(network, pixels)[:, 1:], expected, atol=1e-4)
        put_normalisation_back(network.backbone, [(pixels - network.mean) / network.std])
