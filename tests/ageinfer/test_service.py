"""What the service manager is told, and log lines for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from command_line import records_of
from mjpeg import network_camera
from service_manager import Listener

from ageinfer.commands.main import main
from ageinfer.commands.service import Pulse, ServiceManager
from ageinfer.errors import ExitStatus
from ageinfer.sources.base import Source

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there is no systemd on this system")
pytest_plugins = ["command_line"]


@pytest.fixture(params=["file", "abstract"])
def listener(request, tmp_path):
    place = str(tmp_path / "notify") if request.param == "file" else f"@ageinfer-test-{os.getpid()}-{time.time()}"
    made = Listener(place)
    yield made
    made._socket.close()


class Silent(Source):
    kind = "camera"

    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self):
        return iter(())


def test_ready_alive_and_stopping(listener):
    alive = True
    environment = {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    with ServiceManager(lambda limit_s: alive and limit_s == 0.1, environment) as manager:
        manager.say_ready("reading door")
        assert listener.next() == "READY=1\nSTATUS=reading door"
        assert [listener.next(), listener.next()] == ["WATCHDOG=1", "WATCHDOG=1"]
        alive = False
        assert listener.is_silent(0.3)
    assert listener.next() == "STOPPING=1"
    assert listener.is_silent(0.2)


@pytest.mark.parametrize("pid", ["1", "x"])
def test_a_watchdog_of_another_process_is_left_to_it(listener, pid):
    environment = {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": pid}
    with ServiceManager(lambda _: True, environment):
        assert listener.is_silent(0.2)


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "1000"}, {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "1000"},
     {"NOTIFY_SOCKET": "@" + "x" * 300}],
)  # fmt: skip
def test_without_a_service_manager_nothing_happens(environment):
    with ServiceManager(lambda _: True, environment) as manager:
        manager.say_ready("reading door")
        time.sleep(0.05)


def test_each_source_must_have_a_pulse_of_its_own():
    door, hall = Silent("door"), Silent("hall")
    pulse = Pulse([door, hall])
    assert pulse.goes_on(0.05)
    time.sleep(0.1)
    pulse.beat("door")
    assert not pulse.goes_on(0.05)
    pulse.beat("hall")
    assert pulse.goes_on(0.05)
    time.sleep(0.1)
    door.lost = hall.lost = True
    assert pulse.goes_on(0.05)
    hall.lost = False  # it is back, and has its time
    assert pulse.goes_on(0.05)


def test_a_single_source_has_the_pulse_of_whatever_it_gives():
    pulse = Pulse([Silent("2 sources")])
    time.sleep(0.1)
    pulse.beat("a.jpg")
    assert pulse.goes_on(0.05)


@pytest.mark.parametrize("listener", ["file"], indirect=True)
def test_a_run_tells_that_it_is_ready_lives_and_ends(listener, portrait, tmp_path):
    environment = os.environ | {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "600000"}
    with network_camera(lambda _: portrait, fps=15) as camera:
        command = [sys.executable, "-m", "ageinfer", camera.address, "--log", "json", "--jsonl", tmp_path / "r.jsonl"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert listener.next(30) == f"READY=1\nSTATUS=reading {camera.address}"
            for _ in range(3):
                assert listener.next() == "WATCHDOG=1"
            process.send_signal(signal.SIGSTOP)  # the process hangs
            assert listener.is_silent(1)
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            while (said := listener.next()) != "STOPPING=1":
                assert said == "WATCHDOG=1"
            lines = records_of(process.communicate(timeout=20)[1])
    assert process.returncode == ExitStatus.INTERRUPTED
    assert [line["level"] for line in lines] == ["info"] * 3


def test_messages_as_json(capsys, astronaut_path, tmp_path):
    assert main([str(astronaut_path), "--jsonl", str(tmp_path / "r"), "--log", "json"]) == ExitStatus.OK
    lines = records_of(capsys.readouterr().err)
    assert [set(line) for line in lines] == [{"at", "level", "message"}] * 2
    assert {line["level"] for line in lines} == {"info"}
    assert main(["no\nsuch\x1b.jpg", "--log", "json"]) == ExitStatus.SOURCE
    [line] = records_of(capsys.readouterr().err)
    message = "ageinfer: no?such?.jpg: no such file or folder; check the path"
    assert (line["level"], line["message"]) == ("error", message)


def test_messages_as_json_by_the_configuration(capsys, tmp_path):
    config = tmp_path / "a.toml"
    config.write_text('log = "json"\nsource = "nowhere.jpg"')
    assert main(["--config", str(config)]) == ExitStatus.SOURCE
    assert json.loads(capsys.readouterr().err)["level"] == "error"
    config.write_text("log = ")
    assert main(["--config", str(config), "--log", "json"]) == ExitStatus.USAGE
    assert "not TOML" in json.loads(capsys.readouterr().err)["message"]


def test_a_traceback_is_lines_of_json_too(capsys):
    from ageinfer.console import json_on_stderr

    with json_on_stderr():
        print("a line\nand half", end="", file=sys.stderr)
        print(" of one", file=sys.stderr)
    assert [line["message"] for line in records_of(capsys.readouterr().err)] == ["a line", "and half of one"]
