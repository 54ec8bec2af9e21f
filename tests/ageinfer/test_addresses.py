"""Addresses: what of them is shown, and why one cannot be opened."""

import re
import socket
import threading
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from ageinfer.console import as_message
from ageinfer.errors import SourceError
from ageinfer.sources import open_source, redacted
from ageinfer.sources.address import check_address, is_address, pipeline_name, without_secrets
from ageinfer.sources.probe import check_reachable, explain

SCHEMES = st.sampled_from(["rtsp", "rtsps", "rtmp", "http", "https", "srt", "RTSP"])
HOSTS = st.sampled_from(["camera.local", "192.168.0.7:554", "[fe80::1]:8554", "kamera-küche", "h_1:1"])
PATHS = st.sampled_from(["", "/", "/live/ch0", "/a.b/c~d-e_f.m3u8", "/cam;1", "/Straße", "/%41"])
# Both letters that occur nowhere else here, so that what leaks is seen.
SECRETS = st.text(alphabet="ⓧⓨ@/#?&%:!=\\ \"'[]<>;ß漢+$~", min_size=1).map(lambda text: "ⓧ" + text + "ⓨ")
SECRET_KEYS = st.sampled_from(
    ["token", "access_token", "password", "PASSWORD", "pwd", "pass", "key", "apikey", "auth", "signature", "sig", "u",
     "secret", "user", "usr", "username", "loginuse", "loginpas", "X-Amz-Credential", "sessionid", "pass%77ord", "pw",
     "%74oken"]
)  # fmt: skip
OPEN_QUERIES = st.lists(st.sampled_from(["channel=1", "subtype=0", "stream=0.sdp", "real_stream", "w=640"]), max_size=3)


def pieces_of(secret: str) -> set[str]:
    """The letters that give a secret away."""
    return set(secret) & set("ⓧⓨ漢")


@given(SCHEMES, SECRETS, SECRETS, HOSTS, PATHS, OPEN_QUERIES)
@example("rtsp", "ⓧ", "ⓨ", "camera.local", "", [])
def test_neither_user_nor_password_is_ever_shown(scheme, user, password, host, path, queries):
    query = "?" + "&".join(queries) if queries else ""
    clean = f"{scheme}://{host}{path}{query}"
    for given_user, given_password in [(user, password), (quote(user, safe=""), quote(password, safe=""))]:
        for info in (f"{given_user}:{given_password}@", f"{given_user}@", f":{given_password}@"):
            shown = redacted(f"{scheme}://{info}{host}{path}{query}")
            assert shown == clean
            assert not pieces_of(shown)
            assert "%E2%93" not in shown


@given(SCHEMES, HOSTS, PATHS, OPEN_QUERIES)
def test_an_address_without_secrets_is_shown_as_it_is(scheme, host, path, queries):
    address = f"{scheme}://{host}{path}" + ("?" + "&".join(queries) if queries else "")
    assert redacted(address) == address
    assert is_address(address)


@given(HOSTS, SECRET_KEYS, SECRETS, OPEN_QUERIES, OPEN_QUERIES, st.booleans())
def test_values_of_secret_keys_are_hidden_and_others_stay(host, key, secret, before, after, quoted):
    assume(quoted or not set(secret) & set("&#@"))  # these end a value, whatever a person meant
    value = quote(secret, safe="") if quoted else secret
    query = "&".join([*before, f"{key}={value}", *after])
    shown = redacted(f"rtsp://{host}/live?{query}")
    assert not pieces_of(shown)
    assert "%E2%93" not in shown
    hidden = [part for part in after if "=" not in part]  # may as well be the rest of the secret
    assert shown.split("?")[1].split("&")[: len(before) + 1] == [*before, f"{key}=***"]
    assert [part for part in after if part not in hidden] == [
        part for part in shown.split("?")[1].split("&")[len(before) + 1 :] if "=" in part
    ]


@given(SCHEMES, HOSTS, SECRETS, SECRETS, st.sampled_from(["/live?", "/", "/x/", ""]))
def test_no_part_of_a_malformed_address_gives_a_secret_away(scheme, host, user, password, path):
    """A secret with the characters that end a host or a value, an @ that was encoded, a host that is missing."""
    assume(not set(user + password) & set("&#@"))
    for address in (
        f"{scheme}://{user}:{password}%40{host}{path}",
        f"{scheme}:/{user}:{password}@{host}{path}",
        f"{user}:{password}@{host}{path}",
        f"{scheme}://{host}/user={user}&password={password}&channel=1",
        f"{scheme}://{host}/user={user}_password={password}_channel=1_stream=0.sdp?real_stream",
        f"{scheme}://{host}/live?channel=1?password={password}",
    ):
        if "%40" in address and set(user + password) & set("/?"):
            continue  # "http://a/b%40host": nothing tells that this is no host with a path
        assert not pieces_of(redacted(address)), address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:1234@cam:554/live?channel=1&token=abc#top", "rtsp://cam:554/live?channel=1&token=***"),
        ("rtsp://admin:p@ss/w#rd?@cam/live", "rtsp://cam/live"),
        ("rtsp://user:secret", "rtsp://***"),
        ("rtsp://cam/x?password=a&b&channel=1", "rtsp://cam/x?password=***&channel=1"),
        ("rtsp://cam/x?password=a#b", "rtsp://cam/x?password=***"),
        ("http://cam/a@b", "http://b"), ("rtsp://cam/x?%74oken=a&b=c", "rtsp://cam/x?%74oken=***&b=***"),
        ("https://cam/live?jwt=a.b.c&fps=5", "https://cam/live?jwt=***&fps=5"),
        ("https://cam/live?sid=a", "https://cam/live?sid=***"), ("http://cam/x;ticket=a", "http://cam/x;ticket=***"),
        ("http://cam/x?code=a&channel=1", "http://cam/x?code=***&channel=1"), ("http://cam/x?c0de", "http://cam/x?***"),
        ("https://cdn/hdnts=exp=1~acl=/*~hmac=ab/a.m3u8", "https://cdn/hdnts=***"),
        ("http://cam/x?resolution=640x480&FPS=5&real_stream", "http://cam/x?resolution=640x480&FPS=5&real_stream"),
        ("cam/live?jwt=a", "cam/live?jwt=***"), ("photos/a=b&c=d.jpg", "photos/a=b&c=d.jpg"),
        ("http://cam/live?channel=1&hunter/2", "http://cam/live?channel=1&***"), ("http://cam/a&b", "http://cam/a&***"),
        ("", ""), ("://", "://"), ("rtsp://", "rtsp://"), ("photos/me@home.jpg", "photos/me@home.jpg"),
    ],
)  # fmt: skip
def test_examples_of_what_is_shown(address, shown):
    assert redacted(address) == shown


@given(st.text())
def test_any_text_can_be_redacted(text):
    assert isinstance(redacted(text), str)
    assert isinstance(without_secrets(text), str)
    assert isinstance(pipeline_name(text), str)


@given(SCHEMES, st.from_regex(r"ⓧ[\w%:]*ⓨ", fullmatch=True))
def test_addresses_within_a_text_are_redacted(scheme, secret):
    text = without_secrets(f"can't open '{scheme}://{secret}:{secret}@host/live' (code 3)")
    assert not pieces_of(text)
    assert text.startswith("can't open '")
    assert "host/live" in text
    assert text.endswith(" (code 3)")


def test_a_pipeline_is_called_by_its_elements():
    pipeline = 'rtspsrc location=rtsp://ⓧ:ⓨ@cam/ user-pw="ⓧ ! ⓨ" ! rtph264depay ! avdec_h264 ! videoconvert ! appsink'
    assert pipeline_name(pipeline) == "gstreamer:rtspsrc!rtph264depay!avdec_h264!videoconvert!appsink"
    assert not pieces_of(pipeline_name("location=ⓧ ! user-pw=ⓨ ! ⓧ"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://ⓧ:ⓨ@cam/a.mp4", r"^ftp://cam/a.mp4: ftp:// cannot be read; give .* rtsp"),
        ("rstp://ⓧ:ⓨ@cam/a", r"^rstp://cam/a: rstp:// cannot be read"),
        ("file:///tmp/a.mp4", r"^file:///tmp/a.mp4: file:// cannot be read; give the path of the file alone$"),
        ("rtsp://ⓧ:ⓨ @cam/a", r"^rtsp://cam/a: .*a space is %20"),
        ("rtsp://ⓧ:ⓨ@cam/a\r\nX: y", r"write special characters as %XX"),
        ("rtsp://", r"^rtsp://: not an address"),
        ("rtsp://ⓧ:ⓨ/z@cam/a", r"^rtsp://cam/a: its host and port cannot be read; .*/ is %2F"),
        ("rtsp://ⓧ:1234/ⓨ@cam/a", r"^rtsp://cam/a: its host and port cannot be read; .* @ as %40"),
        ("rtsp://localhost:1234/ⓨ@cam/a", r"^rtsp://cam/a: its host and port cannot be read"),  # not even asked for
        ("http://cam:99999/a", r"^http://cam:99999/a: its host and port cannot be read"),
        ("rtsp:/ⓧ:ⓨ@cam/a", r"^cam/a: no such file"),  # one slash is missing
        ("ⓧ:ⓨ@cam/a", r"^cam/a: no such file"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_its_secrets(address, message):
    with pytest.raises(SourceError, match=message) as caught:
        open_source(address, reconnect_for_s=0)
    assert not pieces_of(str(caught.value))
    assert "\n" not in str(caught.value)


def test_schemes_are_understood_in_capitals_too():
    assert check_address("RTSP://Cam/Live") == "rtsp://Cam/Live"


@contextmanager
def server(answer: bytes):
    """Answers whatever it is asked with this, once a connection; gives its port and what it was asked."""
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                if question := connection.recv(4096):
                    asked.append(question)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(2)


@pytest.mark.parametrize(
    ("answer", "user", "message"),
    [
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", "", "wants a user name and a password"),
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", "ⓧ:ⓨ@", "refuses the user name or password"),
        (b"RTSP/1.0 403 Forbidden\r\nCSeq: 1\r\n\r\n", "ⓧ:ⓨ@", r"refuses the user name or password \(403\)"),
        (b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", "", "no such stream"),
        (b"RTSP/1.0 500 Oh\r\n\r\n", "", r"error \(500\)"),
        (b"SSH-2.0-OpenSSH_9\r\n", "", "does not answer as it should"),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "", "no video comes"),
    ],
)
def test_what_an_rtsp_server_answers_is_explained(answer, user, message):
    with server(answer) as (port, asked):
        text = explain(f"rtsp://{user}127.0.0.1:{port}/live?channel=1&password=ⓧ")
    assert re.search(message, text)
    assert not pieces_of(text)
    [question] = asked
    target = f"/live?channel=1&password={quote('ⓧ')}"
    assert question.startswith(f"DESCRIBE rtsp://127.0.0.1:{port}{target} RTSP/1.0\r\n".encode())


def test_hosts_that_cannot_be_reached_are_told_apart(monkeypatch):
    with socket.socket() as bound:  # nobody listens there
        bound.bind(("127.0.0.1", 0))
        refusing = f"rtsp://ⓧ:ⓨ@127.0.0.1:{bound.getsockname()[1]}/live"
        with pytest.raises(SourceError, match=r"^rtsp://127.0.0.1:\d+/live: 127.0.0.1 refuses port \d+") as caught:
            open_source(refusing)
    assert not pieces_of(str(caught.value))

    def fail(error):
        def create_connection(address, timeout):
            assert address == ("cam", 554)
            assert timeout == 3
            raise error

        monkeypatch.setattr("socket.create_connection", create_connection)

    for error, message in [
        (socket.gaierror(-2, "Name or service not known"), "the host cam is not known"),
        (TimeoutError(), "cam does not answer on port 554"),
        (OSError(113, "No route to host"), r"cam cannot be reached \(No route to host\)"),
    ]:
        fail(error)
        with pytest.raises(SourceError, match=f"^rtsp://cam/live: {message}"):
            open_source("rtsp://cam/live")


def test_no_connection_is_made_where_it_would_disturb(monkeypatch):
    monkeypatch.setattr("socket.create_connection", None)
    check_reachable("udp://239.0.0.1:1234")
    check_reachable("tcp://127.0.0.1:1234")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    check_reachable("http://only-behind-the-proxy/live")


ANY_SOURCE = st.one_of(
    st.text(), st.text(st.characters()),
    st.builds("{}{}".format, st.sampled_from(["file://", "ftp://", "a://", "rtsp:/", "-", "~/", "a ! "]), st.text()),
    st.builds("{}[{}]{}".format, st.text("*?[]/.", max_size=6), st.text(), st.text("*?/", max_size=3)),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_SOURCE)
@example("\0")
@example("\ud800")
@example("**/[")
@example("x" * 5000)
def test_any_text_is_a_source_or_refused_in_one_line(tmp_path, monkeypatch, text):
    assume(text != "-" and not text.strip().startswith(("/", "..")) and not text.endswith(".."))
    monkeypatch.chdir(tmp_path)  # an empty folder
    with pytest.raises(SourceError) as caught:
        list(open_source(text, reconnect_for_s=0))
    assert "\n" not in as_message(str(caught.value))


@given(SCHEMES, SECRETS, SECRETS, st.one_of(HOSTS, st.text(max_size=20)), st.text(max_size=20))
def test_a_refusal_never_tells_user_or_password(scheme, user, password, host, path):
    """What is refused before anybody is asked: the scheme, the form, the port."""
    info = f"{quote(user, safe='')}:{quote(password, safe='')}"
    for address in (f"a{scheme}://{info}@{host}/{path}", f"{scheme}://{info}@{host} /{path}", f"{scheme}://{info}@:x/"):
        with pytest.raises(SourceError) as caught:
            open_source(address, reconnect_for_s=0)
        assert "%E2%93" not in str(caught.value)
        assert not pieces_of(str(caught.value)) - pieces_of(host + path)
