"""What viewers cost: one encoding for all, and nobody is held up by a slow viewer."""

import asyncio
import http.client
import itertools
import statistics
import threading
import time
import weakref
from contextlib import closing

import pytest
from web_viewers import ask, events_of, never_read, number_in, pictures_of, status_of, wait_for, writing

from ageinfer.web import encoder, feed, streams

pytest_plugins = ["web_viewers"]


def test_without_a_viewer_nothing_is_drawn_or_encoded(serve, make_frame, monkeypatch):
    monkeypatch.setattr(encoder, "encode", lambda *_: pytest.fail("encoded"))
    sink = serve()
    events = events_of(ask(sink, "/events"))  # state alone needs no picture
    frames = [make_frame() for _ in range(20)]
    for frame in frames:
        sink.write(frame)
        time.sleep(0.01)
    next(events), next(events)
    assert not any("image" in vars(frame) for frame in frames)


def test_several_viewers_cost_one_encoding(serve, make_frame, monkeypatch):
    encoded = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda image, *rest: encoded.append(1) or encode(image, *rest))
    sink = serve(max_fps=20)
    seen = [[] for _ in range(4)]

    def view(numbers):
        numbers.extend(number_in(image) for image in itertools.islice(pictures_of(ask(sink, "/stream.mjpg")), 15))

    viewers = [threading.Thread(target=view, args=(numbers,)) for numbers in seen]
    with writing(sink, make_frame, fps=20):
        for viewer in viewers:
            viewer.start()
        for viewer in viewers:
            viewer.join(10)
    assert [len(numbers) for numbers in seen] == [15] * 4
    assert all(sorted(set(numbers)) == numbers for numbers in seen), "a picture came twice or too late"
    assert len(encoded) < 15 * 2


def test_a_viewer_that_never_reads_delays_nobody_and_is_given_nothing_to_keep(serve, make_frame):
    sink = serve()
    alive = weakref.WeakSet()
    seen = []

    def view():
        for image in pictures_of(ask(sink, "/stream.mjpg")):
            seen.append(number_in(image))

    with never_read(sink):
        viewer = threading.Thread(target=view, daemon=True)
        viewer.start()
        seconds = []
        for _ in range(300):
            frame = make_frame()
            alive.add(frame)
            began = time.perf_counter()
            sink.write(frame)
            seconds.append(time.perf_counter() - began)
            del frame
            time.sleep(0.01)
        assert statistics.median(seconds) < 0.002
        assert len(seen) > 15, "the other viewer was held up"
        assert len(alive) <= 4
        held = [c.transport.get_write_buffer_size() for c in sink._server._server.server_state.connections]
        assert len(held) == 2
        assert max(held) < 300_000, "more than one picture is kept for a viewer"
        assert seen[-1] != seen[-5]


def test_a_slow_viewer_skips_pictures_and_gets_new_ones(serve, make_frame):
    sink = serve(max_fps=50, jpeg_quality=95)
    with never_read(sink) as viewer, writing(sink, make_frame, fps=25):
        answer = http.client.HTTPResponse(viewer)
        answer.begin()
        ages = []
        [newest] = sink._feeds.values()
        for image in itertools.islice(pictures_of(answer), 8):
            ages.append((newest.number - 1 - number_in(image)) % 64)
            time.sleep(0.25)
    # It took 4 of 25 a second: had all been kept for it, the last would be more than 40 frames old.
    assert max(ages) < 16, ages


def test_the_next_picture_is_chosen_when_the_viewer_is_ready_for_it():
    async def stall() -> list[bytes]:
        kept = feed.Feed()
        hub = streams.Hub(kept, {}, interval_s=0.0)
        stream = streams.Stream("image/jpeg", hub.pictures, closing=asyncio.Event(), abort=lambda _: None)
        ready, sent = asyncio.Event(), []
        ready.set()

        async def send(message):
            await ready.wait()  # as uvicorn does, while what was sent before has not left
            sent.append(message.get("body", b"").partition(b"\r\n")[0])
            if sent[-1] == b"one":
                ready.clear()

        scope = {"method": "GET", "client": ("127.0.0.1", 1), "query_string": b""}
        serving = asyncio.create_task(stream(scope, asyncio.Event().wait, send))
        for number, jpeg in enumerate((b"one", b"two", b"three"), start=1):
            kept.number = number
            hub.publish(encoder.Picture(number, jpeg, time.monotonic()))
            await asyncio.sleep(0.05)
        ready.set()
        await asyncio.sleep(0.05)
        serving.cancel()
        return [body for body in sent if body in (b"one", b"two", b"three")]

    assert asyncio.run(stall()) == [b"one", b"three"]


def test_one_viewer_who_waits_for_nothing_causes_no_encoding(serve, make_frame, monkeypatch):
    encoded = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda image, *rest: encoded.append(1) or encode(image, *rest))
    sink = serve(max_fps=100, jpeg_quality=95)
    counts = []
    with never_read(sink), writing(sink, make_frame, fps=50):
        while len(counts) < 20 and (len(counts) < 3 or counts[-1] == 0 or len(set(counts[-3:])) > 1):
            time.sleep(0.5)  # until its buffers are full, and the rest is silence
            counts.append(len(encoded))
    assert 0 < counts[-1] < 10
    assert len(counts) < 20


def test_places_are_limited_and_become_free_again(serve, make_frame, monkeypatch):
    monkeypatch.setattr(streams, "MAX_VIEWERS", 3)
    sink = serve()
    sink.write(make_frame())
    viewers = [ask(sink, "/stream.mjpg") for _ in range(3)]
    with closing(ask(sink, "/stream.mjpg")) as answer:
        assert answer.status == 503
        assert b"3 others are watching" in answer.read()
    assert status_of(sink, "/events") == 200  # counted on their own
    viewers.pop().close()
    wait_for(lambda: status_of(sink, "/stream.mjpg") == 200)


def test_a_viewer_that_takes_nothing_for_long_loses_its_place(serve, make_frame, monkeypatch, caplog):
    monkeypatch.setattr(streams, "MAX_VIEWERS", 1)
    monkeypatch.setattr(streams, "STALL_S", 0.3)
    sink = serve(jpeg_quality=95)
    with never_read(sink), writing(sink, make_frame):
        wait_for(lambda: status_of(sink, "/stream.mjpg") == 503)
        wait_for(lambda: status_of(sink, "/stream.mjpg") == 200)
    assert not caplog.records
