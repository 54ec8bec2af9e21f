"""The site of ``ageexport.web`` in headless Chromium: with a camera, and beside face-api on the same pictures.

    python benchmarks/browser.py live [--onnxruntime-web DIR] [--clip samples/clip.mp4] [--images DIR]
    python benchmarks/browser.py peers SET=DIR ... --face-api DIR --tfjs-wasm DIR [--onnxruntime-web DIR] [--most 300]

``live`` builds the site, lets it look through a camera that plays a film, on a desktop and on a phone (360 x 740), and
prints: seconds until the page is ready and until the first face has an age, frames a second, milliseconds a face by
engine, what the download consists of, plain and by gzip -9, all that was asked for, and whether the page answers
without its server. With ``--images`` it leaves a picture of the page 3 s and 10 s after the camera was started.

``peers`` asks both about the same files, one after the other in one page each: the most certain face counts, and a
picture in which none is found is answered with the median of the true ages, for both alike. ``DIR`` of a set holds
``labels.csv`` with ``file`` and ``age``, or is the folder of APPA-REAL. face-api is the npm package
@vladmandic/face-api, with its SSD MobileNet, its landmarks and its age network, on the WebAssembly of the npm package
@tensorflow/tfjs-backend-wasm: at its default threshold, and its input as it comes.
"""

import argparse
import csv
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from ageexport.elsewhere.browser import CHROMIUM_ARGUMENTS, chromium
from ageexport.web.building import build_site, runtime_folder
from ageexport.web.serving import IsolatingHandler, SiteHandler, served
from ageinfer.sources import open_source

ROOT = Path(__file__).parent.parent
READY = "() => document.getElementById('status').textContent === 'Ready'"
FACE = "() => document.querySelector('#faces td b')"
DONE = "() => document.getElementById('status').textContent === 'Done'"
SCREENS = {"desktop": {"width": 1100, "height": 900}, "phone": {"width": 360, "height": 740}}
OURS = """async (number) => {
    const blob = await (await fetch(`picture/${number}`)).blob();
    const began = performance.now();
    const { bitmap, faces } = await self.engine.picture(blob);
    bitmap.close();
    const best = faces.length ? faces.reduce((a, b) => (b.score > a.score ? b : a)) : null;
    return { ms: performance.now() - began, age: best && best.age };
}"""
OPEN_OURS = "async () => { self.engine = await (await import('./engine.js')).openEngine(['wasm', 1]); }"
OPEN_THEIRS = """async () => {
    const api = self.api = await import('./face-api/dist/face-api.esm.js');
    api.tf.setWasmPaths(new URL('./tfjs/', location.href).href, true);
    await api.tf.setBackend('wasm');
    await api.tf.ready();
    const nets = ['ssdMobilenetv1', 'faceLandmark68Net', 'ageGenderNet'];
    for (const name of nets) await api.nets[name].load('./face-api/model');
    return api.tf.getBackend();
}"""
THEIRS = """async (number) => {
    const blob = await (await fetch(`picture/${number}`)).blob();
    const began = performance.now();
    const bitmap = await createImageBitmap(blob);
    const canvas = Object.assign(document.createElement('canvas'), { width: bitmap.width, height: bitmap.height });
    canvas.getContext('2d').drawImage(bitmap, 0, 0);
    bitmap.close();
    const found = self.api.detectSingleFace(canvas, new self.api.SsdMobilenetv1Options());
    const face = await found.withFaceLandmarks().withAgeAndGender();
    return { ms: performance.now() - began, age: face ? face.age : null };
}"""


@contextmanager
def browsers(*arguments: str) -> Iterator[Any]:
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium(), args=[*CHROMIUM_ARGUMENTS, *arguments])
        yield browser
        browser.close()


def camera_file(clip: Path, slower: float, folder: Path) -> Path:
    """A film as the pictures of a camera of 640 x 480, which Chromium shows 30 times a second, again and again."""
    file = folder / "camera.mjpeg"
    with open_source(clip) as source, file.open("wb") as stream:
        written = 0
        for frame in source:
            height, width = frame.image.shape[:2]
            scale = max(640 / width, 480 / height)
            large = cv2.resize(frame.image, None, fx=scale, fy=scale)
            top, left = (large.shape[0] - 480) // 2, (large.shape[1] - 640) // 2
            data = cv2.imencode(".jpg", large[top : top + 480, left : left + 640])[1].tobytes()
            times = max(0, round(30 * slower * (frame.time_s or 0)) + 1 - written)
            stream.write(data * times)
            written += times
    return file


def live(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        site = build_site(options.model, Path(folder, "site"), runtime_folder(options.onnxruntime_web))
        camera = camera_file(options.clip, options.slower, Path(folder))
        found["download"] = parts(site.folder)
        fake = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
        for screen, viewport in SCREENS.items():
            with browsers(*fake, f"--use-file-for-fake-video-capture={camera}") as browser:
                found[screen] = on_screen(browser, site.folder, screen, viewport, options.images)
    return found


def on_screen(browser: Any, site: Path, screen: str, viewport: dict[str, int], images: Path | None) -> dict[str, Any]:
    context = browser.new_context(viewport=viewport)
    page = context.new_page()
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    with served(site) as address:
        began = time.perf_counter()
        page.goto(address)
        page.wait_for_function(READY)
        ready_s = time.perf_counter() - began
        page.click("#camera")
        started = time.perf_counter()
        page.wait_for_function(FACE)
        face_s = time.perf_counter() - began
        frames = []
        for second in (3, 10):
            page.wait_for_timeout(max(0, 1000 * (started + second - time.perf_counter())))
            if images is not None:
                page.screenshot(
                    path=images / f"browser-{screen}-{second}s.jpg", full_page=True, type="jpeg", quality=80
                )
            frames.append(float(page.inner_text("#fps")))
    page.reload()  # its server has stopped
    page.wait_for_function(READY)
    page.set_input_files("#files", str(ROOT / "samples" / "astronaut.jpg"))
    page.wait_for_function(DONE)
    return {
        "ready_s": ready_s, "first_face_s": face_s, "fps_at_3_s": frames[0], "fps_at_10_s": frames[1],
        "engines": json.loads(page.evaluate("document.body.dataset.measured")), "requests": sorted(set(requests)),
        "without_server": page.inner_text("#pictures figcaption"),
    }  # fmt: skip


def parts(site: Path) -> dict[str, tuple[int, int]]:
    """Bytes of each part of the download, and by gzip -9."""
    groups: dict[str, list[Path]] = {"ONNX Runtime": [], "age model": [], "face detector": [], "page and library": []}
    for path in sorted(site.rglob("*")):
        if path.is_file():
            name = {"ort": "ONNX Runtime", "models": "age model"}.get(path.parent.name, "page and library")
            groups["face detector" if "yunet" in path.name else name].append(path)
    return {
        name: (sum(f.stat().st_size for f in files), sum(len(gzip.compress(f.read_bytes(), 9)) for f in files))
        for name, files in groups.items()
    }


def labelled(text: str, most: int) -> tuple[str, list[Path], np.ndarray]:
    """Name, files and true ages of a set; of a larger one as many as asked for, chosen by a seed."""
    name, _, place = text.partition("=")
    folder = Path(place)
    if (folder / "labels.csv").is_file():
        with (folder / "labels.csv").open(newline="") as stream:
            rows = [(folder / row["file"], row["age"]) for row in csv.DictReader(stream) if row["age"]]
    else:
        with (folder / "gt_avg_valid.csv").open(newline="") as stream:
            rows = [
                (folder / "valid" / f"{row['file_name']}_face.jpg", row["real_age"]) for row in csv.DictReader(stream)
            ]
    chosen = np.random.default_rng(0).permutation(len(rows))[:most]
    return name, [rows[i][0] for i in chosen], np.array([float(rows[i][1]) for i in chosen])


def answers(page: Any, code: str, paths: list[Path]) -> list[dict[str, Any]]:
    page.evaluate(code, 0)  # warm
    return [page.evaluate(code, i) for i in range(len(paths))]


def figures(found: list[dict[str, Any]], ages: np.ndarray) -> dict[str, float]:
    median = float(np.median(ages))
    said = np.array([median if one["age"] is None else one["age"] for one in found])
    there = np.array([one["age"] is not None for one in found])
    errors = np.abs(said - ages)
    return {
        "n": len(ages), "mae": float(errors.mean()), "found_percent": 100 * float(there.mean()),
        "mae_found": float(errors[there].mean()), "cs5_percent": 100 * float((errors <= 5).mean()),
        "bias": float((said - ages).mean()), "ms_a_picture": statistics.median(one["ms"] for one in found),
    }  # fmt: skip


def peers(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, browsers() as browser:
        root = Path(folder)
        for link, target in (("face-api", options.face_api), ("tfjs", options.tfjs_wasm / "dist")):
            (root / link).symlink_to(target.resolve())
        ways = {
            f"ageinfer {model}": (
                build_site(model, root / model, runtime_folder(options.onnxruntime_web)).folder, OPEN_OURS, OURS,
            )
            for model in ("age-small", "age-accurate")
        }  # fmt: skip
        ways["face-api"] = (root, OPEN_THEIRS, THEIRS)
        for text in options.sets:
            name, paths, ages = labelled(text, options.most)
            for who, (site, opening, code) in ways.items():
                handler = SiteHandler if who == "face-api" else IsolatingHandler
                with served(site, handler) as address:
                    page = empty_page(browser, address, paths)
                    page.evaluate(opening)
                    found.setdefault(name, {})[who] = figures(answers(page, code, paths), ages)
                    page.context.close()
                    print(name, who, found[name][who], flush=True)
        model = options.face_api / "model"
        needed = [
            options.face_api / "dist" / "face-api.esm.js",
            options.tfjs_wasm / "dist" / "tfjs-backend-wasm-simd.wasm",
        ]
        needed += [p for n in ("ssd_mobilenetv1", "face_landmark_68", "age_gender") for p in model.glob(f"{n}_model*")]
        found["face-api download"] = (
            sum(p.stat().st_size for p in needed), sum(len(gzip.compress(p.read_bytes(), 9)) for p in needed),
        )  # fmt: skip
    return found


def empty_page(browser: Any, address: str, paths: list[Path]) -> Any:
    context = browser.new_context(service_workers="block")
    context.route("**/picture/*", lambda route: route.fulfill(path=paths[int(route.request.url.rpartition("/")[2])]))
    context.route("**/empty.html", lambda route: route.fulfill(body="<!DOCTYPE html>", content_type="text/html"))
    page = context.new_page()
    page.goto(f"{address}empty.html")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("live", live), ("peers", peers)):
        command = commands.add_parser(name)
        command.add_argument("--onnxruntime-web", type=Path, metavar="DIR")
        command.set_defaults(run=run)
    commands.choices["live"].add_argument("--model", default="age-small")
    commands.choices["live"].add_argument("--clip", type=Path, default=ROOT / "samples" / "clip.mp4")
    commands.choices["live"].add_argument("--slower", type=float, default=1, metavar="TIMES", help="than the film is")
    commands.choices["live"].add_argument("--images", type=Path, metavar="DIR")
    commands.choices["peers"].add_argument("sets", nargs="+", metavar="SET=DIR")
    commands.choices["peers"].add_argument("--face-api", type=Path, required=True, metavar="DIR")
    commands.choices["peers"].add_argument("--tfjs-wasm", type=Path, required=True, metavar="DIR")
    commands.choices["peers"].add_argument("--most", type=int, default=300)
    options = parser.parse_args()
    print(json.dumps(options.run(options), indent=2))


if __name__ == "__main__":
    main()
