"""What viewers of the web page are sent: pictures and state."""

import time

import numpy as np
import pytest
from web_viewers import FACES, INFO, ask, events_of, face, number_in, pictures_of, writing

from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Frame, FrameResult
from ageinfer.web import feed

pytest_plugins = ["web_viewers"]


def test_pictures_are_the_annotated_frames_and_the_newest(serve, make_frame):
    sink = serve(max_fps=1000, jpeg_quality=95)
    for _ in range(5):
        sink.write(make_frame())
    pictures = pictures_of(ask(sink, "/stream.mjpg"))
    first = next(pictures)
    assert first.shape == (480, 640, 3)
    assert number_in(first) == 4
    newest = make_frame()
    sink.write(newest)
    second = next(pictures)
    assert np.abs(second.astype(int) - newest.image).mean() < 3
    drawn = (newest.image != newest.frame.image).any(axis=2)
    assert drawn.sum() > 1000
    to_drawn, to_plain = (
        np.abs(second.astype(int) - image)[drawn].mean() for image in (newest.image, newest.frame.image)
    )
    assert to_drawn < to_plain / 4, "nothing was drawn"


def test_pictures_are_scaled_down_to_the_largest_side(serve, make_frame):
    sink = serve(max_side=320)
    sink.write(make_frame())
    assert next(pictures_of(ask(sink, "/stream.mjpg"))).shape == (240, 320, 3)


def test_no_more_pictures_a_second_than_asked_for(serve, make_frame):
    sink = serve(max_fps=5)
    with writing(sink, make_frame, fps=40):
        pictures = pictures_of(ask(sink, "/stream.mjpg"))
        next(pictures)
        began = time.monotonic()
        for _ in range(5):
            next(pictures)
        assert time.monotonic() - began > 0.8


def test_state_is_the_record_with_rate_and_latency(serve, make_frame):
    sink = serve()
    with writing(sink, make_frame, fps=20, latency_s=0.25):
        time.sleep(1)
        events = events_of(ask(sink, "/events"))
        name, hello = next(events)
        assert name == "hello"
        assert (hello["model"], hello["label"], hello["provider"]) == (INFO.model, INFO.label, INFO.provider)
        assert hello["history"][0][1] == [[7, 67.2], [3, 41.7]]
        began = time.monotonic()
        states = [next(events) for _ in range(4)]
        assert time.monotonic() - began > 0.3, "too many a second"
    assert {name for name, _ in states} == {"state"}
    last = states[-1][1]
    in_view_s = pytest.approx(last["frame"] / 25, abs=0.01)
    assert last["faces"] == [one.to_record() | {"in_view_s": in_view_s} for one in FACES]
    assert (last["source"], last["size"]) == ("clip.mp4", [640, 480])
    assert 250 <= last["latency_ms"] < 500
    assert 10 < last["fps"] < 21
    assert last["frame"] > states[0][1]["frame"]
    assert last["picture_s"] is None  # it has no pictures sent to it


def test_before_the_first_frame_there_is_state_without_one(serve):
    events = events_of(ask(serve(), "/events"))
    next(events)
    _, state = next(events)
    assert (state["frame"], state["faces"], state["fps"], state["since_s"]) == (None, [], 0, None)


def test_without_new_frames_state_is_sent_once_a_second(serve):
    events = events_of(ask(serve(), "/events"))
    next(events), next(events)
    began = time.monotonic()
    assert next(events)[0] == "state"
    assert 0.7 < time.monotonic() - began < 3


def test_state_says_how_old_the_picture_of_a_viewer_is(serve, make_frame):
    sink = serve()
    sink.write(make_frame())
    pictures = pictures_of(ask(sink, "/stream.mjpg?view=mine"))
    next(pictures)
    for view, sees_pictures in (("mine", True), ("other", False)):
        events = events_of(ask(sink, f"/events?view={view}"))
        next(events)
        seconds = next(events)[1]["picture_s"]
        assert 0 <= seconds < 5 if sees_pictures else seconds is None


def test_a_face_without_a_finite_age_does_not_end_the_stream(serve, make_frame):
    sink = serve()
    sink.write(make_frame([face(1, float("nan"), float("inf"))]))
    events = events_of(ask(sink, "/events"))
    assert next(events)[1]["history"] == []
    assert next(events)[1]["faces"][0]["age"] is None


FRAME = AnnotatedFrame(
    Frame("clip.mp4", 0, 0.0, np.zeros((4, 4, 3), np.uint8)), FrameResult("clip.mp4", 0, 0.0, (4, 4), FACES)
)


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_history_is_a_minute_of_small_records(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(feed, "time", clock)
    kept = feed.Feed()
    for _ in range(100 * 30):
        clock.now += 1 / 30
        kept.put(FRAME)
    history = kept.history()
    assert 240 <= len(history) <= 300
    assert history[-1][0] == pytest.approx(100, abs=0.3)
    assert history[0][0] >= 40
    assert kept.state()["fps"] == pytest.approx(30, abs=0.1)
    clock.now += 61
    assert kept.history() == []
    assert kept.state()["fps"] < 0.1


def put_all(kept, seconds, *tracks, source="clip.mp4"):
    """Puts a frame for each of these times of the source."""
    image, faces = np.zeros((4, 4, 3), np.uint8), tuple(face(track, 30.0, 30.0) for track in tracks)
    for at_s in seconds:
        result = FrameResult(source, 0, at_s, (4, 4), faces)
        kept.put(AnnotatedFrame(Frame(source, 0, at_s, image), result))


def in_view_s(kept) -> dict:
    return {one["track"]: one["in_view_s"] for one in kept.state()["faces"]}


def test_time_in_view_counts_from_the_first_frame_of_a_track_and_over_short_absences():
    kept = feed.Feed()
    put_all(kept, range(100), 1, None)
    assert in_view_s(kept) == {1: 99, None: None}
    put_all(kept, (100, 108), 2)
    assert in_view_s(kept) == {2: 8}
    put_all(kept, (109,), 1, 2)
    assert in_view_s(kept) == {1: 109, 2: 9}


def test_tracks_that_are_gone_are_forgotten():
    kept = feed.Feed()
    for track in range(2000):
        put_all(kept, (track / 10,), track)
    assert len(kept._tracks._seen_s) <= 101
    put_all(kept, (200,), 3)
    assert in_view_s(kept) == {3: 0}


def test_another_source_or_the_same_from_its_start_begins_a_new_part(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(feed, "time", clock)
    kept = feed.Feed()
    parts = []
    for source, seconds in (("a.mp4", (5, 6)), ("b.mp4", (7,)), ("b.mp4", (0,))):
        clock.now += 1
        put_all(kept, seconds, 1, source=source)
        parts.append((kept.state()["part"], in_view_s(kept)[1], len(kept.history())))
    assert parts == [(1, 1, 1), (2, 0, 1), (3, 0, 1)]


def test_the_rate_of_a_device_slower_than_a_frame_in_two_seconds(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(feed, "time", clock)
    kept = feed.Feed()
    for _ in range(4):
        clock.now += 4
        kept.put(FRAME)
    assert kept.state()["fps"] == 0.25
    clock.now += 20
    assert kept.state()["fps"] < 0.1
