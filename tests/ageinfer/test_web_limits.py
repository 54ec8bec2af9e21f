"""Whoever can connect to the web server, but has no token, cannot end the run, shut viewers out or fill the log."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing

import pytest
from mjpeg import network_camera
from web_viewers import ask, events_of, place_of, status_of, wait_for

from ageinfer.errors import ExitStatus

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
from ageinfer.web import connection

pytest_plugins = ["command_line", "web_viewers"]


def connected(sink, data=b""):
    stranger = socket.create_connection(place_of(sink), timeout=10)
    stranger.sendall(data)
    return stranger


def is_ended_by_the_server(stranger) -> bool:
    """Whether the server ends a connection; what it sends before is read."""
    try:
        while stranger.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:  # it was broken
        pass
    return True


def head_of(sink, *lines, path="/") -> bytes:
    host = f"Host: 127.0.0.1:{place_of(sink)[1]}"
    return "\r\n".join([f"GET {path} HTTP/1.1", host, *lines, "", ""]).encode()


@pytest.mark.skipif(shutil.which("sh") is None or sys.platform == "win32", reason="no limit on open files")
def test_a_flood_of_silent_connections_ends_no_run_and_shuts_no_viewer_out(portrait, tmp_path):
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    records, said = tmp_path / "r.jsonl", tmp_path / "said"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with network_camera(lambda _: portrait, fps=10) as camera, said.open("wb") as errors:
        command = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", sys.executable, "-m", "ageinfer", camera.address]
        options = ["--serve-at", f"0.0.0.0:{port}", "--jsonl", records, "--quiet"]
        environment = os.environ | {"AGEINFER_TOKEN": "t" * 32}
        with subprocess.Popen([*command, *options], stderr=errors, env=environment) as process, ExitStack() as flood:
            wait_for(lambda: records.exists() and records.stat().st_size, 30)
            for _ in range(600):
                stranger = flood.enter_context(socket.socket())
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", port))
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port), timeout=30) as viewer:
                    viewer.sendall(f"GET /?token={'t' * 32} HTTP/1.1\r\nHost: me\r\n\r\n".encode())
                    assert viewer.recv(100).startswith(b"HTTP/1.1 200 ")
            before = records.stat().st_size
            wait_for(lambda: records.stat().st_size > before, 30)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == ExitStatus.INTERRUPTED
    lines = said.read_text().splitlines()
    assert "more than 64 connections to the web server" in lines[1]  # after the address of the page
    assert len(lines) <= 4, lines


@pytest.mark.parametrize(
    "start",
    ["silent", "half a head", "after an answer", "a body without end"],
)
def test_a_connection_that_asks_for_nothing_is_ended_however_slowly_it_sends(serve, monkeypatch, start):
    monkeypatch.setattr(connection, "REQUEST_S", 0.5)
    sink = serve()
    first = {
        "silent": b"", "half a head": b"GET / HT", "after an answer": head_of(sink),
        "a body without end": head_of(sink, "Content-Length: 999999"),
    }[start]  # fmt: skip
    with connected(sink, first) as stranger:
        stranger.settimeout(0.05)
        deadline = time.monotonic() + 4  # uvicorn alone ends a silent one after five seconds
        ended = False
        while not ended and time.monotonic() < deadline:
            ended = is_ended_by_the_server(stranger)
            if not ended and start != "silent":
                try:
                    stranger.sendall(b"a")
                except OSError:
                    ended = True
        assert ended


def test_a_viewer_is_not_ended_for_asking_only_once_nor_by_a_crowd(serve, monkeypatch):
    monkeypatch.setattr(connection, "REQUEST_S", 0.3)
    sink = serve()
    with closing(ask(sink, "/events")) as answer, ExitStack() as crowd:
        events = events_of(answer)
        next(events)
        for _ in range(2 * connection.MOST_CONNECTIONS):
            crowd.enter_context(connected(sink))
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert next(events)[0] == "state"
        assert status_of(sink) == 200


def test_beyond_the_limit_whoever_is_silent_for_longest_has_to_go(serve):
    sink = serve()
    with connected(sink) as oldest, ExitStack() as others:
        later = [others.enter_context(connected(sink)) for _ in range(connection.MOST_CONNECTIONS)]
        oldest.settimeout(5)
        assert is_ended_by_the_server(oldest)
        later[-1].settimeout(0.2)
        assert not is_ended_by_the_server(later[-1])


def test_a_refusal_ends_the_connection(serve):
    """Else somebody who asks on without reading would keep a place for ever."""
    sink = serve(token="t" * 32)
    with connected(sink, 3 * head_of(sink)) as stranger:
        data = b""
        while more := stranger.recv(4096):
            data += more
    assert data.count(b"HTTP/1.1 401 ") == 1


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("token", [None, "t" * 32])
@pytest.mark.parametrize("path", ["/", "/events"])
@pytest.mark.parametrize(
    ("lines", "rest"),
    [
        ([CHUNKED], b"ZZ\r\n"), ([CHUNKED], b"2\r\nabXX"), (["Host: other"], b""), (["Content-Length: x"], b""),
        (["Connection: upgrade", "Upgrade: h2c"], b""), (["Connection: upgrade", "Upgrade: websocket"], b""),
        ([": nothing"], b""), (["X: " + 100_000 * "a"], b""), (['Cookie: \xff;="'], b""),
    ],
)  # fmt: skip
def test_a_malformed_request_costs_one_short_line_and_no_traceback(serve, caplog, token, path, lines, rest):
    sink = serve(token=token)
    for _ in range(3):
        with connected(sink, head_of(sink, *lines, path=path) + rest) as stranger:
            stranger.settimeout(0.3)
            is_ended_by_the_server(stranger)
    assert status_of(sink, "/" if token is None else f"/?token={token}") == 200
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert record.exc_info is None
        assert "\n" not in record.getMessage()
        assert len(record.getMessage()) < 80


def test_the_log_has_one_line_of_a_kind_in_a_minute_and_counts_the_others(monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr(connection.time, "monotonic", lambda: now_s[0])
    seldom = connection.Seldom(60)

    def passes(level=logging.WARNING):
        record = logging.LogRecord("uvicorn.error", level, "", 0, "again %d", (7,), None)
        return record.getMessage() if seldom.filter(record) else None

    assert [passes(), passes(), passes(), passes(logging.ERROR)] == ["again 7", None, None, "again 7"]
    now_s[0] += 61
    assert passes() == "again 7 (2 messages before it were left out)"
    now_s[0] += 61
    assert passes() == "again 7"
