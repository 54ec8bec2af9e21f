"""The web view, over real HTTP on loopback and in a real browser."""

import asyncio
import colorsys
import http.client
import itertools
import json
import logging
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import weakref
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("starlette", reason="the extra serve is not installed")

from ageinfer.errors import ExitStatus, MissingDependencyError, OutputError, UsageError
from ageinfer.sinks.draw import AnnotatedFrame, colour_of
from ageinfer.types import Age, Detection, Face, Frame, FrameResult
from ageinfer.web import WebInfo, WebSink, encoder, feed, make_token, streams

INFO = WebInfo("age-small", "apparent", "CPUExecutionProvider", "yunet", "<script>alert(1)</script>.mp4", "1.2.3")
TOKEN = make_token()
ANY_ADDRESS = "0.0.0.0"  # noqa: S104
DASH = "\N{EN DASH}"
PATHS = ("/", "/page.js", "/plot.js", "/page.css", "/icon.svg", "/events", "/stream.mjpg")


def face(track, raw, smoothed, std=4.2):
    return Face(Detection((220.0, 80.0, 110.0, 140.0), 0.93), Age(raw, std), track, smoothed)


FACES = (face(7, 60.4, 67.2, 5.6), face(3, 38.5, 41.7))


@pytest.fixture
def picture(astronaut):
    """The portrait, 640 x 480."""
    return cv2.resize(astronaut, (640, 480), interpolation=cv2.INTER_AREA)


@pytest.fixture
def make_frame(picture):
    """Makes the next frame of a clip; its first rows are as bright as its number says."""
    numbers = itertools.count()

    def make(faces=FACES, source="clip.mp4", latency_s=None) -> AnnotatedFrame:
        index = next(numbers)
        image = picture.copy()
        image[:16] = index % 64 * 4
        captured_s = None if latency_s is None else time.monotonic() - latency_s
        frame = Frame(source, index, index / 25, image, captured_s)
        return AnnotatedFrame(frame, FrameResult(source, index, index / 25, (640, 480), tuple(faces)))

    return make


@pytest.fixture
def serve():
    """Makes a `WebSink` on a free port of 127.0.0.1, closed at the end."""
    sinks = []

    def make(**options) -> WebSink:
        sinks.append(WebSink(**{"port": 0, "about": INFO, **options}))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@contextmanager
def writing(sink, make, fps=25, **options):
    """Writes frames as a camera gives them, as long as the block runs."""
    done = threading.Event()

    def work():
        while not done.wait(1 / fps):
            sink.write(make(**options))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def place_of(sink) -> tuple[str, int]:
    parts = urlsplit(sink.url)
    return parts.hostname, parts.port


def ask(sink, path="/", method="GET", **headers):
    """Asks once; gives the answer, of which the body may go on without end."""
    connection = http.client.HTTPConnection(*place_of(sink), timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def status_of(sink, path="/", method="GET", **headers) -> int:
    with closing(ask(sink, path, method, **headers)) as answer:
        return answer.status


def pictures_of(answer):
    """The pictures of a stream as they come, decoded."""
    boundary = b"\r\n--" + answer.headers["Content-Type"].partition("boundary=")[2].encode() + b"\r\n"
    data = b"\r\n"
    while more := answer.read1(65536):
        data += more
        *parts, data = data.split(boundary)
        for part in parts:
            if part:
                head, _, jpeg = part.partition(b"\r\n\r\n")
                assert head == b"Content-Type: image/jpeg"
                yield cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def events_of(answer):
    """The events of a stream as they come: name and values."""
    while line := answer.readline():
        name = line.decode().removeprefix("event: ").strip()
        yield name, json.loads(answer.readline().decode().removeprefix("data: "))
        answer.readline()


def number_in(image) -> int:
    """The number, modulo 64, of the frame that a picture was made of."""
    return round(float(image[4:12].mean()) / 4)


def never_read(sink, path="/stream.mjpg") -> socket.socket:
    """A viewer that asks, and never reads."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(place_of(sink))
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{place_of(sink)[1]}\r\n\r\n".encode())
    return viewer


def wait_for(condition, seconds=8.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# What viewers get


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
    assert last["faces"] == [one.to_record() for one in FACES]
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


# What it costs


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
        for image in itertools.islice(pictures_of(answer), 8):
            ages.append((sink._feed.number - 1 - number_in(image)) % 64)
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


# Beginning and end


def test_closing_waits_for_no_viewer_and_says_nothing(serve, make_frame, caplog):
    sink = serve(jpeg_quality=95)
    with never_read(sink), never_read(sink, "/events"), writing(sink, make_frame):
        events = events_of(ask(sink, "/events"))
        seen = []
        viewer = threading.Thread(target=lambda: seen.extend(pictures_of(ask(sink, "/stream.mjpg"))))
        viewer.start()
        next(events)
        time.sleep(0.5)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 2
        assert [name for name, _ in events][-1] == "end"
        viewer.join(1)
        assert seen
        assert not viewer.is_alive()
    names = {thread.name for thread in threading.enumerate()}
    assert names.isdisjoint({"ageinfer-web", "ageinfer-web-encoder"})
    assert not caplog.records
    with pytest.raises(ConnectionRefusedError):
        ask(sink)
    sink.write(make_frame())  # too late, but no error


def test_a_port_can_be_had_again_at_once_and_signals_are_left_alone(make_frame):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with WebSink(port=0, about=INFO) as sink:
        port = place_of(sink)[1]
        assert status_of(sink) == 200
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
        assert not sink.stop_requested
    with WebSink(port=port, about=INFO) as sink:
        assert sink.url == f"http://127.0.0.1:{port}/"
        assert status_of(sink) == 200


def test_a_port_that_is_taken_is_named_with_the_remedy(serve):
    port = place_of(serve())[1]
    with pytest.raises(OutputError, match=rf"port {port} of 127\.0\.0\.1 is taken; choose another, or 0"):
        serve(port=port)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": ANY_ADDRESS}, "0.0.0.0 can be reached from other machines: a token is needed"),
        ({"host": "::"}, "a token is needed"),
        ({"host": "192.0.2.7"}, "a token is needed"),
        ({"host": "no such host"}, "not a name or address of this machine"),
        ({"host": ""}, "not a name or address of this machine"),
        ({"port": 70000}, "port 70000"),
        ({"port": -1}, "port -1"),
        ({"token": ""}, "needs 16 to 256 letters"),
        ({"token": "short"}, "needs 16 to 256 letters"),
        ({"token": "a token; with=what cookies mean"}, "needs 16 to 256 letters"),
        ({"max_fps": 0}, "max_fps"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        WebSink(**{"port": 0, "about": INFO, **options})
    assert len(str(caught.value).splitlines()) == 1


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(OutputError, match=r"192\.0\.2\.7, port 0: cannot listen"):
        WebSink("192.0.2.7", 0, token=TOKEN, about=INFO)


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_a_missing_package_is_named_when_the_sink_is_made_and_not_before(package):
    code = f"""
import sys
import ageinfer.web
assert not {{"uvicorn", "starlette"}} & set(sys.modules)
sys.modules[{package!r}] = None
try:
    ageinfer.web.WebSink(port=0, about=None)
except ageinfer.errors.MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        f"the web view needs {package}, which is missing: pip install 'ageinfer[serve]'"
    ]
    assert MissingDependencyError.exit_status == ExitStatus.MISSING


# Who may ask


def test_every_answer_has_the_security_headers(serve):
    sink = serve(token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    answers = [ask(sink, path, **bearer) for path in (*PATHS, "/nothing")]
    answers += [ask(sink), ask(sink, method="POST"), ask(sink, Host="evil.example")]
    assert [answer.status for answer in answers] == [*[200] * len(PATHS), 404, 401, 405, 421]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy.pop("default-src") == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] is None
        assert answer.headers["Set-Cookie"] is None
        answer.close()


def test_head_is_answered_without_a_body(serve):
    sink = serve()
    for path in PATHS:
        with closing(ask(sink, path, "HEAD")) as answer:
            assert answer.status == 200
            assert answer.read() == b""


def test_other_methods_are_refused(serve):
    sink = serve()
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert [status_of(sink, path, method) for path in ("/", "/events", "/nothing")] == [405] * 3


def test_nothing_is_given_without_the_token(serve):
    sink = serve(token=TOKEN)
    port = place_of(sink)[1]
    assert sink.url == f"http://127.0.0.1:{port}/?token={TOKEN}"
    wrong = (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": f"ageinfer_{port}={TOKEN[:-1]}"},
        {"Cookie": f"ageinfer_{port + 1}={TOKEN}"},
        {"Cookie": "\xe9=;;;"},
    )
    wrong_queries = ("token=", f"token={TOKEN}x", f"other={TOKEN}", "token=%ff%00", f"token=x&token={TOKEN}")
    for path in (*PATHS, "/nothing"):
        for headers in wrong:
            with closing(ask(sink, path, **headers)) as answer:
                assert answer.status == 401
                assert answer.headers["Set-Cookie"] is None
                assert 0 < len(answer.read()) < 100
        assert [status_of(sink, f"{path}?{query}") for query in wrong_queries] == [401] * 5
    for path in PATHS:
        assert status_of(sink, path, Authorization=f"bearer {TOKEN}") == 200
        assert status_of(sink, path, Cookie=f"other=1; ageinfer_{port}={TOKEN}") == 200
        assert status_of(sink, f"{path}?token={TOKEN}") == 200


def test_the_token_becomes_a_cookie_and_stays_out_of_the_log(serve, make_frame, caplog):
    caplog.set_level(logging.DEBUG)
    sink = serve(token=TOKEN)
    sink.write(make_frame())
    with closing(ask(sink, f"/?token={TOKEN}")) as answer:
        cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert b"<title>ageinfer" in answer.read()
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(attributes)
    assert next(pictures_of(ask(sink, "/stream.mjpg", Cookie=cookie))) is not None
    with socket.create_connection(place_of(sink)) as raw:
        raw.sendall(f"GET /?token={TOKEN} nonsense\r\n\r\n".encode())
        assert b" 400 " in raw.recv(100)
    sink.close()
    assert TOKEN not in caplog.text


def test_tokens_cannot_be_guessed_and_are_taken():
    tokens = {make_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32
    with WebSink(port=0, about=INFO, token=tokens.pop()) as sink:
        assert status_of(sink, urlsplit(sink.url)._replace(scheme="", netloc="").geturl()) == 200


def test_a_server_of_this_machine_goes_by_its_names_only(serve):
    sink = serve()
    port = place_of(sink)[1]
    good = (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}")
    assert [status_of(sink, "/events", Host=host) for host in good] == [200] * 4
    bad = ("evil.example", f"evil.example:{port}", "127.0.0.1", f"localhost:{port + 1}", f"localhost.:{port}", "")
    assert [status_of(sink, "/events", Host=host) for host in bad] == [421] * 6
    with socket.create_connection(place_of(sink)) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 421 " in raw.recv(100)


def test_a_server_for_other_machines_goes_by_any_name_with_its_token():
    with WebSink(ANY_ADDRESS, 0, token=TOKEN, about=INFO) as sink:
        host, port = place_of(sink)
        assert host != ANY_ADDRESS
        assert sink.url.endswith(f":{port}/?token={TOKEN}")
        local = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for path, status in ((f"/?token={TOKEN}", 200), ("/", 401)):
            local.request("GET", path, headers={"Host": "camera.example"})
            answer = local.getresponse()
            answer.read()
            assert answer.status == status
        local.close()


def test_foreign_pages_may_link_but_not_load(serve):
    sink = serve()
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert status_of(sink, "/", **cross, Sec_Fetch_Dest="document") == 200
    assert status_of(sink, "/stream.mjpg", **cross, Sec_Fetch_Dest="image") == 403
    assert status_of(sink, "/events", Sec_Fetch_Site="same-site", Sec_Fetch_Dest="empty") == 403
    assert status_of(sink, "/events", Sec_Fetch_Site="same-origin", Sec_Fetch_Dest="empty") == 200


# In a browser


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


PICTURE_IS_THERE = "() => document.getElementById('picture').naturalWidth === 640"


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
        assert [row.split() for row in rows] == [["3", "42", "±", "4", "38.5"], ["7", "67", "±", "6", "60.4"]]
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
    assert page.locator("#faces tbody tr").inner_text().split() == [DASH, "33", "±", "4", "33.4"]
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
