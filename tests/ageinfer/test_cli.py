import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from mjpeg import network_camera

from ageinfer.commands.main import build_parser, looking_of, main
from ageinfer.commands.progress import Progress
from ageinfer.errors import ExitStatus
from ageinfer.sinks import VideoSink
from ageinfer.sources import LiveSource


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
    "endless threads": (["PICTURE", "--threads", "5000"], ExitStatus.USAGE),
    "threads beyond numbers": (["PICTURE", "--threads", "99999999999"], ExitStatus.USAGE),
    "camera that is a driver": (["--camera", "2147483648"], ExitStatus.USAGE),
    "detector file of another detector": (["PICTURE", "--detector-file", "a.dat"], ExitStatus.USAGE),
    "pictures to standard output": (["PICTURE", "--output", "-"], ExitStatus.USAGE),
    "faces to standard output": (["PICTURE", "--faces", "-"], ExitStatus.USAGE),
    "no frames between": (["CLIP", "--detect-every", "0"], ExitStatus.USAGE),
    "sometimes": (["CLIP", "--detect-every", "often"], ExitStatus.USAGE),
    "seldom": (["CLIP", "--age-interval", "5"], ExitStatus.USAGE),
    "detection too small": (["PICTURE", "--detect-size", "20"], ExitStatus.USAGE),
    "detection size a word": (["PICTURE", "--detect-size", "large"], ExitStatus.USAGE),
    "negative faces": (["PICTURE", "--min-face", "-3"], ExitStatus.USAGE),
    "faces kept and hidden": (["PICTURE", "--faces", "kept", "--blur"], ExitStatus.USAGE),
    "page without port": (["CLIP", "--serve", "--serve-at", "localhost"], ExitStatus.USAGE),
    "negative patience": (["CLIP", "--reconnect-for", "-1"], ExitStatus.USAGE),
    "cnn without a file": (["PICTURE", "--detector", "dlib-cnn", "--detector-file", "gone.dat"], ExitStatus.MODEL),
    "detector is an age model": (["PICTURE", "--detector", "AGES.onnx"], ExitStatus.MODEL),
    "no stream": (["rtsp://me:secret@127.0.0.1:9/live"], ExitStatus.SOURCE),
    "no picture matches": (["nothing-*.jpg"], ExitStatus.SOURCE),
    "no gstreamer": (["videotestsrc ! nothing ! appsink"], ExitStatus.SOURCE),
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
    "model is a name of none": (["PICTURE", "--model", "age-of-nothing"], ExitStatus.MODEL),
    "model in another precision": (["PICTURE", "--model", "AGES.onnx", "--precision", "fp16"], ExitStatus.USAGE),
    "unknown precision": (["PICTURE", "--precision", "fp64"], ExitStatus.USAGE),
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
    paths["AGES.onnx"] = paths["YUNET"].with_name("age-small.onnx")
    done = run_cli(*(paths.get(a, a) for a in arguments), cwd=tmp_path)
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")
    assert "secret" not in line
    assert done.stdout == ""
    assert picture.read_bytes() == astronaut_path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != "") == [TEXT, EMPTY]


def test_cuda_without_a_driver_is_an_error_and_no_silent_fall_back(run_cli, astronaut_path):
    from ageinfer.engine.sessions import problem_with

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
@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_an_interrupt_while_the_video_is_completed_does_not_cost_it(clip, tmp_path, monkeypatch, capsys, suffix):
    release = VideoSink._readable_frames

    def interrupted(sink):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return release(sink)

    monkeypatch.setattr(VideoSink, "_readable_frames", interrupted)
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


def test_a_thread_that_hangs_in_a_driver_does_not_hold_the_end_up(tmp_path):
    """It would also bring the interpreter down if it came back while that ends."""
    script = """
import threading, time
import ageinfer.commands.main
threading.Thread(target=time.sleep, args=(60,)).start()
ageinfer.commands.main.main = lambda: print("done") or 7
ageinfer.commands.main.command()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "done\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_log_does_not_cost_a_result(clip, tmp_path):
    command = [sys.executable, "-m", "ageinfer", clip, "--jsonl", tmp_path / "r.jsonl"]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(command, stderr=full, timeout=60, check=False).returncode == ExitStatus.OK
    assert len(records_of((tmp_path / "r.jsonl").read_text())) == 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--json-schema"], ["bench", "CLIP", "--frames", "2"], ["doctor", "--json"]])
def test_what_is_printed_to_a_full_disk_is_an_output_error(clip, arguments):
    command = [sys.executable, "-m", "ageinfer", *(str(clip) if a == "CLIP" else a for a in arguments)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=90, check=False)
    assert done.returncode == ExitStatus.OUTPUT
    assert done.stderr.splitlines()[-1].startswith("ageinfer: standard output cannot be written: No space left")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX links")
def test_records_do_not_take_the_place_of_a_source_under_another_name(run_cli, clip, astronaut_path, tmp_path):
    video, picture = tmp_path / "v.avi", tmp_path / "pictures" / "a.jpg"
    picture.parent.mkdir()
    shutil.copyfile(clip, video)
    shutil.copyfile(astronaut_path, picture)
    (tmp_path / "w.avi").hardlink_to(video)
    assert run_cli(video, "--jsonl", tmp_path / "w.avi").returncode == ExitStatus.USAGE
    assert run_cli(picture.parent, "--csv", picture).returncode == ExitStatus.OUTPUT
    assert video.read_bytes() == clip.read_bytes()
    assert picture.read_bytes() == astronaut_path.read_bytes()


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
    assert all(face["track"] == 1 for record in records for face in record["faces"])
    assert records[0]["source"] == records[-1]["source"]
    assert camera.host in records[0]["source"]
    times = [record["time_s"] for record in records]
    assert times == sorted(set(times))
    assert count_frames(outputs[2]) >= 1
    for text in (said.err, said.out, outputs[0].read_text(), outputs[1].read_text()):
        assert not any(secret in text for secret in ("hannah", "s3cr3t", "t0k3n"))


def test_paths_on_standard_input_and_patterns(run_cli, astronaut_path, portrait, tmp_path):
    for name in ("b.png", "a.png"):
        assert cv2.imwrite(str(tmp_path / name), portrait)
    paths = f"{astronaut_path}\n{tmp_path / 'gone.jpg'}\n{tmp_path / 'a.png'}\n"
    done = run_cli("-", "--jsonl", "-", input=paths)
    assert [r["source"] for r in records_of(done.stdout)] == [str(astronaut_path), str(tmp_path / "a.png")]
    assert done.returncode == ExitStatus.SOME_FAILED
    assert "gone.jpg" in done.stderr
    done = run_cli(tmp_path / "*.png", "--output", tmp_path / "drawn")
    assert done.returncode == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("output", ["--output", "--faces"])
def test_paths_on_standard_input_have_pictures_too(run_cli, astronaut_path, portrait, tmp_path, output):
    assert cv2.imwrite(str(tmp_path / "a.png"), portrait)
    done = run_cli("-", output, tmp_path / "made", "--jsonl", "-", input=f"{astronaut_path}\n{tmp_path / 'a.png'}\n")
    assert done.returncode == 0, done.stderr
    assert len(records_of(done.stdout)) == len(list((tmp_path / "made").iterdir())) == 2


def test_a_path_on_standard_input_is_answered_before_the_next_one(astronaut_path):
    command = [sys.executable, "-m", "ageinfer", "-", "--jsonl", "-", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        for _ in range(2):
            process.stdin.write(f"{astronaut_path}\n")
            assert json.loads(process.stdout.readline())["source"] == str(astronaut_path)
        process.stdin.close()
        assert process.wait(30) == 0
        watchdog.cancel()


@pytest.mark.parametrize(
    "wrong", [["--output", "x.foo"], ["--serve", "--serve-at", "nowhere"], ["--provider", "none"]], ids=str
)
def test_a_run_that_cannot_begin_leaves_the_records_of_the_one_before(astronaut_path, tmp_path, capsys, wrong):
    for option, name in (("--jsonl", "r.jsonl"), ("--csv", "r.csv")):
        records = tmp_path / name
        assert main([str(astronaut_path), option, str(records), "--quiet"]) == ExitStatus.OK
        before = records.read_bytes()
        assert main([str(astronaut_path), option, str(records), "--quiet", *wrong]) != ExitStatus.OK
        assert records.read_bytes() == before
        records.write_bytes(before + b"of a longer run\n" * 9)
        assert main([str(astronaut_path), option, str(records), "--quiet"]) == ExitStatus.OK
        assert records.read_bytes() == before
    capsys.readouterr()


def test_names_that_lead_nowhere_are_one_line(astronaut_path, tmp_path, capsys):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert main([str(tmp_path / "a"), "--jsonl", "-"]) == ExitStatus.SOURCE
    for name in ("a", "x" * 300):
        assert main([str(astronaut_path), "--jsonl", str(tmp_path / name)]) == ExitStatus.OUTPUT
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_wrong_arguments_are_not_repeated_with_their_passwords(astronaut_path, capsys):
    address = "rtsp://user:s3cret@camera.local/x"
    for arguments in (["--camera", address], [str(astronaut_path), address], ["doctor", address]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == ExitStatus.USAGE
    assert main([str(astronaut_path), "--serve", "--serve-at", address]) == ExitStatus.USAGE
    said = capsys.readouterr().err
    assert "camera.local" in said
    assert "s3cret" not in said


def test_without_standard_error_records_are_still_alone_on_standard_output(astronaut_path):
    command = [sys.executable, "-m", "ageinfer", str(astronaut_path), "--jsonl", "-"]
    done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0
    assert len(records_of(done.stdout)) == 1


def test_faces_that_are_left_out_could_not_be_hidden(astronaut_path, capsys):
    assert main([str(astronaut_path), "--blur", "--min-face", "200", "--jsonl", "-"]) == ExitStatus.USAGE
    assert "--min-face" in capsys.readouterr().err


def test_blur_hides_faces_in_the_picture_and_not_in_the_records(run_cli, astronaut_path, tmp_path):
    done = run_cli(astronaut_path, "--blur", "--output", tmp_path / "hidden.png", "--jsonl", "-")
    [record] = records_of(done.stdout)
    assert len(record["faces"]) == 1
    again = run_cli(tmp_path / "hidden.png", "--jsonl", "-")
    assert records_of(again.stdout)[0]["faces"] == []


def test_blur_hides_who_enters_a_video_from_the_first_frame_on(run_cli, write_video, portrait, tmp_path):
    """A whole frame is else looked at now and then only, in calm scenes."""
    empty = np.full((256, 512, 3), 90, np.uint8)
    alone, both = empty.copy(), empty.copy()
    alone[:, :256] = both[:, :256] = both[:, 256:] = portrait
    clip = write_video(tmp_path / "v.avi", [alone] * 43 + [both] * 3)
    done = run_cli(clip, "--blur", "--output", tmp_path / "hidden.avi", "--jsonl", "-")
    assert [len(record["faces"]) for record in records_of(done.stdout)] == [1] * 43 + [2] * 3
    again = run_cli(tmp_path / "hidden.avi", "--jsonl", "-", "--detect-every", "1")
    assert all(record["faces"] == [] for record in records_of(again.stdout))


def test_with_blur_no_frame_is_too_large_to_be_searched_at_full_size():
    """Whom a reduced search misses would be shown; ages do without so small faces."""
    looking = looking_of(build_parser().parse_args(["v.mp4", "--blur"]))
    assert (looking.max_side, looking.every, looking.full_size_every_s) == ("auto", 1, 1.0)
    assert looking.largest_side > 10**6
    looking = looking_of(build_parser().parse_args(["v.mp4"]))
    assert (looking.every, looking.largest_side, looking.full_size_every_s) == (None, None, 2.0)


def test_the_best_picture_of_each_face_is_kept(run_cli, clip, astronaut_path, tmp_path):
    assert run_cli(clip, "--faces", tmp_path / "kept").returncode == 0
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["track-00001.jpg"]
    found = run_cli(tmp_path / "kept" / "track-00001.jpg", "--jsonl", "-")
    assert len(records_of(found.stdout)[0]["faces"]) == 1


def test_detection_can_be_told_how_closely_to_look(run_cli, astronaut_path):
    boxes = {}
    for size in ("auto", "full", "64"):
        [record] = records_of(run_cli(astronaut_path, "--jsonl", "-", "--detect-size", size).stdout)
        boxes[size] = record["faces"][0]["box"]
    assert boxes["auto"] == boxes["full"] != boxes["64"]
    [record] = records_of(run_cli(astronaut_path, "--jsonl", "-", "--min-face", "150").stdout)
    assert record["faces"] == []


def test_the_schema_of_the_records_is_printed_and_fits_them(run_cli, astronaut_path, clip):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(run_cli("--json-schema").stdout)
    for source in (astronaut_path, clip):
        for record in records_of(run_cli(source, "--jsonl", "-").stdout):
            jsonschema.validate(record, schema)


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
    assert main([str(clip), "--serve", "--serve-at", f"{host}:0"]) == ExitStatus.OK
    page = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("the page: "))
    if host == "127.0.0.1":
        assert "token" not in page
    else:
        assert (len(page.partition("token=")[2]) >= 16) == (given is None)
        assert given is None or (given not in page and "AGEINFER_TOKEN" in page)


def test_the_progress_line_says_how_far_and_how_long(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("ageinfer.commands.progress.time.monotonic", lambda: now[0])
    progress = Progress(200, quiet=False)
    for _ in range(50):
        now[0] += 0.1
        progress.step(2)
    assert progress.text() == "[#####...............] 25% 50/200 frames, 10 a second, 0:15 left"
    live = Progress(None, quiet=False)
    now[0] += 2
    live.step(3)
    assert live.text() == "1 frames, 3 faces, 0.5 a second"


def test_the_command_can_be_run_in_a_thread(astronaut_path, tmp_path):
    statuses = []
    arguments = [str(astronaut_path), "--jsonl", str(tmp_path / "r.jsonl"), "--quiet"]
    thread = threading.Thread(target=lambda: statuses.append(main(arguments)))
    thread.start()
    thread.join(60)
    assert statuses == [ExitStatus.OK]
    assert len(records_of((tmp_path / "r.jsonl").read_text())) == 1


def first_line(capsys, *arguments) -> str:
    assert main([*map(str, arguments), "--jsonl", os.devnull, "--provider", "cpu"]) == ExitStatus.OK
    return capsys.readouterr().err.splitlines()[0]


def test_the_first_line_says_which_precision_and_why(two_precisions, stopwatch, astronaut_path, capsys):
    for _ in range(2):  # measured, then remembered
        assert "tiny on cpu (int8, 1.6 times as fast as fp32 here), faces by" in first_line(capsys, astronaut_path)
    assert len(stopwatch.asked) == 1
    assert "tiny on cpu (fp32), faces by" in first_line(capsys, astronaut_path, "--precision", "fp32")
    path = two_precisions / "age-tiny.onnx"
    assert "tiny on cpu (int8), faces by" in first_line(capsys, astronaut_path, "--model", path)
    assert "other on cpu (fp32), faces by" in first_line(capsys, astronaut_path, "--model", "age-other")
    stopwatch.ms["int8"] = 16.0
    line = first_line(capsys, astronaut_path, "--threads", 2)
    assert "tiny on cpu (fp32, 2.0 times as fast as int8 here), faces by" in line


def test_a_wrong_name_or_precision_is_one_line_that_says_what_there_is(two_precisions, astronaut_path, capsys):
    for arguments, status, said in (
        (["--model", "age-large"], ExitStatus.MODEL, "(age-other, age-tiny)"),
        (["--precision", "fp16"], ExitStatus.USAGE, "is there in int8 and fp32, not in fp16"),
        (
            ["--model", two_precisions / "age-tiny.onnx", "--precision", "fp32"],
            ExitStatus.USAGE,
            "in int8, not in fp32",
        ),
    ):
        assert main([str(astronaut_path), *map(str, arguments)]) == status
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("ageinfer: ")
        assert said in line
