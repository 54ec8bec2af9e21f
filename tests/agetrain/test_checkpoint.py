import os
import pickle
import subprocess

import pytest
import torch
from portraits import checkpoint_values

from ageinfer.crop.spec import CropSpec
from agetrain._files import file_sha256
from agetrain.errors import CheckpointError, OutputError
from agetrain.network import checkpoint
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    network = AgeNet("mobilenet_v2", "linear").eval()
    network.residual_std.fill_(7.25)
    return network


@pytest.fixture
def values(network):
    return checkpoint_values(network, CropSpec(size=64, margin=0.3))


@pytest.fixture
def path(values, tmp_path):
    checkpoint.write(tmp_path / "best.pth", values)
    return tmp_path / "best.pth"


class Malicious:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_text_file_is_not_taken_for_something_dangerous(tmp_path):
    (tmp_path / "README.md").write_text("# ageinfer\n" * 50)
    with pytest.raises(CheckpointError, match=r"README\.md: cannot be read as a checkpoint \(it is no file of torch\)"):
        Checkpoint.load(tmp_path / "README.md")


def test_round_trip(path, values, network):
    loaded = Checkpoint.load(path)
    assert {k: v for k, v in loaded.to_values().items() if k != "weights"} == {
        k: v for k, v in values.items() if k != "weights"
    }
    loaded.save(path.with_name("again.pth"))
    assert Checkpoint.load(path.with_name("again.pth")).training == loaded.training
    rebuilt = loaded.network()
    assert not rebuilt.training
    faces = torch.rand(2, 3, 64, 64) * 255
    with torch.inference_mode():
        for ours, theirs in zip(rebuilt.decode(rebuilt(faces)), network.decode(network(faces)), strict=True):
            assert torch.equal(ours, theirs)
    assert rebuilt.decode(torch.zeros(1, 1))[1].item() == 7.25


@pytest.mark.parametrize("head", ["linear", "distribution"])
def test_what_is_saved_of_a_network_is_what_the_contract_says(head):
    torch.manual_seed(4)
    network = AgeNet("mobilenet_v2", head, auxiliary=True).eval()
    spec = CropSpec(size=64, margin=0.3)
    expected = checkpoint_values(network, spec)
    kept = Checkpoint.of_network(network, spec, "real", 0, expected["training"], expected["metrics"])
    found = kept.to_values()
    assert {k: v for k, v in found.items() if k != "weights"} == {k: v for k, v in expected.items() if k != "weights"}
    assert isinstance(found["label_offset"], float)
    # A second head is for learning alone.
    assert set(found["weights"]) == {k for k in expected["weights"] if not k.startswith("auxiliary.")}
    assert len(found["weights"]) == len(expected["weights"]) - 2
    faces = torch.rand(2, 3, 64, 64) * 255
    with torch.inference_mode():
        assert torch.equal(kept.network()(faces), network(faces))


def test_what_is_saved_does_not_change_with_the_network():
    torch.manual_seed(5)
    network = AgeNet("mobilenet_v2", "linear")
    values = Checkpoint.of_network(network, CropSpec(size=64), "apparent", 14, {})
    before = values.weights["head.1.bias"].clone()
    with torch.no_grad():
        network.head[1].bias.fill_(77)
    assert torch.equal(values.weights["head.1.bias"], before)
    assert (values.label, values.label_offset) == ("apparent", 14)


def test_a_network_without_normalisation_is_rebuilt_as_one():
    torch.manual_seed(6)
    network = AgeNet("mobilenet_v2", "linear", normalise=False).eval()
    values = Checkpoint.of_network(network, CropSpec(size=64), "real", 0, {})
    assert (values.mean, values.std) == ([0, 0, 0], [1, 1, 1])
    faces = torch.rand(2, 3, 64, 64) * 255
    with torch.inference_mode():
        assert torch.equal(values.network()(faces), network(faces))


def test_it_holds_nothing_but_tensors_and_json_values(path):
    raw = torch.load(path, weights_only=True)
    assert (raw["format"], raw["version"]) == ("agetrain-checkpoint", 1)

    def check(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str)
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)
        else:
            assert value is None or isinstance(value, str | int | float | bool)

    assert all(isinstance(w, torch.Tensor) for w in raw["weights"].values())
    check({k: v for k, v in raw.items() if k != "weights"})


def test_a_folder_is_made(values, tmp_path):
    Checkpoint.from_values(values, "of a test").save(tmp_path / "runs" / "1" / "best.pth")
    assert Checkpoint.load(tmp_path / "runs" / "1" / "best.pth").backbone == "mobilenet_v2"


def test_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"best\.pth: no such checkpoint; make one with python -m agetrain"):
        Checkpoint.load(tmp_path / "best.pth")


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_is_not_run(tmp_path, values, protocol):
    path = tmp_path / "best.pth"
    evil = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, **values, "label": Malicious(tmp_path / "ran")}
    if protocol == "torch":
        torch.save(evil, path)
    else:
        path.write_bytes(pickle.dumps({"label": Malicious(tmp_path / "ran")}, protocol=2))
    with pytest.raises(CheckpointError, match=r"best\.pth: cannot be read as a checkpoint"):
        Checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"best\.pth: cannot be read as a checkpoint .*; train again"):
        Checkpoint.load(path)


def test_messages_are_one_line(path):
    for content in (b"", b"no checkpoint\n" * 100, b"PK\x03\x04" + bytes(200)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.load(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("something", [{"features.0.0.weight": torch.zeros(2)}, [1, 2], torch.zeros(2)])
def test_something_else_that_torch_saved(tmp_path, something):
    torch.save(something, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: not a checkpoint of agetrain; give the best\.pth"):
        Checkpoint.load(tmp_path / "other.pth")


def test_another_version(path):
    values = torch.load(path, weights_only=True)
    torch.save({**values, "version": 2}, path)
    with pytest.raises(CheckpointError, match=r"best\.pth: checkpoint version 2, this release reads 1"):
        Checkpoint.load(path)


@pytest.mark.parametrize("key", ["weights", "crop", "label_offset", "metrics"])
def test_a_missing_key(path, key):
    raw = torch.load(path, weights_only=True)
    del raw[key]
    torch.save(raw, path)
    with pytest.raises(CheckpointError, match=rf"best\.pth: the checkpoint lacks {key}"):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "changes", [{"backbone": "resnet34"}, {"head": "distribution"}, {"backbone": "alexnet"}, {"weights": {}}]
)
def test_weights_that_do_not_fit(values, changes):
    with pytest.raises(CheckpointError):
        Checkpoint.from_values({**values, **changes}, "of a test").network()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_leaves_the_old_file(path, values, monkeypatch, error):
    before = path.read_bytes()

    def torch_save(value, file, *args, **kwargs):
        with open(file, "wb") as stream:  # noqa: PTH123
            stream.write(before[:1000])
        raise error

    monkeypatch.setattr(torch, "save", torch_save)
    with pytest.raises(OutputError, match=r"best\.pth: cannot write the checkpoint: .*space"):
        Checkpoint.from_values(values, "of a test").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best.pth"]


def test_a_file_where_the_folder_should_be(values, tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        Checkpoint.from_values(values, "of a test").save(tmp_path / "runs" / "best.pth")


def test_interrupted_while_saving_leaves_the_old_file(path, values, monkeypatch):
    before = path.read_bytes()

    def torch_save(value, file, *args, **kwargs):
        with open(file, "wb") as stream:  # noqa: PTH123
            stream.write(before[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torch_save)
    with pytest.raises(KeyboardInterrupt):
        Checkpoint.from_values(values, "of a test").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["best.pth"]


def test_environment_names_versions_and_commit():
    facts = checkpoint.environment()
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert facts["python"].startswith("3.")
    assert facts["git_commit"] is None or len(facts["git_commit"].rstrip("+")) == 40


def test_the_commit_of_a_repository_round_an_installation_is_not_ours(tmp_path, monkeypatch):
    site = tmp_path / "env" / "agetrain"
    site.mkdir(parents=True)
    (site / "checkpoint.py").touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(checkpoint, "__file__", str(site / "checkpoint.py"))
    assert checkpoint.environment()["git_commit"] is None
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "ours"], check=True)
    assert len(checkpoint.environment()["git_commit"]) == 40


def test_file_hash(path):
    import hashlib

    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
