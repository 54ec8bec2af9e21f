"""Starting and closing the web server, and options that it refuses."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from web_viewers import (
    ANY_ADDRESS,
    INFO,
    TOKEN,
    ask,
    events_of,
    never_read,
    pictures_of,
    place_of,
    status_of,
    wait_for,
    writing,
)

from ageinfer.errors import ExitStatus, MissingDependencyError, OutputError, UsageError
from ageinfer.web import WebSink

pytest_plugins = ["web_viewers"]


def test_closing_waits_for_no_viewer_and_says_nothing(serve, make_frame, caplog):
    sink = serve(jpeg_quality=95)
    with never_read(sink), never_read(sink, "/events"), writing(sink, make_frame):
        events = events_of(ask(sink, "/events"))
        seen = []
        viewer = threading.Thread(target=lambda: seen.extend(pictures_of(ask(sink, "/stream.mjpg"))))
        viewer.start()
        next(events)
        wait_for(lambda: seen)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 2
        assert [name for name, _ in events][-1] == "end"
        viewer.join(1)
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
        viewer = ask(sink, "/events")  # the server ends this connection first, so its side stays for a while
    assert viewer.read().endswith(b"event: end\ndata: {}\n\n")
    with WebSink(port=port, about=INFO) as sink:
        assert sink.url == f"http://127.0.0.1:{port}/"
        assert status_of(sink) == 200


def test_a_port_that_is_taken_is_named_with_the_remedy(serve):
    port = place_of(serve())[1]
    with pytest.raises(OutputError, match=rf"port {port} of 127\.0\.0\.1 is taken; choose another, or 0"):
        serve(port=port)


IN_REACH = "other machines can reach {}: a token is needed; give one, or use the host 127.0.0.1"
NO_HOST = "host {!r} is not a name or address of this machine; use 127.0.0.1 or 0.0.0.0"
NO_PORT = "port {} does not exist; give a number from 0 to 65535"
UNFIT = "this token is not valid; it needs 16 to 256 letters, digits, - or _"
BAD_VALUES = (
    "the web view cannot use these values; give max_fps above 0 and up to 1000, jpeg_quality 1 to 100, and max_side 16 "
    "to 65500"
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": ANY_ADDRESS}, IN_REACH.format(ANY_ADDRESS)),
        ({"host": "::"}, IN_REACH.format("::")),
        ({"host": "192.0.2.7"}, IN_REACH.format("192.0.2.7")),
        ({"host": "no such host"}, NO_HOST.format("no such host")),
        ({"host": ""}, NO_HOST.format("")),
        ({"port": 70000}, NO_PORT.format(70000)),
        ({"port": -1}, NO_PORT.format(-1)),
        ({"token": ""}, UNFIT),
        ({"token": "short"}, UNFIT),
        ({"token": "t" * 15}, UNFIT),
        ({"token": "t" * 257}, UNFIT),
        ({"token": "a token; with=what cookies mean"}, UNFIT),
        ({"max_fps": 0}, BAD_VALUES),
        ({"max_fps": 1001}, BAD_VALUES),
        ({"jpeg_quality": 0}, BAD_VALUES),
        ({"jpeg_quality": 101}, BAD_VALUES),
        ({"max_side": 15}, BAD_VALUES),
        ({"max_side": 65501}, BAD_VALUES),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError) as caught:
        WebSink(**{"port": 0, "about": INFO, **options})
    assert str(caught.value) == message


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
