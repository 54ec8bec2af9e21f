import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ageinfer.cli import main
from ageinfer.errors import ExitStatus
from ageinfer.sources import CameraSource


def records_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def rows_of(path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(Path(path).read_bytes().decode(), newline=""), strict=True))


def count_frames(path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


@pytest.fixture(scope="module")
def portrait(astronaut_path):
    return cv2.resize(cv2.imread(str(astronaut_path)), (256, 256), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, write_video, portrait):
    """Thirty frames of one face that moves to the right."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", [np.roll(portrait, i, axis=1) for i in range(30)])


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory, write_video, portrait):
    """Long enough to be interrupted: some seconds of work."""
    return write_video(tmp_path_factory.mktemp("long") / "long.avi", [portrait] * 600)


def test_a_picture_with_every_output(run_cli, astronaut_path, tmp_path):
    outputs = [tmp_path / name for name in ("new/r.jsonl", "r.csv", "p.png")]
    done = run_cli(astronaut_path, "--jsonl", outputs[0], "--csv", outputs[1], "--output", outputs[2])
    assert (done.returncode, done.stdout) == (0, "")
    [record] = records_of(outputs[0].read_text())
    [face] = record["faces"]
    [row] = rows_of(outputs[1])
    assert 20 < face["age"] < 60
    assert record["source"] == str(astronaut_path)
    assert float(row["age"]) == face["age"]
    drawn, original = cv2.imread(str(outputs[2])), cv2.imread(str(astronaut_path))
    differs = (drawn != original).any(axis=2)
    assert differs[60:180, 170:275].any() and not differs[300:].any()  # noqa: PT018


def test_without_outputs_records_go_to_standard_output_and_nothing_else_does(run_cli, astronaut_path):
    for options in ([], ["--jsonl", "-"]):
        done = run_cli(astronaut_path, *options)
        [record] = records_of(done.stdout)
        assert len(record["faces"]) == 1
        assert "yunet-2023mar" in done.stderr  # what the run used is for the person at the terminal
    assert run_cli(astronaut_path, "--quiet").stderr == ""


def test_records_are_utf8_whatever_the_terminal_says(run_cli, astronaut_path, tmp_path):
    path = tmp_path / "portrait é 日本.jpg"
    shutil.copyfile(astronaut_path, path)
    done = run_cli(path, "--quiet", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.stderr == ""
    assert records_of(done.stdout)[0]["source"] == str(path)


def test_a_folder_with_every_output(run_cli, astronaut_path, portrait, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copyfile(astronaut_path, folder / "b.jpg")
    cv2.imwrite(str(folder / "a.png"), portrait[140:])  # no face
    done = run_cli(folder, "--jsonl", tmp_path / "r.jsonl", "--csv", tmp_path / "r.csv", "--output", out)
    assert done.returncode == ExitStatus.OK
    records = records_of((tmp_path / "r.jsonl").read_text())
    assert [(Path(r["source"]).name, len(r["faces"])) for r in records] == [("a.png", 0), ("b.jpg", 1)]
    assert len(rows_of(tmp_path / "r.csv")) == 1
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.jpg"]


def test_a_video_with_every_output(run_cli, clip, tmp_path):
    outputs = [tmp_path / name for name in ("r.jsonl", "r.csv", "v.mp4")]
    done = run_cli(clip, "--jsonl", outputs[0], "--csv", outputs[1], "--output", outputs[2])
    assert (done.returncode, done.stdout) == (0, "")
    records = records_of(outputs[0].read_text())
    assert [r["frame"] for r in records] == list(range(30))
    assert [r["time_s"] for r in records] == [i / 25 for i in range(30)]
    assert all(len(r["faces"]) == 1 for r in records)
    moved = records[20]["faces"][0]["box"][0] - records[0]["faces"][0]["box"][0]
    assert moved == pytest.approx(20, abs=3)
    assert len(rows_of(outputs[1])) == count_frames(outputs[2]) == 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.jsonl", "v.mp4"]


NO_DIR, TEXT, EMPTY, FOLDER = "gone/x.jpg", "notes.txt", "zero.jpg", "folder"
ERRORS = {
    "nothing": ([], ExitStatus.USAGE),
    "source and camera": (["PICTURE", "--camera", "0"], ExitStatus.USAGE),
    "two to standard output": (["PICTURE", "--jsonl", "-", "--csv", "-"], ExitStatus.USAGE),
    "two into one file": (["PICTURE", "--jsonl", "records", "--csv", "records"], ExitStatus.USAGE),
    "output is source": (["PICTURE", "--output", "PICTURE"], ExitStatus.USAGE),
    "records over source": (["PICTURE", "--jsonl", "./folder/../PICTURE"], ExitStatus.USAGE),
    "no threads": (["PICTURE", "--threads", "0"], ExitStatus.USAGE),
    "unknown detector": (["PICTURE", "--detector", "haar"], ExitStatus.USAGE),
    "unknown provider": (["PICTURE", "--provider", "tpu"], ExitStatus.USAGE),
    "output no picture": (["PICTURE", "--output", "a.mp4"], ExitStatus.USAGE),
    "output no video": (["CLIP", "--output", "a.jpg"], ExitStatus.USAGE),
    "missing file": ([NO_DIR], ExitStatus.SOURCE),
    "text file": ([TEXT], ExitStatus.SOURCE),
    "empty file": ([EMPTY], ExitStatus.SOURCE),
    "empty folder": ([FOLDER], ExitStatus.SOURCE),
    "no such camera": (["--camera", "97"], ExitStatus.SOURCE),
    "model is a picture": (["PICTURE", "--model", "PICTURE"], ExitStatus.MODEL),
    "model is not ours": (["PICTURE", "--model", "YUNET"], ExitStatus.MODEL),
    "model is missing": (["PICTURE", "--model", "gone.onnx"], ExitStatus.MODEL),
    "records below a file": (["PICTURE", "--jsonl", f"{TEXT}/r.jsonl"], ExitStatus.OUTPUT),
    "table is a folder": (["PICTURE", "--csv", FOLDER], ExitStatus.OUTPUT),
    "picture below a file": (["PICTURE", "--output", f"{TEXT}/p.png"], ExitStatus.OUTPUT),
    "video below a file": (["CLIP", "--output", f"{TEXT}/v.mp4"], ExitStatus.OUTPUT),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_and_its_exit_status(run_cli, astronaut_path, clip, tmp_path, name):
    arguments, status = ERRORS[name]
    picture = tmp_path / "PICTURE"
    shutil.copyfile(astronaut_path, picture)
    (tmp_path / TEXT).write_text("Dear diary,\n" * 50)
    (tmp_path / EMPTY).touch()
    (tmp_path / FOLDER).mkdir()
    paths = {"CLIP": clip, "YUNET": astronaut_path.parent.parent / "models" / "face_detection_yunet_2023mar.onnx"}
    done = run_cli(*(paths.get(a, a) for a in arguments), cwd=tmp_path)
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")
    assert done.stdout == ""
    assert picture.read_bytes() == astronaut_path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != "") == [TEXT, EMPTY]


def test_cuda_without_a_driver_is_an_error_and_no_silent_fall_back(run_cli, astronaut_path):
    from ageinfer.providers import problem_with

    if problem_with("cuda") is None:
        pytest.skip("this machine may have CUDA")
    done = run_cli(astronaut_path, "--provider", "cuda")
    [line] = done.stderr.splitlines()
    assert done.returncode == ExitStatus.MISSING
    assert line.startswith("ageinfer: provider cuda cannot be used")
    assert "--provider cpu" in line


def test_a_window_without_a_display_is_an_error_not_a_crash(run_cli, clip):
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere there always is a display")
    for display in ("", ":93"):  # none, and one that does not answer
        done = run_cli(clip, "--window", env=os.environ | {"DISPLAY": display, "WAYLAND_DISPLAY": ""})
        assert done.returncode == ExitStatus.MISSING
        assert len(done.stderr.splitlines()) == 1


def test_a_picture_that_breaks_on_the_way_is_one_line_of_ours(run_cli, portrait, tmp_path):
    data = cv2.imencode(".png", portrait)[1].tobytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "bad.png").write_bytes(data[:9000] + bytes(len(data) - 9000))
    (tmp_path / "cut.bmp").write_bytes(cv2.imencode(".bmp", portrait)[1].tobytes()[:9000])
    for name in ("cut.png", "bad.png", "cut.bmp"):
        done = run_cli(tmp_path / name, "--quiet")
        assert done.returncode == ExitStatus.SOURCE
        ours = [line for line in done.stderr.splitlines() if not line.startswith("libpng ")]
        assert len(ours) == 1
        assert ours[0].startswith("ageinfer: ")
        assert name in ours[0]


def test_a_broken_picture_in_a_folder_is_named_and_the_others_are_done(run_cli, astronaut_path, portrait, tmp_path):
    shutil.copyfile(astronaut_path, tmp_path / "c.jpg")
    cv2.imwrite(str(tmp_path / "a.png"), portrait)
    (tmp_path / "b.jpg").write_bytes(astronaut_path.read_bytes()[:20_000])
    done = run_cli(tmp_path, "--quiet", "--jsonl", "-")
    assert done.returncode == ExitStatus.SOME_FAILED
    assert [Path(r["source"]).name for r in records_of(done.stdout)] == ["a.png", "c.jpg"]
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")
    assert "b.jpg" in line


@pytest.mark.skipif(sys.platform != "linux", reason="file names of bytes")
def test_a_name_that_is_not_utf8_is_no_crash(run_cli, astronaut_path, write_video, portrait, tmp_path):
    picture = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    shutil.copyfile(astronaut_path, picture)
    video = write_video(tmp_path / "v.avi", [portrait] * 3).rename(tmp_path / os.fsdecode(b"v\xe9.avi"))
    for source in (picture, tmp_path, video):
        done = run_cli(source, "--quiet", "--jsonl", tmp_path / "r.jsonl")
        assert done.returncode in (ExitStatus.OK, ExitStatus.SOURCE), source
        assert "Traceback" not in done.stderr


def test_a_cut_video_is_done_as_far_as_it_goes(run_cli, clip, tmp_path):
    path = tmp_path / "cut.avi"
    path.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.5)])
    done = run_cli(path, "--quiet", "--jsonl", tmp_path / "r.jsonl", "--output", tmp_path / "v.avi")
    assert done.returncode == ExitStatus.TRUNCATED
    records = records_of((tmp_path / "r.jsonl").read_text())
    assert 10 < len(records) < 20
    assert count_frames(tmp_path / "v.avi") == len(records)
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")


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
        time.sleep(0.5)
        assert process.poll() is None  # it would finish its record if it could
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == ExitStatus.INTERRUPTED
        assert process.stdout.read().count(b"\n") > 5


@pytest.mark.parametrize("option", ["--jsonl", "--csv"])
@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_has_seen_enough_ends_the_run_quietly(long_clip, option, lines):
    command = [sys.executable, "-m", "ageinfer", long_clip, option, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(lines):
            assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == ExitStatus.OUTPUT
    assert "Traceback" not in errors
    assert "Exception" not in errors


def test_standard_output_that_is_full_or_closed_is_an_output_error(astronaut_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    for redirection in (">/dev/full", ">&-"):
        script = f'exec "$0" -m ageinfer "$1" --quiet {redirection}'
        command = ["/bin/sh", "-c", script, sys.executable, str(astronaut_path)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        assert done.returncode == ExitStatus.OUTPUT, redirection
        [line] = done.stderr.splitlines()
        assert line.startswith("ageinfer: "), redirection


def test_help_lists_every_exit_status(run_cli):
    done = run_cli("--help")
    listed = done.stdout.split("exit status:")[1].splitlines()[1:]
    statuses = [int(line.split()[0]) for line in listed if line.strip()]
    assert statuses == [int(status) for status in ExitStatus]
    assert run_cli("--version").stdout.startswith("ageinfer ")


class Unplugged:
    """A capture that shows one picture four times and then none."""

    def __init__(self, picture):
        self.answers = [(True, picture)] * 4 + [(False, None)]

        self.isOpened = self.set = self.get = self.release = lambda *_: 1

    def read(self):
        return self.answers.pop(0)


def test_a_camera_that_is_unplugged_leaves_complete_outputs(portrait, tmp_path, monkeypatch, capsys):
    camera = CameraSource(2, lambda _: Unplugged(portrait))
    monkeypatch.setattr("ageinfer.sources.open_camera", lambda index, **_: {2: camera}[index])
    status = main(["--camera", "2", "--csv", "-", "--output", str(tmp_path / "v.avi"), "--quiet"])
    output = capsys.readouterr()
    assert status == ExitStatus.SOURCE
    assert output.err.startswith("ageinfer: camera:2: no more frames after 4")
    assert [row["source"] for row in csv.DictReader(io.StringIO(output.out))] == ["camera:2"] * 4
    assert count_frames(tmp_path / "v.avi") == 1  # its frames came at once, and the video lasts as long as they did
