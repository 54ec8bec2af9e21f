"""Folders of pictures to make evidence on, and the evidence of the command line."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from portraits import variation

from ageinfer.commands.main import main
from ageinfer.proving.evidence import as_json, read_evidence, sealed


def write_pictures(folder: Path, persons, count: int) -> list[str]:
    """Variations of three portraits; the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:03d}.png" for i in range(count)]
    for i, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), variation(persons[i % 3], i))
    return names


def write_noise(path: Path) -> None:
    """A picture without a face."""
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))


def write_labels(folder: Path, rows, columns=("file", "age")) -> None:
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def prove(model, data, out, *more) -> int:
    """Runs the command on one thread of the CPU; its status."""
    arguments = ["--data", data, "--out", out, "--provider", "cpu", "--threads", "1", *more]
    return main(["prove", *map(str, [model, *arguments])])


def changed(source: Path, target: Path, change) -> Path:
    """Evidence with a change by whoever can seal it anew; `change` is given the values."""
    values = read_evidence(source)
    change(values)
    target.write_text(as_json(sealed(values)))
    assert json.loads(target.read_text())
    return target
