"""Running ageinfer on pictures, folders, videos and lists of paths, with every output."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest
from command_line import count_frames, records_of, rows_of

from ageinfer.errors import ExitStatus

pytest_plugins = ["command_line"]


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


def test_without_standard_error_records_are_still_alone_on_standard_output(astronaut_path):
    command = [sys.executable, "-m", "ageinfer", str(astronaut_path), "--jsonl", "-"]
    done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0
    assert len(records_of(done.stdout)) == 1
