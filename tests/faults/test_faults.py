"""No signal, full disk, reader or camera costs what was answered, and every run ends as the documents say."""

import os
import shutil
import signal
import subprocess

import pytest

if os.name != "posix":
    pytest.skip("signals and limits of POSIX", allow_module_level=True)
from cases import Case, Material, complaints, outcome
from matrix import CASES


@pytest.fixture(scope="module", autouse=True)
def hang_up_as_usual():
    """Under nohup the signal is ignored here, and in every child."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def material(tmp_path_factory, astronaut_path):
    import cv2

    return Material(tmp_path_factory.mktemp("material"), cv2.imread(str(astronaut_path)))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=str(case), marks=[] if case.core else [pytest.mark.slow]) for case in CASES]
)
def test_a_fault_costs_nothing_that_was_answered(case: Case, material, tmp_path):
    if "unshare" in case.how.get("before", "") and not process_namespaces():
        pytest.skip("this system does not let us make a process the first one")
    if "page" in case.sinks:
        pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    try:
        found = outcome(case, material, tmp_path)
    except PermissionError as error:
        pytest.skip(str(error))
    assert complaints(case, found) == [], found


def process_namespaces() -> bool:
    command = ["unshare", "-pf", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0
