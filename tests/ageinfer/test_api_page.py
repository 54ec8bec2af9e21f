"""The page to try the service, in a real browser."""

import base64
import json
import shlex
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest
from api_clients import TOKEN, place_of, post
from media_files import several
from web_browser import wait_for_text

pytest_plugins = ["api_clients", "web_browser", "media_files"]

YELLOW = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) count += data[i] > 245 && data[i + 1] > 210 && data[i + 2] < 90;
    return count;
}"""


def choose(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])


def test_it_shows_boxes_ages_and_the_answer(serve_api, page, astronaut_path):
    service = serve_api()
    page.goto(service.url)
    wait_for_text(page, "#status", "age-small@int8 on cpu")
    assert page.locator("#token-form").is_hidden()
    choose(page, astronaut_path, astronaut_path.with_name("README.md"), astronaut_path.with_name("portraits.jpg"))
    page.wait_for_selector("figure >> nth=2")
    first, text, many = page.locator("figure").all()
    [record] = post(service, astronaut_path.read_bytes()).pictures
    [face] = record["faces"]
    assert "astronaut.jpg" in first.inner_text()
    assert "512 \N{MULTIPLICATION SIGN} 512 · 1 face" in first.inner_text()
    assert f"{face['age']:.1f} ± {face['age_std']:.1f}" in first.inner_text()
    assert first.locator("canvas").get_attribute("aria-label") == (
        f"astronaut.jpg: 1 face, {face['age']:.0f} ± {face['age_std']:.0f} years"
    )
    x, y, w, h = face["box"]
    assert first.locator("canvas").evaluate(YELLOW) > 2 * (w + h)
    edge = first.locator("canvas").evaluate(
        "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]", [int(x + w / 2), int(y + h)]
    )
    assert (edge[0] > 240, edge[2] < 120) == (True, True), "the lower edge of the box"
    assert "README.md: the picture cannot be decoded" in text.inner_text()
    assert text.locator("canvas").count() == 0
    assert "8 faces" in many.inner_text()
    assert many.locator("tbody tr").count() == 8
    shown = json.loads(page.inner_text("#answer"))["pictures"]
    assert shown[0] == record | {"source": "astronaut.jpg"}
    assert page.inner_text("#took").startswith("200, after ")
    assert {urlsplit(url).netloc for url in page.requests} == {"{}:{}".format(*place_of(service))}
    assert page.complaints == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_line_for_curl_gives_the_same_answer(serve_api, page, astronaut_path, tmp_path):
    service = serve_api(token=TOKEN)
    for name in ("plain.jpg", 'it\'s "odd" & $HOME.jpg'):
        shutil.copy(astronaut_path, tmp_path / name)
    page.goto(service.url)
    wait_for_text(page, "#status", "age-small")  # the cookie from the address holds the token
    page.goto(service.url.partition("?")[0])
    choose(page, *sorted(tmp_path.iterdir()))
    page.wait_for_selector("figure >> nth=1")
    line = page.inner_text("#curl").replace("\\\n", "")
    words = [*shlex.split(line), "-s", "-H", f"Authorization: Bearer {TOKEN}"]
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, check=True, timeout=30)
    names = [record["source"] for record in json.loads(done.stdout)["pictures"]]
    assert names == ["it's %22odd%22 & $HOME.jpg", "plain.jpg"]  # browsers and curl write quotation marks so
    assert json.loads(done.stdout) == json.loads(page.inner_text("#answer"))


def test_it_asks_for_the_token_where_one_is_needed(serve_api, page, astronaut_path):
    service = serve_api(token=TOKEN)
    page.goto(service.url.partition("?")[0])
    wait_for_text(page, "#status", "It needs its token")
    assert "$AGEINFER_TOKEN" in page.inner_text("#curl")
    choose(page, astronaut_path)
    wait_for_text(page, "#problem", "Authorization: Bearer")
    assert page.locator("figure").count() == 0
    page.fill("#token", "x" * 32)
    page.press("#token", "Enter")
    wait_for_text(page, "#status", "This is not its token")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    wait_for_text(page, "#status", "age-small")
    choose(page, astronaut_path)
    wait_for_text(page, "#pictures", "1 face")
    assert page.locator("#problem").is_hidden()


def test_the_token_leaves_the_address(serve_api, page):
    service = serve_api(token=TOKEN)
    page.goto(service.url)
    wait_for_text(page, "#status", "age-small")
    assert page.url == service.url.partition("?")[0]
    assert page.locator("#token-form").is_hidden()


def test_pictures_can_be_dropped_and_names_are_only_text(serve_api, page, astronaut_path):
    page.goto(serve_api().url)
    wait_for_text(page, "#status", "age-small")
    page.evaluate(
        """data => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "<img src=x onerror=alert(1)>.jpg"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
        }""",
        base64.b64encode(astronaut_path.read_bytes()).decode(),
    )
    wait_for_text(page, "#pictures", "<img src=x onerror=alert(1)>.jpg")
    assert page.locator("main img").count() == 0
    assert page.complaints == []


def test_what_the_browser_cannot_show_has_its_boxes_all_the_same(serve_api, page, astronaut, tmp_path):
    path = several(tmp_path / "face.tif", [astronaut])
    page.goto(serve_api().url)
    choose(page, path)
    wait_for_text(page, "#pictures", "this browser does not show this format")
    assert page.locator("canvas").evaluate(YELLOW) > 100


def test_it_is_usable_by_keyboard_and_narrow(serve_api, page, astronaut_path):
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(serve_api().url)
    wait_for_text(page, "#status", "age-small")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    choose(page, astronaut_path)
    page.wait_for_selector("figure")
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"curl", "copy-curl", "answer", "copy-answer", "Metrics"} <= reached
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_it_says_when_the_service_is_gone(serve_api, page, astronaut_path):
    service = serve_api()
    page.goto(service.url)
    wait_for_text(page, "#status", "age-small")
    service.close()
    choose(page, astronaut_path)
    wait_for_text(page, "#problem", "does not answer")
