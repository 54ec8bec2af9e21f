"""Examines cameras, the display, and the encoders of videos."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ageinfer.commands.doctor.findings import Finding, State

CAMERA_TIMEOUT_S = 10.0

# Another process runs this, because a driver may wait for a frame for ever, and this process could then not end.
# The first frames of many cameras are empty.
_TRY_CAMERA = """
import json, sys
import cv2
camera = sys.argv[1]
capture = cv2.VideoCapture(int(camera) if camera.isdigit() else camera)
answer = {"opened": capture.isOpened()}
for _ in range(10 if answer["opened"] else 0):
    grabbed, image = capture.read()
    if grabbed:
        answer |= {"width": image.shape[1], "height": image.shape[0], "fps": capture.get(cv2.CAP_PROP_FPS)}
        break
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class CameraTrial:
    """The result of reading one frame from a camera.

    Attributes:
        problem: why there was no frame; None if there was one.
        size: ``(width, height)`` of the frame in pixels, or None.
        fps: frames a second as the camera announces them, or None.
    """

    problem: str | None
    size: tuple[int, int] | None = None
    fps: float | None = None


def try_camera(camera: str, timeout_s: float = CAMERA_TIMEOUT_S, program: str = _TRY_CAMERA) -> CameraTrial:
    """Reads one frame from a camera in another process and gives up after a time.

    Args:
        camera: the number of the camera, or the path of a video.
        timeout_s: the camera may take this many seconds.
        program: Python code that gets the camera as its argument and prints JSON.
    """
    command = [sys.executable, "-P", "-c", program, camera]
    environment = os.environ | {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return CameraTrial(f"no answer within {timeout_s:g} s")
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that hangs inside the kernel cannot even be killed
            process.wait(1)
        if process.stdout is not None:
            process.stdout.close()
    try:
        answer = json.loads(output.decode(errors="replace").splitlines()[-1])
    except (ValueError, IndexError):
        return CameraTrial(f"the trial ended with status {process.returncode}")
    if not answer["opened"]:
        return CameraTrial("cannot be opened")
    if "width" not in answer:
        return CameraTrial("gives no frame")
    fps = answer["fps"]
    return CameraTrial(None, (answer["width"], answer["height"]), fps if 0 < fps <= 1000 else None)


def examine_cameras(
    only: int | None = None,
    dev: Path = Path("/dev"),
    names: Path = Path("/sys/class/video4linux"),
    timeout_s: float = CAMERA_TIMEOUT_S,
) -> Iterator[Finding]:
    """Examines the cameras: tells whether a frame can be read from each.

    Args:
        only: the number of the only camera to examine; None for all.
        dev: the folder in which Linux has the cameras.
        names: the folder in which Linux has their names.
        timeout_s: each camera may take this many seconds.
    """
    numbers = _camera_numbers(dev) if only is None else [only]
    if not numbers:
        remedy = "plug one in; in a container or virtual machine, pass /dev/video* through"
        yield Finding("cameras", "cameras", State.MISSING, "none seen (no /dev/video*)", remedy)
    for number in numbers:
        name = _first_line(names / f"video{number}" / "name")
        device = dev / f"video{number}"
        if device.exists() and not os.access(device, os.R_OK | os.W_OK):
            trial = CameraTrial("you may not open it")
            remedy = 'sudo usermod -aG video "$USER", then log in again'
        elif sys.platform.startswith("linux") and not device.exists():
            trial, remedy = CameraTrial(f"there is no {device}"), "leave --camera out to see all cameras"
        else:
            trial = try_camera(str(number), timeout_s)
            remedy = (
                "end other programs that use it and plug it in again; many cameras have a second device for metadata, "
                "which never gives a frame"
            )
        yield _as_finding(number, name, trial, remedy)


def _as_finding(number: int, name: str, trial: CameraTrial, remedy: str) -> Finding:
    values = {"number": number, "name": name or None, "size": trial.size, "fps": trial.fps}
    title = f"camera {number}"
    called = f"{name}, " if name else ""
    if trial.problem is not None or trial.size is None:
        return Finding("cameras", title, State.MISSING, f"{called}{trial.problem}", remedy, values)
    fps = "" if trial.fps is None else f", {trial.fps:g} frames a second"
    return Finding("cameras", title, State.OK, f"{called}{trial.size[0]} x {trial.size[1]}{fps}", values=values)


def _camera_numbers(dev: Path) -> list[int]:
    if not sys.platform.startswith("linux"):
        return [0]  # it cannot be listed, so it is tried
    matches = (re.fullmatch(r"video(\d+)", path.name) for path in dev.glob("video*"))
    return sorted(int(match.group(1)) for match in matches if match)


def examine_display() -> Iterator[Finding]:
    """Examines whether a window can be opened."""
    from ageinfer.sinks import display_works

    if display_works():
        yield Finding("display", "window", State.OK, "can be opened", values={"works": True})
    else:
        remedy = "only --window needs it: log in at a desktop, or set DISPLAY or WAYLAND_DISPLAY"
        yield Finding("display", "window", State.MISSING, "cannot be opened", remedy, {"works": False})


def examine_codecs(suffixes: Sequence[str] | None = None) -> Iterator[Finding]:
    """Examines the video encoders: which codecs each kind of file can be written with.

    Args:
        suffixes: the suffixes to examine, such as ``.mp4``; None for all of `CONTAINER_CODECS`.
    """
    from ageinfer.sinks.encoder import CODECS, CONTAINER_CODECS

    for suffix in suffixes or CONTAINER_CODECS:
        works = [name for name in CONTAINER_CODECS[suffix] if CODECS[name].works]
        values: dict[str, object] = {"codecs": works, "works": bool(works)}
        if works:
            others = f" (also {', '.join(works[1:])})" if works[1:] else ""
            yield Finding("codecs", f"video {suffix}", State.OK, f"{works[0]} can be written{others}", values=values)
        else:
            wanted = ", ".join(CONTAINER_CODECS[suffix])
            remedy = f"use another suffix than {suffix} with --output"
            yield Finding("codecs", f"video {suffix}", State.MISSING, f"no encoder for {wanted}", remedy, values)


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""
