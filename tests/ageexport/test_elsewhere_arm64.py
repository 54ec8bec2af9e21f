"""The last level of the proof on emulated arm64 processors; what needs no emulation is done by a fake emulator."""

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from portraits import variation

from ageexport.elsewhere import arm64
from ageexport.elsewhere.answers import answers_of
from ageexport.elsewhere.comparing import Comparison
from ageexport.ladder import Bounds
from ageinfer.pipeline import Pipeline

ARM64 = Path(os.environ.get("AGEINFER_ARM64", ROOT / ".venv" / "arm64"))
SHIPPED = ROOT / "models" / "age-small.onnx"
# Bits of the processor's abilities as Linux gives them: 8-bit dot products.
DOT_PRODUCTS = 1 << 20


def answers_here(model, paths):
    return answers_of(Pipeline.default(model, provider="cpu", threads=1), paths)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a shell script before the emulator; returns a root in which nothing is for arm64."""
    folder, root = tmp_path / "programs", tmp_path / "root"
    folder.mkdir()
    (root / arm64.PYTHON).parent.mkdir(parents=True)
    (root / arm64.PYTHON).touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(script):
        program = folder / arm64.EMULATOR
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return root

    return write


@pytest.fixture
def native(fake, tmp_path):
    """A fake emulator that notes what it is given and runs the Python of the tests."""
    said = tmp_path / "said.txt"
    # "$@" is -cpu NAME -L ROOT PYTHON -S, and then what Python is to run.
    return fake(f'printf "%s\\n" "$PYTHONPATH" "$@" >> {said}; shift 6; exec {sys.executable} "$@"'), said


def rungs_of(model, paths, here, root, precision="fp32", seconds=60):
    return arm64.rungs(Comparison(model, precision, paths, lambda: here, Bounds(), seconds), root)


def test_every_processor_is_asked_about_the_pictures_and_compared(native, astronaut_path):
    root, said = native
    paths = [astronaut_path, ROOT / "samples" / "portraits.jpg"]
    here = answers_here(SHIPPED, paths)
    rungs = rungs_of(SHIPPED.read_bytes(), paths, here, root)
    providers = [f"cpu, {name} emulated" for name in ("Cortex-A72", "Cortex-A76")]
    assert [(r.level, r.provider) for r in rungs] == [("L5", name) for name in providers for _ in range(6)]
    assert {r.status for r in rungs} == {"passed", "reported"}
    [ages, *_] = [r for r in rungs if r.what.startswith("ages")]
    assert (ages.figure, ages.n) == (0, len(here.ages_years))
    lines = said.read_text().splitlines()
    assert len(lines) == 2 * 12
    for processor, line in zip(arm64.PROCESSORS, (lines[:12], lines[12:]), strict=True):
        assert line[0] == f"{root / 'packages'}{os.pathsep}{ROOT}"
        assert line[1:7] == ["-cpu", processor, "-L", str(root), str(root / "usr/bin/python3"), "-S"]
        assert [Path(part).name for part in line[7:]] == [
            "answers.py",
            "model.onnx",
            "pictures.txt",
            "answers.npz",
            "60",
        ]
        assert not Path(line[8]).exists()


def test_the_ages_of_another_file_fail(native, portraits):
    root, _ = native
    paths = sorted(portraits.iterdir())[:8]
    here = answers_here(SHIPPED.with_name("age-small.fp32.onnx"), paths)
    rungs = rungs_of(SHIPPED.read_bytes(), paths, here, root)
    assert [r.what.split()[0] for r in rungs if r.status == "failed"] == ["ages"] * 4


def test_a_process_that_fails_is_a_failed_check_with_its_last_line(native, astronaut_path):
    root, _ = native
    for rung in rungs_of(b"no model", [astronaut_path], answers_here(SHIPPED, []), root):
        assert (rung.status, rung.n) == ("failed", 0)
        assert rung.note.startswith("ageinfer.errors.ModelError: ")


def test_a_process_that_is_killed_is_a_failed_check(fake, astronaut_path):
    [rung, _] = rungs_of(b"", [astronaut_path], answers_here(SHIPPED, []), fake("kill -9 $$"))
    assert (rung.status, rung.note) == ("failed", "it ended with -9")


def test_a_process_that_takes_too_long_is_stopped_and_a_failed_check(fake, astronaut_path, monkeypatch):
    monkeypatch.setattr(arm64, "_START_S", 0.2)
    monkeypatch.setattr(arm64, "_PICTURE_S", 0.1)
    began = time.monotonic()
    for rung in rungs_of(b"", [astronaut_path], answers_here(SHIPPED, []), fake("exec sleep 60"), seconds=0.1):
        assert (rung.status, rung.note) == ("failed", "it took longer than 0.4 s")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("missing", "note"),
    [("emulator", "apt-get install qemu-user-static"), ("root", "no folder"), ("python", "has no usr/bin/python3")],
)
def test_what_is_missing_is_not_measured(missing, note, fake, astronaut_path, monkeypatch):
    root = fake("exit 0")
    if missing == "emulator":
        monkeypatch.setenv("PATH", str(root))
    elif missing == "python":
        (root / arm64.PYTHON).unlink()
    rungs = rungs_of(b"", [astronaut_path], None, None if missing == "root" else root)
    assert [(r.status, r.figure, r.n) for r in rungs] == [("not measured", None, 0)] * 2
    assert all(note in r.note and "\n" not in r.note for r in rungs)


@pytest.fixture(scope="module")
def root():
    """A folder with Python for arm64, where that and the emulator are installed; `make test-arm` installs them."""
    try:
        arm64.command(ARM64, "cortex-a72")
    except arm64.MissingDependencyError as error:
        pytest.skip(str(error))
    return ARM64


@pytest.fixture(scope="module")
def faces(persons, tmp_path_factory):
    """Portraits of samples/ and pictures made from them, small enough to be searched as they are."""
    folder = tmp_path_factory.mktemp("faces")
    paths = [ROOT / "samples" / f"{name}.jpg" for name in ("astronaut", "obama", "biden")]
    for i in range(6):
        paths.append(folder / f"{i}.png")
        assert cv2.imwrite(str(paths[-1]), variation(persons[i % len(persons)], i))
    return paths


@pytest.mark.arm64
@pytest.mark.parametrize(("processor", "has_dot_products"), [("cortex-a72", False), ("cortex-a76", True)])
def test_the_emulated_processor_is_the_one_that_is_named(processor, has_dot_products, root):
    python, packages = arm64.command(root, processor)
    program = "import ctypes, platform; print(platform.machine(), ctypes.CDLL(None).getauxval(16))"
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    said = subprocess.run([*python, "-c", program], env=environment, capture_output=True, check=True, text=True)
    machine, abilities = said.stdout.split()
    assert machine == "aarch64"
    assert bool(int(abilities) & DOT_PRODUCTS) == has_dot_products


@pytest.mark.arm64
@pytest.mark.parametrize(("name", "precision"), [("age-small.fp32", "fp32"), ("age-small", "int8")])
def test_faces_boxes_crops_and_ages_are_those_of_this_processor(name, precision, root, faces):
    model = ROOT / "models" / f"{name}.onnx"
    here = answers_here(model, faces)
    assert len(here.ages_years) == len(faces)
    assert np.ptp(here.ages_years) > 15
    rungs = rungs_of(model.read_bytes(), faces, here, root, precision, seconds=300)
    for rung in rungs:
        print(rung)
    assert [r.status for r in rungs] == [*["passed"] * 5, "reported"] * 2
    if precision == "fp32":
        # Rounding in the order of summation alone.
        assert max(r.figure for r in rungs if r.what.startswith("ages")) < 1e-3


@pytest.mark.arm64
def test_pictures_that_are_reduced_before_the_search_have_the_same_crops(root, tmp_path):
    """OpenCV's usual interpolation is other code on arm64, which rounds some values to the next level."""
    model, paths = ROOT / "models" / "age-small.fp32.onnx", [ROOT / "samples" / "portraits.jpg"]
    for size in ((1280, 720), (1920, 1080), (1111, 500)):
        paths.append(tmp_path / f"{size[0]}.png")
        assert cv2.imwrite(str(paths[-1]), cv2.resize(cv2.imread(str(paths[0])), size))
    here = answers_here(model, paths)
    there = arm64.emulated(model.read_bytes(), paths, root, "cortex-a76", 300)
    assert len(here.ages_years) == 32
    assert np.abs(here.boxes - there.boxes).max() < 0.01
    assert (here.crops == there.crops).all()
    assert np.abs(here.ages_years - there.ages_years).max() < 1e-3
