"""The web page in a real browser."""

import colorsys
import re
import time
from dataclasses import replace
from urllib.parse import urlsplit

import cv2
import numpy as np
from conftest import ROOT
from web_browser import PICTURE_IS_THERE, wait_for_text
from web_viewers import INFO, face, place_of, wait_for, writing

from ageinfer.sinks.draw import colour_of
from ageinfer.types import Over
from ageinfer.web import make_token

pytest_plugins = ["web_viewers", "web_browser"]

DASH = "\N{EN DASH}"


def shown_number(page) -> int:
    """The number, modulo 64, of the frame in the picture on the page."""
    return page.evaluate(
        """() => {
            const picture = document.getElementById("picture");
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
            canvas.getContext("2d").drawImage(picture, 0, 0);
            return Math.round(canvas.getContext("2d").getImageData(20, 8, 1, 1).data[0] / 4);
        }"""
    )


def coloured_pixels(page) -> dict[str, int]:
    """How many pixels of the plot have the colour of each swatch of the list."""
    colours = page.eval_on_selector_all(
        "#faces .swatch", "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    png = page.locator("#plot").screenshot()
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    wanted = {colour: [int(v) for v in colour.removeprefix("rgb(").rstrip(")").split(",")] for colour in colours}
    return {colour: int((np.abs(image - rgb).max(axis=2) < 25).sum()) for colour, rgb in wanted.items()}


def test_the_page_shows_the_run(serve, make_frame, page):
    sink = serve(token=make_token())
    with writing(sink, make_frame, latency_s=0.05):
        page.goto(sink.url)
        wait_for_text(page, "#status", "Live")
        assert page.url == sink.url.partition("?")[0], "the token stays in the address"
        page.wait_for_function(PICTURE_IS_THERE)
        first = shown_number(page)
        wait_for(lambda: page.wait_for_timeout(50) or shown_number(page) != first)
        rows = page.locator("#faces tbody tr").all_inner_texts()
        assert [row.split()[:-1] for row in rows] == [["3", "42", "±", "4"], ["7", "67", "±", "6"]]
        assert page.inner_text("#count") == "2 faces in the picture"
        assert 5 < float(page.inner_text("#fps")) < 30
        assert 50 <= int(page.inner_text("#latency").split()[0]) < 1000
        for place, text in (("provider", "CPUExecutionProvider"), ("detector", "yunet"), ("model", "age-small")):
            assert page.inner_text(f"#{place}") == text
        assert page.inner_text("#label").startswith("apparent age")
        assert page.inner_text("#source") == INFO.source
        assert INFO.source in page.title()
        assert page.locator("main script, header script").count() == 0
        assert INFO.source in page.get_attribute("#picture", "alt")
        assert page.locator("#picture").is_visible()
        page.wait_for_timeout(1000)
        pixels = coloured_pixels(page)
        assert len(pixels) == 2, "two tracks of one colour"
        assert min(pixels.values()) > 20
        assert page.locator("#plot").text_content().startswith("years")
        assert "estimates" in page.inner_text("footer")
    assert {urlsplit(url).netloc for url in page.requests} == {"{}:{}".format(*place_of(sink))}
    assert page.complaints == []


def test_a_track_has_the_colour_of_its_box_in_list_and_plot():
    css = (ROOT / "ageinfer" / "web" / "page.css").read_text()
    found = re.findall(r"--c(\d): #(\w\w)(\w\w)(\w\w)", css)
    themes = [{int(c): [int(v, 16) / 255 for v in rgb] for c, *rgb in found[i : i + 7]} for i in (0, 7)]
    for track in range(20):
        blue, green, red = (v / 255 for v in colour_of(face(track, 30, 30)))
        box_hue = colorsys.rgb_to_hsv(red, green, blue)[0]
        for theme in themes:
            turn = abs(colorsys.rgb_to_hsv(*theme[track % 7])[0] - box_hue)
            assert min(turn, 1 - turn) < 0.04, f"track {track}"


def test_a_new_viewer_sees_the_last_minute_and_a_reload_changes_nothing(serve, make_frame, page):
    sink = serve(token=make_token())
    with writing(sink, make_frame):
        time.sleep(2)
        for open_page in (lambda: page.goto(sink.url), page.reload):
            open_page()
            wait_for_text(page, "#faces", "42")
            assert len(page.get_attribute("#plot .age >> nth=0", "d").split("L")) > 8
            page.wait_for_function(PICTURE_IS_THERE)
    assert page.complaints == []


def test_faces_without_tracks_are_listed_and_not_plotted(serve, make_frame, page):
    sink = serve()
    sink.write(make_frame([face(None, 33.4, None)], source="folder/one.jpg"))
    page.goto(sink.url)
    wait_for_text(page, "#faces", "33")
    assert page.locator("#faces tbody tr").inner_text().split() == [DASH, "33", "±", "4", DASH]
    wait_for_text(page, "#caption", "folder/one.jpg")
    assert page.inner_text("#latency") == DASH
    assert page.locator("#plot .age").count() == 0
    assert "not tracked" in page.locator("#plot").text_content()
    # A single picture shows although no other follows it.
    page.wait_for_function(PICTURE_IS_THERE)
    sink.write(make_frame([]))
    wait_for_text(page, "#count", "No face in the picture")
    assert page.locator("#faces").is_hidden()


def test_the_page_says_when_the_device_is_gone_and_comes_back_by_itself(serve, make_frame, page):
    sink = serve()
    with writing(sink, make_frame):
        page.goto(sink.url)
        wait_for_text(page, "#status", "Live")
        page.wait_for_selector("body.has-picture")
    sink.close()
    wait_for_text(page, "#status", "The run on the device has ended")
    assert set(page.evaluate("document.body.className").split()) == {"lost", "has-picture"}
    again = serve(port=place_of(sink)[1])
    with writing(again, make_frame, faces=[face(1, 20.1, 21.2)]):
        wait_for_text(page, "#status", "Live")
        wait_for_text(page, "#faces", "21")
        before = shown_number(page)
        wait_for(lambda: page.wait_for_timeout(50) or shown_number(page) != before)
        assert page.locator("#plot .age").count() == 1


def test_the_page_notices_broken_connections(serve, make_frame, page):
    sink = serve()
    server = sink._server._server

    def cut(path):
        for connection in list(server.server_state.connections):
            if connection.scope and connection.scope["path"] == path:
                connection.transport.abort()

    with writing(sink, make_frame):
        page.goto(sink.url)
        wait_for_text(page, "#status", "Live")
        page.wait_for_function(PICTURE_IS_THERE)  # else there is nothing to cut yet
        # Browsers do not tell a page that its pictures have stopped.
        server.loop.call_soon_threadsafe(cut, "/stream.mjpg")
        wait_for(lambda: page.wait_for_timeout(50) or any("opened=2" in url for url in page.requests))
        before = shown_number(page)
        wait_for(lambda: page.wait_for_timeout(50) or shown_number(page) != before)
        server.loop.call_soon_threadsafe(cut, "/events")
        wait_for_text(page, "#status", "Connection to the device lost")
        wait_for_text(page, "#status", "Live")


def test_a_page_that_is_not_seen_takes_no_place(serve, make_frame, page):
    def hide(hidden):
        page.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    def watching() -> int:
        connections = list(sink._server._server.server_state.connections)
        return sum(1 for c in connections if c.cycle and not c.cycle.response_complete)

    sink = serve()
    with writing(sink, make_frame):
        page.goto(sink.url)
        wait_for_text(page, "#status", "Live")
        wait_for(lambda: page.wait_for_timeout(50) or watching() == 2)
        hide(True)
        wait_for(lambda: page.wait_for_timeout(50) or watching() == 0)
        hide(False)
        wait_for(lambda: page.wait_for_timeout(50) or watching() == 2)
        page.wait_for_function(PICTURE_IS_THERE)


def test_the_page_shows_whether_somebody_has_reached_an_age_where_that_was_asked(serve, make_frame, page):
    sink = serve()
    page.goto(sink.url)
    sink.write(make_frame([face(3, 42.0, 42.0)]))
    wait_for_text(page, "#faces", "42")
    assert page.locator("#asked").is_hidden()
    sink.write(make_frame([replace(face(3, 42.0, 42.0), over=Over(18, 0.99, "refer", "quality")), face(7, 67.0, 67.0)]))
    wait_for_text(page, "#asked", "Over 18?")
    assert page.locator("#faces tbody tr .answer").all_inner_texts() == ["refer", ""]
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.getElementById('rows').scrollWidth <= document.getElementById('rows').clientWidth")
