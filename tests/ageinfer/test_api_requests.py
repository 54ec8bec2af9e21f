"""What cannot be answered gets its status, a problem of one line with a remedy, and one line of the log."""

import http.client
import logging

import pytest
from api_clients import TOKEN, ask, form_of, head_of, metric, place_of, post, post_form, raw, read_all, reply_of
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import encode
from web_viewers import wait_for

from ageinfer.errors import ModelError

pytest_plugins = ["api_clients", "media_files"]

FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n'


@pytest.fixture(autouse=True)
def lines(caplog):
    """The lines of the log."""
    caplog.set_level(logging.INFO)
    return caplog


def lines_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("media_type", "body", "status", "says"),
    [
        ("image/jpeg", b"", 400, "no picture in this request"),
        ("image/jpeg", b"no picture", 422, "the body: the picture cannot be decoded"),
        ("text/html", b"<html>", 415, "Content-Type"),
        ("application/json", b"{}", 415, "Content-Type"),
        ("video/mp4", bytes(100), 415, "Content-Type"),
        ("multipart/mixed; boundary=b", b"", 415, "Content-Type"),
        ("multipart/form-data", b"", 400, "has no boundary"),
        (f"multipart/form-data; boundary={'b' * 300}", b"", 400, "its boundary is too long"),
        (FORM, b"", 400, "it ends before its last boundary"),
        (FORM, b"--b--\r\n", 400, "no picture in this form"),
        (FORM, b"no form at all", 400, "a boundary or a header of a part is broken"),
        (FORM, PART + b"abc", 400, "it ends before its last boundary"),
        (FORM, PART.replace(b"Content-D", b"(ontent D") + b"abc\r\n--b--\r\n", 400, "is broken"),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="age"\r\n\r\n7\r\n--b--\r\n', 400, "field 'age'"),
        (FORM, b"--b\r\n\r\nabc\r\n--b--\r\n", 400, "is no file"),
        (FORM, PART.replace(b"a.jpg", b"") + b"\r\n--b--\r\n", 400, "no picture in this form"),
        (FORM, PART + b"abc\r\n--b--\r\n", 422, "a.jpg: the picture cannot be decoded"),
        (FORM, PART + b"abc\r\n" + PART + b"d\r\n--b--\r\n", 422, "and none of the 1 others"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_answered(shared_service, lines, media_type, body, status, says):
    reply = ask(shared_service, method="POST", body=body, Content_Type=media_type)
    assert reply.status == status
    assert says in reply.detail
    assert "; " in reply.detail, "what to do stands after a semicolon"
    [line] = lines_of(lines)
    assert line == f"POST /v1/faces from 127.0.0.1: {status}, {reply.detail}"


def test_paths_and_methods_that_are_not_there(shared_service, lines):
    for method, path, status in (
        ("GET", "/nothing", 404), ("GET", "/v1/faces", 405), ("GET", "/v1/faces/", 404), ("PUT", "/v1/faces", 405),
        ("POST", "/v1/health", 405), ("DELETE", "/", 405), ("GET", "//evil.example/", 404),
    ):  # fmt: skip
        reply = ask(shared_service, path, method)
        assert reply.status == status
        assert reply.detail
    assert ask(shared_service, "/v1/faces").headers["Allow"] == "POST"
    assert len(lines_of(lines)) == 8


def test_a_body_that_is_packed_is_refused(shared_service, small):
    reply = post(shared_service, encode(".png", small), Content_Encoding="gzip")
    assert reply.status == 415
    assert "without Content-Encoding" in reply.detail


def test_every_answer_has_the_security_headers(shared_service, small):
    replies = [
        post(shared_service, encode(".png", small)), post(shared_service, b""), ask(shared_service, "/nothing"),
        ask(shared_service, "/"), ask(shared_service, "/v1/health"), ask(shared_service, method="PUT"),
    ]  # fmt: skip
    for reply in replies:
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Server"] is None


def test_pages_of_others_get_nothing_posted(serve_api, small):
    service = serve_api()
    picture = encode(".png", small)
    host, port = place_of(service)
    for foreign in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Origin": "null"}):
        reply = post(service, picture, **foreign)
        assert (reply.status, bool(reply.detail)) == (403, True)
    assert post(service, picture, Host="evil.example").status == 421
    assert post(service, picture, Origin=f"http://{host}:{port}").status == 200


def test_without_its_token_nothing_is_answered(serve_api, small, lines):
    service = serve_api(token=TOKEN)
    picture = encode(".png", small)
    for shown in ({}, {"Authorization": "Bearer " + "x" * 32}, {"Authorization": TOKEN}):
        reply = post(service, picture, **shown)
        assert reply.status == 401
        assert "Authorization: Bearer" in reply.detail
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        for path in ("/metrics", "/openapi.json", "/nothing"):
            assert ask(service, path, **shown).status == 401
        assert ask(service, "/v1/health", **shown).json == {"status": "ok"}
        assert ask(service, "/", **shown).status == 200  # the page, which asks for the token
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert len(post(service, picture, **known).pictures) == 1
    assert set(ask(service, "/v1/health", **known).json) == {
        "status", "model", "version", "provider", "detector", "waiting",
    }  # fmt: skip
    assert len(lines_of(lines)) == 1, "strangers fill no log"
    assert TOKEN not in "".join(lines_of(lines))


def test_whoever_sends_much_without_a_token_gets_the_answer_all_the_same(serve_api):
    """A server that closes while a client still sends would take the answer from it."""
    service = serve_api(token=TOKEN)
    for _ in range(5):
        connection = http.client.HTTPConnection(*place_of(service), timeout=20)
        connection.request("POST", "/v1/faces", bytes(8_000_000))
        assert reply_of(connection).status == 401
        connection.close()


def test_a_client_that_waits_for_leave_sends_nothing_that_is_refused(serve_api):
    service = serve_api(token=TOKEN)
    with raw(service, head_of(service, "Content-Length: 8000000", "Expect: 100-continue")) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
    with raw(
        service, head_of(service, "Content-Length: 3", "Expect: 100-continue", f"Authorization: Bearer {TOKEN}")
    ) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert b" 422 " in connection.recv(65536)


def test_a_failure_of_the_service_tells_the_client_nothing_and_the_log_the_reason(serve_api, small, lines):
    class Broken:
        identifier = "broken"

        def detect(self, image):
            raise ModelError("/secret/place/model.onnx: broken; export it again")

    service = serve_api(Broken())
    for _ in range(2):
        reply = post(service, encode(".png", small))
        assert reply.status == 500
        assert "secret" not in reply.detail
    [line] = lines_of(lines)
    assert line == "/secret/place/model.onnx: broken; export it again"


def test_an_error_that_nobody_has_foreseen_ends_neither_the_service_nor_the_answer(serve_api, small, lines):
    class Broken:
        identifier = "broken"

        def detect(self, image):
            raise ZeroDivisionError("secret")

    service = serve_api(Broken())
    for _ in range(2):
        reply = post(service, encode(".png", small))
        assert reply.status == 500
        assert "secret" not in reply.detail
    assert post(service, b"").status == 400
    # A traceback, unless another server of this process has written one in this minute, and the line of the 400.
    assert [bool(record.exc_info) for record in lines.records] in ([True, False], [False])


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"--b", b"--b--", b"\r\n", b"\r\n--b\r\n", b"\r\n--b--\r\n", PART, b"Content-Disposition: form-data",
         b'; filename="', b'"', b"\r\n\r\n", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF\0\0\0\0WEBP",
         b"BM", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif", b"GIF89a", b"P6 1 1 255 "]
    ),
)  # fmt: skip
TYPES = st.one_of(
    st.sampled_from([FORM, FORM, FORM, "image/png", "", 'multipart/form-data; boundary="b"', "multipart/form-data"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)


def test_any_body_gets_an_answer_and_one_line_of_the_log(shared_service, lines):
    @settings(max_examples=300)
    @given(st.lists(PIECES, max_size=12).map(b"".join), TYPES)
    def send(body, media_type):
        lines.clear()
        connection.request("POST", "/v1/faces", body, {"Content-Type": media_type.strip()})
        reply = reply_of(connection)
        if reply.status != 200:
            assert reply.status in (400, 413, 415, 422)
            assert reply.detail in lines_of(lines)[0]
            assert len(lines_of(lines)) == 1
            assert lines.records[0].levelno == logging.INFO

    connection = http.client.HTTPConnection(*place_of(shared_service), timeout=20)
    send()
    connection.close()


def test_a_portrait_that_is_damaged_anywhere_is_answered_or_refused(shared_service, astronaut_path, lines):
    portrait = astronaut_path.read_bytes()

    @settings(max_examples=60)
    @given(st.integers(0, len(portrait)), st.binary(max_size=40), st.integers(0, 2000))
    def send(at, other, removed):
        body = portrait[:at] + other + portrait[at + removed :]
        connection.request("POST", "/v1/faces", body)
        reply = reply_of(connection)
        assert reply.status in (200, 400, 422)
        if reply.status != 200:
            assert reply.detail

    connection = http.client.HTTPConnection(*place_of(shared_service), timeout=20)
    send()
    connection.close()
    assert not [record for record in lines.records if record.levelno >= logging.ERROR]


def test_requests_that_break_off_leave_nothing_behind(serve_api, astronaut_path, lines):
    service = serve_api()
    body, media_type = form_of(("a.jpg", astronaut_path.read_bytes()))
    for length in (0, 10, len(body) // 2, len(body) - 1):
        head = head_of(service, f"Content-Type: {media_type}", f"Content-Length: {len(body)}")
        raw(service, head + body[:length]).close()
    wait_for(lambda: metric(service, 'ageinfer_requests_total{path="/v1/faces",status="499"}') == 4)
    assert metric(service, "ageinfer_held_bytes") == metric(service, "ageinfer_requests_in_work") == 0
    assert post_form(service, ("a.jpg", astronaut_path.read_bytes())).status == 200
    assert lines_of(lines) == []


def test_a_request_that_is_no_http_is_refused(shared_service):
    with raw(shared_service, b"NOT HTTP\r\n\r\n") as connection:
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
