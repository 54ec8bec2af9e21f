"""Ctrl-C, a closed terminal and a hanging thread end a run with complete outputs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import count_frames, records_of, rows_of
from mjpeg import network_camera

from ageinfer.commands.interrupts import Interrupts
from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.sinks import VideoSink
from ageinfer.sinks.encoder import Encoder

pytest_plugins = ["command_line"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_an_interrupted_run_ends_with_130_and_valid_outputs(long_clip, tmp_path):
    jsonl, table, video = (tmp_path / name for name in ("r.jsonl", "r.csv", "v.mp4"))
    command = [sys.executable, "-m", "ageinfer", long_clip, "--jsonl", jsonl, "--csv", table, "--output", video]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (not jsonl.exists() or jsonl.read_bytes().count(b"\n") < 5):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert "Traceback" not in errors
    records = records_of(jsonl.read_text())
    assert 5 <= len(records) < 600
    assert len(rows_of(table)) == count_frames(video) == len(records)  # the frame at hand is finished everywhere
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.jsonl", "v.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_an_interrupt_while_the_video_is_completed_does_not_cost_it(clip, tmp_path, monkeypatch, capsys, suffix):
    complete = Encoder.close

    def interrupted(encoder, **how):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        complete(encoder, **how)

    monkeypatch.setattr(Encoder, "close", interrupted)
    video = tmp_path / f"v{suffix}"
    assert main([str(clip), "--output", str(video), "--quiet"]) == ExitStatus.INTERRUPTED
    assert capsys.readouterr().err == "ageinfer: interrupted; what was written is complete up to there\n"
    assert count_frames(video) == 30


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_gone_ends_a_run_properly_unless_nohup_was_there(clip, monkeypatch, tmp_path, ignored):
    write = VideoSink.write

    def hung_up(sink, annotated):
        if annotated.frame.index == 10:
            os.kill(os.getpid(), signal.SIGHUP)
        write(sink, annotated)

    monkeypatch.setattr(VideoSink, "write", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        status = main([str(clip), "--output", str(tmp_path / "v.avi"), "--quiet"])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert status == (ExitStatus.OK if ignored else ExitStatus.INTERRUPTED)
    assert count_frames(tmp_path / "v.avi") == (30 if ignored else 11)


def test_the_stop_of_a_supervisor_ends_a_run_properly_and_handlers_are_put_back(clip, monkeypatch, tmp_path):
    write = VideoSink.write

    def stopped(sink, annotated):
        if annotated.frame.index == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        write(sink, annotated)

    monkeypatch.setattr(VideoSink, "write", stopped)
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        status = main([str(clip), "--output", str(tmp_path / "v.avi"), "--quiet"])
        after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert status == ExitStatus.INTERRUPTED
    assert count_frames(tmp_path / "v.avi") == 11
    assert after == [signal.SIG_IGN, signal.SIG_IGN]


def test_a_thread_that_hangs_in_a_driver_does_not_hold_the_end_up(tmp_path):
    """It would also bring the interpreter down if it came back while that ends."""
    script = """
import threading, time
import ageinfer.commands.main
threading.Thread(target=time.sleep, args=(60,)).start()
ageinfer.commands.main.main = lambda **_: print("done") or 7
ageinfer.commands.main.command()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "done\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_the_second_interrupt_ends_a_run_that_cannot_go_on(long_clip):
    command = [sys.executable, "-m", "ageinfer", long_clip, "--jsonl", "-", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # Nobody reads: sooner or later it waits in the middle of a record.
        stuck = Path(f"/proc/{process.pid}/stat")
        deadline, before = time.monotonic() + 30, -1.0
        while time.monotonic() < deadline:
            time.sleep(0.5)
            ticks = sum(map(int, stuck.read_text().rsplit(")", 1)[1].split()[11:13])) if stuck.exists() else 0
            if ticks == before and ticks > 20:
                break
            before = ticks
        process.send_signal(signal.SIGINT)
        time.sleep(1.2)
        assert process.poll() is None  # it would finish its record if it could
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == ExitStatus.INTERRUPTED
        assert process.stdout.read().count(b"\n") > 5


def stop_twice(camera, folder, first, second, pause_s):
    """Records a camera, sends two signals, and returns the exit status and what was said."""
    records = folder / "r.jsonl"
    command = [sys.executable, "-m", "ageinfer", camera.address, "--jsonl", records, "--output", folder / "v.mp4"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (records.exists() and records.read_bytes().count(b"\n") >= 5):
            time.sleep(0.01)
        process.send_signal(first)
        time.sleep(pause_s)
        process.send_signal(second)
        return process.wait(30), process.stderr.read()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no signals between processes")
@pytest.mark.parametrize("times", [1, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("first", "second"),
    [("SIGTERM", "SIGHUP"), ("SIGTERM", "SIGTERM"), ("SIGINT", "SIGINT"), ("SIGHUP", "SIGTERM"), ("SIGINT", "SIGTERM")],
)
def test_one_stop_request_that_comes_twice_costs_no_recording(portrait, tmp_path, times, first, second):
    with network_camera(lambda _: portrait) as camera:
        for number in range(times):
            folder = tmp_path / str(number)
            folder.mkdir()
            signals = (getattr(signal, name) for name in (first, second))
            status, said = stop_twice(camera, folder, *signals, pause_s=number % 5 / 1000)
            assert status == ExitStatus.INTERRUPTED, said
            assert said.endswith("ageinfer: interrupted; what was written is complete up to there\n")
            assert sorted(path.name for path in folder.iterdir()) == ["r.jsonl", "v.mp4"]
            assert count_frames(folder / "v.mp4") >= 5


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no signals between processes")
@pytest.mark.parametrize(
    ("signals", "ends"),
    [(["SIGINT", "SIGINT"], True), (["SIGINT", "SIGTERM"], False), (["SIGTERM", "SIGINT"], False),
     (["SIGTERM", "SIGHUP"], False)],
)  # fmt: skip
def test_only_the_second_ctrl_c_ends_a_run_at_once_however_late_others_come(monkeypatch, signals, ends):
    ended = []
    monkeypatch.setattr("ageinfer.commands.interrupts.os._exit", ended.append)
    clock = iter([100.0, 101.0])
    monkeypatch.setattr("ageinfer.commands.interrupts.time.monotonic", lambda: next(clock))
    with Interrupts() as interrupts, interrupts.held():
        for name in signals:
            os.kill(os.getpid(), getattr(signal, name))
    assert interrupts.requested
    assert ended == ([ExitStatus.INTERRUPTED] if ends else [])
