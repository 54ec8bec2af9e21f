"""A stop cuts no request: whoever has sent one gets a whole answer, or is refused."""

import http.client
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_clients import ask, head_of, metric, place_of, post, post_form, raw, read_all, reply_of
from media_files import encode
from web_viewers import wait_for

from ageinfer.api import Limits, exchanges, server

pytest_plugins = ["api_clients", "media_files"]


@pytest.fixture
def closing():
    """Closes a service in another thread; all have ended at the end of the test."""
    threads = []

    def close(service) -> threading.Thread:
        threads.append(threading.Thread(target=service.close))
        threads[-1].start()
        return threads[-1]

    yield close
    for thread in threads:
        thread.join(60)


def test_what_is_being_answered_is_answered_and_what_comes_later_is_refused(
    serve_api, held, small, closing, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(server, "_REFUSING_S", 0.1)
    picture = encode(".png", small)
    service = serve_api(held)
    connection = http.client.HTTPConnection(*place_of(service), timeout=20)
    connection.request("GET", "/v1/health")
    assert reply_of(connection).json["status"] == "ok"
    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(post_form, service, *[(f"{i}.png", picture) for i in range(8)])
        assert held.begun.acquire(timeout=5)
        ending = closing(service)
        wait_for(lambda: ask(service, "/v1/health").status == 503)
        health = ask(service, "/v1/health")
        assert (health.json["status"], health.headers["Retry-After"]) == ("stopping", "5")
        late = post(service, picture)
        assert late.status == 503
        assert "stopping" in late.detail
        assert int(late.headers["Retry-After"]) >= 1
        connection.request("POST", "/v1/faces", picture)  # on the connection that was kept
        refused = reply_of(connection)
        assert (refused.status, refused.headers["Connection"]) == (503, "close")
        time.sleep(0.8)  # longer than connections have that ask for nothing
        assert ending.is_alive()
        held.let_go()
        reply = begun.result()
    assert [record["source"] for record in reply.pictures] == [f"{i}.png" for i in range(8)]
    assert reply.headers["Connection"] == "close"
    ending.join(10)
    assert not ending.is_alive()
    assert not service.runs
    assert service.pictures == 8
    with pytest.raises(ConnectionRefusedError):
        post(service, picture)


def test_a_body_that_is_on_its_way_is_answered_too(serve_api, small, closing):
    picture = encode(".png", small)
    service = serve_api()
    with raw(service, head_of(service, f"Content-Length: {len(picture)}") + picture[:10]) as connection:
        wait_for(lambda: metric(service, "ageinfer_held_bytes") == 10)
        ending = closing(service)
        wait_for(lambda: ask(service, "/v1/health").status == 503)
        time.sleep(0.3)
        connection.sendall(picture[10:])
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    ending.join(10)
    assert not ending.is_alive()


def test_no_stop_waits_longer_than_a_request_may_take(serve_api, held, small, closing, monkeypatch):
    monkeypatch.setattr(exchanges, "_LINGER_S", 0.5)
    service = serve_api(held, limits=Limits(time_limit_s=1))
    with ThreadPoolExecutor(1) as pool, raw(service, head_of(service, "Content-Length: 100") + b"a") as slow:
        stuck = pool.submit(post, service, encode(".png", small))
        assert held.begun.acquire(timeout=5)
        began = time.monotonic()
        ending = closing(service)
        assert stuck.result().status == 504
        assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
        ending.join(20)
        assert not ending.is_alive()
        assert time.monotonic() - began < 5


def test_nobody_waits_for_an_idle_service(serve_api, closing):
    service = serve_api()
    began = time.monotonic()
    service.close()
    assert time.monotonic() - began < server._REFUSING_S


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do that")
def test_newcomers_are_ignored_and_whoever_is_connected_is_not():
    with socket.socket() as listener, socket.socket() as before, socket.socket() as late:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        before.connect(listener.getsockname())
        server.ignore_newcomers(listener)
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.connect(listener.getsockname())
        before.sendall(b"asked")
        with listener.accept()[0] as accepted:
            assert accepted.recv(5) == b"asked"
            accepted.sendall(b"answered")
        assert before.recv(8) == b"answered"


@pytest.mark.parametrize("turn", range(3))
def test_a_stop_under_load_cuts_nobody(serve_api, astronaut_path, turn):
    """Clients that post in a loop, half of them on a connection that they keep."""
    service = serve_api()
    portrait = astronaut_path.read_bytes()
    statuses: Counter[int | str] = Counter()
    wanted = threading.Event()

    def work(keeps):
        connection = None
        while not wanted.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(*place_of(service), timeout=20)
                    connection.connect()
            except ConnectionRefusedError:
                statuses["not connected"] += 1
                connection = None
                time.sleep(0.005)
                continue
            connection.request("POST", "/v1/faces", portrait)
            reply = reply_of(connection)
            assert (reply.pictures if reply.status == 200 else reply.detail) is not None
            statuses[reply.status] += 1
            if not keeps or reply.headers["Connection"] == "close":
                connection.close()
                connection = None

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(work, i % 2 == 0) for i in range(8)]
        time.sleep(0.5 + 0.01 * turn)
        service.close()
        time.sleep(0.1)
        wanted.set()
        for client in clients:
            client.result()
    assert set(statuses) <= {200, 429, 503, "not connected"}
    assert statuses[200] == service.pictures > 10
    assert statuses["not connected"] > 0
