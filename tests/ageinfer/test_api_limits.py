"""What a request may take, and what happens beyond: every limit, with its status and without a growing memory."""

import http.client
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from api_clients import ask, form_of, head_of, metric, place_of, post, post_form, raw, read_all, reply_of
from media_files import encode
from web_viewers import wait_for

from ageinfer.api import Limits, exchanges, server, workers
from ageinfer.errors import UsageError
from ageinfer.types import Detection

pytest_plugins = ["api_clients", "media_files"]


@pytest.fixture
def picture(small) -> bytes:
    return encode(".png", small)


def test_a_request_may_have_so_many_bytes_and_no_more(serve_api, picture):
    service = serve_api(limits=Limits(most_bytes=len(picture)))
    assert post(service, picture).status == 200
    reply = post(service, picture + b"\0")
    assert reply.status == 413
    assert f"may have {len(picture):,} bytes" in reply.detail
    assert post_form(service, ("a.png", picture)).status == 413  # with the lines around it


@pytest.mark.parametrize("announced", ["Content-Length: 99999999", "Transfer-Encoding: chunked"])
def test_bytes_are_counted_while_they_come_whatever_was_announced(serve_api, picture, announced):
    service = serve_api(limits=Limits(most_bytes=100_000))
    with raw(service, head_of(service, announced)) as connection:
        piece, sent = bytes(10_000), 0
        with suppress(OSError):  # who goes on is not read for ever
            while sent < 50_000_000:
                connection.sendall(b"2710\r\n" + piece + b"\r\n" if "chunked" in announced else piece)
                sent += len(piece)
        assert 100_000 <= sent < 20_000_000
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert metric(service, "ageinfer_held_bytes") == 0


def test_a_request_may_have_so_many_pictures_and_no_more(serve_api, picture):
    service = serve_api(limits=Limits(most_pictures=3))
    assert len(post_form(service, *[("a.png", picture)] * 3).pictures) == 3
    reply = post_form(service, *[("a.png", picture)] * 4)
    assert reply.status == 413
    assert "may have 3 pictures" in reply.detail


def test_so_many_pictures_wait_and_no_more(serve_api, held, picture, caplog):
    service = serve_api(held, limits=Limits(most_pictures=2, queue=4))
    with ThreadPoolExecutor(10) as pool:
        replies = [pool.submit(post, service, picture) for _ in range(service.threads)]
        wait_for(lambda: metric(service, "ageinfer_requests_in_work") == service.threads)
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 0)
        replies += [pool.submit(post, service, picture) for _ in range(3)]
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 3)
        two = post_form(service, ("a.png", picture), ("b.png", picture))  # one of them has no place
        assert two.status == 429
        replies.append(pool.submit(post, service, picture))
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 4)
        refused = [post(service, picture) for _ in range(20)]
        held.let_go()
        assert {reply.result().status for reply in replies} == {200}
    assert {reply.status for reply in refused} == {429}
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert "ask again later" in refused[0].detail
    assert post(service, picture).status == 200
    assert len(caplog.records) == 1, "a crowd fills no log"


def test_whoever_finds_the_queue_full_need_not_send_his_picture(serve_api, held, picture):
    service = serve_api(held, limits=Limits(most_pictures=1, queue=1))
    with ThreadPoolExecutor(10) as pool:
        replies = [pool.submit(post, service, picture) for _ in range(service.threads)]
        wait_for(lambda: metric(service, "ageinfer_requests_in_work") == service.threads)
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 0)
        replies.append(pool.submit(post, service, picture))
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 1)
        with raw(service, head_of(service, "Content-Length: 1000000")) as connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 429 ")
        held.let_go()
        assert {reply.result().status for reply in replies} == {200}


def test_a_body_that_is_slow_is_refused_and_its_connection_ends(serve_api):
    service = serve_api(limits=Limits(time_limit_s=0.5))
    with raw(service, head_of(service, "Content-Length: 1000")) as connection:
        began = time.monotonic()
        connection.settimeout(0.05)
        answer = b""
        while not answer:
            connection.sendall(b"a")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                assert time.monotonic() - began < 5
        assert 0.3 < time.monotonic() - began < 3
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        connection.settimeout(15)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)


def test_whoever_sends_nothing_after_a_refusal_keeps_no_place(serve_api, monkeypatch):
    monkeypatch.setattr(exchanges, "_LINGER_S", 0.3)
    service = serve_api(limits=Limits(time_limit_s=0.3))
    with raw(service, head_of(service, "Content-Length: 1000") + b"a") as connection:
        connection.settimeout(5)
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_takes_too_long_is_given_up_and_what_has_not_begun_never_does(serve_api, held, picture):
    service = serve_api(held, limits=Limits(time_limit_s=0.5))
    files = [(f"{i}.png", picture) for i in range(service.threads + 3)]
    reply = post_form(service, *files)
    assert reply.status == 504
    assert "longer than 0.5 s" in reply.detail
    assert int(reply.headers["Retry-After"]) >= 1
    assert metric(service, "ageinfer_pictures_waiting") == 0
    held.let_go()
    assert post(service, picture).status == 200
    begun = sum(iter(lambda: held.begun.acquire(blocking=False), False))
    assert begun == service.threads + 1


def test_a_client_that_goes_takes_what_waits_of_it_along(serve_api, held, picture):
    service = serve_api(held, limits=Limits(time_limit_s=30))
    body, media_type = form_of(*[("a.png", picture)] * (service.threads + 5))
    head = head_of(service, f"Content-Type: {media_type}", f"Content-Length: {len(body)}")
    with raw(service, head + body):
        wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 5)
    wait_for(lambda: metric(service, "ageinfer_pictures_waiting") == 0)
    wait_for(lambda: metric(service, 'ageinfer_requests_total{path="/v1/faces",status="499"}') == 1)


def test_bodies_of_all_requests_together_have_a_limit(serve_api):
    service = serve_api(limits=Limits(most_bytes=100_000))
    head = head_of(service, "Content-Length: 100000")
    with ExitStack() as others:
        for _ in range(8):
            others.enter_context(raw(service, head + bytes(99_000)))
        wait_for(lambda: metric(service, "ageinfer_held_bytes") == 8 * 99_000)
        reply = post(service, bytes(20_000))
        assert reply.status == 429
        assert "bytes of other requests" in reply.detail
    wait_for(lambda: metric(service, "ageinfer_held_bytes") == 0)
    assert post(service, bytes(20_000)).status == 422


def test_large_pictures_are_decoded_one_at_a_time(serve_api, picture, monkeypatch):
    monkeypatch.setattr(workers, "_LARGE_PIXELS", 64 * 48 - 1)
    at_once, most = 0, 0
    lock = threading.Lock()

    class Counting:
        identifier = "counting"

        def detect(self, image):
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.02)
            with lock:
                at_once -= 1
            return []

    monkeypatch.setattr(workers, "_OneAtATime", lambda detector: detector)
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    service = serve_api(Counting())
    post_form(service, *[("a.png", picture)] * 8)
    assert most == 1
    monkeypatch.setattr(workers, "_LARGE_PIXELS", 64 * 48)
    post_form(service, *[("a.png", picture)] * 8)
    assert most > 1


def test_detectors_that_threads_may_not_share_are_asked_by_one_at_a_time(serve_api, picture, monkeypatch):
    at_once, most = 0, 0

    class Alone:
        identifier = "alone"

        def detect(self, image):
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.02)
            at_once -= 1
            return [Detection((8.0, 8.0, 32.0, 32.0), 0.9)]

    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    service = serve_api(Alone())
    assert service.threads == 4
    records = post_form(service, *[("a.png", picture)] * 8).pictures
    assert [len(record["faces"]) for record in records] == [1] * 8
    assert most == 1


def test_faces_of_requests_that_come_together_share_a_batch(serve_api, pipeline, astronaut_path, monkeypatch):
    """The age model is busy with a first face while those of four other requests come."""
    monkeypatch.setattr(workers, "usable_cores", lambda: 5)
    monkeypatch.setattr(pipeline.estimator._batches, "_turns", threading.Semaphore(1))
    service = serve_api()
    portrait = astronaut_path.read_bytes()
    expected = post(service, portrait).pictures
    busy, run = threading.Event(), pipeline.estimator.network.run

    def slowly(*arguments):
        busy.set()
        time.sleep(0.5)
        return run(*arguments)

    monkeypatch.setattr(pipeline.estimator.network, "run", slowly)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(post, service, portrait)
        assert busy.wait(5)
        others = [pool.submit(post, service, portrait) for _ in range(4)]
        assert [reply.result().pictures for reply in (first, *others)] == [expected] * 5
    # This model takes two faces at once on a CPU.
    assert metric(service, 'ageinfer_batch_faces_bucket{le="1.0"}') == 2
    assert (
        metric(service, 'ageinfer_batch_faces_bucket{le="2.0"}') == metric(service, "ageinfer_batch_faces_count") == 4
    )
    assert metric(service, "ageinfer_batch_faces_sum") == 6


def test_so_many_connections_are_held_and_no_more(serve_api, picture, monkeypatch, caplog):
    monkeypatch.setattr(server._Connection, "most_connections", 6)
    service = serve_api()
    with ExitStack() as crowd:
        silent = [crowd.enter_context(raw(service)) for _ in range(12)]
        assert post(service, picture).status == 200
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b""
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_answers_are_sent_at_once(serve_api):
    """Else each waits 40 ms for the client, which is as long as many pictures take."""
    service = serve_api()
    with raw(service):
        connections = service._server._server.server_state.connections
        wait_for(lambda: len(connections) == 1)
        [connection] = connections
        taken = connection.transport.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "values",
    [
        {"most_bytes": 0}, {"most_bytes": 2 << 30}, {"most_pictures": 0}, {"queue": 15}, {"time_limit_s": 0},
        {"time_limit_s": float("nan")}, {"time_limit_s": 3601},
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(values):
    with pytest.raises(UsageError, match=r"use |make it longer"):
        Limits(**values)


def test_limits_are_limits_of_a_request_not_of_a_connection(serve_api, picture):
    service = serve_api(limits=Limits(time_limit_s=0.4, most_bytes=2 * len(picture)))
    connection = http.client.HTTPConnection(*place_of(service), timeout=20)
    for _ in range(6):
        connection.request("POST", "/v1/faces", picture)
        assert reply_of(connection).status == 200
        time.sleep(0.1)
    connection.close()
    assert ask(service, "/v1/health").status == 200
