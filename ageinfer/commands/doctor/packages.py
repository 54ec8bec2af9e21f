"""Examines Python packages and the execution providers of ONNX Runtime."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import import_module, metadata, util

from ageinfer.commands.doctor.findings import Finding, State
from ageinfer.errors import ExitStatus, MissingDependencyError

_AREA = "packages"
# Packages that install the same module over each other.
_OPENCV = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
_ONNXRUNTIME = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn",
)  # fmt: skip
# Module, packages that hold it, its use, how to install it.
_OPTIONAL = (
    ("dlib", ("dlib", "dlib-bin"), "--detector dlib", "pip install 'ageinfer[dlib]'"),
    ("openvino", ("openvino",), "exporting with a comparison on OpenVINO", "pip install openvino"),
    ("starlette", ("starlette",), "the web view", "pip install 'ageinfer[serve]'"),
    ("uvicorn", ("uvicorn",), "the web view", "pip install 'ageinfer[serve]'"),
    ("paho", ("paho-mqtt",), "--mqtt", "pip install 'ageinfer[mqtt]'"),
    ("picamera2", ("picamera2",), "cameras on the ribbon of a Raspberry Pi", "apt-get install python3-picamera2"),
)
_PROVIDER_REMEDIES = {
    "cuda": "pip install 'ageinfer[cuda]' on a machine with an NVIDIA driver",
    "tensorrt": "pip install 'ageinfer[cuda]' and TensorRT on a machine with an NVIDIA driver",
    "openvino": "pip install onnxruntime-openvino instead of onnxruntime",
    "coreml": "only onnxruntime for macOS holds it",
}

VersionOf = Callable[[str], str | None]


def installed_version(package: str) -> str | None:
    """Returns the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def examine_packages(version_of: VersionOf = installed_version) -> Iterator[Finding]:
    """Examines NumPy, OpenCV and ONNX Runtime, and the optional packages.

    Args:
        version_of: returns the version of an installed package, or None.
    """
    yield _required("numpy", "numpy", ("numpy",), version_of)
    opencv = _required("opencv", "cv2", _OPENCV, version_of)
    yield opencv
    if opencv.status == ExitStatus.OK:
        from ageinfer.images import cv2

        yield opencv_parts(cv2.getBuildInformation())
    yield _required("onnxruntime", "onnxruntime", _ONNXRUNTIME, version_of)
    for module, packages, use, remedy in _OPTIONAL:
        version = next((v for v in map(version_of, packages) if v is not None), None)
        if version is None and not _is_there(module):
            yield Finding(_AREA, module, State.MISSING, f"not installed; only {use} needs it", remedy)
        else:
            text = version or "installed by the system"
            yield Finding(_AREA, module, State.OK, text, values={"version": version})


def opencv_parts(build: str) -> Finding:
    """Examines whether OpenCV can read videos and cameras and open windows.

    Args:
        build: the text of ``cv2.getBuildInformation()``.
    """
    parts = {name: bool(re.search(rf"^\s*{name}:\s+YES", build, re.M | re.I)) for name in ("FFMPEG", "GStreamer")}
    parts["V4L"] = bool(re.search(r"^\s*v4l/v4l2:\s+YES", build, re.M | re.I))
    gui = re.search(r"^\s*GUI:[ \t]*(\S*)", build, re.M)
    window = gui.group(1) if gui else ""
    names = {"FFMPEG": "FFmpeg", "GStreamer": "GStreamer", "V4L": "V4L"}
    text = ", ".join(f"{names[key]} {'yes' if there else 'no'}" for key, there in parts.items())
    text += f", windows {window if window.upper() != 'NONE' and window else 'no'}"
    values = {names[key].lower(): there for key, there in parts.items()} | {"windows": window or None}
    if parts["FFMPEG"] or parts["GStreamer"]:
        return Finding(_AREA, "opencv parts", State.OK, text, values=values)
    remedy = "pip install opencv-python, else most videos cannot be read or written"
    return Finding(_AREA, "opencv parts", State.FAULT, text, remedy, values)


def examine_providers() -> Iterator[Finding]:
    """Examines every execution provider by running a tiny network on it."""
    from ageinfer.engine import sessions

    for name in sessions.PROVIDERS:
        if name == "auto":
            continue
        problem = sessions.problem_with(name)
        if problem is None:
            yield Finding("providers", name, State.OK, "works", values={"works": True})
        elif name == "cpu":
            remedy = "pip install --force-reinstall onnxruntime"
            values = {"works": False}
            yield Finding("providers", name, State.FAULT, problem, remedy, values, ExitStatus.MISSING)
        else:
            yield Finding("providers", name, State.MISSING, problem, _PROVIDER_REMEDIES.get(name, ""), {"works": False})


def _required(name: str, module: str, packages: tuple[str, ...], version_of: VersionOf) -> Finding:
    """Examines a required package: whether it loads, and whether only one package installs it."""
    installed = {package: version for package in packages if (version := version_of(package)) is not None}
    text = " and ".join(f"{package} {version}" for package, version in installed.items())
    values = {"installed": installed}
    try:
        with redirect_stdout(io.StringIO()):  # OpenCV complains there about a missing NumPy
            import_module("ageinfer.images" if module == "cv2" else module)
    except (ImportError, MissingDependencyError, AttributeError) as error:  # mixed versions lack attributes
        state = State.FAULT if installed else State.MISSING
        problem = f"{text or 'not installed'}, cannot be loaded ({error})"
        return Finding(_AREA, name, state, problem, f"pip install {packages[0]}", values, ExitStatus.MISSING)
    if len(installed) > 1:
        remedy = f"pip uninstall {' '.join(installed)}, then pip install the one that you want"
        return Finding(_AREA, name, State.FAULT, f"{text} are installed over each other", remedy, values)
    return Finding(_AREA, name, State.OK, text or "installed by the system", values=values)


def _is_there(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):  # half installed, or None in sys.modules
        return False
