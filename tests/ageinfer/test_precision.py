"""Which file of a model is opened: the same on every CPU, another on a GPU, and what was asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from ageinfer.engine import estimator
from ageinfer.engine.estimator import AgeEstimator, precisions_of
from ageinfer.engine.modelfile import packaged_model
from ageinfer.errors import ModelError, UsageError

pytest.importorskip("onnx")


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the model files whose network was opened, on the CPU whatever the provider."""
    names = []

    def open_network(data, name, provider, threads):
        names.append(Path(name).name)
        return really(data, name, "cpu", threads)

    really = estimator.open_network
    monkeypatch.setattr(estimator, "open_network", open_network)
    return names


@pytest.mark.parametrize(
    ("works", "provider", "file"),
    [
        ("cpu", "auto", "age-tiny.onnx"),
        ("cpu", "cpu", "age-tiny.onnx"),
        ("openvino", "openvino", "age-tiny.onnx"),
        ("cuda", "auto", "age-tiny.fp32.onnx"),
        ("cuda", "cuda", "age-tiny.fp32.onnx"),
        ("cuda", "cpu", "age-tiny.onnx"),
        ("tensorrt", "tensorrt", "age-tiny.fp32.onnx"),
        ("coreml", "coreml", "age-tiny.fp32.onnx"),
    ],
)
def test_8_bits_on_a_cpu_and_32_on_a_gpu(two_precisions, opened, monkeypatch, works, provider, file):
    monkeypatch.setattr(estimator, "first_provider", lambda named: works if named == "auto" else named)
    AgeEstimator(provider=provider)
    assert opened == [file]


def test_the_default_file_is_used_where_the_usual_precision_is_not_there(two_precisions, opened, monkeypatch):
    (two_precisions / "age-tiny.fp32.onnx").unlink()
    monkeypatch.setattr(estimator, "first_provider", lambda named: "cuda")
    assert AgeEstimator(provider="cuda").metadata.precision == "int8"
    assert AgeEstimator("age-other", provider="cuda").metadata.precision == "fp32"
    assert opened == ["age-tiny.onnx", "age-other.onnx"]


def test_two_files_of_the_same_precision(two_precisions, tiny_model):
    (two_precisions / "age-tiny.fp16.onnx").write_bytes(tiny_model(precision="fp16"))
    (two_precisions / "age-tiny.int8.onnx").write_bytes(tiny_model(precision="int8"))  # the default file comes first
    names = {precision: path.name for precision, path in precisions_of("age-tiny").items()}
    assert names == {"int8": "age-tiny.onnx", "fp32": "age-tiny.fp32.onnx", "fp16": "age-tiny.fp16.onnx"}


def test_a_file_given_by_path_is_that_file_whatever_lies_beside_it(two_precisions, opened, monkeypatch):
    monkeypatch.chdir(two_precisions)
    for path in (two_precisions / "age-tiny.fp32.onnx", "./age-tiny.fp32.onnx"):
        assert AgeEstimator(path, provider="cpu").metadata.precision == "fp32"
    assert AgeEstimator("age-tiny.onnx", provider="cpu").metadata.precision == "int8"
    assert opened == ["age-tiny.fp32.onnx"] * 2 + ["age-tiny.onnx"]


@pytest.mark.parametrize("model", [None, "age-tiny", "age-tiny.onnx"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_named_precision_is_used_and_nothing_else_opened(two_precisions, opened, model, precision):
    named = AgeEstimator(model, precision=precision, provider="cpu")
    assert (named.metadata.precision, named.identifier) == (precision, f"tiny@{precision}")
    assert opened == [{"int8": "age-tiny.onnx", "fp32": "age-tiny.fp32.onnx"}[precision]]


def test_a_model_can_be_given_as_bytes(two_precisions, tiny_model):
    given = AgeEstimator(tiny_model(precision="int8", name="mine"), provider="cpu")
    assert given.identifier == "mine@int8"
    reddish = np.zeros((1, 8, 8, 3), np.uint8)
    reddish[..., 0] = 70
    assert [age.age_years for age in given.estimate(reddish)] == [70]
    with pytest.raises(UsageError, match="the model: is there in int8, not in fp32"):
        AgeEstimator(tiny_model(precision="int8"), precision="fp32", provider="cpu")
    with pytest.raises(ModelError, match="the model: not an ONNX model"):
        AgeEstimator(b"Dear diary", provider="cpu")


@pytest.mark.parametrize(
    ("model", "precision", "there"),
    [
        (None, "fp16", "int8 and fp32"),
        ("age-tiny.fp32", "int8", "fp32"),
        ("age-other", "int8", "fp32"),
        ("PATH", "fp32", "int8"),
    ],
)
def test_a_precision_that_is_not_there_is_refused_with_those_that_are(two_precisions, model, precision, there):
    model = two_precisions / "age-tiny.onnx" if model == "PATH" else model
    with pytest.raises(
        UsageError, match=rf"age-\w+(\.fp32)?\.onnx: is there in {there}, not in {precision}; .*--precision"
    ):
        AgeEstimator(model, precision=precision, provider="cpu")


def test_an_unknown_precision_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError, match="unknown precision 'fp64': use one of auto, fp32, fp16, int8, mixed"):
        AgeEstimator(precision="fp64")


@pytest.mark.parametrize("file", ["age-tiny.onnx", "age-tiny.fp32.onnx"])
def test_a_broken_file_is_an_error_that_names_it(two_precisions, file):
    (two_precisions / file).write_bytes(b"")
    with pytest.raises(ModelError, match=f"{file}: not an ONNX model"):
        AgeEstimator(provider="cpu")


def test_a_changed_file_is_refused(two_precisions):
    path = two_precisions / "age-tiny.onnx"
    path.write_bytes(path.read_bytes().replace(b"deviation", b"deviatioN"))
    with pytest.raises(ModelError, match="changed after the export"):
        AgeEstimator(provider="cpu")


def test_the_shipped_models_answer_in_8_bits_on_a_cpu():
    for name in (None, "age-small", "age-accurate"):
        shipped = AgeEstimator(name, provider="cpu")
        assert shipped.identifier == f"{name or 'age-small'}@int8"
    assert packaged_model("age-small.fp32.onnx").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="homes are found otherwise there")
@pytest.mark.parametrize("home", ["of mine", "of nobody"])
def test_a_run_leaves_nothing_in_the_home_and_needs_none(astronaut_path, tmp_path, home):
    """Nothing is remembered from one run to the next, and ONNX Runtime's telemetry is off."""
    mine = tmp_path / "home"
    mine.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    clean["HOME"] = str(mine) if home == "of mine" else "/proc/nobody"
    clean["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), clean.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "ageinfer", str(astronaut_path), "--jsonl", "-", "--quiet", "--provider", "cpu"]
    done = subprocess.run(command, cwd=mine, env=clean, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["model"] == "age-small@int8"
    assert list(mine.rglob("*")) == []


@pytest.mark.slow
def test_a_real_model_in_int8_and_fp32(two_precisions, proof, tmp_path, astronaut_path, capsys):
    from ageexport.__main__ import main as export
    from ageinfer.commands.main import main

    checkpoint, base = ROOT / "checkpoints" / "best-tuned.pth", tmp_path / "age-real.onnx"
    options = ["--precision", "fp32", "int8", "--name", "age-real", "--data", str(proof), "--quiet"]
    assert export([str(checkpoint), "-o", str(base), *options]) == 0
    base.rename(two_precisions / "age-real.fp32.onnx")
    (tmp_path / "age-real.int8.onnx").rename(two_precisions / "age-real.onnx")
    capsys.readouterr()

    ages, lines = {}, {}
    for precision in ("auto", "auto", "int8", "fp32"):
        out = tmp_path / "r.jsonl"
        command = [str(astronaut_path), "--model", "age-real", "--precision", precision, "--jsonl", str(out)]
        assert main([*command, "--provider", "cpu", "--threads", "1"]) == 0
        lines[precision] = capsys.readouterr().err.splitlines()[0]
        ages[precision] = json.loads(out.read_text())["faces"][0]["age"]
    assert "(int8)" in lines["auto"]
    assert "(fp32)" in lines["fp32"]
    assert ages["auto"] == ages["int8"]
    assert 0 < abs(ages["int8"] - ages["fp32"]) < 3
