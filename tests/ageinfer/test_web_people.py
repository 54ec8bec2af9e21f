"""Audience, zones and lines on the page."""

import itertools
import json
import re
from contextlib import closing
from urllib.parse import quote

import numpy as np
import pytest
from made_results import all_of, film, walk
from web_browser import wait_for_text
from web_viewers import ask, events_of, status_of, wait_for, writing

from ageinfer.people import Audience, Places
from ageinfer.people.board import Board, Boards
from ageinfer.sinks.draw import AnnotatedFrame

pytest_plugins = ["web_viewers", "web_browser"]

EVERY_PLACE = Places.parse(["left=0,0;0.5,0;0.5,1;0,1"], ["door=0.5,1;0.5,0"])
WINDOWS = [
    window.to_record()
    for window in all_of(
        Audience(10, places=EVERY_PLACE),
        film(walk(1, 0, 4, age=15, std=2), walk(2, 2, 6, age=40), walk(3, 12, 16, age=70), to_s=19),
    )
]


@pytest.fixture
def board():
    made = Board(EVERY_PLACE)
    for window in WINDOWS:
        made.show_ended(window)
    return made


@pytest.fixture
def make_placed(make_frame, board):
    """Frames as a run makes them, with the places of the board."""

    def make():
        annotated = make_frame()
        return AnnotatedFrame(annotated.frame, annotated.result, places=board.places)

    return make


def events_until(sink, name, most=20):
    """The events so far, up to the first one of this name."""
    with closing(ask(sink, "/events?view=v")) as answer:
        found = []
        for event in itertools.islice(events_of(answer), most):
            found.append(event)
            if event[0] == name:
                return found
    raise AssertionError(f"no {name} in {found}")


def test_the_page_shows_an_audience_and_each_of_its_windows(serve, make_placed, page, board):
    sink = serve(boards=Boards(board))
    with writing(sink, make_placed):
        page.goto(sink.url)
        wait_for_text(page, "#audience", "1 person, ")
        assert page.locator("#window option").all_inner_texts() == ["00:00:10 to 00:00:19", "00:00:00 to 00:00:10"]
        rows = [row.split("\t") for row in page.locator("#bands tr").all_inner_texts()]
        assert [row[0].strip() for row in rows] == [band["ages"] for band in WINDOWS[1]["bands"]]
        assert re.match(r"0\.8 \(0 to 1\)|0\.9 \(0 to 1\)", rows[-1][-1].strip())
        page.select_option("#window", index=1)
        wait_for_text(page, "#total", "2 people")
        assert "door: 0 to the left, 2 to the right" in page.inner_text("#crossings")
        page.select_option("#place", label="left")
        wait_for_text(page, "#total", "2 people, ")
        widths = page.eval_on_selector_all("#bands i", "all => all.map(one => one.getBoundingClientRect().width)")
        assert max(widths) > 20
        board.show_current(WINDOWS[0] | {"from_s": 20.0, "to_s": 22.0})
        wait_for_text(page, "#window", "00:00:20 to 00:00:22, so far")
        assert page.locator("#window").evaluate("one => one.selectedIndex") == 2  # the same window as before
        assert page.complaints == []


def test_a_zone_and_a_line_are_set_by_clicking_and_printed_as_options(serve, make_placed, page, board):
    sink = serve(boards=Boards(board))
    with writing(sink, make_placed):
        page.goto(sink.url)
        page.wait_for_function("() => document.getElementById('picture').naturalWidth === 640")

        def click(x, y):
            area = page.locator("#picture").bounding_box()
            width = min(area["width"], area["height"] * 640 / 480)
            height = width * 480 / 640
            left, top = area["x"] + (area["width"] - width) / 2, area["y"] + (area["height"] - height) / 2
            page.mouse.click(left + x * width, top + y * height)

        page.click("#add-zone")
        assert page.is_disabled("#place-done")
        for corner in ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75)):
            click(*corner)
        page.fill("#place-name", "left")
        page.click("#place-done")
        wait_for_text(page, "#place-said", "two places have the name left")
        page.fill("#place-name", "desk")
        page.click("#place-done")
        wait_for(lambda: len(board.places.zones) == 2)
        assert np.allclose(board.places.zones[1].corners, [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75)], atol=0.01)
        wait_for_text(page, "#place-list", f'--zone "{board.places.zones[1]}"')
        page.click("#add-line")
        click(0.1, 0.9)
        click(0.1, 0.1)
        page.fill("#place-name", "gate")
        page.press("#place-name", "Enter")
        wait_for(lambda: len(board.places.lines) == 2)
        assert np.allclose(board.places.lines[1].ends, [(0.1, 0.9), (0.1, 0.1)], atol=0.01)
        page.click("button[aria-label='Remove left']")
        wait_for(lambda: [zone.name for zone in board.places.zones] == ["desk"])
        page.click("#add-zone")
        page.keyboard.press("Escape")
        assert page.is_hidden("#place-form")
        complaints = [text for text in page.complaints if "400" not in text]  # the name that was refused
        assert complaints == []


@pytest.mark.parametrize(
    ("query", "status"),
    [("zone=new=0,0;1,0;1,1", 204), ("line=l=0,0;1,1", 204), ("remove=left", 204), ("remove=nothing", 204),
     ("zone=left=0,0;1,0;1,1", 400), ("zone=new", 400), ("line=", 400), ("", 400), ("other=1", 400)],
)  # fmt: skip
def test_places_are_changed_by_requests_and_nonsense_is_refused(serve, board, query, status):
    sink = serve(boards=Boards(board))
    name, _, value = query.partition("=")
    assert status_of(sink, f"/places?{name}={quote(value)}", "POST") == status


def test_only_the_page_itself_may_change_places(serve, board):
    sink = serve(boards=Boards(board))
    path = f"/places?zone={quote('x=0,0;1,0;1,1')}"
    assert status_of(sink, path, "POST", Origin="http://evil.example") == 403
    assert status_of(sink, path, "POST", Sec_Fetch_Site="cross-site") == 403
    assert status_of(sink, path) == 405
    assert len(board.places.zones) == 1


def test_a_page_of_counts_alone_has_no_picture_and_no_face(serve, make_placed, page, board):
    sink = serve(boards=Boards(board), only_counts=True)
    with writing(sink, make_placed):
        page.goto(sink.url)
        wait_for_text(page, "#audience", "1 person, ")
        for place in ("#picture", "#people", "#history", "#places"):
            assert page.is_hidden(place)
        assert not [address for address in page.requests if "stream.mjpg" in address]
        assert status_of(sink, "/stream.mjpg?view=v") == 404
        assert status_of(sink, "/places?remove=left", "POST") == 404
        wait_for(lambda: events_until(sink, "state")[-1][1]["frames"] > 5)
        events = events_until(sink, "state")
        assert [name for name, _ in events] == ["hello", "board", "state"]
        assert events[0][1]["history"] == []
        assert events[2][1]["faces"] == []
        assert not re.search(r"box|track|landmark|in_view_s|score", json.dumps(events))
        assert page.complaints == []
