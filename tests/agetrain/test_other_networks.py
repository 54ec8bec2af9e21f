"""Networks of torchvision, of timm and of the user's own: how they are made, checked, started, frozen and kept."""

import dataclasses
import json
import logging
import sys
import types

import pytest
import torch
import torchvision
from own_networks import times_executed, write_network
from runs import words
from torch import nn

from agetrain._files import file_sha256
from agetrain.errors import CheckpointError, MissingDependencyError, UsageError, WeightsError
from agetrain.evaluation.models import open_model
from agetrain.network import factory, weights
from agetrain.network.agenet import AgeNet
from agetrain.network.backbones import backbone_names, check_backbone, make_backbone
from agetrain.network.checkpoint import Checkpoint
from agetrain.network.weights import Start, load_imagenet_weights
from agetrain.train import main
from agetrain.training.freezing import freeze, freeze_stages, set_training_mode, stages

SMALLEST = {"torchvision": "torchvision:squeezenet1_1", "timm": "timm:test_resnet", "file": "nets.py:small"}


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """In a folder of its own with ``nets.py``, and nothing from outside."""
    for name in ("AGETRAIN_WEIGHTS", "AGETRAIN_DATA", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path)
    factory._executed.cache_clear()


@pytest.fixture
def resnet():
    """torchvision's smallest residual network but for its name."""
    torch.manual_seed(0)
    return AgeNet("torchvision:resnet18", "linear", size=64)


def trained(network):
    return {name.removeprefix("backbone.") for name, tensor in network.named_parameters() if tensor.requires_grad}


@pytest.mark.parametrize("text", SMALLEST.values())
def test_a_network_of_each_kind_answers_and_learns(text):
    check_backbone(text, 64, trust_code=True)
    network = AgeNet(text, "distribution", size=64, trust_code=True, auxiliary=True)
    faces = torch.rand(3, 3, 64, 64) * 255
    features = network.features(faces)
    assert features.shape == (3, network.head[1].in_features)
    network(faces).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.backbone.parameters())
    assert network.auxiliary(features).shape == (3, 101)
    assert network.training


def test_the_classifier_goes_and_so_does_its_dropout():
    """Against torchvision's own network with the same weights: the features are what its last layer is given."""
    for name, last in (("mobilenet_v3_small", "classifier.3"), ("shufflenet_v2_x0_5", "fc"), ("swin_t", "head")):
        theirs = torchvision.models.get_model(name, weights=None).eval()
        ours = make_backbone(f"torchvision:{name}", 64)
        ours.module.load_state_dict(theirs.state_dict(), strict=False)
        given = []
        theirs.get_submodule(last).register_forward_pre_hook(lambda _, inputs, given=given: given.append(inputs[0]))
        faces = torch.rand(2, 3, 64, 64)
        with torch.inference_mode():
            theirs(faces)
            torch.testing.assert_close(ours.module.eval()(faces), given[0])
        assert ours.width == theirs.get_submodule(last).in_features
    small = make_backbone("torchvision:mobilenet_v3_small", 64).module
    assert not any(isinstance(module, nn.Dropout) for module in small.modules())


def test_timm_says_itself_how_its_faces_are_normalised():
    network = AgeNet("timm:test_vit", "linear", size=160)  # by 0.5, where most are by ImageNet's
    assert network.mean.flatten().tolist() == network.std.flatten().tolist() == [127.5] * 3
    assert AgeNet("timm:test_vit", "linear", size=160, normalise=False).std.flatten().tolist() == [255.0] * 3
    assert AgeNet("torchvision:resnet18", "linear", size=64).mean.flatten()[0] == pytest.approx(0.485 * 255)


@pytest.mark.parametrize(
    ("text", "size", "told"),
    [
        ("torchvision:vit_b_32", 112, r"vit_b_32: cannot take faces of 112 px \(.*224.*\); use --size 224"),
        ("timm:vit_tiny_patch16_224", 64, r"cannot take faces of 64 px .*; use --size 224, which it was made for"),
        ("torchvision:squeezenet1_1", 8, "cannot take faces of 8 px .*; use --size 224"),
        ("vgg16", 16, "vgg16: cannot take faces of 16 px .*; use --size 224"),
        ("torchvision:googlenet", 112, "googlenet: gives several outputs while it is trained; use another"),
        ("torchvision:resnet", 112, "torchvision has no such network; --list-backbones"),
        ("timm:resnet", 112, "timm has no such network; --list-backbones"),
        ("nets.py:tuples", 64, "nets.py:tuples: gives a tuple and not one tensor"),
        ("nets.py:unpooled", 64, r"unpooled: gives \[2, 4, 62, 62\] for two faces of 64 px; features must be"),
        ("nets.py:number", 64, "returns a int; it must return a torch.nn.Module"),
        ("nets.py:failing", 64, r"fails with NameError: name 'undefined' is not defined; mend .*nets\.py"),
        ("nets.py:nothing", 64, r"nets\.py has no function nothing"),
        ("nets.py:none", 64, r"nets\.py has no function none"),
        ("other.py:small", 64, r"no file other\.py in the folder .*; run the command in the folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_told_in_one_line_with_the_remedy(text, size, told):
    with pytest.raises(UsageError, match=told) as caught:
        check_backbone(text, size, trust_code=True)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_python(tmp_path):
    (tmp_path / "nets.py").write_text("def small(:\n")
    with pytest.raises(UsageError, match="fails with SyntaxError"):
        check_backbone("nets.py:small", 64, trust_code=True)


def test_a_check_leaves_the_random_state_as_it_is():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    for text in ("mobilenet_v2", *SMALLEST.values()):
        check_backbone(text, 64, trust_code=True)
    assert torch.equal(torch.rand(4), expected)


def test_code_runs_with_consent_alone_and_once(tmp_path):
    with pytest.raises(UsageError, match=rf"made by code; read {tmp_path}/nets\.py, and allow it .* --trust-code$"):
        make_backbone("nets.py:small", 64)
    assert times_executed(tmp_path) == 0
    assert make_backbone("nets.py:small", 64, trust_code=True).width == 12
    assert make_backbone("nets.py:flat", 64, trust_code=True).width == 16  # it takes the size
    assert make_backbone("nets.py:flat", 80, trust_code=True).width == 20
    assert times_executed(tmp_path) == 1


def test_a_file_elsewhere_is_named_by_its_path(tmp_path):
    (tmp_path / "folder").mkdir()
    write_network(tmp_path / "folder", "more.py")
    assert make_backbone("folder/more.py:small", 64, trust_code=True).width == 12
    assert make_backbone(f"{tmp_path}/folder/more.py:small", 64, trust_code=True).width == 12


def checkpoint_of(network, **training):
    from ageinfer.crop.spec import CropSpec

    facts = {"data": [], "train_median": 30.0, **training}
    return Checkpoint.of_network(network, CropSpec(size=64), "real", 0.0, facts)


def test_a_checkpoint_asks_for_consent_again_and_keeps_none(tmp_path, caplog):
    network = AgeNet("nets.py:small", "distribution", size=64, trust_code=True).eval()
    kept = checkpoint_of(network, backbone_sha256=file_sha256(tmp_path / "nets.py"))
    kept.save("best.pth")
    faces = torch.rand(2, 3, 64, 64) * 255
    with torch.inference_mode():
        assert torch.equal(kept.network()(faces), network(faces))  # made with consent
    factory._executed.cache_clear()
    (tmp_path / "executed.txt").unlink()
    with pytest.raises(CheckpointError, match=r"nets\.py, and allow it to run with --trust-code"):
        Checkpoint.load("best.pth").network()
    with pytest.raises(CheckpointError, match="--trust-code"):
        open_model(tmp_path / "best.pth")
    assert times_executed(tmp_path) == 0
    assert "trust" not in str(torch.load("best.pth", weights_only=True).keys())
    with torch.inference_mode():
        assert torch.equal(Checkpoint.load("best.pth", trust_code=True).network()(faces), network(faces))
    assert open_model(tmp_path / "best.pth", trust_code=True).train_median == 30
    assert not caplog.records

    (tmp_path / "nets.py").write_text((tmp_path / "nets.py").read_text() + "\n# changed\n")
    Checkpoint.load("best.pth", trust_code=True).network()
    assert "nets.py:small: the file has changed since" in caplog.text
    (tmp_path / "nets.py").unlink()
    with pytest.raises(CheckpointError, match=r"no file nets\.py in the folder"):
        Checkpoint.load("best.pth", trust_code=True).network()


@pytest.mark.parametrize("text", [SMALLEST["torchvision"], SMALLEST["timm"]])
def test_other_checkpoints_need_no_consent(text):
    network = AgeNet(text, "distribution", size=64).eval()
    checkpoint_of(network).save("best.pth")
    faces = torch.rand(2, 3, 64, 64) * 255
    with torch.inference_mode():
        assert torch.equal(Checkpoint.load("best.pth").network()(faces), network(faces))


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ageinfer\[timm\]'"):
        check_backbone("timm:test_resnet", 64)
    names = backbone_names()
    assert "torchvision:resnet18" in names
    assert not [name for name in names if name.startswith("timm:")]


def test_timm_is_only_imported_when_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    check_backbone("torchvision:squeezenet1_1", 64)
    check_backbone("mobilenet_v2", 64)


def test_all_names_are_listed(capsys):
    assert main(["--list-backbones"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert names[:5] == ["mobilenet_v2", "resnet34", "vgg16", "mobilenet_v1_face", "torchvision:alexnet"]
    assert {"torchvision:convnext_tiny", "timm:test_resnet"} <= set(names)
    assert "torchvision:googlenet" not in names
    assert not [name for name in names if "quantized" in name or "segmentation" in name]
    assert main(["--list-backbones", "SqueezeNet"]) == 0
    assert capsys.readouterr().out.split() == ["torchvision:squeezenet1_0", "torchvision:squeezenet1_1"]
    assert main(["--list-backbones", "no-such-thing"]) == 2
    assert "--list-backbones no-such-thing" in capsys.readouterr().err


def test_random_weights_are_said_to_be_random_and_cannot_be_frozen(resnet):
    before = {name: tensor.clone() for name, tensor in resnet.state_dict().items()}
    start = load_imagenet_weights(resnet, "none")
    assert (start.source, start.substitute) == ("random", False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in resnet.state_dict().items())
    with pytest.raises(WeightsError, match=r"random: has no conv1\.weight, which would start at random and stay so"):
        freeze(resnet, 1, start)
    with pytest.raises(WeightsError, match="train these layers with fewer --frozen-stages"):
        freeze_stages(resnet, ["layer1"], start)


def test_the_default_is_what_torchvision_calls_so(resnet, monkeypatch):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    asked = []

    def download(self, **options):
        asked.append((self, options))
        return theirs

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", download)
    monkeypatch.setenv("AGETRAIN_WEIGHTS", "/nowhere")
    start = load_imagenet_weights(resnet, "default")  # the word goes before the variable
    assert start == Start("torchvision IMAGENET1K_V1", False, ())
    assert torch.equal(resnet.backbone.layer1[0].conv1.weight, theirs["layer1.0.conv1.weight"])
    assert asked == [(torchvision.models.ResNet18_Weights.DEFAULT, {"progress": True, "check_hash": True})]


def test_without_a_network_torchvision_says_what_to_fetch(resnet, monkeypatch):
    def urlopen(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", urlopen)
    with pytest.raises(WeightsError, match=r"cannot be downloaded.*https://\S+resnet18\S+.*--weights none$"):
        load_imagenet_weights(resnet)


def test_the_weights_of_timm_and_their_licence(monkeypatch):
    network = AgeNet("timm:test_resnet", "linear", size=64)
    theirs = make_backbone("timm:test_resnet", 64).module
    known = {"architecture": "test_resnet", "tag": "r160_in1k", "license": "cc-by-nc-4.0"}
    monkeypatch.setattr(weights, "timm_with_weights", lambda name: (theirs, known))
    start = load_imagenet_weights(network)
    assert start == Start("timm test_resnet.r160_in1k", False, (), terms="cc-by-nc-4.0, as timm says")
    assert all(torch.equal(network.backbone.state_dict()[name], value) for name, value in theirs.state_dict().items())


def test_without_a_network_timm_says_what_to_do(monkeypatch, caplog):
    import timm

    def create_model(name, **options):
        logging.getLogger("huggingface_hub.utils").warning("Retrying")
        raise ConnectionError("no network. Please check\nyour connection")

    monkeypatch.setattr(timm, "create_model", create_model)
    network = types.SimpleNamespace(backbone_name="timm:test_resnet")
    with pytest.raises(
        WeightsError, match=r"\(ConnectionError: no network\); .*create_model\('test_resnet'.* --weights none$"
    ):
        load_imagenet_weights(network, "default")
    assert "Retrying" not in caplog.text
    assert logging.getLogger("huggingface_hub").level != logging.ERROR


def test_own_code_gives_its_own_weights():
    network = AgeNet("nets.py:small", "linear", size=64, trust_code=True)
    before = network.backbone.state_dict()["0.weight"].clone()
    assert load_imagenet_weights(network) == Start("the weights that nets.py:small gave it", False, ())
    assert torch.equal(network.backbone.state_dict()["0.weight"], before)


def test_a_file_of_weights_for_any_network(tmp_path):
    theirs = make_backbone("nets.py:small", 64, trust_code=True).module
    torch.save(theirs.state_dict(), "small.pth")
    network = AgeNet("nets.py:small", "linear", size=64, trust_code=True)
    start = load_imagenet_weights(network, "small.pth")
    digest = file_sha256(tmp_path / "small.pth")[:16]
    assert start == Start(f"weights small.pth, SHA-256 {digest}", False, ())  # no published figures to differ from
    assert torch.equal(network.backbone.state_dict()["0.weight"], theirs.state_dict()["0.weight"])
    assert load_imagenet_weights(network, tmp_path).source == start.source  # the folder that it lies in
    torch.save({"0.weight": torch.zeros(8, 3, 3, 3)}, "less.pth")
    with pytest.raises(WeightsError, match=r"less\.pth: not the weights of nets\.py:small"):
        load_imagenet_weights(network, "less.pth")


def test_the_file_of_torchvision_is_known_by_its_hash(resnet, tmp_path, monkeypatch):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), "mine.pth")
    assert load_imagenet_weights(resnet, "mine.pth").source.startswith("weights mine.pth, SHA-256 ")
    known = types.SimpleNamespace(
        url=f"https://x/resnet18-{file_sha256(tmp_path / 'mine.pth')[:8]}.pth", name="IMAGENET1K_V7"
    )
    monkeypatch.setattr(weights, "weights_of_torchvision", lambda name: [known])
    assert load_imagenet_weights(resnet, "mine.pth") == Start("torchvision IMAGENET1K_V7", False, ())


LOADED = Start("torchvision IMAGENET1K_V1", False, ())


def test_named_stages_are_frozen_with_all_that_is_inside_of_them(resnet):
    frozen = freeze_stages(resnet, ["conv1", "layer1.0", "layer2.1.bn2"], LOADED)
    assert [type(module).__name__ for module in frozen] == ["Conv2d", "BasicBlock", "BatchNorm2d"]
    names = {name for name, _ in resnet.backbone.named_parameters()}
    left = {n for n in names if not n.startswith(("conv1.", "layer1.0.", "layer2.1.bn2."))}
    assert trained(resnet) == left | {"head.1.weight", "head.1.bias"}
    set_training_mode(resnet, frozen, "eval")
    asleep = {
        name
        for name, module in resnet.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d) and not module.training
    }
    assert asleep == {"layer1.0.bn1", "layer1.0.bn2", "layer2.1.bn2"}


def test_a_single_tensor_is_a_stage_too():
    network = AgeNet("timm:test_vit", "linear", size=160)
    assert [type(module).__name__ for module in freeze_stages(network, ["pos_embed", "patch_embed"], LOADED)] == [
        "PatchEmbed"
    ]
    assert not network.backbone.pos_embed.requires_grad
    assert network.backbone.blocks[0].norm1.weight.requires_grad


@pytest.mark.parametrize("name", ["layer9", "layer1.0.con", "relu", "fc"])
def test_an_unknown_stage_lists_those_that_there_are(resnet, name):
    with pytest.raises(
        UsageError, match=rf"--frozen-stages {name}: .* it has conv1, bn1, layer1, layer2, layer3, layer4"
    ):
        freeze_stages(resnet, ["conv1", name], LOADED)
    assert "conv1.weight" in trained(resnet)  # nothing was frozen


def test_stages_are_listed_finer_where_there_are_few():
    assert stages(make_backbone("torchvision:mobilenet_v3_small", 64).module)[:2] == ["features.0", "features.1"]
    assert stages(make_backbone("nets.py:flat", 64, trust_code=True).module) == ["0.0", "0.1", "0.3", "0.4"]


def test_all_of_a_backbone_can_be_frozen_by_number():
    network = AgeNet("timm:test_vit", "linear", size=160)
    freeze(network, -1, LOADED)
    assert trained(network) == {"head.1.weight", "head.1.bias"}


@pytest.fixture
def arguments(appa_real, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "crops-of-other-networks"

    def build(out, **more):
        return words(**{
            "dataset": f"appa-real={appa_real}", "out": out, "cache": cache, "device": "cpu", "wandb": "disabled",
            "experiment": "best", "size": 64, "batch_size": 4, "epochs": 1, "selection_share": 0.25, "crop": "box",
            **more,
        })  # fmt: skip

    return build


def test_own_code_is_trained_recorded_and_resumed(tmp_path, arguments, capsys):
    options = {"backbone": "nets.py:small", "weights": "none", "teacher_weight": 0}
    assert main(arguments("refused", **options)) == 2
    assert "--trust-code" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
    assert main(arguments("out", **options, trust_code=True)) == 0
    digest = file_sha256(tmp_path / "nets.py")
    checkpoint = Checkpoint.load("out/best.pth")
    assert (checkpoint.backbone, checkpoint.training["start"]) == ("nets.py:small", "random")
    assert checkpoint.training["backbone_sha256"] == digest
    assert {m["part"] for m in checkpoint.metrics} == {"selection", "valid"}
    assert Checkpoint.load("out/best-apparent.pth").label == "apparent"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["backbone_sha256"] == digest
    assert not [key for key in config if "trust" in key]
    assert "Start: random." in (tmp_path / "out" / "report.md").read_text()

    again = words(config="out/config.json", out="out", resume=True, epochs=1, device="cpu", wandb="disabled")
    assert main(again) == 2  # a configuration is no consent
    assert "--trust-code" in capsys.readouterr().err
    assert main([*again, "--trust-code"]) == 0
    (tmp_path / "nets.py").write_text((tmp_path / "nets.py").read_text() + "\n# changed\n")
    assert main([*again, "--trust-code"]) == 2
    assert "--backbone its file (" in capsys.readouterr().err


def test_a_network_of_timm_is_trained_from_frozen_stages(arguments):
    theirs = make_backbone("timm:test_resnet", 64).module
    torch.save(theirs.state_dict(), "start.pth")
    options = {"backbone": "timm:test_resnet", "weights": "start.pth", "frozen_stages": "conv1,layer1"}
    assert main(arguments("out", **options)) == 0
    kept = Checkpoint.load("out/best.pth")
    assert kept.training["recipe"]["frozen_stages"] == ["conv1", "layer1"]
    assert "backbone_sha256" not in kept.training
    for name, tensor in theirs.state_dict().items():
        if name.endswith("weight"):
            same = torch.equal(kept.weights[f"backbone.{name}"], tensor)
            assert same == name.startswith(("conv1.", "layer1."))


def test_no_picture_is_opened_for_a_network_that_does_not_work(arguments, capsys, monkeypatch):
    monkeypatch.setattr("agetrain.training.prepared.open_datasets", lambda *_: pytest.fail("a data set was opened"))
    for options, told in (
        ({"backbone": "torchvision:vit_b_32"}, "use --size 224"),
        ({"backbone": "torchvision:resnet18", "frozen_stages": "layer9"}, "--frozen-stages layer9"),
    ):
        assert main(arguments("out", **options)) == 2
        assert told in capsys.readouterr().err


def test_consent_is_part_of_no_configuration():
    from agetrain import RunConfig

    config = RunConfig(datasets=("appa-real",), trust_code=True, weights="none")
    assert RunConfig.from_dict(config.to_dict()) == dataclasses.replace(
        config, trust_code=False, experiment="A8", label="real", recipe=config.chosen()[1]
    )
