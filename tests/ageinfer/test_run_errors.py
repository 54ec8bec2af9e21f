"""Every error of a run is one line and its exit status, and no output is harmed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from command_line import count_frames, records_of

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus

pytest_plugins = ["command_line"]

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
        assert done.stderr == (
            "ageinfer: there is no display for a window; leave --window out and use --output, --jsonl or --csv\n"
        )


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
    for source in (picture, tmp_path):
        done = run_cli(source, "--quiet", "--jsonl", "-")
        assert (done.returncode, done.stderr) == (ExitStatus.OK, "")
        assert [record["source"] for record in records_of(done.stdout)] == [str(picture)]
    done = run_cli(video, "--quiet", "--jsonl", "-")
    assert (done.returncode, done.stderr) == (ExitStatus.OK, "")
    assert [record["source"] for record in records_of(done.stdout)] == [str(video)] * 3


def test_a_cut_video_is_done_as_far_as_it_goes(run_cli, clip, tmp_path):
    path = tmp_path / "cut.avi"
    path.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.5)])
    done = run_cli(path, "--quiet", "--jsonl", tmp_path / "r.jsonl", "--output", tmp_path / "v.avi")
    assert done.returncode == ExitStatus.TRUNCATED
    records = records_of((tmp_path / "r.jsonl").read_text())
    assert 10 < len(records) < 20
    assert count_frames(tmp_path / "v.avi") == len(records)
    lines = done.stderr.splitlines()
    assert lines[-1] == f"ageinfer: {path}: the video is cut off after {len(records)} frames; copy or record it again"
    assert all(line.startswith(f"ageinfer: {path}: ") for line in lines)


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


@pytest.mark.parametrize(
    "wrong", [["--output", "x.foo"], ["--serve", "--serve-at", "nowhere"], ["--provider", "none"]], ids=str
)
def test_a_run_that_cannot_begin_leaves_the_records_of_the_one_before(astronaut_path, tmp_path, capsys, wrong):
    for option, name in (("--jsonl", "r.jsonl"), ("--csv", "r.csv")):
        records = tmp_path / name
        assert main([str(astronaut_path), option, str(records), "--quiet"]) == ExitStatus.OK
        before = records.read_bytes()
        assert main([str(astronaut_path), option, str(records), "--quiet", *wrong]) == ExitStatus.USAGE
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
    for arguments in (["--camera", address], ["--threads", address, str(astronaut_path)], ["doctor", address]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == ExitStatus.USAGE
    assert main([str(astronaut_path), "--serve", "--serve-at", address]) == ExitStatus.USAGE
    assert main([str(astronaut_path), address]) == ExitStatus.USAGE
    said = capsys.readouterr().err
    assert "camera.local" in said
    assert "s3cret" not in said
