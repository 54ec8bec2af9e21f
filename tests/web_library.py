"""Runs the JavaScript library in Node, on many cases in one process."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from ageexport import web

LIBRARY = Path(web.__file__).parent / "site" / "lib"
WEB = Path(os.environ.get("AGEINFER_WEB", ROOT / ".venv" / "web"))
MODELS = ROOT / "models"
YUNET = MODELS / "face_detection_yunet_2023mar.onnx"


class Refused(Exception):  # noqa: N818
    """An error that the library has thrown; `kind` is its class."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Library:
    """The library, asked for many things at once.

    Args:
        folder: where the raw pixels and the cases are written.
    """

    def __init__(self, folder):
        self._folder = folder
        self._count = 0

    def picture(self, image):
        """Writes an array uint8, grey, RGB or RGBA, for the argument of a case."""
        self._count += 1
        path = self._folder / f"{self._count}.raw"
        path.write_bytes(np.ascontiguousarray(image).tobytes())
        return {"file": str(path), "width": image.shape[1], "height": image.shape[0]}

    def bgr(self, image):
        """The same of an array as OpenCV has it."""
        return self.picture(image[..., ::-1])

    def run(self, cases):
        """Runs cases, each an operation of ``web_library.mjs`` with its arguments.

        Returns:
            Of each case its value, pictures as arrays; or a `Refused`.
        """
        if shutil.which("node") is None:
            pytest.skip("needs Node")
        path = self._folder / "cases.json"
        path.write_text(json.dumps({"library": str(LIBRARY), "web": str(WEB), "cases": cases}))
        command = ["node", str(Path(__file__).with_suffix(".mjs")), str(path)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return [_value(result) for result in json.loads(ran.stdout)]

    def run_networks(self, cases):
        """The same where networks are needed; skips the test where onnxruntime-web is not installed."""
        if not (WEB / "node_modules" / "onnxruntime-web").is_dir():
            pytest.skip("needs onnxruntime-web (make web)")
        return self.run(cases)


def _value(result):
    if "error" in result:
        return Refused(result["kind"], result["error"])
    value = result["value"]
    if isinstance(value, dict) and "pixels" in value:
        data = np.frombuffer(base64.b64decode(value["pixels"]), np.uint8)
        shape = (value["height"], value["width"], -1)
        return data.reshape(shape) if data.size > value["height"] * value["width"] else data.reshape(shape[:2])
    return value


def differences(ours, theirs):
    """The share of values that differ, and the largest difference."""
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    return float((apart > 0).mean()), int(apart.max())
