"""What ageexport must not write: whatever was not proved, and whatever is not a checkpoint."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from portraits import change_initializer, tampered, write_appa_real, write_pack

from ageexport import evidence, providers
from ageexport.__main__ import main
from ageexport.errors import EvidenceError
from ageexport.ladder import Bounds
from ageexport.latency import Latency
from ageinfer.crop.spec import CropSpec
from agetrain.datasets import load_dataset
from agetrain.network.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def good(exported_distribution):
    """The bytes of a model that was proved, and the values of its checkpoint."""
    return exported_distribution.model.read_bytes(), Checkpoint.load(exported_distribution.checkpoint)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """OpenVINO and latencies have tests of their own."""
    monkeypatch.setattr(providers, "rungs", lambda *_: [])
    monkeypatch.setattr("ageexport.export.time_model", lambda *_: Latency(1, 1, 1.0, 1.0, 10))


@pytest.fixture
def place(exported_distribution, tmp_path):
    """A folder with a checkpoint alone."""
    shutil.copy(exported_distribution.checkpoint, tmp_path / "best.pth")
    return tmp_path


@pytest.fixture
def at_once(good, monkeypatch):
    """Spares torch's conversion, which takes ten seconds and is tested elsewhere; all round it stays as it is."""

    def give(model):
        def export(*args, **kwargs):
            return types.SimpleNamespace(model_proto=onnx.load_from_string(model))

        monkeypatch.setattr(torch.onnx, "export", export)

    give(good[0])
    return give


def run(arguments, capsys, status):
    """Runs the exporter, expects this exit status and a message of one line, and returns it."""
    found = main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert found == status, err
    line = err.splitlines()[-1]
    assert line.startswith("ageexport: ")
    assert err.count("ageexport:") == 1
    assert "Traceback" not in err
    return line


def only_checkpoint(place):
    return sorted(p.name for p in place.iterdir()) == ["best.pth"]


def test_without_faces_nothing_is_written(place, capsys):
    line = run([place / "best.pth"], capsys, 3)
    assert "--data" in line
    assert "parity.npz" in line
    assert only_checkpoint(place)


@pytest.mark.parametrize("data", ["missing", "empty", "a file"])
def test_data_that_is_no_folder_of_pictures(place, capsys, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("data")
    path = {"missing": folder / "nowhere", "empty": folder, "a file": folder / "face.jpg"}[data]
    if data == "a file":
        path.touch()
    assert str(path) in run([place / "best.pth", "--data", path], capsys, 3)
    assert only_checkpoint(place)


def copied(proof, folder, change=lambda text: text):
    """A copy of the folder of pictures, with another list."""
    shutil.copytree(proof, folder)
    (folder / "labels.csv").write_text(change((folder / "labels.csv").read_text()))
    return folder


def test_portraits_without_ages(place, portraits, capsys):
    """What the runtime answers can be compared, but not how wrong it is: the proof would have a hole."""
    line = run([place / "best.pth", "--data", portraits], capsys, 3)
    assert "labels.csv" in line
    assert "file and age" in line
    assert only_checkpoint(place)


def test_too_few_faces(place, proof, at_once, tmp_path_factory, astronaut, capsys):
    """A hundred pictures, of which 19 hold a face, are one face too few."""
    folder = copied(proof, tmp_path_factory.mktemp("few") / "faces")
    for i in range(19, 100):
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), astronaut[280 + i % 50 :, 300:])
    line = run([place / "best.pth", "--data", folder], capsys, 3)
    assert "19 of 100" in line
    assert "20" in line
    assert only_checkpoint(place)
    shutil.copy(proof / "000020.jpg", folder)
    assert main([str(place / "best.pth"), "--data", str(folder)]) == 0
    assert (place / "best.onnx").is_file()


@pytest.mark.slow
def test_with_few_ages_errors_are_not_judged_and_int8_is_refused(place, proof, at_once, tmp_path_factory, capsys):
    def few(text):
        lines = text.splitlines(True)
        return "".join([*lines[:50], *(line for line in lines if "calibration" in line)])

    folder = copied(proof, tmp_path_factory.mktemp("few") / "f", few)
    line = run([place / "best.pth", "--data", folder, "--precision", "int8", "-o", place / "q.onnx"], capsys, 10)
    assert "has 49 faces with an age; comparing errors needs 50" in line
    assert main([str(place / "best.pth"), "--data", str(folder), "-o", str(place / "few.onnx")]) == 0
    rungs = json.loads((place / "few.parity.json").read_text())["rungs"]
    [judged] = [r for r in rungs if r["what"] == "MAE by the runtime and of the checkpoint"]
    assert (judged["status"], judged["n"]) == ("not judged", 49)


def test_a_broken_picture_is_named(place, proof, at_once, tmp_path_factory, capsys):
    folder = copied(proof, tmp_path_factory.mktemp("broken") / "faces")
    (folder / "000007.jpg").write_bytes((folder / "000007.jpg").read_bytes()[:500])
    line = run([place / "best.pth", "--data", folder], capsys, 3)
    assert str(folder / "000007.jpg") in line
    assert only_checkpoint(place)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("file,age", "name,age", "no column names the picture"), ("file,age", "file,wer", "no column has the age"),
        (",41,", ",old,", "line 5: 'old' is no age"), (",41,", ",nan,", "line 5: 'nan' is no age"),
        (",valid", ",some", "part 'some' is none"), (",valid", ",train", "has no part valid"),
    ],
)  # fmt: skip
def test_a_broken_list(place, proof, at_once, tmp_path_factory, capsys, old, new, told):
    def change(text):
        assert old in text
        return text.replace(old, new)

    folder = copied(proof, tmp_path_factory.mktemp("list") / "faces", change)
    assert told in run([place / "best.pth", "--data", folder], capsys, 3)
    assert only_checkpoint(place)


def test_one_line_of_a_list_that_cannot_be_used_is_left_out(place, proof, at_once, tmp_path_factory, capsys):
    def renamed(text):
        return text.replace("000003.jpg,41", "x.jpg,41")

    folder = copied(proof, tmp_path_factory.mktemp("list") / "faces", renamed)
    assert main([str(place / "best.pth"), "--data", f"mine={folder}"]) == 0
    said = capsys.readouterr().err
    assert "mine: 1 of 124 pictures cannot be used (0.806 %) and are left out: labels.csv line 5" in said
    assert "x.jpg is not there" in said
    proof = json.loads((place / "best.parity.json").read_text())
    assert (proof["origin"], proof["pictures"]) == ("mine valid", 99)


def test_data_that_is_neither_known_nor_there(place, capsys):
    line = run([place / "best.pth", "--data", "mine"], capsys, 3)
    assert "neither a data set that agetrain knows" in line
    assert "utkface" in line


def test_int8_needs_faces_of_its_own(place, proof, at_once, tmp_path_factory, capsys):
    folder = copied(proof, tmp_path_factory.mktemp("alone") / "f", lambda text: "".join(text.splitlines(True)[:101]))
    line = run([place / "best.pth", "--data", folder, "--precision", "all"], capsys, 3)
    assert "calibrat" in line
    assert only_checkpoint(place)


def packed(place, proof, count):
    write_pack(place, proof, CropSpec(size=64), count)
    shutil.rmtree(place / "cache")


def test_too_few_faces_in_the_pack(place, proof, at_once, capsys):
    packed(place, proof, 8)
    assert "8 of 8" in run([place / "best.pth"], capsys, 3)
    assert not (place / "best.onnx").exists()


@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "another array", "no pictures", "pickle"])
def test_a_broken_pack(place, proof, capsys, damage):
    packed(place, proof, 3)
    pack = place / "parity.npz"
    if damage == "another array":
        with pack.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif damage == "no pictures":
        with pack.open("wb") as stream:
            np.savez(stream, valid_bytes=np.zeros(0, np.uint8), valid_ends=np.zeros(0, int))
    elif damage == "pickle":
        with pack.open("wb") as stream:
            np.savez(stream, valid_bytes=np.array([Malicious(place / "ran")], object), valid_ends=np.zeros(1))
    else:
        data = pack.read_bytes()
        pack.write_bytes({"empty": b"", "text": b"<html>" * 50, "cut off": data[: len(data) // 2]}[damage])
    run([place / "best.pth"], capsys, 3)
    assert not (place / "ran").exists()
    assert not (place / "best.onnx").exists()


def test_a_failing_proof_leaves_the_previous_files(place, proof, good, at_once, capsys):
    assert main([str(place / "best.pth"), "--data", str(proof)]) == 0
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    assert set(before) == {"best.pth", "best.onnx", "best.md", "best.parity.json"}
    at_once(tampered(good[0], change_initializer("network.mean", lambda m: m + 2)))
    capsys.readouterr()
    line = run([place / "best.pth", "--data", proof, "--overwrite"], capsys, 10)
    assert "nothing was written" in line
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before


def test_a_place_that_cannot_be_written(place, proof, at_once, capsys):
    (place / "file").touch()
    line = run([place / "best.pth", "--data", proof, "-o", place / "file" / "m.onnx"], capsys, 5)
    assert "choose another place with -o" in line


@pytest.mark.parametrize("output", ["best.pth", "model.md"])
def test_an_output_that_would_overwrite_another_file(place, proof, at_once, output):
    """The checkpoint, or the model's own card."""
    before = (place / "best.pth").read_bytes()
    assert main([str(place / "best.pth"), "--data", str(proof), "-o", str(place / output)]) in (2, 5)
    assert (place / "best.pth").read_bytes() == before
    assert only_checkpoint(place)


class Malicious:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def bad_checkpoints(values, folder):
    def with_training(**changes):
        return {**values, "training": {**values["training"], **changes}}

    without_data = with_training()
    del without_data["training"]["data"]
    return {
        "tensors and more": {**values["weights"], "epoch": 3},
        "code": {**values, "label": Malicious(folder / "ran")},
        "another version": {**values, "version": 99},
        "unknown backbone": {**values, "backbone": "alexnet"},
        "unknown crop": {**values, "crop": {**values["crop"], "version": 2}},
        "no crop": {**values, "crop": {}},
        "weights of another head": {**values, "head": "linear"},
        "no weights": {**values, "weights": {}},
        "facts of an earlier release": without_data,
    }


@pytest.mark.parametrize("kind", [*bad_checkpoints({"training": {"data": 0}, "weights": {}, "crop": {}}, Path())])
def test_what_is_no_checkpoint(place, proof, good, at_once, capsys, kind):
    torch.save(bad_checkpoints(good[1].to_values(), place)[kind], place / "best.pth")
    line = run([place / "best.pth", "--data", proof], capsys, 4)
    assert len(line) < 2000
    assert only_checkpoint(place)


@pytest.mark.parametrize("content", ["missing", b"", b"garbage" * 100, "pickle"])
def test_garbage_is_no_checkpoint(place, proof, capsys, content):
    path = place / "best.pth"
    if content == "missing":
        path.unlink()
    else:
        path.write_bytes(pickle.dumps(Malicious(place / "ran"), 2) if content == "pickle" else content)
    line = run([path, "--data", proof], capsys, 4)
    assert str(path) in line
    assert not (place / "ran").exists()


def test_as_a_command(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"garbage")
    ran = subprocess.run(
        [sys.executable, "-m", "ageexport", str(tmp_path / "best.pth")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ran.returncode == 4
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stdout == ""


def told_splits(values, folder, caplog, **learned):
    """What the evidence and the log say, where the checkpoint says this of the data set that it learned."""
    caplog.clear()
    values = replace(values, training={**values.training, "data": [{"dataset": "appa-real", **learned}]})
    origin = evidence.open_evidence(values, folder / "best.pth", folder, folder).origin
    return origin, caplog.text


def test_pictures_that_may_have_been_learned_are_told(good, appa_real, caplog):
    values = good[1]
    own, _ = load_dataset("appa-real", appa_real)
    apparent, _ = load_dataset("appa-real", appa_real, "apparent")
    assert told_splits(values, appa_real, caplog, split_sha256=own.split_sha256()) == ("appa-real valid", "")
    for learned, told in (({"split_sha256": "0" * 64}, "not the one"), ({}, "is not recorded")):
        origin, logged = told_splits(values, appa_real, caplog, **learned)
        assert origin.startswith("appa-real valid, split official, ")
        assert told in origin
        assert "some of these pictures may have been learned" in origin
        assert origin in logged
    # A run on real ages leaves a checkpoint for the apparent age too: by the same split, whose hash is over other ages.
    other = replace(values, label="apparent")
    by_real = {"label": "real", "split_sha256": own.split_sha256()}
    assert own.split_sha256() != apparent.split_sha256()
    assert told_splits(other, appa_real, caplog, **by_real) == ("appa-real valid", "")
    # What the checkpoint did not learn at all cannot have been learned by another split.
    assert "learned" not in evidence.from_dataset("appa-real", appa_real, replace(values, training={"data": []})).origin


def test_the_card_says_that_pictures_may_have_been_learned(
    place, at_once, astronaut, tmp_path_factory, capsys, monkeypatch
):  # fmt: skip
    monkeypatch.setattr("ageexport.parity.Bounds", lambda: Bounds(fewest_labelled=20))
    folder = write_appa_real(tmp_path_factory.mktemp("appa"), astronaut, train=4, valid=24)
    assert main([str(place / "best.pth"), "--data", f"appa-real={folder}", "--quiet"]) == 0
    told = "some of these pictures may have been learned"
    assert told in capsys.readouterr().err
    assert told in (place / "best.md").read_text()
    assert told in json.loads((place / "best.parity.json").read_text())["origin"]


def test_evidence_knows_its_parts(proof):
    with pytest.raises(EvidenceError):
        evidence.from_own(proof / "nowhere")
    known = evidence.from_own(proof)
    assert (len(known.samples), len(known.calibration)) == (100, 24)
    assert not {s.path for s in known.samples} & {s.path for s in known.calibration}
    assert [s.age_years for s in known.samples[:3]] == [20, 27, 34]
