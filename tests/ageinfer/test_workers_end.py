"""How a command with worker processes ends: by a person, the system, or whoever reads its output."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from portraits import write_portraits
from worker_openers import IMPATIENT

from ageinfer.errors import ExitStatus

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")


@pytest.fixture(scope="module")
def many(tmp_path_factory, persons):
    """Some seconds of work: 820 names of twenty pictures."""
    folder = tmp_path_factory.mktemp("many")
    for path in write_portraits(folder, persons[0], range(20)):
        for i in range(40):
            path.with_name(f"{path.stem}-{i:02}.jpg").hardlink_to(path)
    return folder


def children(process):
    """The numbers of all processes that it has started."""
    return [int(n) for path in Path(f"/proc/{process.pid}/task").glob("*/children") for n in path.read_text().split()]


def all_gone(numbers, within_s=5.0):
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if not any(Path(f"/proc/{number}/cmdline").exists() and is_running(number) for number in numbers):
            return True
        time.sleep(0.02)
    return False


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def started(many, records, *, least=400, **more):
    """A run with two workers that has written some records, and its children."""
    command = [*IMPATIENT, many, "--workers", "2", "--jsonl", records, "--provider", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s and not (records.exists() and records.read_bytes().count(b"\n") >= least):
        time.sleep(0.01)
    return process, children(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_ends_it_with_whole_records(many, tmp_path, number):
    records = tmp_path / "r.jsonl"
    process, workers = started(many, records, start_new_session=True)
    assert len(workers) >= 2
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert said.endswith("ageinfer: interrupted; what was written is complete up to there\n")
    assert "Traceback" not in said
    written = records.read_text()
    assert written.endswith("}\n")
    assert 400 <= written.count("\n") < 820
    assert all_gone(workers)


@pytest.mark.parametrize("wait_s", [0.05, 0.4, 0.8])
def test_ctrl_c_while_workers_start_says_one_line(many, tmp_path, wait_s):
    process, _ = started(many, tmp_path / "r.jsonl", least=0, start_new_session=True)
    time.sleep(wait_s)
    workers = children(process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    if process.returncode != -signal.SIGINT:  # before Python itself was loaded
        assert process.returncode == ExitStatus.INTERRUPTED
        assert said.splitlines()[-1].startswith("ageinfer: interrupted")
    assert all_gone(workers)


def test_workers_end_when_the_process_is_gone_that_has_started_them(many, tmp_path):
    process, workers = started(many, tmp_path / "r.jsonl")
    process.kill()
    process.communicate()
    assert len(workers) >= 2
    assert all_gone(workers)


@pytest.mark.parametrize("end", ["kill", "forget"])
def test_workers_without_work_end_with_the_process_that_has_started_them(end):
    script = """
from ageinfer.workers import Workers
workers = Workers(count=1)
workers.start()
print(workers.running[0].process.pid, workers.running[0].connection.recv_bytes(), flush=True)
input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        number = int(process.stdout.readline().split()[0])
        assert is_running(number)
        if end == "kill":
            process.kill()
        process.stdin.close()
        process.wait(10)
    assert all_gone([number])


def test_a_reader_that_has_gone_ends_the_run_and_its_workers(many):
    command = [*IMPATIENT, many, "--workers", "2", "--provider", "cpu", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(400):
            assert process.stdout.readline().endswith("}\n")
        workers = children(process)
        process.stdout.close()
        assert process.wait(30) == ExitStatus.OUTPUT
        assert process.stderr.read() == ""
    assert all_gone(workers)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_full_ends_the_run_with_one_line(many):
    command = [*IMPATIENT, many, "--workers", "2", "--jsonl", "/dev/full", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitStatus.OUTPUT
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: /dev/full: cannot be written: No space left on device")


def test_a_worker_that_is_killed_costs_no_record(many, tmp_path):
    records = tmp_path / "r.jsonl"
    process, workers = started(many, records)
    os.kill(max(workers), signal.SIGKILL)  # not the lowest number, which watches over what they share
    _, said = process.communicate(timeout=60)
    assert process.returncode == ExitStatus.OK
    assert "a worker process has ended (signal 9, perhaps for want of memory); another one takes its place" in said
    assert records.read_text().count("\n") == 820


def test_a_broken_model_is_named_in_one_line(many, tmp_path):
    model = tmp_path / "broken.onnx"
    model.write_bytes(b"no model")
    command = [*IMPATIENT, many, "--workers", "2", "--model", model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitStatus.MODEL
    [line] = done.stderr.splitlines()
    assert str(model) in line
