"""Makes the sample pictures, and from them the pictures that the documents show of the program at work.

    python docs/pictures.py --portraits DIR    # samples/portraits.jpg and samples/clip.mp4, from the portraits below
    python docs/pictures.py                    # docs/images/: annotated, blurred, and the web page

The page is photographed by Chromium through Playwright, both of which must be installed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parent.parent
SAMPLES, IMAGES = ROOT / "samples", ROOT / "docs" / "images"
# Official portraits of members of the US Congress by their numbers in its biographical directory: public domain.
PORTRAITS = ("B001270", "L000551", "W000215", "E000172", "S001195", "M000309", "V000131", "S001154")
COLUMNS, GAP = 4, 6
CLIP = (480, 270)
FPS, SECONDS = 20, 4
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 88]


def make_samples(folder: Path) -> None:
    """Writes one picture with all the portraits, and a clip in which a camera moves along some of them."""
    faces = [cv2.imread(str(folder / f"{name}.jpg")) for name in PORTRAITS]
    if any(face is None for face in faces):
        raise SystemExit(f"{folder}: not all of these portraits are there: {', '.join(PORTRAITS)}")
    rows = [np.hstack([_framed(face) for face in faces[i : i + COLUMNS]]) for i in range(0, len(faces), COLUMNS)]
    cv2.imwrite(str(SAMPLES / "portraits.jpg"), np.vstack(rows), JPEG)

    width, height = CLIP
    strip = np.hstack([cv2.resize(face, (225 * height // 275, height), interpolation=cv2.INTER_AREA) for face in faces])
    writer = cv2.VideoWriter(str(SAMPLES / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), FPS, CLIP)
    frames = FPS * SECONDS
    for i in range(frames):
        x = round((1 - np.cos(np.pi * i / (frames - 1))) / 2 * (strip.shape[1] - width))
        writer.write(strip[:, x : x + width])
    writer.release()


def _framed(face: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(face, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def make_pictures() -> None:
    """Runs the program on the samples and keeps what it shows."""
    IMAGES.mkdir(exist_ok=True)
    _ageinfer(SAMPLES / "portraits.jpg", "--output", IMAGES / "portraits.jpg")
    _ageinfer(SAMPLES / "portraits.jpg", "--blur", "--output", IMAGES / "blurred.jpg")
    _photograph_page(IMAGES / "page.jpg")
    _photograph_page(
        IMAGES / "people.jpg", "--audience", os.devnull, "--zone", "left=0,0;0.36,0;0.36,1;0,1", "--line",
        "middle=0.5,1;0.5,0", view=_strolling(), seconds=24, height=760,
    )  # fmt: skip
    _photograph_tiles(IMAGES / "cameras.jpg")


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ageinfer", *map(str, arguments)]


def _ageinfer(*arguments: object) -> None:
    subprocess.run(_command(*arguments, "--quiet"), check=True, cwd=ROOT)


def _swaying(shift_at_most: int = 24) -> Callable[[int], np.ndarray]:
    """What a camera sees that sways before six of the portraits, by the number of the frame."""
    picture = cv2.imread(str(SAMPLES / "portraits.jpg"))
    six = picture[:, picture.shape[1] // COLUMNS :]
    height, width = six.shape[:2]

    def view(number: int) -> np.ndarray:
        x, y = (round(shift_at_most * (1 + f(number / 25)) / 2) for f in (np.sin, np.cos))
        return np.ascontiguousarray(six[y : height - shift_at_most + y, x : width - shift_at_most + x])

    return view


def _strolling(step_px: int = 4) -> Callable[[int], np.ndarray]:
    """What a camera sees before which the portraits pass from left to right, by the number of the frame."""
    picture = cv2.imread(str(SAMPLES / "portraits.jpg"))
    rows = [picture[: picture.shape[0] // 2], picture[picture.shape[0] // 2 :]]
    strip = np.hstack([np.hstack(rows), np.zeros_like(rows[0])])
    width = rows[0].shape[1] * 3 // 4

    def view(number: int) -> np.ndarray:
        return np.ascontiguousarray(np.roll(strip, step_px * number, axis=1)[:, :width])

    return view


def _photograph_page(
    target: Path, *options: str, view: Callable[[int], np.ndarray] | None = None, seconds: float = 20, height: int = 800
) -> None:  # fmt: skip
    """Serves the page of a network camera, looks at it for some time and photographs it."""
    camera = _camera(view or _swaying())
    with _page((camera.address, *options), height) as page:
        page.wait_for_function("() => document.getElementById('picture').naturalWidth > 0")
        page.wait_for_timeout(1000 * seconds)
        page.screenshot(path=str(target), type="jpeg", quality=85)


def _photograph_tiles(target: Path) -> None:
    """The same of the page of four cameras, one of which is lost."""
    astronaut = cv2.resize(cv2.imread(str(SAMPLES / "astronaut.jpg"))[:384], (640, 480), interpolation=cv2.INTER_AREA)
    crowd, strolling = _swaying(), _strolling(2)
    views = (
        lambda number: strolling(number + 700),
        lambda number: np.roll(astronaut, number, axis=1),
        crowd,
        lambda number: crowd(number)[:, :450],
    )
    cameras = [_camera(view) for view in views]
    tables = (
        f'[[camera]]\nname = "{name}"\nsource = "{camera.address}"\n'
        for name, camera in zip(("entrance", "desk", "tills", "yard"), cameras, strict=True)
    )
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("".join(tables))
        file.flush()
        with _page(("--config", file.name), height=980) as page:
            page.wait_for_timeout(6000)
            cameras[3].stop()
            page.wait_for_timeout(9000)
            page.screenshot(path=str(target), type="jpeg", quality=85)


def _camera(view: Callable[[int], np.ndarray]) -> Any:
    sys.path.insert(0, str(ROOT / "tests"))
    from mjpeg import NetworkCamera

    return NetworkCamera(view, fps=15, user=None, password=None)


@contextmanager
def _page(arguments: Sequence[str], height: int) -> Iterator[Any]:
    """Serves a page, and opens it in a browser."""
    from playwright.sync_api import sync_playwright

    command = _command(*arguments, "--serve-at", "127.0.0.1:18080")
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        address = next(line for line in server.stderr or () if "the page:" in line).split()[-1]
        with sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1120, "height": height})
            page.goto(address)
            yield page
            browser.close()
    finally:
        server.kill()
        server.wait()


def main() -> None:
    """Makes the samples if portraits are given, then the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--portraits", type=Path, metavar="DIR", help="the portraits, to make the samples anew")
    options = parser.parse_args()
    if options.portraits:
        make_samples(options.portraits)
    make_pictures()


if __name__ == "__main__":
    main()
