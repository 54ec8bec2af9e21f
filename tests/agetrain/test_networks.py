import email.message
import functools
import hashlib
import io
import logging
import os
import types
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from agetrain.errors import UsageError, WeightsError
from agetrain.network import weights
from agetrain.network.agenet import AgeNet
from agetrain.network.backbones import IMAGENET_MEAN, IMAGENET_STD
from agetrain.network.names import BACKBONES
from agetrain.network.weights import Start, load_imagenet_weights
from agetrain.recipe import HEADS
from agetrain.training.freezing import backbone_children, freeze, reestimate_batchnorm, set_training_mode

LOADED = Start("torchvision IMAGENET1K_V1", False, ())


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


def test_a_second_head_answers_beside_the_first_and_changes_nothing_of_it():
    torch.manual_seed(0)
    network = AgeNet("mobilenet_v2", "distribution", auxiliary=True).eval()
    faces = torch.rand(3, 3, 64, 64) * 255
    with torch.inference_mode():
        features = network.features(faces)
        assert torch.equal(network.head(features), network(faces))
        other = network.auxiliary(features)
    assert other.shape == (3, 101)
    assert not torch.equal(other, network(faces))
    assert network_of("mobilenet_v2", "distribution").auxiliary is None


def test_unknown_names():
    with pytest.raises(UsageError, match=r"alexnet.*mobilenet_v2.*resnet34.*torchvision:NAME"):
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


def test_without_normalisation_pixels_are_from_0_to_1():
    network = AgeNet("mobilenet_v2", "linear", normalise=False).eval()
    given = []
    hook = network.backbone.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    face = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        network(face.float())
    hook.remove()
    # As torchvision's ToTensor makes them.
    torch.testing.assert_close(given[0], torchvision.transforms.functional.convert_image_dtype(face))


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
    file = saved(tmp_path / "mobilenet_v2-x.pth", weights)
    start = load_imagenet_weights(mobilenet, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert start == Start(f"substitute weights mobilenet_v2-x.pth, SHA-256 {digest[:16]}", True, ())
    assert same_trunk(mobilenet, weights)
    assert torch.equal(mobilenet.head[1].weight, head)


def test_a_trunk_alone_is_enough(mobilenet, tmp_path, caplog):
    trunk = {
        k: v
        for k, v in classifier_of("mobilenet_v2").state_dict().items()
        if not k.startswith("classifier") and not k.endswith("num_batches_tracked")
    }
    with caplog.at_level(logging.WARNING):
        start = load_imagenet_weights(mobilenet, saved(tmp_path / "trunk.pth", trunk))
    assert start.missing == ()
    assert same_trunk(mobilenet, trunk)
    assert not caplog.records


def test_a_folder_and_the_variable(mobilenet, tmp_path, monkeypatch):
    weights = classifier_of("mobilenet_v2").state_dict()
    saved(tmp_path / "mobilenet_v2-b0353104.pth", weights)
    saved(tmp_path / "resnet34-b627a593.pth", {})
    monkeypatch.setenv("AGETRAIN_WEIGHTS", str(tmp_path))
    start = load_imagenet_weights(mobilenet)
    assert "mobilenet_v2-b0353104.pth" in start.source
    assert start.substitute  # whatever its name says, it is not torchvision's file
    assert same_trunk(mobilenet, weights)


def test_the_file_of_torchvision_is_known_by_its_hash_under_any_name(mobilenet, tmp_path, monkeypatch):
    file = saved(tmp_path / "renamed.pth", classifier_of("mobilenet_v2").state_dict())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for known, substitute in ((digest[:8], False), (digest[8:16], True)):
        official = types.SimpleNamespace(url=f"https://example.org/mobilenet_v2-{known}.pth", name="IMAGENET1K_V1")
        monkeypatch.setitem(weights._ImageNet, "mobilenet_v2", official)
        start = load_imagenet_weights(mobilenet, file)
        assert start.substitute == substitute
        assert (start.source == "torchvision IMAGENET1K_V1") != substitute


@pytest.mark.parametrize("backbone", [b for b in BACKBONES if b != "mobilenet_v1_face"])
def test_the_names_of_the_files_of_torchvision_end_in_their_hashes(backbone):
    _, _, digest = weights._ImageNet[backbone].url.removesuffix(".pth").rpartition("-")
    assert len(digest) == 8
    assert set(digest) <= set("0123456789abcdef")


def test_the_argument_goes_before_the_variable(mobilenet, tmp_path, monkeypatch):
    monkeypatch.setenv("AGETRAIN_WEIGHTS", "/nowhere")
    file = saved(tmp_path / "mine.pth", classifier_of("mobilenet_v2").state_dict())
    assert "mine.pth" in load_imagenet_weights(mobilenet, file).source
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
        start = load_imagenet_weights(network, file)
    assert "vgg16-trunk.pth: has no classifier.0.weight" in caplog.text
    assert "start at random" in caplog.text
    assert start.missing == ("classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias")
    assert same_trunk(network, trunk)
    # And to freeze them would be to learn from noise.
    with pytest.raises(WeightsError, match=r"has no classifier\.0\.weight.*--frozen-children 2$"):
        freeze(network, -1, start)
    assert len(freeze(network, 2, start)) == 2
    assert [name for name, _ in backbone_children(network)] == ["features.", "avgpool.", "classifier."]
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {f"backbone.{name}" for name in start.missing} | {"head.1.weight", "head.1.bias"}
    network_of.cache_clear()  # half a gigabyte


@pytest.fixture
def resnet():
    torch.manual_seed(0)
    return AgeNet("resnet34", "linear")


def trained(network):
    """The first part of the names of all parameters that are trained."""
    names = [name.removeprefix("backbone.") for name, p in network.named_parameters() if p.requires_grad]
    return {name.split(".")[0] for name in names}


def test_children_are_counted_as_the_original_scripts_did(resnet):
    """They froze ``list(model.children())[:n]`` of torchvision's network, whose last child is the classifier."""
    theirs = [name for name, _ in torchvision.models.resnet34(weights=None).named_children()]
    assert [name for name, _ in backbone_children(resnet)] == [f"{name}." for name in theirs[:-1]]
    assert len(theirs) == 10


def test_the_blocks_of_mobilenet_count(mobilenet):
    children = backbone_children(mobilenet)
    assert [name for name, _ in children] == [f"features.{i}." for i in range(19)]
    assert sum(p.numel() for _, c in children for p in c.parameters()) == sum(
        p.numel() for p in mobilenet.backbone.parameters()
    )


@pytest.mark.parametrize(
    ("count", "still_trained"),
    [
        (0, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head"}),
        (1, {"bn1", "layer1", "layer2", "layer3", "layer4", "head"}),
        (7, {"layer4", "head"}),
        (8, {"head"}),
        (9, {"head"}),
        (-1, {"head"}),
    ],
)
def test_leading_children_are_frozen(resnet, count, still_trained):
    frozen = freeze(resnet, count, LOADED)
    assert trained(resnet) == still_trained
    assert len(frozen) == (9 if count == -1 else count)


def test_more_children_than_there_are(resnet):
    with pytest.raises(UsageError, match=r"--frozen-children 10: resnet34 has 9"):
        freeze(resnet, 10, LOADED)


def test_what_starts_at_random_must_not_be_frozen(mobilenet):
    start = Start("mine.pth", True, ("features.10.conv.0.0.weight", "features.10.conv.1.0.weight"))
    # features.1 is not meant by features.10.
    assert len(freeze(mobilenet, 10, start)) == 10
    for count in (11, 19, -1):
        with pytest.raises(WeightsError, match=r"mine\.pth: has no features\.10\.conv\.0\.0\.weight.*children 10$"):
            freeze(mobilenet, count, start)


def step(network):
    """One step of training; gives the names of all tensors that it changed."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.rand(4, 3, 32, 32) * 255).square().mean().backward()
    optimiser.step()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_a_step_changes_nothing_of_what_is_frozen(mobilenet):
    frozen = freeze(mobilenet, 14, LOADED)
    set_training_mode(mobilenet, frozen, "eval")
    changed = step(mobilenet)
    blocks = {int(name.split(".")[2]) for name in changed if name.startswith("backbone.")}
    assert blocks == {14, 15, 16, 17, 18}
    assert {"head.1.weight", "backbone.features.18.1.running_mean"} <= changed


def test_as_in_the_original_experiments_statistics_of_frozen_layers_may_drift(mobilenet):
    frozen = freeze(mobilenet, 14, LOADED)
    set_training_mode(mobilenet, frozen, "train")
    changed = step(mobilenet)
    early = {name for name in changed if name.startswith("backbone.") and int(name.split(".")[2]) < 14}
    assert {name.split(".")[-1] for name in early} == {"running_mean", "running_var", "num_batches_tracked"}
    assert {int(name.split(".")[2]) for name in early} == set(range(14))


def test_the_mode_is_set_anew_after_an_evaluation(mobilenet):
    frozen = freeze(mobilenet, 3, LOADED)
    for frozen_batchnorm in ("eval", "train"):
        mobilenet.eval()
        set_training_mode(mobilenet, frozen, frozen_batchnorm)
        asleep = {name for name, m in mobilenet.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.training}
        assert {int(name.split(".")[2]) for name in asleep} == ({0, 1, 2} if frozen_batchnorm == "eval" else set())
        assert mobilenet.head[0].training  # dropout


def test_statistics_are_those_of_the_batches_alone(mobilenet):
    first = mobilenet.backbone.features[0]
    first[1].running_mean.fill_(1000)
    first[1].running_var.fill_(1e-3)
    first[1].num_batches_tracked.fill_(500)
    batches = [torch.rand(n, 3, 32, 32) * 255 for n in (4, 8, 4)]
    weights = {name: p.clone() for name, p in mobilenet.named_parameters()}
    reestimate_batchnorm(mobilenet, iter(batches))
    with torch.inference_mode():
        outputs = [first[0]((batch - mobilenet.mean) / mobilenet.std) for batch in batches]
    means = torch.stack([o.mean(dim=(0, 2, 3)) for o in outputs]).mean(dim=0)
    variances = torch.stack([o.var(dim=(0, 2, 3)) for o in outputs]).mean(dim=0)
    torch.testing.assert_close(first[1].running_mean, means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first[1].running_var, variances, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(p, weights[name]) for name, p in mobilenet.named_parameters())
    assert not any(p.grad is not None for p in mobilenet.parameters())


def test_after_a_new_estimate_evaluation_is_normalised_like_training(mobilenet):
    faces = torch.rand(16, 3, 96, 96) * 255 * torch.rand(16, 3, 1, 1)
    with torch.inference_mode():
        before = mobilenet.eval().features(faces)
    momenta = [m.momentum for m in mobilenet.modules() if isinstance(m, nn.BatchNorm2d)]
    reestimate_batchnorm(mobilenet, [faces])
    assert not any(m.training for m in mobilenet.modules())
    assert [m.momentum for m in mobilenet.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
    with torch.inference_mode():
        after = mobilenet.features(faces)
        in_training = mobilenet.train().features(faces)
    # They differ in variances of n or n - 1 values, and in the last layers n is small.
    assert (after - in_training).abs().mean() < 0.2 * in_training.std()
    assert (before - in_training).abs().mean() > 0.5 * in_training.std()
