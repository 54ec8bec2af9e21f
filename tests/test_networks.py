import email.message
import functools
import io
import logging
import os
import urllib.error

import numpy as np
import pytest
import torch
import torchvision

from agetrain.errors import UsageError, WeightsError
from agetrain.networks import BACKBONES, HEADS, IMAGENET_MEAN, IMAGENET_STD, AgeNet, load_imagenet_weights


@functools.cache
def network_of(backbone, head):
    torch.manual_seed(0)
    return AgeNet(backbone, head).eval()


@functools.cache
def classifier_of(name):
    torch.manual_seed(1)
    return torchvision.models.get_model(name, weights=None)


@pytest.fixture
def mobilenet():
    torch.manual_seed(0)
    return AgeNet("mobilenet_v2", "linear")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    monkeypatch.delenv("AGETRAIN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def saved(path, weights):
    torch.save(weights, path)
    return path


def same_trunk(network, weights):
    own = network.backbone.state_dict()
    return all(torch.equal(own[k], v) for k, v in weights.items() if k in own)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", [b for b in BACKBONES if b != "vgg16"])
def test_answers_for_every_face(backbone, head):
    check_answers(network_of(backbone, head), head)


def test_vgg16_answers_for_every_face():
    # Built once: its 134 million weights take seconds to initialise. The head is the same code for all.
    check_answers(network_of("vgg16", "distribution"), "distribution")


def check_answers(network, head):
    faces = torch.rand(3, 3, 64, 64) * 255
    with torch.inference_mode():
        raw = network(faces)
        assert raw.shape == (3, 101 if head == "distribution" else 1)
        age, std = network.decode(raw)
        assert age.shape == std.shape == (3,)
        assert age.dtype == std.dtype == torch.float32
        assert torch.isfinite(age).all()
        # The faces of a batch have nothing to do with each other.
        torch.testing.assert_close(network(faces[1:2]), raw[1:2], atol=1e-4, rtol=1e-4)


def test_unknown_names():
    with pytest.raises(UsageError, match=r"alexnet/linear.*mobilenet_v2.*resnet34"):
        AgeNet("alexnet", "linear")
    with pytest.raises(UsageError, match="ordinal"):
        AgeNet("resnet34", "ordinal")


def test_normalises_as_torchvision_does():
    """Against torchvision's own transform and network, with its weights in ours."""
    reference = classifier_of("mobilenet_v2")
    network = AgeNet("mobilenet_v2", "linear").eval()
    network.backbone.load_state_dict(reference.state_dict(), strict=False)
    face = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    normalise = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    inputs, features = [], []
    hooks = [
        network.backbone.register_forward_pre_hook(lambda _, given: inputs.append(given[0])),
        reference.classifier.register_forward_pre_hook(lambda _, given: features.append(given[0])),
    ]
    with torch.inference_mode():
        reference.eval()(normalise(face / 255))
        answer = network(face.float())
        expected = network.head[1](features[-1])
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(inputs[0], normalise(face / 255), rtol=1e-5, atol=1e-5)
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert IMAGENET_STD == (0.229, 0.224, 0.225)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("age", [0, 1, 37, 100])
def test_a_sharp_distribution_is_that_age(age):
    raw = torch.full((1, 101), -50.0)
    raw[0, age] = 50
    decoded, std = network_of("mobilenet_v2", "distribution").decode(raw)
    assert decoded.item() == pytest.approx(age, abs=1e-3)
    assert std.item() == pytest.approx(0, abs=0.05)


def test_no_idea_is_the_middle():
    network = network_of("mobilenet_v2", "distribution")
    decoded, std = network.decode(torch.zeros(1, 101))
    assert decoded.item() == pytest.approx(50, abs=1e-3)
    assert std.item() == pytest.approx(np.sqrt((101**2 - 1) / 12), abs=1e-2)
    assert network.probabilities(torch.zeros(1, 101)).sum().item() == pytest.approx(1, abs=1e-5)


def test_two_peaks():
    raw = torch.full((2, 101), -100.0)
    raw[:, 20], raw[:, 60] = 1, 1
    raw[1, 60] = 1 + np.log(3)
    decoded, std = network_of("mobilenet_v2", "distribution").decode(raw)
    assert decoded.tolist() == pytest.approx([40, 50], abs=1e-3)
    assert std.tolist() == pytest.approx([20, np.sqrt(0.25 * 900 + 0.75 * 100)], abs=1e-3)


def test_bf16_logits_are_decoded_in_full_precision():
    raw = torch.randn(4, 101).bfloat16()
    network = network_of("mobilenet_v2", "distribution")
    torch.testing.assert_close(network.decode(raw)[0], network.decode(raw.float())[0])


def test_the_linear_head_answers_in_years(mobilenet):
    mobilenet.residual_std.fill_(6.5)
    age, std = mobilenet.decode(torch.tensor([[31.5], [-2.0]]))
    assert age.tolist() == [31.5, -2.0]
    assert std.tolist() == [6.5, 6.5]


def test_weights_of_a_classifier_are_loaded(mobilenet, tmp_path):
    weights = classifier_of("mobilenet_v2").state_dict()
    assert not same_trunk(mobilenet, weights)
    head = mobilenet.head[1].weight.clone()
    source = load_imagenet_weights(mobilenet, saved(tmp_path / "mobilenet_v2-x.pth", weights))
    assert source == "mobilenet_v2-x.pth"
    assert same_trunk(mobilenet, weights)
    assert torch.equal(mobilenet.head[1].weight, head)


def test_a_trunk_alone_is_enough(mobilenet, tmp_path, caplog):
    trunk = {
        k: v
        for k, v in classifier_of("mobilenet_v2").state_dict().items()
        if not k.startswith("classifier") and not k.endswith("num_batches_tracked")
    }
    with caplog.at_level(logging.WARNING):
        load_imagenet_weights(mobilenet, saved(tmp_path / "trunk.pth", trunk))
    assert same_trunk(mobilenet, trunk)
    assert not caplog.records


def test_a_folder_and_the_variable(mobilenet, tmp_path, monkeypatch):
    weights = classifier_of("mobilenet_v2").state_dict()
    saved(tmp_path / "mobilenet_v2-b0353104.pth", weights)
    saved(tmp_path / "resnet34-b627a593.pth", {})
    monkeypatch.setenv("AGETRAIN_WEIGHTS", str(tmp_path))
    assert load_imagenet_weights(mobilenet) == "mobilenet_v2-b0353104.pth"
    assert same_trunk(mobilenet, weights)


def test_the_argument_goes_before_the_variable(mobilenet, tmp_path, monkeypatch):
    monkeypatch.setenv("AGETRAIN_WEIGHTS", "/nowhere")
    file = saved(tmp_path / "mine.pth", classifier_of("mobilenet_v2").state_dict())
    assert load_imagenet_weights(mobilenet, file) == "mine.pth"
    with pytest.raises(WeightsError, match=r"/nowhere: no such file.*--weights.*AGETRAIN_WEIGHTS"):
        load_imagenet_weights(mobilenet)


def test_a_folder_without_a_match(mobilenet, tmp_path):
    saved(tmp_path / "resnet34-b627a593.pth", {})
    with pytest.raises(WeightsError, match=r"holds no mobilenet_v2\*\.pth; put"):
        load_imagenet_weights(mobilenet, tmp_path)


def test_weights_of_another_network(mobilenet, tmp_path):
    before = {k: v.clone() for k, v in mobilenet.backbone.state_dict().items()}
    file = saved(tmp_path / "other.pth", network_of("resnet34", "linear").backbone.state_dict())
    with pytest.raises(WeightsError, match=r"other\.pth: not the weights of mobilenet_v2"):
        load_imagenet_weights(mobilenet, file)
    assert same_trunk(mobilenet, before)


def test_weights_of_the_same_network_in_another_width(mobilenet, tmp_path):
    wide = torchvision.models.mobilenet_v2(weights=None, width_mult=1.4).state_dict()
    with pytest.raises(WeightsError, match="not the weights of mobilenet_v2"):
        load_imagenet_weights(mobilenet, saved(tmp_path / "wide.pth", wide))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off", "text \u00e9".encode() * 500])
def test_garbage(mobilenet, tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth: not a file of weights.*fetch it again"):
        load_imagenet_weights(mobilenet, tmp_path / "w.pth")


@pytest.mark.parametrize("values", [[1, 2], {"features.0.0.weight": "text"}, torch.zeros(3)])
def test_something_else_that_torch_saved(mobilenet, tmp_path, values):
    with pytest.raises(WeightsError, match=r"w\.pth: not a state dict"):
        load_imagenet_weights(mobilenet, saved(tmp_path / "w.pth", values))


class Malicious:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_code_in_a_pickle_is_not_run(mobilenet, tmp_path):
    file = saved(tmp_path / "w.pth", {"features.0.0.weight": Malicious(tmp_path / "executed")})
    with pytest.raises(WeightsError, match="not a file of weights"):
        load_imagenet_weights(mobilenet, file)
    assert not (tmp_path / "executed").exists()


def test_without_a_network_both_ways_out_are_named(mobilenet, monkeypatch):
    def urlopen(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", urlopen)
    with pytest.raises(WeightsError, match=r"cannot be downloaded.*https://\S+mobilenet_v2\S+.*--weights.*AGETRAIN_"):
        load_imagenet_weights(mobilenet)


def test_a_download_that_is_cut_off_is_not_used(mobilenet, monkeypatch):
    """A proxy's page, or a file cut off: torchvision's check of the hash fails."""

    class Answer(io.BytesIO):
        def info(self):
            return email.message.Message()

    monkeypatch.setattr("torch.hub.urlopen", lambda *args, **kwargs: Answer(b"<html>log in</html>"))
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        load_imagenet_weights(mobilenet)


def test_vgg16_without_its_classifier_says_so(caplog, tmp_path):
    """Two of its three large layers are kept as features, so to start them at random is worth a warning."""
    network = network_of("vgg16", "distribution")
    trunk = {k: torch.zeros_like(v) for k, v in network.backbone.state_dict().items() if k.startswith("features.")}
    file = saved(tmp_path / "vgg16-trunk.pth", trunk)
    with caplog.at_level(logging.WARNING):
        load_imagenet_weights(network, file)
    assert "vgg16-trunk.pth: has no classifier.0.weight" in caplog.text
    assert "start at random" in caplog.text
    assert same_trunk(network, trunk)
    network_of.cache_clear()  # half a gigabyte
