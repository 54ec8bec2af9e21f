"""``python -m agetrain.evaluate``: the figures of checkpoints and model files whose answers are known."""

import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from portraits import checkpoint_values, lively_network, variation

from ageinfer.crop.cut import central_face, crop_face
from ageinfer.crop.spec import CropSpec
from ageinfer.detect import WholePicture, YuNet
from ageinfer.sources import read_picture
from agetrain import evaluate
from agetrain._files import file_sha256
from agetrain.crops import cache
from agetrain.datasets import load_dataset
from agetrain.errors import DatasetError
from agetrain.evaluation import answers as answers_module
from agetrain.evaluation import records as records_module
from agetrain.evaluation import robustness
from agetrain.evaluation.models import open_model
from agetrain.network import checkpoint
from agetrain.network.agenet import AgeNet
from agetrain.network.checkpoint import Checkpoint
from agetrain.recipe import Recipe
from agetrain.training.teachers import Teacher

REAL = np.arange(10, 58, 2.0)  # of the 24 pictures of train
APPARENT, DEVIATIONS = REAL + 0.5, 1 + np.arange(24) / 10
BOX, ALIGNED = CropSpec(size=64), CropSpec(size=64, kind="landmarks")
WHOLE = CropSpec(size=64, margin=0, kind="resize", detector="none", resize_to=70)


def constant_checkpoint(path, answer, *, std=4.5, spec=BOX, offset=0.0, **training):
    """A checkpoint that answers the same to every face: with ``offset``, by labels that are stored with one."""
    network = AgeNet("mobilenet_v2", "linear")
    with torch.no_grad():
        network.head[1].weight.zero_()
        network.head[1].bias.fill_(answer - offset)
        network.residual_std.fill_(std)
    values = checkpoint_values(network, spec)
    values["training"] |= training
    checkpoint.write(path, values | {"label_offset": offset})
    return path


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """A checkpoint that answers 40."""
    return constant_checkpoint(tmp_path_factory.mktemp("forty") / "best.pth", 40)


@pytest.fixture(scope="module")
def dataset(appa_real):
    return f"appa-real={appa_real}"


def run(capsys, *arguments, status=0):
    """Runs the command, expects this status; returns what it printed, or its one line of error."""
    found = evaluate.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert found == status, err
    assert "Traceback" not in err
    if status == 0:
        return out
    [line] = [line for line in err.splitlines() if line.startswith("agetrain.evaluate: ")]
    assert err.endswith(f"{line}\n")
    return line


def records(*arguments):
    """The records of a run, as JSON values, with few resamples."""
    options = evaluate.build_parser().parse_args([*map(str, arguments), "--resamples", "20"])
    return json.loads(json.dumps([done.record for done in evaluate.evaluations(options)]))


def mean_error(answers, labels=REAL):
    return pytest.approx(np.abs(np.asarray(answers) - labels).mean(), abs=1e-3)


def answers_of(network, paths, spec, *, detector=None):
    """What a network says of the face nearest the centre of each picture, step by step."""
    detector = detector or YuNet(provider="cpu")
    crops = []
    for path in paths:
        image = read_picture(path)
        faces = detector.detect(image)
        face = faces[central_face([f.box for f in faces], image.shape[1::-1])]
        crops.append(crop_face(image, face.box, spec, face.landmarks))
    with torch.inference_mode():
        ages, stds = network(torch.from_numpy(np.array(crops)).permute(0, 3, 1, 2).float()), None
        ages, stds = network.decode(ages)
    return ages.double().numpy(), stds.double().numpy()


def paths_of(folder, part="train"):
    return [s.path for s in load_dataset("appa-real", folder)[0].parts[part]]


# What is measured


def test_a_model_that_always_answers_forty(forty, dataset):
    [r] = records(forty, "--dataset", dataset, "--part", "train")
    assert (r["n"], r["detection_rate_percent"], r["label"], r["answers"]) == (24, 100, "real", "real")
    assert r["mae"] == mean_error(40)
    assert r["bias"] == pytest.approx(40 - REAL.mean())
    assert r["slope"] == 0
    assert r["mae_interval_95"][0] < r["mae"] < r["mae_interval_95"][1]  # each picture is a subject of its own
    assert r["baselines"]["train_median"] == mean_error(34)  # the checkpoint's
    assert r["baselines"]["own_median"] == mean_error(np.median(REAL))
    assert r["baselines"]["crowd_mean"] == 0.5
    assert r["uncertainty"]["mean_std"] == 4.5
    assert r["uncertainty"]["within_1_std_percent"] == pytest.approx(100 * 5 / 24, abs=0.01)
    assert (r["dataset"], r["part"], r["split"], r["detector"]) == ("appa-real", "train", "official", "yunet-2023mar")
    assert CropSpec.from_dict(r["crop"]) == BOX
    assert "epsilon_error" not in r


def test_the_part_that_is_measured_is_valid_if_not_told(forty, dataset):
    [r] = records(forty, "--dataset", dataset)
    assert (r["part"], r["n"]) == ("valid", 8)
    assert r["mae"] == mean_error(40, np.arange(58, 74, 2))


def test_the_offset_of_a_network_that_learned_stored_labels_is_added(tmp_path, dataset):
    path = constant_checkpoint(tmp_path / "best.pth", 40, offset=15)
    [r] = records(path, "--dataset", dataset, "--part", "train")
    assert r["mae"] == mean_error(40)


def test_a_checkpoint_and_its_export_give_the_same_figures(exported_distribution, dataset, appa_real):
    arguments = ("--dataset", dataset, "--part", "train")
    e = exported_distribution
    of_checkpoint, of_model = records(e.checkpoint, e.model, *arguments)
    expected, stds = answers_of(e.network, paths_of(appa_real), BOX)
    assert np.std(expected) > 0.5  # the network tells faces apart
    assert of_checkpoint["mae"] == mean_error(expected)
    assert of_checkpoint["uncertainty"]["mean_std"] == pytest.approx(stds.mean(), abs=1e-3)
    for key in ("n", "label", "answers", "mae", "rmse", "bias", "slope", "median_error", "detector", "split_sha256"):
        same = of_checkpoint[key]
        assert of_model[key] == (pytest.approx(same, abs=2e-3) if isinstance(same, float) else same), key
    assert of_model["uncertainty"] == pytest.approx(of_checkpoint["uncertainty"], abs=2e-3)
    assert of_model["mae_interval_95"] == pytest.approx(of_checkpoint["mae_interval_95"], abs=2e-3)
    assert of_model["baselines"] == of_checkpoint["baselines"]
    assert of_model["seen_in_training"] == of_checkpoint["seen_in_training"]
    assert of_model["model"].endswith(".onnx")
    assert of_model["model_sha256"] == file_sha256(exported_distribution.model)
    assert of_checkpoint["model_sha256"] == file_sha256(exported_distribution.checkpoint)
    assert of_checkpoint["model"].endswith("/best.pth")


def test_runs_that_differ_in_their_seed_have_a_mean_and_a_deviation(capsys, tmp_path, dataset):
    paths = [constant_checkpoint(tmp_path / name / "best.pth", age) for name, age in (("a", 20), ("b", 34), ("c", 40))]
    for seed, path in enumerate(paths):
        checkpoint = Checkpoint.load(path)
        recipe = {**Recipe(backbone=checkpoint.backbone).to_dict(), "seed": seed}
        dataclasses.replace(checkpoint, training={**checkpoint.training, "recipe": recipe}).save(path)
    arguments = ("--dataset", dataset, "--part", "train")
    found = records(*paths, *arguments)
    assert [r["model"] for r in found] == ["a/best.pth", "b/best.pth", "c/best.pth"]
    maes = [np.abs(age - REAL).mean() for age in (20, 34, 40)]
    assert [r["mae"] for r in found] == pytest.approx(maes, abs=1e-4)
    mean, sd = statistics.mean(maes), statistics.stdev(maes)
    for r in found:
        assert r["over_seeds"] == {"n": 3, "mean": pytest.approx(mean, abs=1e-3), "sd": pytest.approx(sd, abs=1e-3)}
    assert f"appa-real: 3 seeds, MAE {mean:.2f}, sd {sd:.2f}" in capsys.readouterr().out.splitlines()


def test_models_that_are_no_seeds_are_compared_picture_by_picture(capsys, tmp_path, dataset):
    paths = [constant_checkpoint(tmp_path / name / "best.pth", age) for name, age in (("a", 20), ("b", 34))]
    first, second = records(*paths, "--dataset", dataset, "--part", "train")
    assert "over_seeds" not in first
    [told] = second["differences"]
    gaps = np.abs(20 - np.array(REAL)) - np.abs(34 - np.array(REAL))
    assert told["years"] == pytest.approx(gaps.mean(), abs=1e-3)
    assert told["low_years"] < told["years"] < told["high_years"]
    assert told["n"] == len(REAL)
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"MAE of a/best.pth minus b/best.pth: {gaps.mean():+.2f} years" in line
    assert line.endswith("is better") or line.endswith("no difference is shown")


def test_the_files_that_are_written(capsys, tmp_path, forty, dataset):
    out = run(capsys, forty, "--dataset", dataset, "--resamples", 20, "--out", tmp_path / "new" / "out")
    folder = tmp_path / "new" / "out"
    assert sorted(p.name for p in folder.iterdir()) == [
        "evaluation.json", "evaluation.md", "evaluation.png", "rows.csv"
    ]  # fmt: skip
    [r] = json.loads((folder / "evaluation.json").read_text())["evaluations"]
    assert f"MAE {r['mae']:.2f}" in out
    text = (folder / "evaluation.md").read_text()
    assert f"| {r['model']} | appa-real valid | real | 8 | {r['mae']:.2f} |" in text
    picture = cv2.imread(str(folder / "evaluation.png"))
    assert min(picture.shape[:2]) > 200
    assert picture.std() > 10


def test_without_out_nothing_is_written(capsys, tmp_path, monkeypatch, forty, dataset):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, forty, "--dataset", dataset, "--resamples", 10).count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def write_utkface(folder, image):
    """24 women of 30 and 2 men of 60, in the names of UTKFace."""
    folder.mkdir()
    for i in range(26):
        name = f"30_1_2_{i:017d}.jpg" if i < 24 else f"60_0_0_{i:017d}.jpg"
        cv2.imwrite(str(folder / name), variation(image, i))
    return folder


def test_pictures_of_one_subject_are_told_as_such(lively, appa_real):
    samples = load_dataset("appa-real", appa_real)[0].parts["train"][:4]
    known = [dataclasses.replace(s, subject="a") for s in samples[:2]]
    model = open_model(lively[1] / "box.pth")
    subjects = answers_module.answers_of(model, [*known, *samples[2:]], YuNet(provider="cpu"), "real").subjects.tolist()
    assert subjects[0] == subjects[1] == "a"
    assert len(set(subjects)) == 3


def test_several_data_sets_with_what_is_known_of_people(tmp_path, forty, dataset, astronaut):
    folder = write_utkface(tmp_path / "utk", astronaut)
    appa, utk = records(forty, "--dataset", dataset, "--dataset", f"utkface={folder}", "--part", "train")
    assert appa["mae"] == mean_error(40)
    samples = load_dataset("utkface", folder)[0].parts["train"]
    ages = [s.age_years for s in samples]
    assert utk["mae"] == mean_error(40, np.array(ages))
    sexes = utk["by_attribute"]["sex"]
    assert sexes["female"]["n"] == ages.count(30)
    assert "crowd_mean" not in utk["baselines"]
    assert utk["seen_in_training"] == "other data"


@pytest.mark.parametrize("same", [True, False])
def test_whether_the_model_learned_from_this_split_is_told(tmp_path, dataset, appa_real, same):
    digest = load_dataset("appa-real", appa_real)[0].split_sha256() if same else "0" * 64
    data = [{"dataset": "utkface", "split_sha256": "1" * 64}, {"dataset": "appa-real", "split_sha256": digest}]
    path = constant_checkpoint(tmp_path / "best.pth", 40, data=data)
    [r] = records(path, "--dataset", dataset)
    expected = "train part of this split" if same else "another split or label of this data set"
    assert r["seen_in_training"] == expected


def test_the_split_can_be_chosen(capsys, tmp_path, forty, dataset, appa_real):
    rows = [f"{part},{part}/{i:06d}.jpg_face.jpg,0," for part, i in (("train", 0), ("valid", 25))]
    rows += [f"test,train/{i:06d}.jpg_face.jpg,0," for i in (3, 5)]
    (tmp_path / "split.csv").write_text("\n".join(["part,file,age_years,subject", *rows, ""]))
    arguments = (forty, "--dataset", dataset, "--part", "test", "--split", tmp_path / "split.csv")
    [r] = records(*arguments)
    assert (r["n"], r["mae"]) == (2, mean_error(40, np.array([16, 20])))
    assert r["split"].startswith("split.csv, SHA-256")
    assert "one data set" in run(capsys, *arguments, "--dataset", "utkface", status=2)
    assert "--split" in run(capsys, *arguments, "--split-csv", "a.csv", "b.csv", status=2)


# How pictures are looked at


@pytest.fixture(scope="module")
def lively(portraits, tmp_path_factory):
    """A network that tells faces apart, and checkpoints of it for every kind of crop."""
    paths = sorted(portraits.iterdir())
    crops = [cv2.resize(read_picture(p), (64, 64))[:, :, ::-1] for p in paths]
    network = lively_network("linear", crops)
    folder = tmp_path_factory.mktemp("lively")
    for spec in (BOX, ALIGNED, WHOLE):
        checkpoint.write(folder / f"{spec.kind}.pth", checkpoint_values(network, spec))
    return network, folder


def test_landmarks_are_used_unless_they_are_not_to_be(lively, dataset, appa_real):
    network, folder = lively
    arguments = ("--dataset", dataset, "--part", "train")
    paths = paths_of(appa_real)
    [aligned] = records(folder / "landmarks.pth", *arguments)
    [boxes] = records(folder / "landmarks.pth", *arguments, "--no-landmarks")
    assert aligned["mae"] == mean_error(answers_of(network, paths, ALIGNED)[0])
    assert boxes["mae"] == mean_error(answers_of(network, paths, BOX)[0])
    assert abs(aligned["mae"] - boxes["mae"]) > 0.01


def test_without_a_detector_the_whole_picture_is_the_face(lively, dataset, appa_real):
    network, folder = lively
    [r] = records(folder / "box.pth", "--dataset", dataset, "--part", "train", "--detector", "none")
    expected, _ = answers_of(network, paths_of(appa_real), BOX, detector=WholePicture())
    assert r["mae"] == mean_error(expected)
    assert (r["detector"], r["detection_rate_percent"]) == ("none", 100)


def test_dlib_as_detector(lively, dataset, appa_real):
    pytest.importorskip("dlib")
    from ageinfer.detect import DlibHog

    network, folder = lively
    [r] = records(folder / "box.pth", "--dataset", dataset, "--detector", "dlib")
    assert r["detector"] == "dlib-hog"
    expected, _ = answers_of(network, paths_of(appa_real, "valid"), BOX, detector=DlibHog())
    assert r["mae"] == mean_error(expected, np.arange(58, 74, 2))


def test_a_model_of_whole_pictures_is_given_them_if_not_told_otherwise(lively, dataset, appa_real):
    network, folder = lively
    [r] = records(folder / "resize.pth", "--dataset", dataset, "--part", "train")
    assert r["detector"] == "none"
    assert r["mae"] == mean_error(answers_of(network, paths_of(appa_real), WHOLE, detector=WholePicture())[0])


@pytest.mark.parametrize("margin", [None, 0.0, 0.7])
def test_a_model_of_whole_pictures_can_be_given_a_face_and_what_is_round_it(lively, dataset, appa_real, margin):
    class Wider:
        """The boxes of a detector, made square and larger."""

        def detect(self, image):
            found = []
            for face in YuNet(provider="cpu").detect(image):
                x, y, w, h = face.box
                side = max(w, h) * (1 + 2 * (0.4 if margin is None else margin))
                box = (x + (w - side) / 2, y + (h - side) / 2, side, side)
                found.append(dataclasses.replace(face, box=face.box if margin == 0 else box))
            return found

    network, folder = lively
    arguments = [] if margin is None else ["--box-margin", margin]
    [r] = records(folder / "resize.pth", "--dataset", dataset, "--detector", "yunet", *arguments)
    assert r["detector"] == "yunet-2023mar"
    expected, _ = answers_of(network, paths_of(appa_real, "valid"), WHOLE, detector=Wider())
    assert r["mae"] == mean_error(expected, np.arange(58, 74, 2))


def test_a_model_of_faces_has_no_margin_round_the_box(forty, lively, dataset):
    _, folder = lively
    [a], [b] = (records(folder / "box.pth", "--dataset", dataset, "--box-margin", m) for m in (0, 2))
    assert a["mae"] == b["mae"]


@pytest.fixture
def with_a_wall(appa_real, tmp_path):
    """The data set with a wall as the last picture of train."""
    folder = shutil.copytree(appa_real, tmp_path / "appa")
    cv2.imwrite(str(folder / "train" / "000023.jpg_face.jpg"), np.full((200, 200, 3), 170, np.uint8))
    return folder


def test_a_picture_without_a_face_counts(forty, with_a_wall):
    [r] = records(forty, "--dataset", f"appa-real={with_a_wall}", "--part", "train")
    assert r["detection_rate_percent"] == pytest.approx(100 * 23 / 24, abs=0.01)
    assert r["mae"] == mean_error([40] * 23 + [34])
    assert r["mae_found"] == pytest.approx(np.abs(40 - REAL[:23]).mean(), abs=1e-3)


@pytest.mark.parametrize("chunk", [1, 5, 23, 24])
def test_pictures_are_asked_about_in_chunks_of_any_size(monkeypatch, lively, with_a_wall, chunk):
    network, folder = lively
    samples = load_dataset("appa-real", with_a_wall)[0].parts["train"]
    monkeypatch.setattr(answers_module, "_CHUNK", chunk)
    answers = answers_module.answers_of(open_model(folder / "box.pth"), samples, YuNet(provider="cpu"), "real")
    expected, _ = answers_of(network, [s.path for s in samples[:23]], BOX)
    assert answers.estimates[:23] == pytest.approx(expected, abs=1e-3)
    assert np.isnan(answers.estimates[23])


# The other label


def test_a_model_of_real_age_can_be_held_against_apparent_age(forty, dataset):
    [r] = records(forty, "--dataset", dataset, "--part", "train", "--label", "apparent")
    assert (r["label"], r["answers"]) == ("apparent", "real")
    assert r["mae"] == mean_error(40, APPARENT)
    errors = (40 - APPARENT) / DEVIATIONS
    assert r["epsilon_error"] == pytest.approx((1 - np.exp(-(errors**2) / 2)).mean(), abs=1e-3)
    assert r["baselines"]["single_rater_estimate"] == pytest.approx(np.sqrt(2 / np.pi) * DEVIATIONS.mean(), abs=1e-3)


def test_a_model_of_apparent_age_is_held_against_that(tmp_path, forty, dataset):
    dataclasses.replace(Checkpoint.load(forty), label="apparent").save(tmp_path / "best.pth")
    [r] = records(tmp_path / "best.pth", "--dataset", dataset, "--part", "train")
    assert (r["label"], r["answers"], r["mae"]) == ("apparent", "apparent", mean_error(40, APPARENT))


# Predictions


def predictions(capsys, tmp_path, model, dataset, name="p.npz", part="train"):
    path = tmp_path / "new" / name
    run(capsys, model, "--dataset", dataset, "--part", part, "--predictions", path, "--resamples", 10)
    return path


def test_predictions_are_what_a_teacher_knows_of_the_pictures(capsys, tmp_path, lively, dataset, appa_real):
    network, folder = lively
    path = predictions(capsys, tmp_path, folder / "box.pth", dataset)
    assert [p.name for p in path.parent.iterdir()] == ["p.npz"]
    teacher = Teacher.load([path])
    parts = load_dataset("appa-real", appa_real)[0].parts
    samples = [*parts["valid"][:3], *parts["train"][::-1]]  # in another order, among others
    crops = cache.open_crops(samples, BOX, tmp_path / "cache", "crops")
    ages, stds = teacher.lookup(crops.digests)
    expected, _ = answers_of(network, [s.path for s in samples[3:]], BOX)
    assert np.isnan(ages[:3]).all()
    assert ages[3:] == pytest.approx(expected, abs=0.05)
    assert stds[3:] == pytest.approx([4.5] * 24)


def test_the_same_bytes_are_known_wherever_they_lie(capsys, tmp_path, forty, dataset, appa_real):
    teacher = Teacher.load([predictions(capsys, tmp_path, forty, dataset)])
    copy = tmp_path / "copy.jpg"
    shutil.copy(paths_of(appa_real)[7], copy)
    sample = dataclasses.replace(load_dataset("appa-real", appa_real)[0].parts["train"][0], path=copy)
    crops = cache.open_crops([sample], BOX, tmp_path / "cache", "crops")
    assert teacher.lookup(crops.digests)[0].tolist() == [40]


def test_several_teachers_are_averaged_where_both_know_a_picture(capsys, tmp_path, forty, dataset, appa_real):
    other = constant_checkpoint(tmp_path / "best.pth", 50, std=6.5)
    files = [
        predictions(capsys, tmp_path, forty, dataset, "a.npz", "train"),
        predictions(capsys, tmp_path, other, dataset, "b.npz", "train"),
        predictions(capsys, tmp_path, other, dataset, "c.npz", "valid"),
    ]
    teacher = Teacher.load(files)
    parts = load_dataset("appa-real", appa_real)[0].parts
    crops = cache.open_crops([*parts["train"], *parts["valid"]], BOX, tmp_path / "cache", "crops")
    ages, stds = teacher.lookup(crops.digests)
    assert ages.tolist() == [45] * 24 + [50] * 8
    assert stds.tolist() == [5.5] * 24 + [6.5] * 8
    assert teacher.files == ("a.npz", "b.npz", "c.npz")


def test_what_had_no_face_is_not_predicted(capsys, tmp_path, forty, with_a_wall):
    path = predictions(capsys, tmp_path, forty, f"appa-real={with_a_wall}")
    with np.load(path) as file:
        assert len(file["digests"]) == 23
    walls = with_a_wall / "valid"
    for picture in walls.iterdir():
        shutil.copy(with_a_wall / "train" / "000023.jpg_face.jpg", picture)
    teacher = Teacher.load([predictions(capsys, tmp_path, forty, f"appa-real={with_a_wall}", "none.npz", "valid")])
    assert np.isnan(teacher.lookup(np.array([1, 2], np.uint64))[0]).all()


@pytest.mark.parametrize("fault", ["another array", "of unequal lengths", "one is missing", "objects", "changed bytes"])
def test_what_is_no_file_of_predictions_is_named(tmp_path, fault):
    path = tmp_path / "p.npz"
    arrays = {"digests": np.arange(900, dtype=np.uint64), "ages": np.ones(900), "stds": np.ones(900)}
    if fault == "of unequal lengths":
        arrays["stds"] = np.ones(899)
    if fault == "one is missing":
        del arrays["ages"]
    if fault == "objects":
        arrays["ages"] = np.array([None] * 900)
    np.savez_compressed(path, **arrays)
    if fault == "another array":
        with path.open("wb") as stream:
            np.save(stream, arrays["ages"])
    if fault == "changed bytes":
        data = bytearray(path.read_bytes())
        data[60:90] = bytes(30)
        path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"p\.npz: not a file of predictions") as error:
        Teacher.load([path])
    assert "\n" not in str(error.value)


# Robustness


def test_the_sweep_is_reported(capsys, tmp_path, forty, dataset):
    out = tmp_path / "out"
    run(capsys, forty, "--dataset", dataset, "--robustness", 2, "--resamples", 10, "--out", out)
    rows = json.loads((out / "evaluation.json").read_text())["evaluations"][0]["robustness"]
    assert rows[0] == {**rows[0], "change": "none", "value": 0, "n": 2}
    assert {row["n"] for row in rows} == {2}
    assert len({row["change"] for row in rows}) == 8
    text = (out / "evaluation.md").read_text()
    assert all(f"| {row['change']} | {row['value']:g} | 2 | {row['mae']:.2f} |" in text for row in rows)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("landmarks", []), ("landmarks", ["--no-landmarks"]), ("resize", ["--detector", "yunet"]), ("resize", [])],
)
def test_the_sweep_begins_with_the_error_that_was_measured(monkeypatch, lively, dataset, name, arguments):
    monkeypatch.setattr(robustness, "changes", lambda detector: [])  # the first row alone
    _, folder = lively
    [r] = records(folder / f"{name}.pth", "--dataset", dataset, "--robustness", 100, *arguments)
    [row] = r["robustness"]
    assert (row["n"], row["mae"], row["bias"]) == (r["n"], r["mae"], r["bias"])


# Faults


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["{forty}", "--dataset", "{appa}", "--part", "test"], 3, "has no part test; it has train, valid"),
        (["{forty}", "--dataset", "appa-real=nowhere"], 3, "nowhere: no such folder"),
        (["{forty}", "--dataset", "utkface={folder}"], 3, "no picture AGE_SEX_RACE_STAMP"),
        (["{forty}", "--dataset", "imdb-wiki"], 2, "--dataset imdb-wiki: neither a data set that agetrain knows"),
        (["{forty}", "--dataset", "{utk}", "--label", "apparent"], 2, "has no label 'apparent'"),
        (["nothing.pth", "--dataset", "{appa}"], 4, "nothing.pth: no such checkpoint"),
        (["text.pth", "--dataset", "{appa}"], 4, "text.pth: cannot be read as a checkpoint"),
        (["foreign.pth", "--dataset", "{appa}"], 4, "foreign.pth: not a checkpoint of agetrain"),
        (["no_median.pth", "--dataset", "{appa}"], 4, "no_median.pth: does not say its training median"),
        (["nothing.onnx", "--dataset", "{appa}"], 4, "nothing.onnx"),
        (["text.onnx", "--dataset", "{appa}"], 4, "text.onnx: not an ONNX model"),
        (["foreign.onnx", "--dataset", "{appa}"], 4, "foreign.onnx: an ONNX model, but it does not say"),
        (["tiny.onnx", "--dataset", "{appa}"], 4, "tiny.onnx: does not say its training median"),
        (["{forty}", "{forty}", "--dataset", "{appa}", "--predictions", "p.npz"], 2, "one model"),
        (["{forty}", "--dataset", "{appa}", "--predictions", "text.pth/p.npz"], 3, "text.pth"),
        (["{forty}", "--dataset", "{appa}", "--out", "text.pth"], 5, "text.pth"),
        (["{forty}", "--dataset", "{appa}", "--resamples", "0"], 2, "--resamples"),
        (["{forty}", "--dataset", "{appa}", "--robustness", "-1"], 2, "--robustness"),
        (["{forty}", "--dataset", "{appa}", "--box-margin", "-0.5"], 2, "--box-margin -0.5"),
        (["{forty}", "--dataset", "{appa}", "--box-margin", "nan"], 2, "--box-margin nan"),
        (["{forty}", "--dataset", "{appa}", "--device", "nonsense"], 2, "--device nonsense"),
        (["{forty}", "--dataset", "{one}"], 3, "part valid is empty"),
    ],
)
def test_a_fault_is_one_line(
    capsys, tmp_path, monkeypatch, forty, dataset, appa_real, astronaut_path, tiny_model, arguments, status, told
):
    monkeypatch.chdir(tmp_path)
    for name in ("text.pth", "text.onnx"):
        Path(name).write_text("no model")
    torch.save({"weights": torch.zeros(3)}, "foreign.pth")
    values = Checkpoint.load(forty)
    del values.training["train_median"]
    values.save("no_median.pth")
    Path("foreign.onnx").write_bytes(tiny_model(None))
    Path("tiny.onnx").write_bytes(tiny_model())
    for name in ("utk", "one"):
        Path(name).mkdir()
        for i in range(2 if name == "utk" else 1):
            shutil.copy(astronaut_path, f"{name}/30_1_2_{i}.jpg")
    places = {"forty": forty, "appa": dataset, "folder": appa_real, "utk": "utkface=utk", "one": "utkface=one"}
    line = run(capsys, *(a.format(**places) for a in arguments), status=status)
    assert told in line


def test_a_part_that_does_not_exist_anywhere(capsys, forty, dataset):
    with pytest.raises(SystemExit) as ended:
        evaluate.main([str(forty), "--dataset", dataset, "--part", "training"])
    assert ended.value.code == 2
    assert "invalid choice: 'training'" in capsys.readouterr().err


def test_a_broken_picture_is_named(capsys, tmp_path, forty, appa_real):
    folder = shutil.copytree(appa_real, tmp_path / "appa")
    (folder / "valid" / "000026.jpg_face.jpg").write_text("no picture")
    arguments = (forty, "--dataset", f"appa-real={folder}")
    line = run(capsys, *arguments, "--out", tmp_path / "out", status=3)
    assert "000026.jpg_face.jpg" in line
    assert "--max-broken allows 1%" in line
    assert "broken" in (tmp_path / "out" / "problems.csv").read_text()
    [left] = records(*arguments, "--max-broken", "5%")
    assert left["n"] == 7
    assert left["detection_rate_percent"] == 100


def test_an_interrupt_writes_nothing(capsys, tmp_path, monkeypatch, forty, dataset):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(records_module, "answers_of", interrupted)
    line = run(capsys, forty, "--dataset", dataset, "--out", tmp_path / "out", status=130)
    assert "interrupted" in line
    assert not (tmp_path / "out").exists()


def test_it_runs_as_a_command(forty, dataset):
    command = [sys.executable, "-m", "agetrain.evaluate", str(forty), "--dataset", dataset, "--resamples", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"MAE {np.abs(40 - np.arange(58, 74, 2)).mean():.2f}" in done.stdout
