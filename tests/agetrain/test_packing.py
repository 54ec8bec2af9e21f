"""A packed training set: what it takes to train on a machine without pictures and without OpenCV."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from runs import environment, history_of, one_line, same_weights, start_weights, words

from agetrain._files import file_sha256
from agetrain.crops import packing
from agetrain.crops.cache import VALUES, CropCache
from agetrain.crops.training_set import TrainingSet
from agetrain.errors import DatasetError
from agetrain.experiments import EXPERIMENTS
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe
from agetrain.train import main
from agetrain.training.teachers import Teacher

# torchvision itself needs PIL, so that one is blocked after torchvision's import.
BLOCKED = ("cv2", "onnxruntime", "dlib", "wandb", "tqdm", "matplotlib", "scipy", "onnx")


@pytest.fixture(autouse=True)
def _alike(monkeypatch):
    for name in ("AGETRAIN_WEIGHTS", "AGETRAIN_DATA", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("packing")


@pytest.fixture(scope="module")
def weights(place):
    return start_weights(place)


TINY = {"size": 64, "batch_size": 4, "epochs": 2, "selection_share": 0.25}


@pytest.fixture(scope="module")
def direct(place, appa_real, weights):
    """Options for a run from the pictures."""
    return {"dataset": "appa-real", "data": appa_real, "cache": place / "cache", **TINY}


@pytest.fixture(scope="module")
def run(weights):
    def run(**options):
        return main(words(weights=weights, device="cpu", wandb="disabled", experiment="best", **options))

    return run


@pytest.fixture(scope="module")
def pack(place, run, direct):
    assert run(**direct, pack=place / "pack") == 0
    return place / "pack"


@pytest.fixture(scope="module")
def trained(place, run, direct):
    """A run from the pictures, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert run(**direct, out=place / "direct") == 0
    torch.set_num_threads(threads)
    return place / "direct"


@pytest.mark.slow
def test_a_pack_trains_to_the_same_weights_where_nothing_else_is_installed(tmp_path, pack, trained, weights):
    """In an interpreter without OpenCV and all that is optional, and from a place without the pictures."""
    moved = shutil.copytree(pack, tmp_path / "moved")
    code = (
        "import sys\n"
        f"for name in {BLOCKED}: sys.modules[name] = None\n"
        "import torchvision\n"
        "for name in [n for n in sys.modules if n == 'PIL' or n.startswith('PIL.')]: del sys.modules[name]\n"
        "sys.modules['PIL'] = None\n"
        "from agetrain.train import main\n"
        "status = main(sys.argv[1:])\n"
        f"assert not [n for n in {(*BLOCKED, 'PIL')} if sys.modules[n] is not None]\n"
        "sys.exit(status)\n"
    )
    options = words(packed=moved, out=tmp_path / "out", weights=weights, device="cpu", experiment="best", **TINY)
    ran = subprocess.run(
        [sys.executable, "-c", code, *options], env=environment(), cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "W&B is not installed" in ran.stderr
    assert same_weights(tmp_path / "out", trained)
    assert history_of(tmp_path / "out") == history_of(trained)
    records = [json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "out", trained)]
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["training"]["data"] == records[1]["training"]["data"]


def test_the_pictures_that_an_export_is_proved_on_travel_too(pack, trained, tmp_path, run):
    assert run(packed=pack, out=tmp_path / "out", **{**TINY, "epochs": 1}) == 0
    with np.load(trained / "parity.npz") as first, np.load(tmp_path / "out" / "parity.npz") as second:
        assert set(first.files) == set(second.files)
        assert all(np.array_equal(first[name], second[name]) for name in first.files)
        assert len(first["valid_ends"]) == 8


def test_other_choices_than_pixels_can_be_made_on_the_packed_side(pack, tmp_path, run):
    assert (
        run(packed=pack, out=tmp_path / "out", **{**TINY, "epochs": 1}, lr=2e-3, seed=3, head="linear", loss="l1") == 0
    )
    values = Checkpoint.load(tmp_path / "out" / "best.pth")
    recipe = values.training["recipe"]
    assert (recipe["lr"], recipe["seed"], values.head) == (2e-3, 3, "linear")
    # The record names what was run, not what was packed, so that it can be run again.
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["recipe"] == recipe
    assert config["data"][0]["name"] == "appa-real"


def test_the_configuration_of_a_packed_run_needs_no_pictures(pack, tmp_path, run, weights, monkeypatch):
    assert run(packed=pack, out=tmp_path / "first", **{**TINY, "epochs": 1}) == 0
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    gone = [{**data, "folder": "gone"} for data in config["data"]]
    (tmp_path / "config.json").write_text(json.dumps({**config, "data": gone}))
    again = words(config=tmp_path / "config.json", out=tmp_path / "again", weights=weights, device="cpu")
    assert main([*again, "--wandb", "disabled"]) == 0
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == config
    first, second = (Checkpoint.load(tmp_path / name / "best.pth").weights for name in ("first", "again"))
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_without_an_experiment_a_pack_is_trained_as_it_was_packed(pack, tmp_path, weights):
    options = {"weights": weights, "device": "cpu", "wandb": "disabled", "packed": pack, "out": tmp_path / "out"}
    assert main(words(**options, epochs=1)) == 0
    recipe = Recipe.from_dict(Checkpoint.load(tmp_path / "out" / "best.pth").training["recipe"])
    assert recipe == Recipe(**{**TINY, "epochs": 1})


class EnoughError(Exception):
    """The run got so far."""


@pytest.fixture
def config_of(monkeypatch):
    """The configuration and the teacher that a command line would train with."""

    def config_of(**options):
        seen = {}

        def start_run(*_, record, predictions, **__):
            seen.update(config=record, teacher=predictions)
            raise EnoughError

        with monkeypatch.context() as patch:
            patch.setattr("agetrain.training.run.start_run", start_run)
            with pytest.raises(EnoughError):
                main(words(device="cpu", wandb="disabled", experiment="best", **{**TINY, **options}))
        return seen["config"], seen["teacher"]

    return config_of


def test_the_teacher_of_a_packed_run_is_the_one_of_its_command_line(pack, tmp_path, config_of, weights):
    path = tmp_path / "teacher.npz"
    np.savez(path, digests=np.arange(9, dtype=np.uint64), ages=np.ones(9), stds=np.ones(9))
    config, teacher = config_of(packed=pack, out=tmp_path / "out", teacher=path, weights=weights)
    assert config["teacher"] == [str(path)]
    assert config["teacher_sha256"] == [file_sha256(path)]
    assert teacher.files == ("teacher.npz",)
    assert (config["weights"], config["weights_sha256"]) == (str(weights), file_sha256(weights))
    assert config["label"] == "real"

    folder = fresh(pack, tmp_path)
    description = json.loads((folder / "training-set.json").read_text())
    description["config"]["teacher"] = ["of the packing.npz"]  # as earlier releases packed it
    (folder / "training-set.json").write_text(json.dumps(description))
    config, teacher = config_of(packed=folder, out=tmp_path / "out")
    assert (config["teacher"], config["teacher_sha256"], teacher) == ([], [], None)


def test_a_teacher_of_the_packing_is_refused(direct, tmp_path, run, capsys):
    """It would teach nobody: a pack holds pictures and labels alone."""
    assert run(**direct, pack=tmp_path / "pack", teacher="nowhere.npz") == 2
    assert "--packed" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "pack").exists()


def test_a_pack_does_not_name_the_teacher_of_its_packing(trained, tmp_path, weights):
    config = json.loads((trained / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "teacher": ["nowhere.npz"]}))
    options = {"config": tmp_path / "config.json", "pack": tmp_path / "pack", "cache": tmp_path / "cache"}
    assert main(words(**options, weights=weights, device="cpu")) == 0
    assert "nowhere.npz" not in (tmp_path / "pack" / "training-set.json").read_text()


@pytest.mark.parametrize(
    ("option", "value", "packed"),
    [
        ("label", "apparent", "real"), ("dataset", "utkface", "appa-real"), ("split", "split.csv", "none"),
        ("split_csv", ["a.csv", "b.csv"], "none"),
    ],
)  # fmt: skip
def test_an_option_that_contradicts_the_pack_is_refused(pack, tmp_path, run, capsys, option, value, packed):
    assert run(packed=pack, out=tmp_path / "out", **TINY, **{option: value}) == 2
    line = one_line(capsys.readouterr().err)
    assert f"--{option.replace('_', '-')} " in line
    assert f"packed with {packed};" in line
    assert not (tmp_path / "out").exists()


def test_an_option_that_says_what_was_packed_is_not(pack, tmp_path, config_of):
    config, _ = config_of(packed=pack, out=tmp_path / "out", label="real", dataset="appa-real=/elsewhere")
    assert config["packed"] == str(pack)


def test_packing_does_not_train(direct, tmp_path, run, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr("agetrain.training.run.start_run", never)
    assert run(**direct, pack=tmp_path / "pack", out=tmp_path / "out") == 0
    assert f"--packed {tmp_path / 'pack'}" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "pack" / "training-set.json").is_file()


def fresh(pack, tmp_path):
    """A copy of a pack, to be spoiled."""
    return shutil.copytree(pack, tmp_path / "pack")


@pytest.mark.parametrize(
    "name", ["training-set.json", "learn-0-000.npy", "learn-0.npz", "select.npz", "valid-0-000.npy"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_an_incomplete_pack_is_one_line(pack, tmp_path, run, capsys, name, damage):
    folder = fresh(pack, tmp_path)
    data = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes({"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\x07" * 999}[damage])
    assert run(packed=folder, out=tmp_path / "out", **TINY) == 3
    line = one_line(capsys.readouterr().err)
    assert str(folder) in line
    assert "pack" in line.removeprefix(str(folder))
    assert not (tmp_path / "out").exists()


def test_a_pack_of_fewer_crops_than_labels_is_refused(pack, tmp_path, run, capsys):
    folder = fresh(pack, tmp_path)
    crops = np.load(folder / "learn-0-000.npy")
    np.save(folder / "learn-0-000.npy", crops[:-1])
    assert run(packed=folder, out=tmp_path / "out", **TINY) == 3
    assert "differ in number" in one_line(capsys.readouterr().err)


def test_a_pack_of_another_release_is_refused(pack, tmp_path, run, capsys):
    folder = fresh(pack, tmp_path)
    description = json.loads((folder / "training-set.json").read_text())
    (folder / "training-set.json").write_text(json.dumps({**description, "version": 2}))
    assert run(packed=folder, out=tmp_path / "out", **TINY) == 3
    assert "another release" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"size": 72}, "size"), ({"margin": 0.3}, "margin"), ({"crop": "box"}, "crop"),
        ({"selection_share": 0.3}, "selection_share"), ({"selection_seed": 1}, "selection_seed"),
        ({"select_on": "valid"}, "select_on"), ({"no_ignore_bad": True}, "ignore_bad"),
    ],
)  # fmt: skip
def test_a_recipe_that_needs_other_crops_or_faces_is_refused(pack, tmp_path, run, capsys, other, field):
    assert run(packed=pack, out=tmp_path / "out", **{**TINY, **other}) == 2
    line = one_line(capsys.readouterr().err)
    assert f"with {field} " in line
    assert "pack it again" in line
    assert not (tmp_path / "out").exists()


def cache_of(crops, seed=0):
    n, random = len(crops), np.random.default_rng(seed)
    numbers = [random.uniform(10, 60, n).astype(np.float32) for _ in range(4)]
    lows = np.where(random.random(n) < 0.5, numbers[0] - 3, np.nan).astype(np.float32)
    digests = random.integers(0, 2**63, n).astype(np.uint64)
    return CropCache(crops, random.random(n) < 0.9, *numbers, digests, lows, lows + 6)


def training_set_of(learn, recipe, select=None):
    valid = cache_of(np.full((2, recipe.size, recipe.size, 3), 9, np.uint8), 5)
    facts = tuple({"dataset": name} for name in ("utkface", "appa-real")[: len(learn)])
    return TrainingSet(facts, "real", 0.0, recipe.crop_spec, tuple(learn), select or valid, (valid,) * len(learn))


def test_crops_are_packed_into_files_of_at_most_48_mb(tmp_path):
    """2,300 crops of 128 px are 113 MB."""
    recipe = EXPERIMENTS["A8"].recipe
    crops = np.zeros((2300, 128, 128, 3), np.uint8)
    crops[:, 0, 0, 0] = np.arange(2300) % 256
    crops[:, 0, 0, 1] = np.arange(2300) // 256
    packing.save(tmp_path, training_set_of([cache_of(crops)], recipe), {"recipe": recipe.to_dict()}, recipe, None)
    shards = sorted(tmp_path.glob("learn-0-*.npy"))
    assert len(shards) == 3
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 48_000_000
    data, _ = packing.load(tmp_path, recipe)
    at = np.array([0, 900, 975, 976, 977, 1952, 1953, 2299])
    assert np.array_equal(data.learn[0].crops[at], crops[at])
    assert len(data.learn[0]) == 2300


def test_every_crop_and_label_of_several_data_sets_comes_back(tmp_path, monkeypatch):
    recipe = Recipe(size=8)
    monkeypatch.setattr(packing, "_SHARD_BYTES", 3 * 12 * 12 * 3)  # three crops a file
    random = np.random.default_rng(1)
    learn = [cache_of(random.integers(0, 256, (n, 12, 12, 3), np.uint8), n) for n in (7, 4)]
    select = cache_of(random.integers(0, 256, (5, 8, 8, 3), np.uint8), 6)
    packing.save(tmp_path, training_set_of(learn, recipe, select), {"recipe": recipe.to_dict()}, recipe, None)
    assert len(list(tmp_path.glob("learn-0-*.npy"))) == 3
    data, config = packing.load(tmp_path, recipe)
    assert config == {"recipe": recipe.to_dict()}
    for packed, original in zip((*data.learn, data.select), (*learn, select), strict=True):
        everything = np.arange(len(original))
        assert np.array_equal(packed.crops[everything], original.crops)
        assert np.array_equal(packed.crops[everything[1::3]], original.crops[1::3])
        for name in VALUES:
            np.testing.assert_array_equal(getattr(packed, name), getattr(original, name), name)
    assert [f["dataset"] for f in data.facts] == ["utkface", "appa-real"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, run, direct, capsys):
    (tmp_path / "file").touch()
    assert run(**direct, pack=tmp_path / "file" / "pack") == 3
    assert str(tmp_path / "file") in one_line(capsys.readouterr().err)


def test_a_pack_that_breaks_off_does_not_look_complete(tmp_path, monkeypatch):
    recipe, written = Recipe(size=8), []

    def full(stream, **_):
        written.append(stream)
        raise OSError(28, "No space left on device")

    learn = [cache_of(np.zeros((3, 12, 12, 3), np.uint8))]
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(DatasetError, match="No space left"):
            packing.save(tmp_path, training_set_of(learn, recipe), {"recipe": recipe.to_dict()}, recipe, None)
    assert written
    with pytest.raises(DatasetError, match="pack it again"):
        packing.load(tmp_path, recipe)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_file_of_a_teacher_is_one_line(tmp_path, damage):
    path = tmp_path / "predictions.npz"
    np.savez(path, digests=np.arange(9, dtype=np.uint64), ages=np.ones(9), stds=np.ones(9))
    assert Teacher.load([path]).ages.tolist() == [1] * 9
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\x07" * 999}[damage])
    with pytest.raises(DatasetError, match="predictions") as caught:
        Teacher.load([path])
    assert "\n" not in str(caught.value)
