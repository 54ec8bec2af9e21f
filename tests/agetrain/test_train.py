"""A whole training run on 24 pictures of one face: too few to learn ages, enough for everything else."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from portraits import write_portraits

from agetrain._files import file_sha256
from agetrain.crops.training_set import split_selection
from agetrain.datasets import Sample
from agetrain.network.checkpoint import Checkpoint
from agetrain.train import build_parser, config_of, main


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for name in ("AGETRAIN_WEIGHTS", "AGETRAIN_DATA", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Holds starting weights and, after the first run, the crops."""
    folder = tmp_path_factory.mktemp("training")
    torch.manual_seed(7)
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), folder / "start.pth")
    return folder


@pytest.fixture(scope="module")
def arguments(place, appa_real):
    def build(out, *more):
        return [
            "--dataset", "appa-real", "--data", str(appa_real), "--out", str(out), "--cache", str(place / "cache"),
            "--weights", str(place / "start.pth"), "--device", "cpu", "--wandb", "disabled",
            "--experiment", "best", "--backbone", "mobilenet_v2", "--crop", "box",
            "--size", "64", "--batch-size", "4", "--epochs", "2", "--selection-share", "0.25", *more,
        ]  # fmt: skip

    return build


@pytest.fixture(scope="module")
def finished(place, arguments):
    assert main(arguments(place / "out")) == 0
    return place / "out"


def weights_of(folder):
    return Checkpoint.load(folder / "best.pth").weights


def test_the_checkpoint_holds_what_the_contract_says(finished, place, astronaut):
    values = Checkpoint.load(finished / "best.pth")
    start_digest = file_sha256(place / "start.pth")
    assert (values.backbone, values.head, values.label) == ("mobilenet_v2", "distribution", "real")
    assert (values.decode, values.age_std_kind) == ("expectation", "distribution")
    assert (values.to_values()["age_range"], values.label_offset) == ([0.0, 100.0], 0.0)
    assert (values.crop.size, values.crop.margin) == (64, 0.2)
    assert values.mean == pytest.approx([0.485, 0.456, 0.406])
    assert values.std == pytest.approx([0.229, 0.224, 0.225])
    training = values.training
    [data] = training["data"]
    assert (data["dataset"], data["part"], data["n"]) == ("appa-real", "train", 18)
    assert len(data["split_sha256"]) == 64
    assert "research" in data["licence"]
    assert data["page"].startswith("http")
    assert training["start"] == f"substitute weights start.pth, SHA-256 {start_digest[:16]}"
    assert 10 <= training["train_median"] <= 56
    assert training["recipe"]["size"] == 64
    assert training["recipe"]["seed"] == 0
    assert training["epoch"] in (1, 2)
    assert training["torch"]
    assert "git_commit" in training

    faces = torch.from_numpy(cv2.resize(astronaut, (64, 64))).permute(2, 0, 1)[None].float()
    age, std = values.network().decode(values.network()(faces))
    assert 0 <= age.item() <= 100
    assert std.item() > 0


def test_metrics_name_the_part_that_they_were_measured_on(finished):
    values = Checkpoint.load(finished / "best.pth")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["metrics"] == list(values.metrics)
    assert metrics["training"] == values.training
    selection, valid = metrics["metrics"]
    assert (selection["part"], selection["n"]) == ("selection", 6)
    assert (valid["part"], valid["n"], valid["detection_rate_percent"]) == ("valid", 8, 100)
    assert len(metrics["history"]) == 2
    best = min(metrics["history"], key=lambda h: h["selection_mae"])
    assert selection["mae"] == pytest.approx(best["selection_mae"], abs=1e-3)
    assert metrics["training"]["epoch"] == metrics["history"].index(best) + 1
    assert metrics["history"][1]["train_loss"] < metrics["history"][0]["train_loss"]
    # Labels of valid run from 58 to 72.
    assert valid["mae_of_train_median"] == pytest.approx(65 - values.training["train_median"])


def test_the_second_head_is_kept_as_a_network_of_its_own(finished):
    """Of the other label; its features were learned together with those of the first."""
    main_values, values = Checkpoint.load(finished / "best.pth"), Checkpoint.load(finished / "best-apparent.pth")
    assert values.label == "apparent"
    assert values.training["recipe"] == main_values.training["recipe"]
    assert not torch.equal(values.weights["head.1.weight"], main_values.weights["head.1.weight"])
    record = json.loads((finished / "metrics-apparent.json").read_text())
    assert record["metrics"] == list(values.metrics)
    assert [(m["part"], m["label"], m["n"]) for m in values.metrics] == [
        ("selection", "apparent", 6), ("valid", "apparent", 8)
    ]  # fmt: skip
    best = min(h["other_selection_mae"] for h in record["history"])
    assert values.metrics[0]["mae"] == pytest.approx(best, abs=1e-3)
    # Apparent ages are half a year above the real ones, and so is their median.
    [selection, main_selection] = [v.metrics[0]["mae_of_train_median"] for v in (values, main_values)]
    assert selection == pytest.approx(main_selection, abs=1e-3)
    assert values.training["train_median"] == main_values.training["train_median"] + 0.5


@pytest.mark.parametrize(("file", "above"), [("best.pth", 0), ("best-apparent.pth", 0.5)])
def test_what_is_reported_is_what_the_runtime_would_measure(finished, appa_real, file, above):
    """The figures in the checkpoint, computed again from the pictures with none of the training code."""
    from ageinfer.crop.cut import central_face, crop_face
    from ageinfer.detect import YuNet
    from ageinfer.sources import read_picture

    values = Checkpoint.load(finished / file)
    network, detector, errors = values.network(), YuNet(provider="cpu"), []
    for i in range(24, 32):
        image = read_picture(appa_real / "valid" / f"{i:06d}.jpg_face.jpg")
        boxes = [d.box for d in detector.detect(image)]
        box = boxes[central_face(boxes, image.shape[1::-1])]
        crop = torch.from_numpy(crop_face(image, box, values.crop))
        with torch.inference_mode():
            age = network.decode(network(crop.permute(2, 0, 1)[None].float()))[0].item()
        errors.append(age - (10 + 2 * i + above))
    assert values.metrics[1]["mae"] == pytest.approx(np.abs(errors).mean(), abs=0.01)
    assert values.metrics[1]["bias"] == pytest.approx(np.mean(errors), abs=0.01)


def test_the_curve_is_a_picture(finished):
    assert (finished / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    curve = cv2.imread(str(finished / "curve.png"))
    assert min(curve.shape[:2]) > 300
    assert (curve == 255).mean() > 0.5
    assert len(np.unique(curve.reshape(-1, 3), axis=0)) > 50


def test_the_parity_pack_holds_the_pictures_of_both_parts(finished, appa_real):
    with np.load(finished / "parity.npz", allow_pickle=False) as pack:
        arrays = dict(pack)
    _, select = split_selection([Sample(Path(str(i)), 20) for i in range(24)], 0.25, 0)
    for name, part, first, count in (("valid", "valid", 24, 8), ("calibration", "train", 0, 18)):
        ends = arrays[f"{name}_ends"].tolist()
        encoded = [arrays[f"{name}_bytes"][a:b].tobytes() for a, b in zip([0, *ends], ends, strict=False)]
        assert len(encoded) == count
        facts = json.loads(arrays["facts"].tobytes())
        for data, known in zip(encoded, facts[name], strict=True):
            i = int((known["age_years"] - 10) / 2)
            assert known["other_years"] == known["age_years"] + 0.5
            assert data == (appa_real / part / f"{i:06d}.jpg_face.jpg").read_bytes()
            assert i >= first
            # Calibration must not see what chose the epoch.
            assert part == "valid" or i not in select


def test_nothing_else_is_left(finished):
    assert sorted(p.name for p in finished.iterdir()) == [
        "best-apparent.pth", "best.pth", "config.json", "curve.png", "last.pth", "metrics-apparent.json",
        "metrics.json", "parity.npz", "report.md",
    ]  # fmt: skip


def test_the_report_and_the_configuration_say_what_was_run(finished, place, appa_real):
    values, text = Checkpoint.load(finished / "best.pth"), (finished / "report.md").read_text()
    valid = values.metrics[1]
    assert text.startswith("# best: ")
    assert f"| appa-real valid, real age | 8 | {valid['mae']:.2f} |" in text
    assert f"| 100.0 % | {valid['mae_of_train_median']:.2f} |" in text
    assert values.training["start"] in text
    config = json.loads((finished / "config.json").read_text())
    assert (config["experiment"], config["label"]) == ("best", "real")
    assert config["data"] == [{"name": "appa-real", "folder": str(appa_real)}]
    assert config["recipe"] == values.training["recipe"]
    assert config["weights"] == str(place / "start.pth")
    assert config["weights_sha256"] == file_sha256(place / "start.pth")
    assert (config["teacher"], config["teacher_sha256"]) == ([], [])
    assert values.training["experiment"] == "best"


def same_weights(first, second):
    first, second = weights_of(first), weights_of(second)
    return all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_is_run_again_from_its_configuration(place, finished, tmp_path):
    """With the weights that it started from, which are not torchvision's."""
    command = [
        "--config", str(finished / "config.json"), "--out", str(tmp_path / "out"), "--cache", str(place / "cache"),
        "--device", "cpu", "--wandb", "disabled",
    ]  # fmt: skip
    assert main(command) == 0
    assert same_weights(tmp_path / "out", finished)


def test_a_configuration_that_does_not_know_its_weights_is_run_with_those_of_the_command_line(finished, tmp_path):
    config = json.loads((finished / "config.json").read_text())
    del config["weights"], config["weights_sha256"], config["teacher_sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert config_of(build_parser().parse_args(["--config", str(tmp_path / "config.json")])).weights is None
    given = ["--config", str(finished / "config.json"), "--weights", "other.pth"]
    assert config_of(build_parser().parse_args(given)).weights == Path("other.pth")


def test_what_an_earlier_run_left_is_not_taken_for_this_run(tmp_path, arguments, finished, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.copyfile(out / "best.pth", out / "best-mine.pth")
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    again = arguments(out, "--auxiliary-weight", "0", "--epochs", "1", "--size", "48")
    assert main(again) == 2  # an earlier run is not lost to a forgotten option
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert main([*again, "--overwrite"]) == 0
    assert (out / "best-mine.pth").read_bytes() == before["best.pth"]
    assert Checkpoint.load(out / "best.pth").crop.size == 48
    assert len(json.loads((out / "metrics.json").read_text())["history"]) == 1
    assert not list(out.glob("*-apparent.*"))


@pytest.mark.parametrize("substitute", [True, False])
def test_statistics_of_substitute_weights_are_estimated_on_the_faces(
    tmp_path, arguments, place, appa_real, monkeypatch, substitute
):
    """Weights from elsewhere may lack them; torchvision's own are good. Nothing but the head is trained here."""
    from ageinfer.crop.cut import CropSpec, crop_face
    from ageinfer.detect import YuNet
    from ageinfer.sources import read_picture
    from agetrain.network import weights

    if not substitute:
        url = f"https://example.org/mobilenet_v2-{file_sha256(place / 'start.pth')[:8]}.pth"
        monkeypatch.setitem(weights._ImageNet, "mobilenet_v2", types.SimpleNamespace(url=url, name="IMAGENET1K_V1"))
    assert main(arguments(tmp_path / "out", "--epochs", "1", "--frozen-children", "-1", "--batch-size", "9")) == 0
    values = Checkpoint.load(tmp_path / "out" / "best.pth")
    start = torch.load(place / "start.pth", weights_only=True)
    assert torch.equal(values.weights["backbone.features.0.0.weight"], start["features.0.0.weight"])
    found = values.weights["backbone.features.0.1.running_mean"]
    if not substitute:
        assert torch.equal(found, start["features.0.1.running_mean"])
        return
    network, detector, means = values.network(), YuNet(provider="cpu"), []
    paths = sorted((appa_real / "train").iterdir())
    learned, _ = split_selection([Sample(path, 20) for path in paths], 0.25, 0)
    for i in learned:  # two batches of nine
        image = read_picture(paths[i])
        crop = torch.from_numpy(crop_face(image, detector.detect(image)[0].box, CropSpec(size=64)))
        with torch.inference_mode():
            pixels = (crop.permute(2, 0, 1)[None].float() - network.mean) / network.std
            means.append(network.backbone.features[0][0](pixels).mean(dim=(0, 2, 3)))
    expected = torch.stack(means).mean(dim=0)
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_tracking_offline_changes_nothing_but_leaves_a_folder(place, arguments, finished):
    """The same seed gives the same weights to the last bit; W&B beside it does not disturb that."""
    out = place / "tracked"
    assert main(arguments(out, "--wandb", "offline")) == 0
    assert list((out / "wandb").glob("offline-run-*/*.wandb"))
    assert same_weights(finished, out)


def test_a_linear_head_and_another_seed(place, arguments, finished):
    out = place / "linear"
    assert (
        main(arguments(out, "--head", "linear", "--loss", "l1", "--seed", "1", "--epochs", "1", "--label", "apparent"))
        == 0
    )
    values = Checkpoint.load(out / "best.pth")
    assert (values.decode, values.age_std_kind, values.label) == ("linear", "constant", "apparent")
    network = values.network()
    assert network.residual_std.item() > 0
    # It begins at the mean age instead of at 0.
    assert network.head[1].bias.item() == pytest.approx(33, abs=8)
    other = weights_of(finished)
    assert not torch.equal(values.weights["backbone.features.0.0.weight"], other["backbone.features.0.0.weight"])


def test_a_loss_that_is_no_number(tmp_path, arguments, capsys):
    assert main(arguments(tmp_path / "out", "--lr", "1e30")) == 9
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("agetrain:")]
    assert len(lines) == 1
    assert "use a lower --lr" in lines[0]
    assert "epoch 1, step" in lines[0]  # at once, not after an epoch that was for nothing
    assert not (tmp_path / "out" / "best.pth").exists()


@pytest.mark.parametrize("rerun", [False, True])
def test_weights_that_burst_in_the_last_step(tmp_path, arguments, finished, capsys, rerun):
    """The loss of an epoch of one step is measured before its only update, so it is still a number."""
    out = tmp_path / "out"
    if rerun:  # and the checkpoint of an earlier run must not be passed off as the result
        shutil.copytree(finished, out)
    more = ["--overwrite"] if rerun else []
    status = main(arguments(out, "--lr", "1e30", "--epochs", "1", "--batch-size", "18", "--warmup-epochs", "0", *more))
    assert status == 9
    assert "use a lower --lr" in capsys.readouterr().err
    assert not list(out.glob("*.pth"))


def test_pictures_without_a_face(tmp_path, astronaut, arguments, capsys):
    for part in ("train", "valid"):
        for path in write_portraits(tmp_path / "data" / part, astronaut[280:, 300:], range(4)):
            path.rename(path.with_name(f"{path.name}_face.jpg"))
        rows = "".join(f"{i:06d}.jpg,20,3,20\n" for i in range(4))
        text = f"file_name,apparent_age_avg,apparent_age_std,real_age\n{rows}"
        (tmp_path / "data" / f"gt_avg_{part}.csv").write_text(text)
    status = main(arguments(tmp_path / "out", "--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")))
    assert status == 3
    assert "face" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--epochs", "0"), ("--lr", "nan"), ("--selection-share", "1"), ("--size", "4"),
        ("--margin", "9"), ("--device", "abacus"), ("--seed", "-1"), ("--head", "linear"), ("--loss", "mse"),
        ("--experiment", "Z9"), ("--repeats", "1,1"), ("--frozen-children", "20"), ("--flip", "2"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(tmp_path, arguments, capsys, wrong):
    assert main(arguments(tmp_path / "out", *wrong)) == (3 if wrong[0] == "--repeats" else 2)
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("agetrain: ")
    assert wrong[0].lstrip("-").split("-")[0] in err[-1]


@pytest.mark.parametrize(
    "wrong",
    [("--head", "ordinal"), ("--crop", "mesh"), ("--epochs", "many"), ("--colour", "red"), ("--repeats", "3,x")],
)
def test_options_that_do_not_exist(tmp_path, arguments, capsys, wrong):
    with pytest.raises(SystemExit) as left:
        main(arguments(tmp_path / "out", *wrong))
    assert left.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m agetrain: error: ")
    assert wrong[0] in last


def test_interrupted(tmp_path, arguments, monkeypatch, capsys):
    def augment(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("agetrain.training.loop.augment", augment)
    assert main(arguments(tmp_path / "out")) == 130
    assert "interrupted; no epoch was finished" in capsys.readouterr().err


def test_a_folder_for_results_that_cannot_be_made(tmp_path, arguments, capsys):
    (tmp_path / "file").touch()
    assert main(arguments(tmp_path / "file" / "out")) not in (0, 1)
    assert capsys.readouterr().err.splitlines()[-1].startswith("agetrain: ")


def test_broken_pictures_are_named_and_left_out_or_end_a_strict_run(tmp_path, arguments, appa_real, place, capsys):
    data = shutil.copytree(appa_real, tmp_path / "data")
    [learned, *_], [reported, *_] = (sorted((data / part).glob("*_face.jpg")) for part in ("train", "valid"))
    learned.write_bytes(b"")
    reported.write_bytes(reported.read_bytes()[:100])
    command = arguments(tmp_path / "out", "--epochs", "1")
    command[command.index("--data") + 1] = str(data)
    assert main([*command, "--strict"]) == 3
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("agetrain: ")]
    assert learned.name in line or reported.name in line
    assert main(command) == 3
    assert "2 of 32 pictures cannot be used (6.25 %), and --max-broken allows 1%" in capsys.readouterr().err
    assert main([*command, "--max-broken", "7%"]) == 0
    said = capsys.readouterr().err
    assert "2 of 32 pictures cannot be used (6.25 %) and are left out" in said
    with (tmp_path / "out" / "problems.csv").open(newline="") as stream:
        assert {(r["file"], r["kind"]) for r in csv.DictReader(stream)} == {
            (str(learned), "broken"), (str(reported), "broken")
        }  # fmt: skip
    checkpoint = Checkpoint.load(tmp_path / "out" / "best.pth")
    assert checkpoint.metrics[-1]["detection_rate_percent"] < 100
    with np.load(tmp_path / "out" / "parity.npz") as pack:
        pictures = np.split(pack["valid_bytes"], pack["valid_ends"][:-1])
    assert len(pictures) == len(list((data / "valid").glob("*_face.jpg"))) - 1
    assert all(cv2.imdecode(picture, cv2.IMREAD_COLOR) is not None for picture in pictures)


@pytest.mark.parametrize(
    ("replaced", "status", "words"),
    [
        ({"--data": "/nowhere"}, 3, ("/nowhere", "http")),
        ({"--dataset": "imdb"}, 3, ("no ages", "labels.csv")),
        ({"--weights": "/nowhere/w.pth"}, 4, ("/nowhere/w.pth", "--weights", "AGETRAIN_WEIGHTS")),
    ],
)
def test_errors_are_one_line_and_an_exit_status(tmp_path, arguments, finished, replaced, status, words):
    command = arguments(tmp_path / "out")
    for option, value in replaced.items():
        command[command.index(option) + 1] = value
    ran = subprocess.run(
        [sys.executable, "-m", "agetrain", *command], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert ran.returncode == status, ran.stderr
    assert "Traceback" not in ran.stderr
    [line] = ran.stderr.splitlines()
    assert line.startswith("agetrain: ")
    assert all(word in line for word in words)
    assert ran.stdout == ""


def test_a_run_starts_from_a_checkpoint(place, arguments, finished, tmp_path):
    """With a learning rate of nearly nothing the result is where it started; another head starts at random."""
    out = tmp_path / "again"
    tiny = ("--lr", "1e-12", "--weight-decay", "0", "--ema-decay", "0", "--epochs", "1")
    assert main([*arguments(out, *tiny), "--weights", str(finished / "best.pth")]) == 0
    first, second = weights_of(finished), weights_of(out)
    for name in ("backbone.features.0.0.weight", "head.1.weight", "head.1.bias"):
        torch.testing.assert_close(second[name], first[name], atol=1e-6, rtol=0)
    assert Checkpoint.load(out / "best.pth").training["start"].startswith("checkpoint best.pth, SHA-256 ")
    linear = [*arguments(out, *tiny, "--head", "linear", "--loss", "l1", "--overwrite")]
    linear += ["--weights", str(finished / "best.pth")]
    assert main(linear) == 0
    name = "backbone.features.0.0.weight"
    torch.testing.assert_close(weights_of(out)[name], first[name], atol=1e-6, rtol=0)


def test_doubted_labels_are_counted_and_the_others_learned(arguments, finished, tmp_path, caplog, appa_real):
    """A teacher that is sure that everybody is 30 contradicts all labels beyond 3 deviations from that."""
    digests = [
        np.frombuffer(hashlib.sha256(path.read_bytes()).digest()[:8], np.uint64)[0]
        for path in (appa_real / "train").glob("*.jpg")
    ]
    ages, stds = np.full(len(digests), 30, np.float16), np.full(len(digests), 2, np.float16)
    np.savez(tmp_path / "teacher.npz", digests=np.array(digests, np.uint64), ages=ages, stds=stds)
    doubts = ["--teacher", str(tmp_path / "teacher.npz"), "--doubt-beyond", "3", "--epochs", "1"]
    assert main(arguments(tmp_path / "out", *doubts)) == 0
    training = Checkpoint.load(tmp_path / "out" / "best.pth").training
    assert 0 < training["doubted_labels"]["appa-real"] < training["data"][0]["n"]
    assert f"labels of appa-real {training['doubted_labels']['appa-real']}" in caplog.text
    [epoch] = json.loads((tmp_path / "out" / "metrics.json").read_text())["history"]
    assert np.isfinite(epoch["train_mae"])
    assert main(arguments(tmp_path / "none", *doubts[2:])) == 2


def test_a_network_is_taught_by_a_checkpoint_alone(arguments, finished, tmp_path, caplog):
    """Labels that count for next to nothing, and a teacher that says 70 to everybody."""
    values = Checkpoint.load(finished / "best.pth")
    values.weights["head.1.weight"].zero_()
    values.weights["head.1.bias"] = -0.5 * ((torch.arange(101) - 70) / 3.0) ** 2
    values.save(tmp_path / "seventy.pth")
    learns = ["--teacher", str(tmp_path / "seventy.pth"), "--teacher-weight", "1000", "--epochs", "8", "--lr", "5e-3"]
    learns += ["--ema-decay", "0", "--dropout", "0"]
    assert main(arguments(tmp_path / "out", *learns)) == 0
    training = Checkpoint.load(tmp_path / "out" / "best.pth").training
    assert training["teacher"] == [f"{tmp_path.name}/seventy.pth"]
    assert "doubted_labels" not in training
    assert f"taught by {tmp_path.name}/seventy.pth" in caplog.text
    history = json.loads((tmp_path / "out" / "metrics.json").read_text())["history"]
    assert history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]
    assert history[-1]["train_mae"] > 25  # everybody is 70 to it, and nobody is


def test_a_teacher_without_effect_is_refused(arguments, finished, tmp_path, capsys):
    checkpoint_file = ["--teacher", str(finished / "best.pth")]
    np.savez(tmp_path / "t.npz", digests=np.zeros(0, np.uint64), ages=np.zeros(0), stds=np.zeros(0))
    for options, told in (
        ([*checkpoint_file, "--teacher-weight", "0"], "with --teacher-weight 0 nothing is learned"),
        ([*checkpoint_file, "--teacher-weight", "0", "--doubt-beyond", "3"], "with --teacher-weight 0 nothing is"),
        (["--teacher", str(tmp_path / "t.npz"), "--teacher-weight", "0"], "with --teacher-weight 0 nothing is learned"),
        ([*checkpoint_file, "--teacher", str(tmp_path / "t.npz")], "beside checkpoints, predictions only serve"),
    ):
        assert main(arguments(tmp_path / "out", *options)) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "best.pth").exists()


def test_a_taught_run_goes_on_with_the_same_teacher_alone(arguments, finished, tmp_path, capsys):
    """What is in the file counts, not where it lies."""
    teachers = [tmp_path / name for name in ("a.pth", "moved.pth", "other.pth")]
    for path in teachers[:2]:
        shutil.copy(finished / "best.pth", path)
    values = Checkpoint.load(finished / "best.pth")
    values.weights["head.1.bias"] += 1
    values.save(teachers[2])
    first, moved, other = (arguments(tmp_path / "out", "--teacher", str(path), "--epochs", "1") for path in teachers)
    assert main(first) == 0
    assert main([*moved, "--resume"]) == 0
    assert main([*other, "--resume"]) == 2
    first, second = (file_sha256(path)[:8] for path in (teachers[0], teachers[2]))
    assert f"--teacher {teachers[0]} ({first}) there, {teachers[2]} ({second}) here" in capsys.readouterr().err


def test_a_teacher_is_not_written_over(arguments, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "out")
    teacher = tmp_path / "out" / "best.pth"
    assert main(arguments(tmp_path / "out", "--teacher", str(teacher), "--overwrite")) == 2
    assert f"--teacher {teacher}: this run would write over it" in capsys.readouterr().err
    assert teacher.is_file()


def test_a_checkpoint_of_another_backbone_is_no_start(arguments, finished, tmp_path, capsys):
    command = [*arguments(tmp_path / "out", "--backbone", "resnet34"), "--weights", str(finished / "best.pth")]
    assert main(command) == 4
    assert "a mobilenet_v2, and --backbone is resnet34" in capsys.readouterr().err
