"""The static site in a real browser: pictures, a camera, no request to another host, and without its server."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from loopback import serving as foreign_host

import ageinfer
from ageexport.web.building import WASM_FILES, build_site, runtime_folder
from ageexport.web.serving import server_of
from ageinfer.errors import MissingDependencyError, ModelError, OutputError

RUNTIME = Path(os.environ.get("AGEINFER_WEB", ROOT / ".venv" / "web")) / "node_modules" / "onnxruntime-web"
SAMPLES = ROOT / "samples"
READY = "() => document.getElementById('status').textContent === 'Ready'"
DONE = "() => document.getElementById('status').textContent === 'Done'"


@pytest.fixture(scope="module")
def runtime():
    if not RUNTIME.is_dir():
        pytest.skip("onnxruntime-web is not installed (make web)")
    return RUNTIME


@pytest.fixture
def no_runtime(tmp_path):
    """A package with files of the right names."""
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in WASM_FILES:
        (tmp_path / "package" / "dist" / name).write_text("nothing")
    return tmp_path / "package"


@contextmanager
def serving(folder):
    server = server_of(folder)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def site(runtime, tmp_path_factory):
    return build_site("age-small", tmp_path_factory.mktemp("site") / "site", runtime).folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, with a camera that plays the portrait."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    film = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    picture = cv2.resize(cv2.imread(str(SAMPLES / "astronaut.jpg"))[:384], (640, 480))
    film.write_bytes(b"".join(cv2.imencode(".jpg", np.roll(picture, i, axis=1))[1].tobytes() for i in range(30)))
    arguments = (
        "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )  # fmt: skip
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=chromium, args=list(arguments))
        yield running
        running.close()


@contextmanager
def opened(browser, site):
    """The site, ready; with what it asked for (`requests`), what went wrong (`complaints`) and its server."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    made = context.new_page()
    made.set_default_timeout(30_000)
    made.requests, made.complaints = [], []
    context.on("request", lambda request: made.requests.append(request.url))
    made.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: made.complaints.append(str(error)))
    with serving(site) as (made.address, made.server):
        made.goto(made.address)
        made.wait_for_function(READY)
        yield made
    context.close()


@pytest.fixture(scope="module")
def page(browser, site):
    """One page for most tests: opening the models takes seconds."""
    with opened(browser, site) as made:
        yield made


def captions(page, *paths) -> list[str]:
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_function(DONE)
    return page.eval_on_selector_all("#pictures figcaption", "all => all.map(one => one.textContent)")


def expected(path) -> str:
    """What the page says of a picture, by the runtime of Python."""
    faces = ageinfer.Pipeline.default(provider="cpu", threads=1)(path).faces
    ages = ", ".join(f"{face.age_years:.0f} ± {face.age_std_years:.0f} years" for face in faces)
    return f"{path.name}: " + (f"One face: {ages}" if len(faces) == 1 else f"{len(faces)} faces: {ages}")


def test_pictures_have_the_ages_of_the_runtime(page):
    paths = [SAMPLES / name for name in ("astronaut.jpg", "obama.jpg", "portraits.jpg")]
    found = captions(page, *paths)
    for said, path in zip(found, paths, strict=True):
        ages, wanted = (list(map(int, re.findall(r"(\d+) ±", text))) for text in (said, expected(path)))
        assert said.split(":")[:2] == expected(path).split(":")[:2]
        assert len(ages) == len(wanted) > 0
        assert max(abs(a - b) for a, b in zip(ages, wanted, strict=True)) <= 1  # a year is where they are rounded
    assert page.complaints == []


def test_what_is_no_picture_is_said_and_the_others_are_shown(page):
    found = captions(page, ROOT / "README.md", SAMPLES / "astronaut.jpg")
    assert found[0] == "README.md: not a picture that this browser reads"
    assert "One face" in found[1]


def test_the_camera_gives_one_steady_age(page):
    page.click("#camera")
    page.wait_for_function("() => document.querySelector('#faces td b')")
    page.wait_for_timeout(2500)
    years = int(page.inner_text("#faces td b"))
    assert abs(years - 35) <= 4
    assert float(page.inner_text("#fps")) > 1
    assert page.inner_text("#status") == "Live"
    page.click("#pause")
    page.wait_for_function("() => document.getElementById('pause').textContent === 'Go on'")
    assert page.complaints == []


CHANGED = """(before) => {
    const context = document.querySelector('.picture canvas').getContext('2d');
    const changed = (x, y, w, h) => {
        const now = context.getImageData(x, y, w, h).data;
        const then = before.getContext('2d').getImageData(x, y, w, h).data;
        return now.filter((value, i) => value !== then[i]).length / now.length;
    };
    return [changed(190, 80, 70, 80), changed(0, 300, 512, 212), changed(0, 0, 512, 512)];
}"""
COPY = """() => {
    const shown = document.querySelector('.picture canvas');
    const copy = new OffscreenCanvas(512, 512);
    copy.getContext('2d').drawImage(shown, 0, 0);
    return copy;
}"""


def test_blurring_changes_the_face_and_nothing_else(page):
    captions(page, SAMPLES / "astronaut.jpg")
    before = page.evaluate_handle(COPY)
    page.click("#blur")
    face, below, _ = page.evaluate(CHANGED, before)
    assert face > 0.6  # of all values; the transparency never changes
    assert below == 0
    page.click("#blur")
    assert page.evaluate(CHANGED, before) == [0, 0, 0]


def test_nothing_is_asked_of_another_host_nor_can_it_be(page):
    captions(page, SAMPLES / "astronaut.jpg")
    page.click("#camera")
    page.wait_for_function("() => document.querySelector('#faces td b')")
    own = {page.address.rstrip("/")}
    assert {url.partition("//")[0] + "//" + url.split("/")[2] for url in page.requests if "blob:" not in url} == own
    tries = ("fetch(url)", "navigator.sendBeacon(url)", "new Image().src = url", "new EventSource(url)")
    with foreign_host({"x": b"x"}) as other:
        for code in tries:
            page.evaluate(f"async (url) => {{ try {{ await ({code}); }} catch {{}} }}", f"{other.address}/x")
        page.wait_for_timeout(300)
        assert other.asked == []


def test_without_its_server_the_page_still_answers(browser, site):
    with opened(browser, site) as page:
        page.server.shutdown()
        page.server.server_close()
        page.reload()
        page.wait_for_function(READY)
        assert captions(page, SAMPLES / "astronaut.jpg") == [expected(SAMPLES / "astronaut.jpg")]


def test_threads_are_tried_where_the_page_is_isolated(page):
    assert page.evaluate("self.crossOriginIsolated")
    measured = json.loads(page.evaluate("document.body.dataset.measured"))
    assert measured[0]["engine"] == "WebAssembly, 1 thread"
    assert all(one["faceMs"] > 0 for one in measured)
    assert len(measured) == (2 if os.cpu_count() > 1 else 1)
    assert page.inner_text("#engine") == min(measured, key=lambda one: one["faceMs"])["engine"]


def test_it_fits_a_phone_and_the_keyboard_reaches_everything(page):
    captions(page, SAMPLES / "portraits.jpg")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.focus("#camera")
    reached = []
    for _ in range(2):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["files", "blur"]
    assert "8 faces" in page.get_attribute(".picture canvas", "aria-label")


def test_a_changed_model_makes_another_version_and_replaces_the_site(no_runtime, tmp_path):
    place = tmp_path / "site"
    first, again, other = (
        build_site(model, place, no_runtime).folder.joinpath("sw.js").read_text().splitlines()[0]
        for model in ("age-small", "age-small", "age-accurate")
    )
    assert first == again != other
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".ageexport")]


def test_what_is_no_site_is_not_replaced(no_runtime, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is not a site that was built here"):
        build_site("age-small", tmp_path / "mine", no_runtime)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_what_is_missing_is_said(no_runtime, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDependencyError, match="npm install onnxruntime-web"):
        runtime_folder()
    with pytest.raises(MissingDependencyError, match="npm install onnxruntime-web"):
        runtime_folder(tmp_path)
    with pytest.raises(ModelError, match="check it, or use"):
        build_site("age-tiny", tmp_path / "site", no_runtime)
    (no_runtime / "dist" / WASM_FILES[2]).unlink()
    with pytest.raises(MissingDependencyError, match="is not there"):
        build_site("age-small", tmp_path / "site", no_runtime)
    assert not (tmp_path / "site").exists()


def test_the_command(no_runtime, tmp_path):
    command = [
        sys.executable,
        "-m",
        "ageexport.web",
        "age-small",
        "-o",
        tmp_path / "s",
        "--onnxruntime-web",
        no_runtime,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{tmp_path}/s: age-small@int8, \d+ files, \d\.\d MB\n", done.stdout)
