"""Running ageinfer on cameras and streams, and with the web page."""

import csv
import io
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from command_line import count_frames, records_of
from mjpeg import network_camera

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.sources import LiveSource

pytest_plugins = ["command_line"]


class Unplugged:
    """A capture that shows one picture four times, a tenth of a second apart, and then none."""

    def __init__(self, picture):
        self.answers = [(True, picture)] * 4
        self.set = self.release = lambda *_: True
        self.get = lambda *_: 25.0

    def isOpened(self):  # noqa: N802
        return bool(self.answers)

    def read(self):
        time.sleep(0.1)
        return self.answers.pop(0) if self.answers else (False, None)


def test_a_camera_that_is_unplugged_leaves_complete_outputs(portrait, tmp_path, monkeypatch, capsys):
    camera = LiveSource("camera:2", lambda: Unplugged(portrait), reconnect_for_s=0)
    monkeypatch.setattr("ageinfer.sources.open_camera", lambda index, **_: {2: camera}[index])
    status = main(["--camera", "2", "--csv", "-", "--output", str(tmp_path / "v.avi"), "--quiet"])
    output = capsys.readouterr()
    assert status == ExitStatus.SOURCE
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert output.err.startswith(f"ageinfer: camera:2: no more frames after {len(rows)}")
    assert 1 <= len(rows) <= 4
    assert {row["source"] for row in rows} == {"camera:2"}
    assert count_frames(tmp_path / "v.avi") >= len(rows)  # in real time: they came 0.1 s apart


def test_a_stream_with_every_output_and_without_its_password(tmp_path, portrait, monkeypatch, capsys):
    outputs = [tmp_path / name for name in ("r.jsonl", "r.csv", "v.mp4")]
    with network_camera(lambda _: portrait, fps=40, user="hannah", password="s3cr3t-w0rd") as camera:  # noqa: S106
        address = f"http://hannah:s3cr3t-w0rd@{camera.host}/live?token=t0k3n-t3xt"

        def stop_later():
            while camera.sent < 25:
                time.sleep(0.05)
            camera.mode = "close"

        threading.Thread(target=stop_later, daemon=True).start()
        arguments = [v for pair in zip(("--jsonl", "--csv", "--output"), map(str, outputs), strict=True) for v in pair]
        status = main([address, *arguments, "--reconnect-for", "0"])
    assert status == ExitStatus.SOURCE  # it was closed
    said = capsys.readouterr()
    records = records_of(outputs[0].read_text())
    assert len(records) > 3
    assert [[face["track"] for face in record["faces"]] for record in records] == [[1]] * len(records)
    assert records[0]["source"] == records[-1]["source"]
    assert camera.host in records[0]["source"]
    times = [record["time_s"] for record in records]
    assert times == sorted(set(times))
    assert count_frames(outputs[2]) >= 1
    for text in (said.err, said.out, outputs[0].read_text(), outputs[1].read_text()):
        assert not any(secret in text for secret in ("hannah", "s3cr3t", "t0k3n"))


def test_the_page_shows_the_run(long_clip, tmp_path):
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "ageinfer", long_clip, "--serve-at", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stderr.readline() for _ in range(2)]
        assert "age-small on cpu" in lines[0]  # first of all, what it runs on
        address = lines[1].removeprefix("the page: ").strip()
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310
            assert b"ageinfer" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == ExitStatus.INTERRUPTED


@pytest.mark.parametrize(("host", "given"), [("127.0.0.1", None), ("0.0.0.0", None), ("0.0.0.0", "a-token-of-my-own-")])  # noqa: S104
def test_a_page_for_other_machines_has_a_token(clip, monkeypatch, capsys, host, given):
    pytest.importorskip("uvicorn")
    monkeypatch.delenv("AGEINFER_TOKEN", raising=False)
    if given:
        monkeypatch.setenv("AGEINFER_TOKEN", given)
    monkeypatch.setattr("ageinfer.commands.run.Run.stay", lambda *_: None)
    assert main([str(clip), "--fast", "--serve", "--serve-at", f"{host}:0"]) == ExitStatus.OK
    page = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("the page: "))
    if host == "127.0.0.1":
        assert "token" not in page
    else:
        assert (len(page.partition("token=")[2]) >= 16) == (given is None)
        assert given is None or (given not in page and "AGEINFER_TOKEN" in page)
