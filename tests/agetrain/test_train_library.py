"""The functions that a notebook calls: their examples give what they say."""

import dataclasses
import doctest
import json

import pytest
from conftest import ROOT
from portraits import checkpoint_of, lively_network
from runs import start_weights

import ageexport
import agetrain
from ageinfer.crop.spec import CropSpec
from agetrain.errors import UsageError


def examples_hold(documented, **given):
    """Runs the examples of a function or a class, with some names given."""
    [example] = [t for t in doctest.DocTestFinder(recurse=False).find(documented) if t.examples]
    example.globs.update(given)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert result.attempted > 1
    assert result.failed == 0


def test_a_run_is_trained(appa_real, tmp_path, monkeypatch):
    monkeypatch.delenv("AGETRAIN_WEIGHTS", raising=False)
    out = tmp_path / "out"
    examples_hold(agetrain.fit, appa_real=appa_real, weights=start_weights(tmp_path), out=out, cache=tmp_path / "cache")
    assert {"best.pth", "config.json", "metrics.json", "report.md"} <= {path.name for path in out.iterdir()}
    # What is recorded is what was asked for, and an older record without some keys is read too.
    record = json.loads((out / "config.json").read_text())
    config = agetrain.RunConfig.from_dict(record)
    assert config.datasets == (f"appa-real={appa_real}",)
    assert config.recipe == agetrain.Recipe(size=64, batch_size=4, epochs=1, selection_share=0.25)
    assert agetrain.RunConfig.from_dict(config.to_dict()) == config
    older = {k: v for k, v in record.items() if k not in ("weights", "teacher")}
    assert agetrain.RunConfig.from_dict(older) == dataclasses.replace(config, weights=None)


def test_a_model_is_measured(appa_real, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples_hold(agetrain.evaluate_model, folder=appa_real)


def test_a_checkpoint_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    examples_hold(agetrain.Checkpoint)


def test_a_checkpoint_is_exported(proof, portraits, tmp_path, monkeypatch):
    import cv2

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
        agetrain.fit(agetrain.RunConfig(device="cpu"))
    with pytest.raises(UsageError, match="use fp32"):
        ageexport.export_model("best.pth", precision="fp8")


def test_names_that_there_are_not():
    for package in (agetrain, ageexport):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = package.nothing
        assert all(getattr(package, name) for name in package.__all__)
