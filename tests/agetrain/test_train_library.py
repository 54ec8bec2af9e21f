"""The functions that a notebook calls: their examples give what they say."""

import dataclasses
import doctest
import json
import shutil

import cv2
import pytest
from conftest import ROOT
from portraits import checkpoint_of, lively_network
from runs import start_weights

import ageexport
import agetrain
from ageinfer.crop.spec import CropSpec
from agetrain import train
from agetrain.errors import UsageError


def examples_hold(documented, **given):
    """Runs the examples of a function or a class, with some names given."""
    [example] = [t for t in doctest.DocTestFinder(recurse=False).find(documented) if t.examples]
    example.globs.update(given)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert result.attempted > 1
    assert result.failed == 0


@pytest.fixture
def faces(tmp_path, portraits):
    """A folder of 24 pictures with a list; each is said to be another person, since all are of one photograph."""
    folder = tmp_path / "faces"
    folder.mkdir()
    lines = ["file,age,person"]
    for i, path in enumerate(sorted(portraits.iterdir())[:24]):
        shutil.copy(path, folder / f"{i:02d}.jpg")
        lines.append(f"{i:02d}.jpg,{20 + 2 * i},P{i}")
    (folder / "labels.csv").write_text("\n".join([*lines, ""]))
    return folder


def test_data_is_read_and_dealt(faces):
    examples_hold(agetrain.Data, faces=faces)


def test_a_run_is_trained(faces, tmp_path, monkeypatch):
    monkeypatch.delenv("AGETRAIN_WEIGHTS", raising=False)
    out = tmp_path / "out"
    examples_hold(agetrain.fit, faces=faces, weights=start_weights(tmp_path), out=out, cache=tmp_path / "cache")
    assert {"best.pth", "config.json", "metrics.json", "report.md", "split.csv"} <= {
        path.name for path in out.iterdir()
    }
    # What is recorded is what was asked for, and an older record without some keys is read too.
    record = json.loads((out / "config.json").read_text())
    config = agetrain.RunConfig.from_dict(record)
    assert config.datasets == (f"faces={faces}",)
    assert config.split == out / "split.csv"
    assert config.recipe == agetrain.Recipe(size=64, batch_size=4, epochs=1, selection_share=0.25)
    assert agetrain.RunConfig.from_dict(config.to_dict()) == config
    older = {k: v for k, v in record.items() if k not in ("weights", "teacher", "reading")}
    assert agetrain.RunConfig.from_dict(older) == dataclasses.replace(config, weights=None)
    # Its split goes with it: the run is opened, measured, gone on with and calibrated by its folder alone.
    assert agetrain.TrainingResult.read(out).finish(cache=tmp_path / "cache").finished
    assert (
        train.main(["--resume", str(out), "--epochs", "2", "--cache", str(tmp_path / "cache"), "--wandb", "disabled"])
        == 0
    )
    assert len(agetrain.TrainingResult.read(out).history) == 2


def test_a_run_takes_own_code(faces, tmp_path):
    shown, ends = [], []

    def grey(batch):
        shown.append(batch.shape)
        return batch.mean(dim=1, keepdim=True).expand_as(batch).contiguous()

    def enough(end):
        ends.append((end.epoch, end.epochs, end.out.name))
        return end.epoch == 2

    run = agetrain.fit(
        faces, agetrain.Recipe(size=64, batch_size=4, selection_share=0.25), epochs=5, augmentation="none", repeats=0.5,
        augment=grey, callbacks=[enough], weights=start_weights(tmp_path), out=tmp_path / "out", cache=tmp_path /
        "cache",
        device="cpu",
    )  # fmt: skip
    assert ends == [(1, 5, "out"), (2, 5, "out")]
    assert len(run.history) == 2
    assert run.finished
    assert set(shown) == {(4, 3, 64, 64)}
    assert run.best.training["recipe"]["repeats"] == [0.5]
    assert run.plot().axes
    with pytest.raises(UsageError, match=r"no argument epoch, .* is it epochs"):
        agetrain.fit(faces, epoch=3)


def test_a_model_is_calibrated(faces, tmp_path, monkeypatch):
    crops = [cv2.resize(cv2.imread(str(path)), (64, 64))[:, :, ::-1] for path in sorted(faces.glob("*.jpg"))]
    checkpoint_of(lively_network("distribution", crops), CropSpec(size=64)).save(tmp_path / "best.pth")
    monkeypatch.setattr("agetrain.evaluation.calibrating.FEWEST_FACES", 4)
    monkeypatch.setattr("agetrain.network.calibration.FEWEST_FACES", 4)
    written = agetrain.calibrate_model(tmp_path / "best.pth", agetrain.Data.from_folder(faces), part="all")
    assert written == tmp_path / "best.calibrated.pth"
    assert agetrain.Checkpoint.load(written).training["calibration"]["n"] >= 4


def test_a_model_is_measured(appa_real, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples_hold(agetrain.evaluate_model, folder=appa_real)


def test_a_checkpoint_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    examples_hold(agetrain.Checkpoint)


@pytest.mark.slow
def test_a_checkpoint_is_exported(proof, portraits, tmp_path, monkeypatch):
    from ageexport import providers

    monkeypatch.setattr(providers, "rungs", lambda *_: [])  # other providers are for test_export_elsewhere.py
    crops = [cv2.resize(cv2.imread(str(path)), (64, 64))[:, :, ::-1] for path in sorted(portraits.iterdir())]
    best = tmp_path / "best.pth"
    checkpoint_of(lively_network("distribution", crops), CropSpec(size=64)).save(best)
    monkeypatch.chdir(tmp_path)
    examples_hold(ageexport.export_model, best=best, portraits=proof)
    assert {path.name for path in tmp_path.iterdir()} == {"age.md", "age.onnx", "age.parity.json", "best.pth"}


def test_a_run_without_data_is_refused():
    with pytest.raises(UsageError, match="name a data set"):
        agetrain.fit([], device="cpu")
    with pytest.raises(UsageError, match="use fp32"):
        ageexport.export_model("best.pth", precision="fp8")


def test_names_that_there_are_not():
    for package in (agetrain, ageexport):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = package.nothing
        assert all(getattr(package, name) for name in package.__all__)
