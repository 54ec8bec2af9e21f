"""The site of `ageexport.web` in headless Chromium, asked about picture files."""

import asyncio
import base64
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ageexport.elsewhere.answers import Answers
from ageexport.elsewhere.comparing import Comparison
from ageexport.ladder import Rung
from ageexport.web.building import build_site, runtime_folder
from ageexport.web.serving import IsolatingHandler, served
from ageinfer.engine.modelfile import METADATA_KEY, metadata_properties
from ageinfer.errors import MissingDependencyError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# A GPU that is computed by the processor, for machines without one.
_SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader")
CHROMIUM_ARGUMENTS = (
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--force-color-profile=srgb",
)  # fmt: skip

# In the page: which engines there are; one of them opened; and one picture, its crops as text.
_WAYS = "async () => (await import('./engine.js')).waysHere({ softwareGpu: true })"
_OPEN = """async (way) => {
    self.proved?.worker.terminate();
    self.proved = await (await import('./engine.js')).openEngine(way);
    const { name, fastestMs, metadata } = self.proved;
    const software = name === 'WebGPU' && (await navigator.gpu.requestAdapter()).info.isFallbackAdapter;
    return { name: software ? 'WebGPU in software' : name, fastestMs, metadata };
}"""
_LOOK = """async (number) => {
    const file = await (await fetch(`picture/${number}`)).blob();
    const { bitmap, faces } = await self.proved.picture(file, { crops: true });
    bitmap.close();
    const text = ({ data }) => {
        let binary = '';
        for (let i = 0; i < data.length; i += 8192) binary += String.fromCharCode(...data.subarray(i, i + 8192));
        return btoa(binary);
    };
    return faces.map((face) => ({ ...face, crop: text(face.crop) }));
}"""
_LATE = """() => new Promise((_, reject) => {
    setTimeout(() => reject(new Error('it did not answer within two minutes')), 120_000);
})"""


class RefusedError(Exception):
    """The site does not take the model, or does not answer; the message says why."""


def chromium() -> str | None:
    """The path of the Chromium that is installed; None where there is none but perhaps Playwright's own."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def rungs(comparison: Comparison, runtime: Path | None = None) -> list[Rung]:
    """Compares the site's answers, by each engine that Chromium has here, with those of the runtime.

    Args:
        comparison: the file and the pictures.
        runtime: folder of onnxruntime-web, see `ageexport.web.building.runtime_folder`.
    """
    with tempfile.TemporaryDirectory(prefix="ageexport-") as folder:
        file, site = Path(folder, "model.onnx"), Path(folder, "site")
        file.write_bytes(comparison.model)
        try:
            build_site(file, site, runtime_folder(runtime), webgpu=True)
        except MissingDependencyError as error:
            return [comparison.not_measured("browser", str(error))]
        return site_rungs(site, comparison)


def site_rungs(site: Path, comparison: Comparison) -> list[Rung]:
    """Compares the answers of a site that is built, see `rungs`."""
    given_up = threading.Event()
    # Playwright refuses to work in a thread that has an event loop, as notebooks have.
    with ThreadPoolExecutor(1) as executor:
        try:
            return executor.submit(_site_rungs, site, comparison, given_up).result()
        finally:
            given_up.set()  # at Ctrl-C


def _site_rungs(site: Path, comparison: Comparison, given_up: threading.Event) -> list[Rung]:
    found = []
    try:
        with _opened(site, comparison.paths) as (page, browser):
            comparison.here()  # a picture that cannot be read is told before the browser is asked
            for way in page.evaluate(_WAYS):
                try:
                    name, there = _answers(page, way, comparison, given_up)
                except RefusedError as error:
                    found.append(comparison.refused(browser, str(error)))
                else:
                    found += comparison.rungs(there, f"{browser}, {name}")
    except MissingDependencyError as error:
        return [comparison.not_measured("browser", str(error))]
    return found


@contextmanager
def _opened(site: Path, paths: Sequence[Path]) -> Iterator[tuple[Any, str]]:
    """A page of the site that can fetch the pictures, and the name and version of the browser.

    Raises:
        MissingDependencyError: there is no browser, or it does not start.
    """
    try:
        from playwright import sync_api
    except ImportError:
        raise MissingDependencyError(
            "the package playwright is not installed; pip install 'ageinfer[browser]'"
        ) from None

    def give(route: Any) -> None:
        number = route.request.url.rpartition("/")[2]
        route.fulfill(path=paths[int(number)])

    def empty(route: Any) -> None:
        # Ctrl-C also ends Playwright's own process, of which asyncio would complain.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        route.fulfill(body="<!DOCTYPE html>", content_type="text/html", headers=IsolatingHandler.HEADERS)

    with sync_api.sync_playwright() as engine, served(site, IsolatingHandler) as address:
        try:
            browser = engine.chromium.launch(executable_path=chromium(), args=[*CHROMIUM_ARGUMENTS, *_SOFTWARE_GPU])
        except sync_api.Error as error:
            raise MissingDependencyError(f"Chromium does not start: {str(error).strip().splitlines()[0]}") from error
        context = browser.new_context(service_workers="block")
        context.route("**/picture/*", give)
        context.route("**/empty.html", empty)
        page = context.new_page()
        page.goto(f"{address}empty.html")
        yield page, f"Chromium {browser.version.partition('.')[0]}"
        browser.close()


def _answers(
    page: Any, way: Sequence[Any], comparison: Comparison, given_up: threading.Event
) -> tuple[str, Answers]:  # fmt: skip
    """What one engine is called, and what it answers in its time.

    Raises:
        RefusedError: it does not open the models, has another one, or does not answer.
    """
    opened = _evaluated(page, _OPEN, way)
    metadata = json.loads(metadata_properties(comparison.model)[METADATA_KEY])
    if opened["metadata"]["graph_sha256"] != metadata["graph_sha256"]:
        raise RefusedError("the site has another model")
    size = metadata["crop"]["size"]
    faces: list[Any] = []
    end = time.monotonic() + comparison.seconds
    looked = 0
    while looked < len(comparison.paths) and time.monotonic() < end and not given_up.is_set():
        for face in _evaluated(page, _LOOK, looked):
            crop = np.frombuffer(base64.b64decode(face["crop"]), np.uint8).reshape(size, size, 3)
            faces.append((looked, face["box"], crop, face["age"], face["age_std"]))
        looked += 1
    return opened["name"], Answers.of(faces, size, looked, opened["fastestMs"])


def _evaluated(page: Any, code: str, argument: Any) -> Any:
    """What a function of the page gives; one that gives nothing for too long is refused, too."""
    from playwright.sync_api import Error

    try:
        return page.evaluate(f"(argument) => Promise.race([({code})(argument), ({_LATE})()])", argument)
    except Error as error:
        raise RefusedError(str(error).strip().splitlines()[0]) from error
