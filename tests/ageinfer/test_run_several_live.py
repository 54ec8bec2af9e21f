"""Running ageinfer on several cameras of the network at once."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import cv2
import numpy as np
import pytest
from command_line import records_of, rows_of
from mjpeg import network_camera

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus

NAMES = ("door", "hall", "yard")
LOGIN = {"user": "u", "password": "s3cret"}


@pytest.fixture
def cameras(astronaut, tmp_path):
    """Three cameras: a face that stays, one that moves to the right, and nobody; and the file that names them."""
    face = cv2.resize(astronaut[:384], (320, 240), interpolation=cv2.INTER_AREA)
    views = (lambda _: face, lambda number: np.roll(face, 2 * number, axis=1), lambda _: np.zeros_like(face))
    with ExitStack() as until_the_end:
        made = [until_the_end.enter_context(network_camera(view, fps=15, **LOGIN)) for view in views]
        tables = [
            f'[[camera]]\nname = "{name}"\nsource = "http://u:${{PASSWORD}}@{camera.host}/live"\n'
            f'zone = "at-{name}=0,0;1,0;1,1;0,1"\n'
            for name, camera in zip(NAMES, made, strict=True)
        ]
        path = tmp_path / "cameras.toml"
        path.write_text(f'threads = 1\nmodel = "age-small"\n{"".join(tables)}')
        yield dict(zip(NAMES, made, strict=True)), path


class Running:
    """A run in a process of its own, whose records are read from a file as they come."""

    def __init__(self, config, folder, *options) -> None:
        self.records_path = folder / "records.jsonl"
        command = [sys.executable, "-m", "ageinfer", "--config", config, "--jsonl", self.records_path, *options]
        environment = os.environ | {"PASSWORD": "s3cret"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def records(self) -> list[dict]:
        text = self.records_path.read_text() if self.records_path.exists() else ""
        return records_of(text[: text.rfind("\n") + 1])

    def wait_for(self, condition, seconds=30.0) -> list[dict]:
        """Waits until the records are as they should be."""
        give_up_s = time.monotonic() + seconds
        while not condition(records := self.records()):
            assert time.monotonic() < give_up_s, len(records)
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.05)
        return records

    def end(self) -> str:
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=20)[1]
        assert self.process.returncode == ExitStatus.INTERRUPTED, said
        assert "s3cret" not in said
        return said


def times_of(records, name):
    return [record["time_s"] for record in records if record["source"] == name]


def test_records_people_audience_and_faces_of_three_cameras(cameras, tmp_path):
    _, config = cameras
    outputs = {name: tmp_path / name for name in ("people.csv", "audience.jsonl", "faces")}
    options = [word for name, path in outputs.items() for word in (f"--{name.partition('.')[0]}", path)]
    run = Running(config, tmp_path, *options, "--every", "1h")
    records = run.wait_for(lambda records: all(len(times_of(records, name)) > 12 for name in NAMES))
    said = run.end()
    assert {record["source"] for record in records} == set(NAMES)
    for name in NAMES:
        own = [record for record in records if record["source"] == name]
        assert [record["frame"] for record in own] == list(range(len(own)))
        assert times_of(own, name) == sorted(times_of(own, name))
        assert {len(record["faces"]) for record in own[3:]} <= ({0} if name == "yard" else {0, 1})
    people = [row for row in rows_of(outputs["people.csv"]) if row["unsure"] == "False"]
    assert {(row["source"], row["zones"].partition("=")[0]) for row in people} >= {
        ("door", "at-door"),
        ("hall", "at-hall"),
    }
    assert all(20 < float(row["age"]) < 50 for row in people)
    windows = [json.loads(line) for line in outputs["audience.jsonl"].read_text().splitlines()]
    assert {window["source"]: window["zones"][0]["zone"] for window in windows} == {n: f"at-{n}" for n in NAMES}
    assert {window["source"]: window["people"] > 0 for window in windows} == {"door": True, "hall": True, "yard": False}
    assert len({window["from_at"] for window in windows}) == 1  # the same hour
    assert {path.name.partition("-")[0] for path in outputs["faces"].iterdir()} == {"door", "hall"}
    assert "frames" in said


def test_one_camera_lost_and_back_while_the_others_go_on(cameras, tmp_path):
    made, config = cameras
    run = Running(config, tmp_path)
    run.wait_for(lambda records: all(len(times_of(records, name)) > 3 for name in NAMES))
    made["door"].stop()
    time.sleep(1)  # frames that were on their way
    before = run.records()
    after = run.wait_for(lambda records: len(times_of(records, "hall")) > len(times_of(before, "hall")) + 20)
    assert len(times_of(after, "door")) == len(times_of(before, "door"))
    made["door"].start()
    run.wait_for(lambda records: len(times_of(records, "door")) > len(times_of(before, "door")) + 3)
    said = run.end()
    assert "ageinfer: door: lost after" in said
    assert "ageinfer: door: back after" in said
    assert "hall: lost" not in said


def test_a_camera_that_is_not_there_at_the_start_is_joined_later(cameras, tmp_path):
    made, config = cameras
    made["hall"].stop()
    run = Running(config, tmp_path)
    run.wait_for(lambda records: len(times_of(records, "door")) > 3)
    made["hall"].start()
    run.wait_for(lambda records: len(times_of(records, "hall")) > 3)
    said = run.end()
    assert "ageinfer: hall: " in said
    assert "it is tried again, the others go on" in said
    assert "ageinfer: hall: there after" in said


def test_where_no_camera_is_there_the_run_ends_with_one_line(cameras, monkeypatch, capsys):
    made, config = cameras
    monkeypatch.setenv("PASSWORD", "s3cret")
    for camera in made.values():
        camera.stop()
    assert main(["--config", str(config)]) == ExitStatus.SOURCE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("ageinfer: door: ")
    for camera in made.values():
        camera.start()


def test_when_all_are_gone_for_good_the_run_ends(cameras, tmp_path):
    made, config = cameras
    run = Running(config, tmp_path, "--reconnect-for", "0")
    run.wait_for(lambda records: all(len(times_of(records, name)) > 3 for name in NAMES))
    for camera in made.values():
        camera.stop()
    said = run.process.communicate(timeout=30)[1]
    assert run.process.returncode == ExitStatus.SOURCE
    lines = [line for line in said.splitlines() if "no more frames" in line]
    assert len(lines) == 3
    assert sum("the others go on" in line for line in lines) == 2
    for camera in made.values():
        camera.start()
