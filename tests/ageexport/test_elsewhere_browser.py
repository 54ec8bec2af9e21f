"""The proof of a model file in Chromium: what is the same passes, and every kind of change fails."""

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from conftest import ROOT
from PIL import ImageCms
from portraits import change_initializer, tampered

from ageexport.__main__ import main as export
from ageexport.elsewhere import Places, browser
from ageexport.elsewhere.__main__ import main
from ageexport.elsewhere.answers import answers_of
from ageexport.elsewhere.comparing import Comparison
from ageexport.elsewhere.places import rungs
from ageexport.ladder import Bounds
from ageexport.web.building import build_site
from ageinfer.errors import ExitStatus
from ageinfer.pipeline import Pipeline

SAMPLES = ROOT / "samples"
RUNTIME = ROOT / os.environ.get("AGEINFER_WEB", ".venv/web") / "node_modules" / "onnxruntime-web"


@pytest.fixture(scope="module")
def runtime():
    if not RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not installed (make web)")
    if browser.chromium() is None:
        pytest.skip("there is no Chromium")
    return RUNTIME


@pytest.fixture(scope="module")
def paths(astronaut_path, tmp_path_factory):
    """Faces of many sizes; one is reduced when it is cropped, and one has a file that says its colours are others."""
    folder = tmp_path_factory.mktemp("pictures")
    picture = cv2.imread(str(astronaut_path))[:260, 90:350]
    assert cv2.imwrite(str(folder / "large.png"), cv2.resize(picture, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC))
    data = astronaut_path.read_bytes()
    profile = b"ICC_PROFILE\0\1\1" + other_colours()
    (folder / "profile.jpg").write_bytes(
        data[:2] + b"\xff\xe2" + struct.pack(">H", len(profile) + 2) + profile + data[2:]
    )
    return [*(SAMPLES / name for name in ("astronaut.jpg", "obama.jpg", "portraits.jpg")), *sorted(folder.iterdir())]


def other_colours():
    """A colour profile in which red and green have changed their places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")


@pytest.fixture(scope="module")
def fp32():
    return (ROOT / "models" / "age-small.fp32.onnx").read_bytes()


@pytest.fixture(scope="module")
def comparison(fp32, paths):
    here = answers_of(Pipeline.default(fp32, provider="cpu", threads=1), paths)
    return Comparison(fp32, "fp32", paths, lambda: here, Bounds(), 20)


@pytest.fixture(scope="module")
def site(runtime, tmp_path_factory):
    """The site with the model in fp32, and with one engine, so that it takes less time."""
    built = build_site(ROOT / "models" / "age-small.fp32.onnx", tmp_path_factory.mktemp("site") / "site", runtime)
    change(built.folder / "engine.js", "const MOST_THREADS = 4;", "const MOST_THREADS = 1;")
    return built.folder


@pytest.fixture
def copy(site, tmp_path):
    return shutil.copytree(site, tmp_path / "copy")


@pytest.fixture
def without_gpu(monkeypatch):
    """A processor that computes what a GPU would takes seconds for a face."""
    monkeypatch.setattr(browser, "_SOFTWARE_GPU", ())


def change(path, before, after):
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def failed(found):
    return {rung.what for rung in found if rung.status == "failed"}


def test_the_site_answers_as_the_runtime(site, comparison):
    found = browser.site_rungs(site, comparison)
    assert failed(found) == set()
    assert {rung.provider.partition(", ")[2] for rung in found} == {"WebAssembly, 1 thread"}
    by_words = {rung.what: rung for rung in found}
    assert by_words["pictures in which other faces are found than here"].n == 5
    assert by_words["values of crops within one level of those here"].figure == 100
    assert by_words["ages there and here"].n == 12
    assert by_words["ages there and here"].figure < 0.01


CHANGES = {
    "red and blue swapped in the crops": (
        "lib/estimate.js", "faces.set(crop.data, i * values)",
        "faces.set(crop.data.map((_, j, all) => all[j - (j % 3) + 2 - (j % 3)]), i * values)", "ages there and here",
    ),
    "red and blue swapped in the picture": (
        "lib/image.js", "    rgb.data[to + 2] = data[from + 2];\n",
        "    rgb.data[to + 2] = data[from];\n    rgb.data[to] = data[from + 2];\n",
        "values of crops within one level of those here",
    ),
    "another filter that reduces": (
        "lib/crop.js", "source = resizeArea(source,", "source = resizeLinear(source,",
        "values of crops within one level of those here",
    ),
    "no quarters of a pixel": (
        "lib/crop.js", "const QUANTUM_PX = 0.25;", "const QUANTUM_PX = 1 / 64;",
        "values of crops within one level of those here",
    ),
    "boxes moved": (
        "lib/ageinfer.js", "box.map((value) => rounded(value, 2))", "box.map((value) => rounded(value, 2) + 0.2)",
        "boxes of faces there and here",
    ),
    "another threshold": (
        "lib/ageinfer.js", "const ages = await this.agesOf(image, detections);\n    const faces",
        "detections.splice(1);\n    const ages = await this.agesOf(image, detections);\n    const faces",
        "pictures in which other faces are found than here",
    ),
}  # fmt: skip


QUICK = ("red and blue swapped in the picture",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CHANGES]
)
def test_other_code_fails(copy, comparison, name):
    file, before, after, what = CHANGES[name]
    change(copy / file, before, after)
    assert what in failed(browser.site_rungs(copy, comparison))


def test_other_answers_of_the_same_graph_fail(copy, comparison):
    change(copy / "lib" / "estimate.js", "ageYears: age.data[i],", "ageYears: age.data[i] + 0.06,")
    assert failed(browser.site_rungs(copy, comparison)) == {
        "ages there and here",
        "ages there and here, mean difference",
    }


def changed_byte(data):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def changed_weight(data):
    """Another weight in a file whose hashes fit again."""
    name = next(t.name for t in onnx.load_from_string(data).graph.initializer if len(t.dims) == 4)
    return tampered(
        data, change_initializer(name, lambda array: array + (np.arange(array.size) == 5).reshape(array.shape))
    )


@pytest.mark.parametrize(("made", "why"), [(changed_byte, "changed"), (changed_weight, "the site has another model")])
def test_one_other_weight_fails(copy, comparison, fp32, made, why):
    (copy / "models" / "age.onnx").write_bytes(made(fp32))
    [rung] = browser.site_rungs(copy, comparison)
    assert rung.status == "failed"
    assert why in rung.note


@pytest.mark.slow
def test_it_works_where_an_event_loop_runs(site, comparison):
    async def within():
        return browser.site_rungs(site, comparison)

    assert failed(asyncio.run(within())) == set()


@pytest.mark.slow
def test_webgpu_answers_as_the_runtime(runtime, comparison):
    found = [rung for rung in browser.rungs(comparison, runtime) if "WebGPU" in rung.provider]
    if not found:
        pytest.skip("this Chromium has no WebGPU")
    assert failed(found) == set()
    assert len(found) == 6


def test_what_is_missing_is_not_measured(fp32, paths, comparison, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline.default(fp32, provider="cpu", threads=1)
    found = rungs(fp32, pipeline, paths, Bounds(), Places())
    assert {rung.status for rung in found} == {"not measured"}
    assert found[0].note.startswith("the npm package onnxruntime-web is not here; npm install onnxruntime-web")
    assert rungs(fp32, pipeline, [ROOT / "README.md"], Bounds(), Places())[0].note.startswith("there is no JPEG")
    monkeypatch.setitem(sys.modules, "playwright", None)
    [rung] = browser.site_rungs(tmp_path, comparison)
    assert (rung.status, rung.note) == (
        "not measured",
        "the package playwright is not installed; pip install 'ageinfer[browser]'",
    )


def test_a_browser_that_does_not_start_is_not_measured(site, comparison, tmp_path, monkeypatch):
    pytest.importorskip("playwright")
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(browser.shutil, "which", lambda name: str(broken))
    [rung] = browser.site_rungs(site, comparison)
    assert rung.status == "not measured"
    assert rung.note.startswith("Chromium does not start")


def test_the_command_prints_every_check(runtime, paths, capsys, without_gpu):
    assert main(["age-small", *map(str, paths[:2]), "--onnxruntime-web", str(runtime), "--seconds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("L5 ") for line in lines)
    assert sum("WebAssembly, 1 thread: passed" in line for line in lines) == 5


def test_the_command_without_anything_to_compare_with(paths, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["age-small", str(paths[0])]) == ExitStatus.SOURCE
    assert "nothing could be compared: the npm package onnxruntime-web is not here" in capsys.readouterr().err
    assert main(["age-small", str(tmp_path / "none.jpg"), "--onnxruntime-web", str(tmp_path)]) == ExitStatus.SOURCE


def test_a_picture_that_cannot_be_read_is_told_in_one_line(runtime, tmp_path, capfd):
    (tmp_path / "cut.jpg").write_bytes((SAMPLES / "obama.jpg").read_bytes()[:2000])
    arguments = ["age-small", str(SAMPLES / "astronaut.jpg"), str(tmp_path), "--onnxruntime-web", str(runtime)]
    assert main(arguments) == ExitStatus.SOURCE
    [line] = capfd.readouterr().err.splitlines()
    assert line.endswith("cut.jpg: the picture is cut off before its end; copy it again")


def test_ctrl_c_ends_it_with_one_line_and_without_the_browser(runtime, tmp_path):
    command = [
        sys.executable,
        "-m",
        "ageexport.elsewhere",
        "age-small",
        *[str(SAMPLES)] * 3,
        "--onnxruntime-web",
        str(runtime),
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    began = time.monotonic()
    while not any("chrom" in name for name in _below(running.pid).values()):
        assert time.monotonic() < began + 30
        time.sleep(0.1)
    time.sleep(1)
    started = set(_below(running.pid))
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert (running.returncode, said) == (
        ExitStatus.INTERRUPTED,
        "ageexport.elsewhere: interrupted; nothing was written\n",
    )
    ended = time.monotonic()
    while left := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < ended + 10, left
        time.sleep(0.1)


def _below(process):
    """The names of the processes that a process has started, and that those have, by their numbers."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in found.stdout.splitlines()]
    below, grown = {str(process)}, True
    while grown:
        more = {pid for pid, parent, _ in rows if parent in below} - below
        below, grown = below | more, bool(more)
    return {pid: name for pid, _, name in rows if pid in below and pid != str(process)}


@pytest.mark.slow
def test_an_export_is_proved_in_the_browser_too(
    runtime, exported_distribution, proof, tmp_path, capsys, without_gpu
):  # fmt: skip
    output = tmp_path / "a.onnx"
    arguments = [str(exported_distribution.checkpoint), "--data", str(proof), "-o", str(output), "--quiet"]
    assert export([*arguments, "--onnxruntime-web", str(runtime), "--seconds", "2"]) == 0, capsys.readouterr().err
    record = json.loads(output.with_suffix(".parity.json").read_text())
    elsewhere = [rung for rung in record["rungs"] if rung["level"] == "L5"]
    assert sum(rung["status"] == "passed" for rung in elsewhere) >= 5
    assert "| L5 | ages there and here |" in output.with_suffix(".md").read_text()
