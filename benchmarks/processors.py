"""Compares a model file's faces, boxes, crops and ages on emulated arm64 processors with those on this one.

    python benchmarks/processors.py MODEL ... --pictures DIR --root ROOT --same DIR [--count 150]

Prints Markdown. `make arm` makes ROOT in .venv/arm64. The folder of ``--same`` has ROOT's version of ONNX Runtime for
this processor (``pip install --no-deps --target DIR onnxruntime==1.23.2``), which tells what the version changes from
what the processor changes.
"""

import argparse
import datetime
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from ageexport import providers
from ageexport.elsewhere import arm64
from ageexport.elsewhere.answers import Answers, answers_of
from ageexport.elsewhere.comparing import paired
from ageinfer.pipeline import Pipeline

_SECONDS = 3600.0  # enough for all of them
HEAD = (
    "| model | run on | pictures with other faces | faces | boxes, px | crops equal, % | values within 1 level, % | "
    "ages, years, mean | largest | equal to 2 decimals, % | ms a face | here |\n" + "|---" * 12 + "|"
)


def version_in(packages: Path) -> str:
    """The version of ONNX Runtime in a folder of packages."""
    [found] = metadata.distributions(name="onnxruntime", path=[str(packages)])
    return found.version


def row(model: Path, where: str, here: Answers, there: Answers) -> str:
    mine, theirs, other = paired(here, there)
    boxes = np.abs(here.boxes[mine] - there.boxes[theirs]).max()
    levels = np.abs(here.crops[mine].astype(np.int16) - there.crops[theirs])
    equal = 100 * (levels.reshape(len(mine), -1).max(axis=1) == 0).mean()
    years = np.abs(here.ages_years[mine] - there.ages_years[theirs])
    printed = 100 * (here.ages_years[mine].round(2) == there.ages_years[theirs].round(2)).mean()
    within = 100 * (levels <= 1).mean()
    return (
        f"| {model.stem} | {where} | {other} | {len(mine)} | {boxes:.2g} | {equal:.1f} | {within:.3f} | "
        f"{years.mean():.2g} | {years.max():.2g} | {printed:.1f} | {there.face_ms:.1f} | {here.face_ms:.1f} |"
    )


def rows(model: Path, paths: Sequence[Path], root: Path, same: Path) -> Iterator[str]:
    data = model.read_bytes()
    here = answers_of(Pipeline.default(model, provider="cpu", threads=1), paths)
    yield row(
        model,
        f"here, ONNX Runtime {version_in(same)}",
        here,
        arm64.answers_by([sys.executable], same, data, paths, _SECONDS),
    )
    for processor, name in arm64.PROCESSORS.items():
        there = arm64.emulated(data, paths, root, processor, _SECONDS)
        yield row(model, f"{name}, ONNX Runtime {version_in(root / arm64.PACKAGES)}", here, there)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--same", type=Path, required=True)
    parser.add_argument("--count", type=int, default=150)
    options = parser.parse_args()
    # APPA-REAL has pictures of a face, and with the same beginning of their names the photos that they are cut from.
    found = sorted(options.pictures.glob("*_face.jpg")) or sorted(options.pictures.glob("*.jpg"))
    paths = found[: options.count]
    machine = providers.machine()
    emulator = subprocess.run([arm64.EMULATOR, "--version"], check=True, capture_output=True, text=True).stdout
    print(
        f"{machine['processor']} ({machine['instructions']}), ONNX Runtime {machine['onnxruntime']}, OpenCV "
        f"{machine['opencv']}; {emulator.splitlines()[0]}; {len(paths)} pictures; {datetime.date.today()}\n\n{HEAD}",
        flush=True,
    )
    for model in options.models:
        for line in rows(model, paths, options.root, options.same):
            print(line, flush=True)


if __name__ == "__main__":
    main()
