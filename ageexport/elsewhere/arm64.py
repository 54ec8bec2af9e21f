"""Asks the runtime on an emulated arm64 processor, by QEMU in user mode, about a model file and pictures.

It needs the program ``qemu-aarch64-static`` and a folder with Python and its packages for arm64, which
``benchmarks/arm64_root.py`` makes.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ageinfer
from ageexport.elsewhere.answers import Answers
from ageexport.elsewhere.comparing import Comparison
from ageexport.errors import RungError
from ageexport.ladder import Rung
from ageinfer.errors import MissingDependencyError

# As QEMU and people write them. The first has no instructions for 8-bit dot products, the second has them, so that
# ONNX Runtime sums int8 products by different code.
PROCESSORS = {"cortex-a72": "Cortex-A72", "cortex-a76": "Cortex-A76"}
EMULATOR = "qemu-aarch64-static"
# Within the root.
PYTHON, PACKAGES = "usr/bin/python3", "packages"
_ANSWERS = Path(__file__).with_name("answers.py")
# A start takes about 10 s on a processor of 2021, a picture of 1 megapixel about 2 s.
_START_S, _PICTURE_S = 120, 30
_NOTE_LENGTH = 200


def rungs(comparison: Comparison, root: Path | None) -> list[Rung]:
    """Compares what each emulated processor answers with what was answered here.

    Args:
        comparison: the file and the pictures.
        root: see `emulated`.
    """
    found = []
    for processor, name in PROCESSORS.items():
        provider = f"cpu, {name} emulated"
        try:
            there = emulated(comparison.model, comparison.paths, root, processor, comparison.seconds)
        except MissingDependencyError as error:
            found.append(comparison.not_measured(provider, str(error)))
        except RungError as error:
            found.append(comparison.refused(provider, str(error)))
        else:
            found += comparison.rungs(there, provider)
    return found


def emulated(model: bytes, paths: Sequence[Path], root: Path | None, processor: str, seconds: float) -> Answers:
    """Asks the runtime on an emulated processor about picture files.

    Args:
        model: the file.
        paths: of the pictures.
        root: folder with Python and its packages for arm64; None if there is none.
        processor: as QEMU names it, see `PROCESSORS`.
        seconds: for which it is given pictures.

    Raises:
        MissingDependencyError: the emulator or Python for arm64 is missing.
        RungError: the emulated process fails or takes too long.
    """
    return answers_by(*command(root, processor), model, paths, seconds)


def command(root: Path | None, processor: str) -> tuple[list[str], Path]:
    """Returns the command that starts the emulated Python, and the folder of that Python's packages.

    Raises:
        MissingDependencyError: the emulator or Python for arm64 is missing.
    """
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise MissingDependencyError(
            f"{EMULATOR} is not installed; on Debian or Ubuntu: apt-get install qemu-user-static"
        )
    if root is None or not (root / PYTHON).exists():
        where = "no folder with Python for arm64 is given" if root is None else f"{root} has no {PYTHON}"
        raise MissingDependencyError(f"{where}; in a checkout, make arm makes one in .venv/arm64")
    root = root.resolve()
    # -S: packages come from PYTHONPATH alone.
    return [emulator, "-cpu", processor, "-L", str(root), str(root / PYTHON), "-S"], root / PACKAGES


def answers_by(
    python: Sequence[str], packages: Path, model: bytes, paths: Sequence[Path], seconds: float
) -> Answers:  # fmt: skip
    """Asks the runtime in another Python about picture files.

    Args:
        python: the command that starts it.
        packages: folder of its packages: NumPy, OpenCV, ONNX Runtime, PyAV.
        model: the file.
        paths: of the pictures.
        seconds: for which it is given pictures.

    Raises:
        RungError: the process fails or takes too long.
    """
    search = os.pathsep.join([str(packages), str(Path(ageinfer.__file__).resolve().parents[1])])
    limit_s = _START_S + _PICTURE_S + seconds
    with tempfile.TemporaryDirectory() as folder:
        file, listed, output = (Path(folder) / name for name in ("model.onnx", "pictures.txt", "answers.npz"))
        file.write_bytes(model)
        listed.write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
        try:
            done = subprocess.run(
                [*python, str(_ANSWERS), str(file), str(listed), str(output), str(seconds)],
                env={**os.environ, "PYTHONPATH": search}, capture_output=True, timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise RungError(f"it took longer than {limit_s:g} s") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
            raise RungError(said[-1].strip()[:_NOTE_LENGTH])
        return Answers.load(output)
