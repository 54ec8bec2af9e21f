"""``--mqtt`` of the command, against a real broker: what arrives, and what is left when a run ends in some way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import cv2
import jsonschema
import pytest
from command_line import records_of
from conftest import ROOT
from mjpeg import network_camera

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

from mosquitto import PROGRAM, broker, kept_by, listening, make_certificates, until

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.sinks import record_schema

pytest_plugins = ["command_line"]

needs_broker = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")
CLIP = str(ROOT / "samples" / "clip.mp4")
PLACES = ("--zone", "left=0,0;0.5,0;0.5,1;0,1", "--line", "middle=0.5,0;0.5,1")


def parsed(payloads):
    return [json.loads(payload) for payload in payloads]


@needs_broker
def test_a_film_arrives_as_its_files_say(tmp_path, capsys):
    people, audience = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    with broker(tmp_path) as there, listening(there.port) as listener:
        assert main([
            CLIP, "--mqtt", f"{there.address}/home/hall", "--people", str(people), "--audience", str(audience), *PLACES,
            "--every", "2s", "--thresholds", "18,65", "--bands", "0-17,18+", "--least-quality", "0.2",
        ]) == 0  # fmt: skip
        listener.wait_for("home/hall/status", count=2)
        kept = kept_by(there.port)
    assert parsed(listener.payloads("home/hall/clip_mp4/person")) == records_of(people.read_text())
    assert parsed(listener.payloads("home/hall/clip_mp4/audience")) == records_of(audience.read_text())
    assert len(records_of(people.read_text())) == 8
    views = parsed(listener.payloads("home/hall/clip_mp4/view"))
    for view in views:
        jsonschema.Draft202012Validator(record_schema("view")).validate(view)
    assert [face["zones"] for face in views[0]["faces"]] == [["left"], []]
    assert listener.payloads("home/hall/status") == ["online", "offline"]
    assert set(kept) == {
        "home/hall/status", "homeassistant/device/home-hall-clip_mp4/config", "home/hall/clip_mp4/view",
        "home/hall/clip_mp4/audience",
    }  # fmt: skip
    assert json.loads(kept["home/hall/clip_mp4/view"])["faces"] == []
    told = capsys.readouterr()
    assert told.out == ""  # records go to the broker alone
    assert "MQTT" not in told.err  # nothing was lost, and nothing is said


@needs_broker
def test_counts_alone_when_nothing_else_may_leave(tmp_path):
    with broker(tmp_path) as there, listening(there.port) as listener:
        options = ["--mqtt", there.address, "--only-counts", "--least", "2", "--every", "2s"]
        assert main([CLIP, "--quiet", *options]) == 0
        listener.wait_for("ageinfer/status", count=2)
    assert {message.topic for message in listener.heard} == {
        "ageinfer/status", "ageinfer/clip_mp4/audience", "homeassistant/device/ageinfer-clip_mp4/config",
    }  # fmt: skip
    first, second = parsed(listener.payloads("ageinfer/clip_mp4/audience"))
    assert (first["people"], second["people"]) == (5, 3)
    assert None in [band["count"] for band in first["bands"]]


@contextmanager
def running(portrait, address, *options, environment=None):
    """A run on a camera of the network that shows one face; gives the process and the lines that it says."""
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    with network_camera(lambda number: small, fps=10) as camera:
        command = [sys.executable, "-m", "ageinfer", camera.address, "--mqtt", address, *map(str, options)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {}))
        said = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr))
        reader.start()
        try:
            yield process, said
        finally:
            process.kill()
            process.wait()
            reader.join(5)
            process.stderr.close()


@needs_broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_a_run_ends_it_is_offline(portrait, tmp_path, number):
    with broker(tmp_path) as there, listening(there.port) as listener:
        with running(portrait, there.address) as (process, _):
            camera = listening_for_view(listener)
            process.send_signal(number)
            status = process.wait(20)
            listener.wait_for("ageinfer/status", count=2)
        assert listener.payloads("ageinfer/status") == ["online", "offline"]
        kept = kept_by(there.port)
    assert kept["ageinfer/status"] == "offline"
    persons = parsed(listener.payloads(f"ageinfer/{camera}/person"))
    if number == signal.SIGKILL:  # the broker has sent the will
        assert (status, persons) == (-signal.SIGKILL, [])
    else:
        assert status == ExitStatus.INTERRUPTED
        assert [(person["unsure"], person["track"]) for person in persons] == [(False, 1)]
        assert json.loads(kept[f"ageinfer/{camera}/view"])["faces"] == []
        assert listener.heard[-1][:2] == ("ageinfer/status", "offline")


def listening_for_view(listener) -> str:
    """Waits until somebody is surely in view; returns the name of the camera in topics."""

    def seen():
        return [m for m in listener.heard if m.topic.endswith("/view") and json.loads(m.payload)["people"] == 1]

    until(lambda: bool(seen()), "nobody is in view", 30)
    return seen()[0].topic.split("/")[1]


@needs_broker
def test_a_run_goes_on_without_the_broker_and_nothing_is_lost(portrait, tmp_path):
    with broker(tmp_path) as there:
        records = tmp_path / "a.jsonl"
        options = ("--every", "1s", "--audience", records, "--only-counts")
        with running(portrait, there.address, *options) as (process, said):
            until(lambda: records.exists() and records.stat().st_size > 0, "no record", 30)
            there.stop()
            before = len(records_of(records.read_text()))
            until(lambda: len(records_of(records.read_text())) >= before + 3, "the run does not go on")
            there.start()
            with listening(there.port) as listener:
                until(lambda: any("is there" in line for line in said), "it does not come back")
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == ExitStatus.INTERRUPTED
                listener.wait_for("ageinfer/status")
                until(lambda: listener.payloads("ageinfer/status")[-1] == "offline", "it does not end")
                assert [topic for topic in kept_by(there.port) if "homeassistant" in topic]  # told again
    about = [line for line in said if "MQTT" in line]
    assert len(about) == 2
    assert about[0].startswith(f"ageinfer: no connection to the MQTT broker {there.address}: the connection was lost")
    assert about[1].startswith(f"ageinfer: the MQTT broker {there.address} is there; ")  # and none was dropped
    written = records_of(records.read_text())
    camera = next(message.topic for message in listener.heard if message.topic.endswith("/audience"))
    arrived = {window["from_s"] for window in parsed(listener.payloads(camera))}
    # What was sent before is on no broker any more; of the rest, the listener may have come after the first.
    assert {window["from_s"] for window in written[before + 3 :]} <= arrived


@needs_broker
def test_a_password_of_the_environment_over_tls(portrait, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificates = make_certificates(tmp_path / "tls")
    with broker(tmp_path, tls=certificates, users={"me": "pw-hidden-7"}) as there:
        address = there.address.replace("//", "//me@")
        secret = {"AGEINFER_MQTT_PASSWORD": "pw-hidden-7"}
        options = ("--mqtt-ca", certificates / "ca.pem")
        with running(portrait, address, *options, environment=secret) as (process, said):
            until(lambda: "New client connected" in there.log.read_text(), "it does not connect", 30)
            until(lambda: "as ageinfer" in there.log.read_text(), "it has another name")
            with open(f"/proc/{process.pid}/cmdline") as words:  # noqa: PTH123
                assert "pw-hidden-7" not in words.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == ExitStatus.INTERRUPTED
        with running(portrait, address, *options, environment=secret | {"AGEINFER_MQTT_PASSWORD": "pw-wrong-8"}) as (
            process,
            said,
        ):
            until(lambda: any("refuses" in line for line in said), "nothing is said", 30)
    assert [line for line in said if "MQTT" in line] == [
        f"ageinfer: the MQTT broker {there.address} refuses the connection: not authorized; check user and password\n"
    ]
    assert "pw-" not in "".join(said)


def test_a_broker_that_is_away_holds_no_run_up(tmp_path, capsys):
    began_s = time.monotonic()
    assert main([CLIP, "--mqtt", "mqtt://127.0.0.1:1", "--jsonl", str(tmp_path / "r.jsonl")]) == 0
    assert time.monotonic() - began_s < 20
    assert len(records_of((tmp_path / "r.jsonl").read_text())) == 80
    lines = [line for line in capsys.readouterr().err.splitlines() if "MQTT" in line]
    assert lines == [
        "ageinfer: no connection to the MQTT broker mqtt://127.0.0.1:1: connection refused; the run goes on without it",
        "ageinfer: the MQTT broker mqtt://127.0.0.1:1 has got 0 records; 9 were dropped",
    ]


def test_a_broker_is_an_output_so_no_window_opens(monkeypatch):
    from ageinfer import sinks

    monkeypatch.setattr(sinks, "display_works", lambda: True)
    monkeypatch.setattr(sinks, "WindowSink", lambda **_: pytest.fail("a window was opened"))
    assert main([CLIP, "--quiet", "--mqtt", "mqtt://127.0.0.1:1"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mqtt", "http://me:pw-hidden-7@h"], "not the address of a broker"),
        (["--mqtt", "mqtt://me:pw-hidden-7@h/a/+"], "has neither + nor #"),
        (["--mqtt", "mqtt://h", "--mqtt-ca", "x"], "mqtt:// is not encrypted"),
        (["--mqtt", "mqtts://h", "--mqtt-ca", "x"], "--mqtt-ca x: No such file"), (["--mqtt-ca", "x"], "is for --mqtt"),
        (["--mqtt", "mqtt://h", "--bands", "5+"], "--bands 5+"),
        (["--mqtt", "mqtt://h", "--every", "0s"], "--every 0s"),
        (["--mqtt", "mqtt://h", "--only-counts", "--people", "x"], "--people shows more than counts"),
        (["--every", "1m"], "are for --audience and --mqtt"),
        (["--mqtt"], "expected one argument"), (["mqtt://me:pw-hidden-7@h", "--mqtt", "mqtt://h"], "is live"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_without_the_password(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main([CLIP, *options])
    except SystemExit as end:
        status = end.code
    told = capsys.readouterr().err
    assert (status, said in told) == (2, True), told
    assert "pw-hidden-7" not in told
    assert list(tmp_path.iterdir()) == []


def test_pictures_have_nobody_in_view(capsys):
    assert main([str(ROOT / "samples" / "portraits.jpg"), "--mqtt", "mqtt://127.0.0.1:1"]) == 2
    assert "for videos and cameras" in capsys.readouterr().err


def test_without_the_package_one_line_names_the_extra():
    code = (
        "import sys; sys.modules['paho'] = None; "
        "from ageinfer.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )  # fmt: skip
    command = [sys.executable, "-c", code, CLIP, "--mqtt", "mqtt://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == ExitStatus.MISSING
    assert done.stderr == "ageinfer: --mqtt needs paho-mqtt, which is missing: pip install 'ageinfer[mqtt]'\n"


def test_a_run_without_it_does_not_load_the_package():
    code = (
        "import sys; from ageinfer.commands.main import main; status = main(sys.argv[1:]); "
        "assert not [name for name in sys.modules if name.startswith(('paho', 'ageinfer.mqtt'))]; sys.exit(status)"
    )
    command = [sys.executable, "-c", code, CLIP, "--quiet", "--jsonl", os.devnull]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
