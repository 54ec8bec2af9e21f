"""``ageinfer api`` as a person or a service manager runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from api_clients import TOKEN, ask, environment, head_of, metric, post, post_form, raw, read_all
from media_files import encode
from service_manager import Listener
from web_viewers import wait_for

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus

pytest_plugins = ["api_clients", "media_files"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals")


@contextmanager
def running(tmp_path, *options, folder=None, **variables):
    """The command on a free port; gives ``url``, ``process`` and ``lines``, what it has said so far."""
    said = tmp_path / "said"
    command = [sys.executable, "-m", "ageinfer", "api", "--at", "127.0.0.1:0", "--provider", "cpu", *options]
    with said.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors, stdout=errors, env=environment(**variables), cwd=folder)
    try:
        wait_for(lambda: "http://" in said.read_text() or process.poll() is not None, 30)
        url = re.search(r"http://\S+", said.read_text())
        assert url, said.read_text()
        yield SimpleNamespace(url=url[0], process=process, lines=lambda: said.read_text().splitlines())
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_what_it_works_with_and_how_many_pictures_it_answered(tmp_path, small, number):
    with running(tmp_path) as command:
        for _ in range(3):
            assert post(command, encode(".png", small)).status == 200
        assert post(command, b"no picture").status == 422
        command.process.send_signal(number)
        assert command.process.wait(10) == ExitStatus.INTERRUPTED
        first, address, refused, stopping, last = command.lines()
    assert re.fullmatch(
        r"ageinfer \S+: age-small on cpu \(int8\), faces by yunet-2023mar, 1 thread\(s\) a network", first
    )
    assert re.fullmatch(r"the service: http://127\.0\.0\.1:\d+/", address)
    assert refused.startswith("ageinfer: POST /v1/faces from 127.0.0.1: 422, the body: the picture cannot be decoded; ")
    assert stopping == "ageinfer: stopping; requests that were sent are answered"
    assert last == "ageinfer: interrupted; pictures answered: 3"


def test_quiet_leaves_the_address_and_the_end(tmp_path):
    with running(tmp_path, "--quiet", AGEINFER_TOKEN=TOKEN) as command:
        assert post(command, b"no picture", Authorization=f"Bearer {TOKEN}").status == 422
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(10) == ExitStatus.INTERRUPTED
        address, last = command.lines()
    assert address.endswith("/ (its token: AGEINFER_TOKEN)")
    assert TOKEN not in address
    assert last == "ageinfer: interrupted; pictures answered: 0"


def test_a_request_that_was_begun_is_answered_after_the_signal(tmp_path, astronaut_path):
    portrait = astronaut_path.read_bytes()
    with running(tmp_path) as command:
        with raw(command, head_of(command, f"Content-Length: {len(portrait)}") + portrait[:100]) as connection:
            wait_for(lambda: metric(command, "ageinfer_held_bytes") == 100)
            command.process.send_signal(signal.SIGTERM)
            wait_for(lambda: ask(command, "/v1/health").status == 503)
            connection.sendall(portrait[100:])
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        assert command.process.wait(10) == ExitStatus.INTERRUPTED
        assert command.lines()[-1] == "ageinfer: interrupted; pictures answered: 1"


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    with running(tmp_path) as command, raw(command, head_of(command, "Content-Length: 100")):
        wait_for(lambda: metric(command, "ageinfer_requests_in_work") == 1)
        command.process.send_signal(signal.SIGINT)
        time.sleep(1.2)
        assert command.process.poll() is None
        began = time.monotonic()
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(10) == ExitStatus.INTERRUPTED
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--at", "8000"], ExitStatus.USAGE, "--at 8000: use HOST:PORT"),
        (["--most-pictures", "0"], ExitStatus.USAGE, "at most 0 pictures a request: use 1 or more"),
        (["--most-pictures", "100"], ExitStatus.USAGE, "make it longer, or allow fewer pictures"),
        (["--most-bytes", "0"], ExitStatus.USAGE, "use 1 to"),
        (["--time-limit", "nan"], ExitStatus.USAGE, "use more than 0"),
        (["--model", "no-such-model"], ExitStatus.MODEL, "no-such-model"),
        (["--at", "192.0.2.1:0"], ExitStatus.OUTPUT, "cannot listen"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run_cli, options, status, says):
    done = run_cli("api", *options, env=environment())
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")
    assert says in line


def test_a_service_for_other_machines_has_a_token(tmp_path, small):
    with running(tmp_path, "--at", "0.0.0.0:0") as command:
        command.url, _, token = command.url.partition("?token=")
        assert len(token) == 32
        assert post(command, encode(".png", small)).status == 401
        assert post(command, encode(".png", small), Authorization=f"Bearer {token}").status == 200


def test_what_is_sent_is_written_nowhere(tmp_path, astronaut):
    places = [tmp_path / name for name in ("home", "temporary", "work")]
    for place in places:
        place.mkdir()
    home, temporary, work = map(str, places)
    suffixes = (".jpg", ".png", ".webp", ".tif", ".bmp")
    with running(tmp_path, HOME=home, TMPDIR=temporary, folder=work) as command:
        pictures = [(f"a{suffix}", encode(suffix, astronaut)) for suffix in suffixes]
        assert len(post_form(command, *pictures, ("b", bytes(5_000_000))).pictures) == 6
        assert post(command, bytes(5_000_000)).status == 422
        assert [list(place.iterdir()) for place in places] == [[], [], []]


def test_without_its_packages_it_says_what_to_install(run_cli, tmp_path):
    (tmp_path / "prometheus_client.py").write_text('raise ModuleNotFoundError("no", name="prometheus_client")')
    done = run_cli("api", env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"))
    assert done.returncode == ExitStatus.MISSING
    assert done.stderr.splitlines()[-1] == (
        "ageinfer: the HTTP service needs prometheus_client, which is missing: pip install 'ageinfer[serve]'"
    )


def test_as_a_service_with_a_configuration(tmp_path, small):
    listener = Listener(str(tmp_path / "notify"))
    (tmp_path / "api.toml").write_text('most-pictures = 1\nlog = "json"\n')
    told = {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "600000"}
    with running(tmp_path, "--config", str(tmp_path / "api.toml"), **told) as command:
        assert listener.next(20) == "READY=1\nSTATUS=answering pictures"
        assert [listener.next(), listener.next()] == ["WATCHDOG=1"] * 2
        assert post(command, encode(".png", small)).status == 200
        assert post_form(command, ("a.png", encode(".png", small)), ("b.png", encode(".png", small))).status == 413
        command.process.send_signal(signal.SIGSTOP)
        assert listener.is_silent(1)
        command.process.send_signal(signal.SIGCONT)
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(10) == ExitStatus.INTERRUPTED
        lines = [json.loads(line) for line in command.lines()]
    assert [line["level"] for line in lines] == ["info"] * len(lines)
    assert "413" in lines[2]["message"]


def test_a_camera_is_no_option_of_the_service(tmp_path, capsys):
    (tmp_path / "api.toml").write_text("[[camera]]\nsource = 0\n")
    assert main(["api", "--config", str(tmp_path / "api.toml")]) == ExitStatus.USAGE
    assert "camera: no such option" in capsys.readouterr().err


def test_memory_does_not_grow_with_requests_nor_with_what_is_refused(tmp_path, astronaut_path):
    portrait = astronaut_path.read_bytes()
    with running(tmp_path, "--most-bytes", str(2 << 20), "--quiet") as service:

        def turn():
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: post(service, portrait).status, range(60)))
                list(pool.map(lambda _: post(service, bytes(4 << 20)).status, range(30)))
                list(pool.map(lambda _: post_form(service, *[("a.jpg", portrait)] * 4).status, range(10)))
            return metric(service, "process_resident_memory_bytes")

        turn()
        before = turn()
        turn()
        assert turn() < before + 12e6
