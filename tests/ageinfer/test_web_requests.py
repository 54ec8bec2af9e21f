"""Any request gets one of the answers that are meant, without a long wait and without an error of Python."""

import asyncio
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("starlette", reason="the extra serve is not installed")
from starlette.responses import PlainTextResponse

from ageinfer.web.guard import CONTROL, Guard

TOKEN = "t" * 32
ANSWERS = {200, 401, 403, 405, 421}
NAMES = ("host", "origin", "cookie", "authorization", "sec-fetch-site", "sec-fetch-dest", "referer", "x")
VALUES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"localhost:80", b"http://localhost:80", b"http://[", b"[", b"null", b"same-origin", b"cross-site",
         b"document",
         b"Bearer " + b"t" * 32, b"ageinfer_80=" + b"t" * 32, b'a="\\"; ;=;', b"http://[::1", b"//", b"://"]
    ),
)  # fmt: skip


def asked(method="GET", path="/", query=b"", headers=(), token=TOKEN, hosts=frozenset({"localhost"})):
    """The status and the headers with which a server on port 80 answers."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": list(headers)}
    guard = Guard(PlainTextResponse("secret"), port=80, token=token, hosts=hosts)
    asyncio.run(guard(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


HOST = (b"host", b"localhost:80")
KNOWN = (b"authorization", b"Bearer " + TOKEN.encode())


@settings(max_examples=300)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "", "\xff"]), st.one_of(st.sampled_from(["/", CONTROL]), st.text()),
    st.one_of(st.binary(), st.sampled_from([b"token=" + b"t" * 32, b"token=%ff", b"token=\xff", b"&=;;&token"])),
    st.lists(st.tuples(st.sampled_from([name.encode() for name in NAMES]), VALUES), max_size=6),
    st.sampled_from([TOKEN, None]), st.sampled_from([frozenset({"localhost"}), None]),
)  # fmt: skip
@example("POST", CONTROL, b"", [HOST, KNOWN, (b"origin", b"http://[")], TOKEN, frozenset({"localhost"}))
def test_any_request_gets_an_answer_and_none_tells_more_than_it_may(method, path, query, headers, token, hosts):
    status, answer = asked(method, path, query, headers, token, hosts)
    assert status in ANSWERS
    assert b"content-security-policy" in answer
    given_token = TOKEN.encode() in query or any(TOKEN.encode() in value for _, value in headers)
    if status == 200 and token is not None:
        assert given_token
    if token is None or not given_token:
        assert b"set-cookie" not in answer


@pytest.mark.parametrize(
    "origin", [b"http://[", b"http://[::1", b"[", b"", b"null", b"http://evil", b"http://localhost"]
)
def test_an_origin_that_is_no_address_is_not_the_page(origin):
    assert asked("POST", CONTROL, headers=[HOST, KNOWN, (b"origin", origin)])[0] == 403
    assert asked("POST", CONTROL, headers=[HOST, KNOWN, (b"origin", b"http://LOCALHOST:80")])[0] == 200


@pytest.mark.parametrize("piece", [b'\\"', b"\\", b";", b"=", b"a=;", b"\\101", b'"', b" "])
def test_no_cookie_keeps_the_server_from_others(piece):
    """Nearly all that a request may hold, 16 kB, from somebody without a token; one of more is refused."""
    cookie = b'a="' + piece * (15_000 // len(piece))
    began = time.process_time()
    assert asked(headers=[HOST, (b"cookie", cookie)])[0] == 401
    assert time.process_time() - began < 1
    assert asked(headers=[HOST, (b"cookie", cookie + b'"; ageinfer_80=' + TOKEN.encode())])[0] == 200
    assert asked(query=piece * (15_000 // len(piece)), headers=[HOST])[0] == 401
    assert time.process_time() - began < 3
