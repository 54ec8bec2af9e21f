"""Who may read the web page: tokens, host names, foreign pages, security headers."""

import http.client
import logging
import socket
from contextlib import closing
from urllib.parse import urlsplit

from web_viewers import ANY_ADDRESS, INFO, TOKEN, ask, pictures_of, place_of, status_of

from ageinfer.sinks import Playback
from ageinfer.web import WebSink, make_token

pytest_plugins = ["web_viewers"]

PATHS = (
    "/", "/page.js", "/people.js", "/playback.js", "/plot.js", "/page.css", "/icon.svg", "/events", "/stream.mjpg",
)  # fmt: skip


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


def test_nothing_leads_elsewhere(serve):
    sink = serve()
    for path in ("/page.js/", "/events/", "//", "/nothing/", "//evil.example/events/", "/playback/"):
        assert status_of(sink, path) == 404


def test_other_methods_are_refused(serve):
    sink = serve()
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert [status_of(sink, path, method) for path in ("/", "/events", "/nothing")] == [405] * 3


def test_only_the_page_itself_may_pause_a_recording(serve):
    playback = Playback()
    sink = serve(playback=playback, token=TOKEN)
    port = place_of(sink)[1]
    path, known = "/playback?do=pause", {"Authorization": f"Bearer {TOKEN}"}
    for foreign in (
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
    ):  # fmt: skip
        assert status_of(sink, path, "POST", **known, **foreign) == 403
    assert status_of(sink, path, "POST") == 401
    assert status_of(sink, path, "GET", **known) == 405
    assert status_of(sink, "/playback?do=end", "POST", **known) == 400
    assert status_of(sink, "/", "POST", **known) == 405
    assert not playback.paused
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    assert status_of(sink, path, "POST", **known, **own) == 204
    assert playback.paused
    assert status_of(sink, "/playback?do=play", "POST", **known) == 204  # a program without a page
    assert not playback.paused
    assert status_of(serve(token=TOKEN), path, "POST", **known) == 404  # of a camera


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


def test_on_port_80_browsers_leave_the_port_out():
    from starlette.datastructures import Headers

    from ageinfer.web.guard import Guard

    guard = Guard(None, port=80, token=None, hosts=frozenset({"localhost"}))
    refusals = [
        guard._refusal("GET", "/", Headers({"host": host}), b"") for host in ("localhost", "localhost:80", "evil")
    ]
    assert [refusal and refusal.status_code for refusal in refusals] == [None, None, 421]
    guard = Guard(None, port=8080, token=None, hosts=frozenset({"localhost"}))
    assert guard._refusal("GET", "/", Headers({"host": "localhost"}), b"").status_code == 421


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
