"""The model file outside of ONNX Runtime on the CPU: OpenVINO, JavaScript, CUDA where there is one; and its speed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from conftest import ROOT

from ageexport import graph, latency, providers
from ageexport.ladder import Bounds
from ageinfer.engine.sessions import open_session
from ageinfer.errors import MissingDependencyError

WEB = Path(os.environ.get("AGEINFER_WEB", ROOT / ".venv" / "web"))


def expected(exported):
    return graph.ages_of(exported.model.read_bytes(), exported.crops)


def test_openvino_gives_the_same_years(exported_distribution):
    pytest.importorskip("openvino")
    data, crops, ages = (
        exported_distribution.model.read_bytes(),
        exported_distribution.crops,
        expected(exported_distribution),
    )
    assert np.abs(providers.openvino_ages(data, crops) - ages).max() < 1e-3
    [rung] = [r for r in providers.rungs(data, "fp32", crops, ages, Bounds()) if r.provider == "openvino"]
    assert (rung.status, rung.n) == ("passed", len(crops))
    [rung] = [r for r in providers.rungs(data, "fp32", crops, ages + 0.01, Bounds()) if r.provider == "openvino"]
    assert rung.status == "failed"
    [rung] = [r for r in providers.rungs(data[:-100], "fp32", crops, ages, Bounds()) if r.provider == "openvino"]
    assert rung.status == "failed"
    assert rung.note


def test_openvino_reads_a_linear_head(exported_linear):
    pytest.importorskip("openvino")
    ages = providers.openvino_ages(exported_linear.model.read_bytes(), exported_linear.crops)
    assert np.abs(ages - expected(exported_linear)).max() < 1e-3


def test_a_runtime_that_is_not_here_is_not_measured_and_never_passed(exported_distribution, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def no_cuda(*_):
        raise MissingDependencyError("no CUDA here")

    monkeypatch.setattr(providers, "open_session", no_cuda)
    rungs = providers.rungs(
        exported_distribution.model.read_bytes(), "fp32", exported_distribution.crops, None, Bounds()
    )
    assert [(r.provider, r.status, r.figure, r.n) for r in rungs] == [
        ("cuda", "not measured", None, 0), ("cuda", "not measured", None, 0), ("openvino", "not measured", None, 0),
    ]  # fmt: skip
    assert all(r.note for r in rungs)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_no_number_fails_elsewhere_too(precision, monkeypatch):
    def no_cuda(*_):
        raise MissingDependencyError("no CUDA here")

    monkeypatch.setattr(providers, "open_session", no_cuda)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(providers, "openvino_ages", lambda *_: np.array([30.0, np.nan]))
    *_, rung = providers.rungs(b"", precision, np.zeros((2, 8, 8, 3), np.uint8), np.array([30.0, 30.0]), Bounds())
    assert (rung.provider, rung.status) == ("openvino", "failed")


def test_a_session_that_falls_back_to_the_cpu_is_no_proof_of_cuda(exported_distribution, monkeypatch):
    """ONNX Runtime opens the CPU in place of CUDA without an error, and would then agree with itself."""
    if not cuda():
        pytest.skip("CUDA works here")
    monkeypatch.setattr(providers, "open_session", lambda *_: None)  # as if one had been opened a moment ago
    data, crops = exported_distribution.model.read_bytes(), exported_distribution.crops
    rungs = providers.rungs(data, "fp32", crops, expected(exported_distribution), Bounds())
    assert [(r.status, r.n) for r in rungs if r.provider == "cuda"] == [("not measured", 0)] * 2


def cuda():
    try:
        tiny = ROOT / "models" / "face_detection_yunet_2023mar.onnx"
        open_session(tiny.read_bytes(), "x", "cuda")
    except MissingDependencyError as error:
        return str(error)
    return ""


def test_cuda_gives_the_same_years(exported_distribution):
    if reason := cuda():
        pytest.skip(reason)
    ages = expected(exported_distribution)
    rungs = providers.rungs(
        exported_distribution.model.read_bytes(), "fp32", exported_distribution.crops, ages, Bounds()
    )
    assert [r.status for r in rungs if r.provider == "cuda"] == ["passed", "passed"]


SCRIPT = """
const ort = require('onnxruntime-web');
const fs = require('fs');
const [model, faces, side] = process.argv.slice(2);
(async () => {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(fs.readFileSync(model));
  const pixels = new Uint8Array(fs.readFileSync(faces));
  const n = pixels.length / (side * side * 3);
  const { age } = await session.run({ face: new ort.Tensor('uint8', pixels, [n, +side, +side, 3]) });
  console.log(JSON.stringify(Array.from(age.data)));
})();
"""


@pytest.mark.parametrize("head", ["distribution", "linear"])
def test_a_browser_gives_the_same_years(head, request, tmp_path):
    """onnxruntime-web, the WebAssembly that browsers run, in Node; `make web` installs it."""
    if shutil.which("node") is None or not (WEB / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("needs Node and onnxruntime-web (make web)")
    exported = request.getfixturevalue(f"exported_{head}")
    (tmp_path / "faces.bin").write_bytes(exported.crops.tobytes())
    (WEB / "age.js").write_text(SCRIPT)
    ran = subprocess.run(
        ["node", str(WEB / "age.js"), str(exported.model), str(tmp_path / "faces.bin"), str(exported.crops.shape[1])],
        capture_output=True, text=True, check=False, timeout=120, cwd=WEB,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    ages = np.array(json.loads(ran.stdout.splitlines()[-1]))
    assert len(ages) == len(exported.crops)
    assert np.abs(ages - expected(exported)).max() < 1e-3


def test_latency_grows_with_the_batch(exported_linear):
    data, crops = exported_linear.model.read_bytes(), exported_linear.crops
    one = latency.time_model(data, crops, seconds=0.3)
    many = latency.time_model(data, crops, batch=32, seconds=0.3)
    assert (one.batch, one.threads, many.batch) == (1, 1, 32)
    assert 0 < one.fastest_ms <= one.latency_ms
    assert one.calls >= 10
    assert 5 * one.fastest_ms < many.fastest_ms < 200 * one.fastest_ms


def test_the_machine_is_described():
    facts = providers.machine()
    assert facts["processor"]
    assert facts["onnxruntime"] == ort.__version__
    assert facts == {**facts, **{k: v for k, v in graph.versions().items() if k in ("onnxruntime", "torch")}}
