"""One run a folder: a second process is refused, and a killed one keeps nobody away."""

import os
import signal
import subprocess
import sys

import pytest
from runs import environment

from agetrain.errors import OutputError, UsageError
from agetrain.training import lock
from agetrain.training.lock import LOCK_FILE, held

pytest.importorskip("fcntl")

# Holds a folder, says so, and waits to be killed.
HOLDER = """
import sys, time
from pathlib import Path
from agetrain.training.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process of its own that holds the folder ``out``."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_is_at_work(holder, tmp_path):
    with pytest.raises(UsageError) as refused, held(tmp_path / "out"):
        pass
    assert f"{tmp_path / 'out'}: process {holder.pid} on " in str(refused.value)
    assert "is at work here; wait until it has ended, or use another folder (--out)" in str(refused.value)
    assert holder.poll() is None
    with pytest.raises(UsageError), held(tmp_path / "out"):  # the refusal has taken nothing from its holder
        pass


def test_a_killed_process_keeps_nobody_away(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "out" / LOCK_FILE).is_file()
    with held(tmp_path / "out"):
        assert f"process {os.getpid()} " in (tmp_path / "out" / LOCK_FILE).read_text()
    assert not (tmp_path / "out" / LOCK_FILE).exists()


def test_a_run_is_refused_at_once_and_changes_nothing(holder, tmp_path, capsys):
    """Before a data set is opened or a face is searched for."""
    from agetrain.train import main

    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    line = ["--dataset", "appa-real=/nowhere", "--out", str(tmp_path / "out"), "--overwrite", "--device", "cpu"]
    assert main(line) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert f"process {holder.pid} on " in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names == [LOCK_FILE]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_in_which_nothing_was_written_is_left_as_it_was(tmp_path, there):
    out = tmp_path / "runs" / "out"
    if there:
        out.mkdir(parents=True)
    with pytest.raises(UsageError), held(out):
        raise UsageError("no such data set")
    assert out.exists() == there
    with held(out):
        (out / "file").touch()
    assert [path.name for path in out.iterdir()] == ["file"]


def test_a_lock_that_is_removed_while_it_is_waited_for_holds_nothing(tmp_path, monkeypatch):
    """Its holder ended between the opening of the file and the lock: a third process would lock a new one."""
    take, opened = lock._lock, []

    def ended_meanwhile(stream):
        opened.append(stream)
        if len(opened) == 1:
            (tmp_path / LOCK_FILE).unlink()
        return take(stream)

    monkeypatch.setattr(lock, "_lock", ended_meanwhile)
    with held(tmp_path):
        assert len(opened) == 2
        with pytest.raises(UsageError), held(tmp_path):
            pass


def test_a_file_system_without_locks_does_without(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with held(tmp_path), held(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made a folder"), held(tmp_path / "file" / "out"):
        pass


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    with held(tmp_path / "runs" / "faces" / "first"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    with held(tmp_path / "runs" / "faces" / "first"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    with held(tmp_path / "runs" / "faces" / "first"):
        (tmp_path / "runs" / "faces" / "first" / "best.pth").touch()
    assert (tmp_path / "runs" / "faces" / "first" / "best.pth").is_file()
