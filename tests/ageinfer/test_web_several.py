"""The page of several sources: a tile for each, and behind it the page of one."""

from contextlib import closing
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from web_browser import PICTURE_IS_THERE, wait_for_text
from web_viewers import FACES, ask, events_of, face, number_in, pictures_of, status_of, wait_for, writing

from ageinfer.people import Places
from ageinfer.people.board import Board, Boards
from ageinfer.web import make_token

pytest_plugins = ["web_viewers", "web_browser"]

SOURCES = ("door", "<b>hall</b>")


@pytest.fixture
def both(serve, make_frame):
    """A sink of two sources, which both get frames; the second has one face."""
    boards = Boards(Board(Places()), {name: Board(Places()) for name in SOURCES})
    sink = serve(sources=SOURCES, boards=boards)
    sink.boards = boards
    with (
        writing(sink, make_frame, source=SOURCES[0]),
        writing(sink, make_frame, source=SOURCES[1], faces=[face(1, 30, 31)]),
    ):
        yield sink


def test_each_source_has_streams_of_its_own(both):
    for number, name in enumerate(SOURCES):
        with closing(ask(both, f"/events?view=x&source={number}")) as answer:
            events = events_of(answer)
            hello = next(values for event, values in events if event == "hello")
            assert (hello["source"], hello["several"]) == (name, True)
            states = (values for event, values in events if event == "state" and values["source"])
            assert {values["source"] for values, _ in zip(states, range(5), strict=False)} == {name}
        with closing(ask(both, f"/stream.mjpg?view=x&source={number}")) as answer:
            assert next(pictures_of(answer)).shape == (480, 640, 3)
        with closing(ask(both, f"/picture.jpg?source={number}&frame=3")) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert answer.read()[:2] == b"\xff\xd8"


@pytest.mark.parametrize("number", ["2", "-1", "x", "", "9" * 500, "\N{SUPERSCRIPT TWO}"])
def test_a_source_that_is_not_there_is_not_found(both, number):
    for path in ("/events", "/stream.mjpg", "/picture.jpg"):
        assert status_of(both, f"{path}?source={quote(number)}") == 404


def test_the_overview_tells_the_state_of_all(both):
    with closing(ask(both, "/overview")) as answer:
        events = events_of(answer)
        _, hello = next(events)
        assert hello["sources"] == list(SOURCES)
        for _, state in events:
            faces = [source["faces"] for source in state["sources"]]
            if faces == [2, 1]:
                break
    assert all(source["size"] == [640, 480] and source["fps"] > 0 for source in state["sources"])


def test_places_are_those_of_the_source_that_is_named(both):
    assert status_of(both, "/places?source=1&zone=left=0,0;0.5,0;0.5,1", "POST") == 204
    assert [len(both.boards.of(name).places.zones) for name in SOURCES] == [0, 1]


def test_a_source_without_pictures_is_told_so(serve):
    sink = serve(sources=SOURCES)
    with closing(ask(sink, "/picture.jpg?source=1")) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_one_source_has_no_overview(serve):
    sink = serve()
    assert status_of(sink, "/overview") == 404
    with closing(ask(sink, "/")) as answer:
        assert b'id="picture"' in answer.read()


def test_tiles_show_all_sources_and_lead_to_each(both, page):
    page.goto(both.url)
    wait_for_text(page, "#status", "Live")
    for number, (name, words) in enumerate(zip(SOURCES, ("2 faces", "1 face"), strict=True)):
        tile = page.locator(".tile").nth(number)
        wait_for(lambda tile=tile, words=words: page.wait_for_timeout(50) or words in tile.inner_text())
        assert tile.locator("b").inner_text() == name
        image = tile.locator("img")
        wait_for(lambda image=image: page.wait_for_timeout(50) or image.evaluate("one => one.naturalWidth") == 640)
        first = image.get_attribute("src")
        wait_for(lambda image=image, first=first: page.wait_for_timeout(50) or image.get_attribute("src") != first)
    page.locator(".tile").nth(1).click()
    wait_for_text(page, "#source", SOURCES[1])
    wait_for_text(page, "#count", "1 face in the picture")
    page.wait_for_function(PICTURE_IS_THERE)
    page.click("#all")
    page.wait_for_selector(".tile")
    assert page.complaints == []


def test_a_source_that_is_lost_is_marked_and_the_others_go_on(serve, make_frame, page, monkeypatch):
    sink = serve(sources=SOURCES)
    with writing(sink, make_frame, source=SOURCES[1], faces=FACES):
        page.goto(sink.url)
        wait_for_text(page, "#status", "1 of 2 are live")
        assert "no picture yet" in page.locator(".tile").nth(0).inner_text()
        assert page.locator(".tile.stalled").count() == 1


def test_with_only_counts_tiles_have_no_picture(serve, make_frame, page):
    sink = serve(sources=SOURCES, only_counts=True, boards=Boards(Board(Places())))
    with writing(sink, make_frame, source=SOURCES[0]):
        page.goto(sink.url)
        wait_for_text(page, "#status", "1 of 2 are live")
        assert page.locator(".tile img").count() == 0
        assert status_of(sink, "/picture.jpg?source=0") == 404
        assert "face" not in page.locator(".tile").nth(0).inner_text()


def test_the_token_leads_from_the_tiles_to_a_source(serve, make_frame, page):
    sink = serve(sources=SOURCES, token=make_token())
    with writing(sink, make_frame, source=SOURCES[0]):
        page.goto(sink.url)
        page.wait_for_selector(".tile")
        assert "token" not in page.url
        page.locator(".tile").first.click()
        wait_for_text(page, "#status", "Live")
        assert page.url.endswith("/?source=0")


def test_a_tile_shows_a_new_picture(both):
    seen = set()
    for _ in range(3):
        with closing(ask(both, "/picture.jpg?source=0")) as answer:
            seen.add(number_in(cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)))
        wait_for(lambda before=both._feeds["door"].number: both._feeds["door"].number > before + 4)
    assert len(seen) == 3


def metrics_of(sink, **headers):
    """The metrics of a run, by name and source."""
    from prometheus_client.parser import text_string_to_metric_families

    with closing(ask(sink, "/metrics", **headers)) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        families = text_string_to_metric_families(answer.read().decode())
        return {(one.name, one.labels.get("source")): one.value for family in families for one in family.samples}


def test_prometheus_gets_frames_lag_and_faces_of_each_source(serve, make_frame):
    sink = serve(sources=SOURCES)
    for _ in range(7):
        sink.write(make_frame(source=SOURCES[0], latency_s=0.5))
    found = metrics_of(sink)
    assert found["ageinfer_frames_total", SOURCES[0]] == 7
    assert found["ageinfer_frames_total", SOURCES[1]] == 0
    assert 0.5 <= found["ageinfer_lag_seconds", SOURCES[0]] < 5
    assert found["ageinfer_faces_in_view", SOURCES[0]] == 2
    assert 0 <= found["ageinfer_since_frame_seconds", SOURCES[0]] < 5
    assert ("ageinfer_since_frame_seconds", SOURCES[1]) not in found
    assert found["ageinfer_build_info", None] == 1
    assert found["process_resident_memory_bytes", None] > 1e6
    sink.write(make_frame(source=SOURCES[0], faces=[]))
    assert metrics_of(sink)["ageinfer_faces_in_view", SOURCES[0]] == 0


def test_metrics_need_the_token_and_tell_no_faces_where_only_counts_may_leave(serve, make_frame):
    token = make_token()
    sink = serve(sources=SOURCES, token=token, only_counts=True)
    sink.write(make_frame(source=SOURCES[0]))
    assert status_of(sink, "/metrics") == 401
    found = metrics_of(sink, Authorization=f"Bearer {token}")
    assert found["ageinfer_frames_total", SOURCES[0]] == 1
    assert not [name for name, _ in found if "faces" in name]
