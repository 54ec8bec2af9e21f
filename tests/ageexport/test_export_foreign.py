"""Checkpoints that were not made here: where their state_dict lies, how it is named, and what a person says of it."""

import argparse
import json
from collections import OrderedDict
from dataclasses import replace

import jsonschema
import numpy as np
import onnx
import pytest
import torch
import torchvision

from ageexport import __main__ as command
from ageexport import export, export_model, graph, inspect, original, state_dicts
from ageexport.__main__ import main
from ageexport.card import card
from ageexport.errors import CheckpointError, UsageError
from ageexport.files import ModelFile
from ageexport.ladder import Ladder
from ageexport.latency import Latency
from ageexport.parity import SCHEMA_FILE
from ageinfer.crop.cut import crop_face
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from ageinfer.pipeline import Pipeline
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("cpu_alone")

SIDE = 64
SAID = original.Description(arch="mobilenet_v2", head="linear", dataset="my faces", size=SIDE)


def network(seed=0, outputs=1, bias=40.0, spread=0.2):
    """A mobilenet_v2 with another last layer, as a script of anybody makes it; it tells pictures apart."""
    torch.manual_seed(seed)
    made = torchvision.models.mobilenet_v2(weights=None)
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        made(torch.randn(8, 3, SIDE, SIDE))
    made.classifier[1] = torch.nn.Linear(1280, outputs)
    torch.nn.init.normal_(made.classifier[1].weight, std=spread)
    torch.nn.init.constant_(made.classifier[1].bias, bias)
    return made.eval()


@pytest.fixture(scope="module")
def mobilenet():
    return network()


@pytest.fixture(scope="module")
def faces():
    torch.manual_seed(1)
    return torch.randint(0, 256, (3, SIDE, SIDE, 3), dtype=torch.uint8)


def normalised(faces, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    return (faces.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@torch.inference_mode()
def answers_of(checkpoint, faces):
    return graph.DeployedNet.of_checkpoint(checkpoint)(faces)[0]


@pytest.fixture
def answers(tmp_path, faces):
    """What a file with these values answers to the faces, in years, when it is described so."""

    def of(values, **said):
        torch.save(values, tmp_path / "theirs.pth")
        checkpoint, _ = export.open_checkpoint(tmp_path / "theirs.pth", replace(SAID, **said))
        return answers_of(checkpoint, faces)

    return of


@pytest.fixture(scope="module")
def expected(mobilenet, faces):
    with torch.inference_mode():
        ages = mobilenet(normalised(faces))[:, 0]
    assert ages.std() > 0.5
    return ages


def under(prefix, weights):
    return OrderedDict((prefix + name, tensor) for name, tensor in weights.items())


def split(weights):
    """A module that has the network as its backbone, and its last layer elsewhere."""
    named = {f"backbone.{k}": v for k, v in weights.items() if not k.startswith("classifier.")}
    return {**named, "head.fc.weight": weights["classifier.1.weight"], "head.fc.bias": weights["classifier.1.bias"]}


LAYOUTS = {
    "bare": lambda w: w,
    "DDP": lambda w: under("module.", w),
    "compiled": lambda w: under("_orig_mod.", w),
    "DDP of a module that has a net": lambda w: under("module.net.", w),
    "under model": lambda w: {"model": w},
    "under model_state_dict, beside an optimiser": lambda w: {
        "epoch": 3, "model_state_dict": w, "optimizer_state_dict": {"state": {0: {"step": 1}}, "param_groups": []},
    },
    "under ema": lambda w: {"ema": under("module.", w), "step": 100},
    "Lightning": lambda w: {
        "epoch": 12, "global_step": 9, "pytorch-lightning_version": "2.4.0", "state_dict": under("model.", w),
        "loops": {}, "callbacks": {}, "optimizer_states": [{"state": {}, "param_groups": []}], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1, "arch": "mobilenet_v2"},
    },
    "a backbone and a head": split,
    "of an old torch": lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
    "in half precision": lambda w: {k: v.half() if v.is_floating_point() else v for k, v in w.items()},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_state_dict_is_found_and_answers_as_its_network_did(mobilenet, answers, expected, layout):
    found = answers(LAYOUTS[layout](mobilenet.state_dict()))
    torch.testing.assert_close(found, expected, atol=0.5 if "half" in layout else 1e-3, rtol=0)


@pytest.mark.parametrize("place", ["fc.", "classifier.", "classifier.6.", "heads.head.", "head.2.regressor.", ""])
def test_the_last_layer_is_found_wherever_it_is(mobilenet, answers, expected, place):
    weights = {
        (place + name.rpartition(".")[2] if name.startswith("classifier.") else name): tensor
        for name, tensor in mobilenet.state_dict().items()
    }
    assert {place + "weight", place + "bias"} <= set(weights)
    torch.testing.assert_close(answers(weights), expected, atol=1e-3, rtol=0)


def test_a_network_that_keeps_a_part_of_its_classifier(tmp_path):
    """VGG16 has three linear layers there, and only the last one is the head."""
    torch.manual_seed(0)
    theirs = torchvision.models.vgg16(weights=None)
    theirs.classifier[6] = torch.nn.Linear(4096, 1)
    ours = AgeNet("vgg16", "linear")
    state_dicts.load(ours, under("module.", theirs.state_dict()), tmp_path)
    assert torch.equal(ours.head[1].weight, theirs.classifier[6].weight)
    assert torch.equal(ours.backbone.classifier[3].weight, theirs.classifier[3].weight)


def test_a_distribution_over_years(answers, faces):
    theirs = network(outputs=101, bias=0.0)
    found = answers(theirs.state_dict(), head="distribution")
    with torch.inference_mode():
        ages = theirs(normalised(faces)).softmax(1) @ torch.arange(101.0)
    torch.testing.assert_close(found, ages, atol=1e-3, rtol=0)


def test_one_of_several_state_dicts_is_named_by_its_key(mobilenet, answers, expected):
    values = {"model": network(seed=5).state_dict(), "ema": mobilenet.state_dict(), "epoch": 7}
    with pytest.raises(CheckpointError, match=r"state_dicts under model, ema; name the one that is meant with --key"):
        answers(values)
    torch.testing.assert_close(answers(values, key="ema"), expected, atol=1e-3, rtol=0)
    assert (answers(values, key="model") - expected).abs().min() > 1e-3


@pytest.mark.parametrize("key", ["weights", "epoch"])
def test_a_key_that_has_no_state_dict(mobilenet, answers, key):
    with pytest.raises(CheckpointError, match=rf"--key {key}: no state_dict there; the file has model, epoch$"):
        answers({"model": mobilenet.state_dict(), "epoch": 7}, key=key)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epoch": 3, "config": {"lr": 0.1}}, "only epoch, config;"), ({}, "only nothing;"),
        ({f"layer{i}": i for i in range(500)}, "layer11 and 488 more;"), ({"net": {}, "x": {"a": 1}}, "only net, x;"),
        ({3: {"weight": torch.zeros(1)}, "model": {4: torch.zeros(1)}}, "not a mobilenet_v2"),
    ],
)  # fmt: skip
def test_a_file_without_a_state_dict(answers, values, told):
    with pytest.raises(CheckpointError, match=told):
        answers(values)


def test_one_of_two_networks_is_named_by_its_prefix(mobilenet, answers, expected):
    """A student and its teacher, of one architecture; and the loss, which has tensors too."""
    student = {**under("student.", mobilenet.state_dict()), "loss.weight": torch.ones(101)}
    values = {**under("teacher.", network(seed=5).state_dict()), **student}
    with pytest.raises(CheckpointError, match=r"2 networks in it, under teacher., student.; .* --strip-prefix"):
        answers(values)
    torch.testing.assert_close(answers(values, strip_prefix="student."), expected, atol=1e-3, rtol=0)
    assert (answers(values, strip_prefix="teacher.") - expected).abs().min() > 1e-3
    with pytest.raises(CheckpointError, match=r"not a mobilenet_v2 with 1 output: loss.weight \[101\] does not fit"):
        answers(student)
    with pytest.raises(CheckpointError, match=r"--strip-prefix pupil.: no name begins so; there are teacher.features"):
        answers(values, strip_prefix="pupil.")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("features.3.conv.0.1.weight"), "it has no module.features.3.conv.0.1.weight; check --arch"),
        (
            lambda w: w.update({"features.0.0.weight": torch.zeros(32, 1, 3, 3)}),
            r"\[32, 1, 3, 3\], not \[32, 3, 3, 3\]",
        ),
        (lambda w: w.update({"attention.weight": torch.zeros(2)}), r"attention.weight \[2\] does not fit"),
        (lambda w: w.pop("classifier.1.bias"), r"classifier.1.weight \[1, 1280\] does not fit"),
        (lambda w: [w.pop(f"classifier.1.{n}") for n in ("weight", "bias")], "it has no last layer"),
        (lambda w: w.update({f"gender.{n}": w[f"classifier.1.{n}"] for n in ("weight", "bias")}), "does not fit"),
        (lambda w: w.update({"classifier.1.weight": torch.zeros(2, 1280)}), r"\[2, 1280\] does not fit; .* --head"),
    ],
    ids=["missing", "shape", "more", "no bias", "no last layer", "two last layers", "another head"],
)
def test_a_state_dict_of_something_else(mobilenet, answers, change, told):
    """Nothing is left out silently: what the network does with it would be missing in the answers."""
    weights = dict(mobilenet.state_dict())
    change(weights)
    with pytest.raises(CheckpointError, match=told) as caught:
        answers(under("module.", weights))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of torch, that TorchScript is old
@pytest.mark.parametrize("kind", ["options of a command line", "a whole network", "TorchScript"])
def test_more_than_tensors_is_refused_with_a_remedy_that_works(mobilenet, tmp_path, proof, capsys, answers, kind):
    path = tmp_path / "theirs.ckpt"
    if kind == "TorchScript":
        torch.jit.trace(mobilenet, torch.zeros(1, 3, SIDE, SIDE)).save(path)
    else:
        options = {"state_dict": mobilenet.state_dict(), "hyper_parameters": argparse.Namespace(lr=0.1)}
        torch.save(mobilenet if kind == "a whole network" else options, path)
    arguments = [str(path), "--arch", "mobilenet_v2", "--head", "linear", "--trained-on", "x", "--data", str(proof)]
    assert main(arguments) == 4
    err = capsys.readouterr().err
    assert "could run code, so it is refused" in err
    assert "save the state_dict alone again: torch.save(network.state_dict(), FILE)" in err
    assert "train again" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["theirs.ckpt"]
    assert len(answers(mobilenet.state_dict())) == 3  # which is what the remedy says


def test_a_network_that_answers_from_0_to_1(answers, faces):
    theirs = network(bias=0.4, spread=0.002)
    with torch.inference_mode():
        ages = 100 * theirs(normalised(faces))[:, 0] + 2
    found = answers(theirs.state_dict(), scale=100, label_offset=2)
    torch.testing.assert_close(found, ages, atol=1e-3, rtol=0)


@pytest.mark.parametrize("normalise", [(0.5, 0.5, 0.5), (0.4, 0.5, 0.6)])
def test_another_normalisation(mobilenet, answers, faces, normalise):
    with torch.inference_mode():
        ages = mobilenet(normalised(faces, normalise, (0.5, 0.25, 0.2)))[:, 0]
    found = answers(mobilenet.state_dict(), mean=normalise, std=(0.5, 0.25, 0.2))
    torch.testing.assert_close(found, ages, atol=1e-3, rtol=0)


def crop_of(tmp_path, mobilenet, **said):
    torch.save(mobilenet.state_dict(), tmp_path / "theirs.pth")
    said = {"arch": "mobilenet_v2", "head": "linear", "dataset": "x", **said}
    return export.open_checkpoint(tmp_path / "theirs.pth", original.Description(**said))[0].crop


def test_what_it_is_given_is_described(tmp_path, mobilenet):
    for kind in ("box", "landmarks"):
        said = crop_of(tmp_path, mobilenet, crop=kind, size=96, margin=0.35)
        assert said == CropSpec(size=96, margin=0.35, kind=kind)
    whole = CropSpec(size=96, margin=0, kind="resize", detector="none", resize_to=96)
    assert crop_of(tmp_path, mobilenet, size=96) == crop_of(tmp_path, mobilenet, crop="resize", size=96) == whole
    cut = replace(whole, resize_to=128, keep_aspect=False)
    assert crop_of(tmp_path, mobilenet, size=96, resize_to=128, keep_aspect=False) == cut
    # An experiment says it, as far as nobody says otherwise.
    assert crop_of(tmp_path, mobilenet, experiment="best", margin=0.3) == CropSpec(margin=0.3, kind="landmarks")
    assert crop_of(tmp_path, mobilenet, experiment="A7", crop="box", size=96, margin=0.1).kind == "box"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"crop": "box", "size": 96}, "--crop box: give --size and --margin too"),
        ({"crop": "landmarks", "margin": 0.2}, "--crop landmarks: give --size and --margin too"),
        ({"size": 96, "margin": 0.2}, "--margin 0.2: only a crop of a face has one"),
        ({"crop": "box", "size": 96, "margin": 0.2, "resize_to": 128}, "leave them out"),
        ({"crop": "box", "size": 96, "margin": 0.2, "keep_aspect": False}, "leave them out"),
        ({"crop": "box", "size": 96, "margin": 9.0}, "--size 96 --margin 9.0: crop margin 9.0 is not"),
        ({"size": 4}, "--size 4"), ({"size": 96, "resize_to": 64}, "--resize-to 64"),
        ({"head": "distribution", "scale": 100.0}, "--scale 100: a distribution head"),
        ({"arch": "alexnet99"}, "alexnet99"),
    ],
)  # fmt: skip
def test_what_contradicts_itself(tmp_path, mobilenet, said, told):
    with pytest.raises(UsageError, match=told):
        crop_of(tmp_path, mobilenet, **said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"scale": 0.0}, "--scale 0"), ({"scale": -1.0}, "--scale -1"), ({"scale": float("nan")}, "--scale nan"),
        ({"scale": float("inf")}, "--scale inf"), ({"mean": (0.5, 0.5, 0.5)}, "--mean and --std belong together"),
        ({"std": (0.5, 0.5, 0.5)}, "--mean and --std belong together"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3, "normalise": False}, "without --no-normalise"),
        ({"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}, "from 0 to 1"),
        ({"mean": (0.5, 0.5, float("nan")), "std": (0.5,) * 3}, "from 0 to 1"),
        ({"mean": (0.5, 0.5), "std": (0.5,) * 3}, "three numbers each"),
        ({"mean": (0.5,) * 3, "std": (0.5, 0.0, 0.5)}, "divided by 0"),
        ({"crop": "circle"}, "--crop circle: use one of box, landmarks, resize"),
        ({"head": "softmax"}, "--head softmax: use one of linear"), ({"label": "both"}, "--label both"),
    ],
)  # fmt: skip
def test_a_description_that_describes_nothing(said, told):
    with pytest.raises(UsageError, match=told):
        original.Description(**said)


def learned(tmp_path, mobilenet, **said):
    torch.save(mobilenet.state_dict(), tmp_path / "theirs.pth")
    said = {"arch": "mobilenet_v2", "head": "linear", "size": SIDE, **said}
    checkpoint, _ = export.open_checkpoint(tmp_path / "theirs.pth", original.Description(**said))
    [data] = checkpoint.training["data"]
    return {k: data.get(k) for k in ("dataset", "licence", "page", "part")}


def test_what_it_learned_from_is_any_text(tmp_path, mobilenet):
    unknown = {"dataset": "faces of mine, 2024", "licence": "licence not stated", "page": "", "part": None}
    assert learned(tmp_path, mobilenet, dataset="faces of mine, 2024") == unknown
    licensed = {**unknown, "licence": "CC BY 4.0"}
    assert learned(tmp_path, mobilenet, dataset="faces of mine, 2024", licence="CC BY 4.0") == licensed
    known = learned(tmp_path, mobilenet, dataset="utkface")
    assert known["part"] == "train"
    assert "http" in known["page"]
    assert known["licence"] not in ("", "licence not stated")
    assert learned(tmp_path, mobilenet, dataset="utkface", licence="by contract") == {**known, "licence": "by contract"}


def test_a_checkpoint_of_agetrain_without_licence_and_page(exported_distribution, tmp_path, proof):
    """As a data set of one's own may have neither."""
    values = Checkpoint.load(exported_distribution.checkpoint)
    data = [{"dataset": "mine", "part": "train", "n": 9}, {"dataset": "yours", "licence": None, "page": None}]
    replace(values, training={**values.training, "data": data}).save(tmp_path / "best.pth")
    checkpoint, sha256 = export.open_checkpoint(tmp_path / "best.pth", original.Description())
    sealed = graph.sealed(graph.without_metadata(onnx.load(exported_distribution.model)), checkpoint, "m", sha256)
    assert metadata_properties(sealed)["model_license"].endswith(
        "mine (licence not stated), yours (licence not stated)"
    )
    text = card(metadata_of(sealed), ladder_of(exported_distribution), [], len(sealed), "0" * 64)
    assert "| data | mine train, 9 pictures with a face; licence not stated |" in text
    assert "| data | yours; licence not stated |" in text
    assert "<>" not in text
    said = [value for key, value in inspect.described(metadata_of(sealed), sealed) if key == "learned"]
    assert said == ["mine, licence not stated", "yours, licence not stated"]
    # A file of an earlier release may have neither.
    metadata = metadata_of(sealed)
    bare = replace(metadata, training={**metadata.training, "data": data})
    assert "yours; licence not stated" in card(bare, ladder_of(exported_distribution), [], len(sealed), "0" * 64)
    assert ("learned", "mine, licence not stated") in inspect.described(bare, sealed)


def metadata_of(data):
    return ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY])


def ladder_of(exported):
    proof = json.loads(exported.model.with_suffix(".parity.json").read_text())
    return Ladder(**{**{name: proof[name] for name in Ladder.__slots__}, "rungs": ()})


def test_figures_of_a_part_whose_ages_are_intervals(exported_distribution):
    data = exported_distribution.model.read_bytes()
    metadata = metadata_of(data)
    intervals = {"n": 120, "interval_error": 1.25, "inside_percent": 61.75}
    only = {"dataset": "mine", "part": "valid", "n": 0, "detection_rate_percent": 99.0, "intervals": intervals}
    both = {**metadata.metrics[0], "part": "both", "intervals": {**intervals, "n": 7}}
    metadata = replace(metadata, metrics=[*metadata.metrics, only, both])
    text = card(metadata, ladder_of(exported_distribution), [], len(data), "0" * 64)
    assert "| appa-real selection | 2 | 9.50 | 9.50 | 100.0 % | 30.0 % | -1.00 | 12.00 |" in text
    assert "| mine valid | - | - | - | 99.0 % | - | - | - |" in text
    assert "| appa-real both | 2 | 9.50 |" in text
    for of_part, n in (("mine valid", 120), ("appa-real both", 7)):
        told = f"61.8 % of {n} answers inside the interval of ages, 1.25 years from it in the mean"
        assert f"\n{of_part}: {told}.\n" in text
        assert any(key == "measured" and told in value for key, value in inspect.described(metadata, data))
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    assert list(schema.iter_errors(json.loads(metadata.to_json()))) == []
    without = {k: v for k, v in only.items() if k != "intervals"}
    assert list(schema.iter_errors(json.loads(replace(metadata, metrics=[without]).to_json())))


def test_a_proof_on_pictures_whose_ages_are_intervals(exported_distribution, tmp_path):
    """The figures of such a proof have no MAE and no decades."""
    data = exported_distribution.model.read_bytes()
    groups = {"sex": {"female": {"n": 60, "interval_error": 1.5, "bias": -0.25}, "male": {"n": 19}}}
    measured = {"n": 100, "interval_error": 1.25, "inside_percent": 61.75, "by_attribute": groups}
    ladder = replace(ladder_of(exported_distribution), figures={"n": 0, "intervals": measured})
    text = card(metadata_of(data), ladder, [], len(data), "0" * 64)
    assert f"({ladder.origin}): 1.250 years from the interval of ages" in text
    assert "| sex female | 60 | 1.50 | -0.25 |" in text
    assert "sex male" not in text
    proved = export.ProvedModel(data, "fp32", ladder, Latency(1, 1, 1.0, 1.0, 10))
    assert "1.250 years from the interval of ages" in command._told(ModelFile(tmp_path, proved), proved)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, proof, cpu_alone):
    """A Lightning file of a network that answers 0 to 1 to a box crop, exported by the command line."""
    folder = tmp_path_factory.mktemp("theirs")
    made = network(bias=0.4, spread=0.002)
    torch.save(LAYOUTS["Lightning"](made.state_dict()), folder / "epoch=12.ckpt")
    options = [
        "--arch", "mobilenet_v2", "--head", "linear", "--scale", "100", "--crop", "box", "--size", "64", "--margin",
        "0.3", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--trained-on", "faces | of mine", "--licence",
        "by contract", "--data", str(proof), "--quiet",
    ]  # fmt: skip
    assert main([str(folder / "epoch=12.ckpt"), "-o", str(folder / "m.onnx"), *options]) == 0
    return folder, made, options


def test_it_becomes_a_model_file_that_says_what_was_said(theirs, astronaut):
    folder, made, _ = theirs
    metadata = metadata_of((folder / "m.onnx").read_bytes())
    assert metadata.crop == CropSpec(size=64, margin=0.3, kind="box")
    assert metadata.training["data"] == [{"dataset": "faces | of mine", "licence": "by contract", "page": ""}]
    [face] = Pipeline.default(folder / "m.onnx", provider="cpu")(astronaut).faces
    crop = torch.from_numpy(crop_face(astronaut, face.detection.box, CropSpec(size=64, margin=0.3)))[None]
    with torch.inference_mode():
        age = 100 * float(made(normalised(crop, (0.5,) * 3, (0.5,) * 3)))
    assert face.age.age_years == pytest.approx(age, abs=1e-2)


def test_its_card_claims_nothing_that_nobody_knows(theirs, capsys):
    folder, _, _ = theirs
    text = (folder / "m.md").read_text()
    assert "kept out of training" not in text
    assert "as training measured" not in text
    assert (
        "(constant: the spread of the errors on the pictures of the proof; whether training saw these is not known)"
        in text
    )
    assert "| data | faces \\| of mine; licence: by contract |" in text
    assert "<>" not in text
    assert "margin 0.3 on each side" in text
    assert "| said by | whoever exported it" in text
    assert "| network | mobilenet_v2, linear head; what it started from is not recorded |" in text
    assert inspect.main([str(folder / "m.onnx")]) == 0
    out = capsys.readouterr().out
    assert "held-out" not in out
    assert "constant, from the errors on the pictures of its proof" in out
    assert "faces | of mine, licence: by contract\n" in out


@pytest.mark.slow
def test_it_is_verified_by_the_same_words(theirs, capsys):
    folder, _, options = theirs
    arguments = ["--verify-only", str(folder / "m.onnx"), "--checkpoint", str(folder / "epoch=12.ckpt")]
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert main([*arguments, *options]) == 0
    assert "verified" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_another_margin_is_another_file(theirs, capsys, monkeypatch):
    folder, _, options = theirs
    converted = graph.without_metadata(onnx.load(folder / "m.onnx"))
    monkeypatch.setattr(graph, "convert", lambda checkpoint, opset: converted)
    arguments = ["--verify-only", str(folder / "m.onnx"), "--checkpoint", str(folder / "epoch=12.ckpt")]
    assert main([*arguments, *["0.2" if word == "0.3" else word for word in options]]) == 10
    assert "says crop.margin 0.3, the checkpoint gives 0.2" in capsys.readouterr().err


def test_it_works_from_python(theirs, proof, tmp_path, monkeypatch):
    folder, _, _ = theirs
    converted = graph.without_metadata(onnx.load(folder / "m.onnx"))
    monkeypatch.setattr(graph, "convert", lambda checkpoint, opset: converted)
    said = original.Description(
        arch="mobilenet_v2", head="linear", scale=100, crop="box", size=64, margin=0.3, mean=(0.5,) * 3,
        std=(0.5,) * 3, dataset="faces | of mine", licence="by contract",
    )  # fmt: skip
    result = export_model(folder / "epoch=12.ckpt", tmp_path / "m.onnx", data=str(proof), description=said)
    assert result.fp32.ladder.failed == ()
    assert metadata_of((tmp_path / "m.onnx").read_bytes()) == metadata_of((folder / "m.onnx").read_bytes())


@pytest.mark.parametrize("text", ["0.5", "0.5,0.5", "a,b,c", "0.5,0.5,0.5,0.5", ""])
def test_three_numbers_are_needed(capsys, text):
    with pytest.raises(SystemExit) as ended:
        main(["theirs.pth", "--mean", text])
    assert ended.value.code == 2
    assert "is not three numbers" in capsys.readouterr().err


def test_spread_of_errors_is_that_on_the_pictures_of_the_proof(theirs):
    folder, _, _ = theirs
    proof = json.loads((folder / "m.parity.json").read_text())
    [std] = {
        float(v)
        for v in np.unique(
            graph.outputs((folder / "m.onnx").read_bytes(), np.zeros((2, SIDE, SIDE, 3), np.uint8), ["age_std"])[0]
        )
    }
    rmse, bias = proof["figures"]["rmse"], proof["figures"]["bias"]
    assert std == pytest.approx((rmse**2 - bias**2) ** 0.5, abs=0.05)
