"""A browser without a window, and a page in it."""

import shutil

import pytest

PICTURE_IS_THERE = "() => document.getElementById('picture').naturalWidth === 640"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    arguments = (
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync",
    )  # fmt: skip
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=chromium, args=list(arguments))
        yield running
        running.close()


@pytest.fixture
def page(browser):
    """A page that remembers what it asked for (`requests`) and what went wrong (`complaints`)."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    made = context.new_page()
    made.set_default_timeout(10_000)
    made.requests, made.complaints = [], []
    made.on("request", lambda request: made.requests.append(request.url))
    made.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: made.complaints.append(str(error)))
    yield made
    context.close()


def wait_for_text(page, place, text):
    page.wait_for_function(
        "([place, text]) => document.querySelector(place).innerText.includes(text)", arg=[place, text]
    )
