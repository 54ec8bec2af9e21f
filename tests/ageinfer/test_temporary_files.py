"""Files are written under a name that nobody can foresee, and links are followed only where a person named them."""

import os
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest
from sink_frames import PLAIN, annotated, records_of, write_all

from ageinfer.errors import OutputError
from ageinfer.sinks import CsvSink, FolderSink, JsonlSink, PictureSink, VideoSink

WRITE = """
import sys, time
from pathlib import Path
import numpy as np
from ageinfer.sinks import VideoSink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Frame, FrameResult
path, grey = Path(sys.argv[1]), int(sys.argv[2])
image = np.full((64, 96, 3), grey, np.uint8)
with VideoSink(path, 25) as sink:
    for number in range(20):
        time_s = number / 25
        sink.write(AnnotatedFrame(Frame("", number, time_s, image), FrameResult("", number, time_s, (96, 64), ())))
        path.with_suffix(".begun").touch()
        while len(list(path.parent.glob("*.begun"))) < 2:
            time.sleep(0.01)
"""
SINKS = {
    "p.png": PictureSink,
    "v.mkv": lambda path: VideoSink(path, 25),
    "v.mp4": lambda path: VideoSink(path, 25),
    "r.jsonl": lambda path: JsonlSink(str(path)),
    "r.csv": lambda path: CsvSink(str(path)),
}


def test_processes_of_the_same_number_do_not_write_into_each_others_files(tmp_path):
    """Two containers on one volume, for example."""
    alone = ["unshare", "-pf", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("process numbers of one's own are not permitted")
    shades = {"a.mkv": 40, "b.mkv": 200}
    writers = [
        subprocess.Popen([*alone, sys.executable, "-c", WRITE, tmp_path / name, str(grey)])
        for name, grey in shades.items()
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for name, grey in shades.items():
        assert abs(cv2.VideoCapture(str(tmp_path / name)).read()[1].mean() - grey) < 4
    assert sorted(path.name for path in tmp_path.glob("[!.]*.mkv")) == ["a.mkv", "b.mkv"]
    assert not list(tmp_path.glob(".*"))


def test_temporary_names_differ_and_say_nothing_of_the_process(tmp_path, monkeypatch):
    seen, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: (seen.append(path.name), replace(path, target))[1])
    for _ in range(3):
        write_all(PictureSink(tmp_path / "p.png"), annotated(PLAIN))
        write_all(VideoSink(tmp_path / "v.mkv", 25), annotated(PLAIN))
    assert len(set(seen)) == 6
    assert all(len(name.strip(".").split(".")[0].removeprefix("ageinfer-")) == 16 for name in seen)


@pytest.mark.parametrize("name", ["p.png", "v.mkv", "folder"])
def test_what_lies_under_the_temporary_name_is_never_written_to(tmp_path, monkeypatch, name):
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)  # as if somebody had foreseen it
    victim = tmp_path / "victim"
    victim.write_text("mine")
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    for folder in (place, place / "folder"):
        for suffix in ("", ".png", ".mkv"):
            (folder / f".ageinfer-{'0' * 16}{suffix}").symlink_to(victim)
    sink = FolderSink if name == "folder" else SINKS[name]
    with pytest.raises(OutputError):
        write_all(sink(place / name), annotated(PLAIN, source="p.png"))
    assert victim.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a permission")
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", SINKS)
def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path, name, there):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "target.data", tmp_path / name
    if there:
        target.write_text("older")
    link.symlink_to(Path("real") / target.name)
    write_all(SINKS[name](link), annotated(PLAIN, source="a.png"))
    assert link.is_symlink()
    assert target.stat().st_size > 60
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    if name.startswith("v"):
        assert cv2.VideoCapture(str(target)).read()[1].shape == (64, 96, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "real"])


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a permission")
@pytest.mark.parametrize("name", SINKS)
def test_a_link_to_itself_cannot_be_written(tmp_path, name):
    (tmp_path / name).symlink_to(name)
    with pytest.raises(OutputError, match=name):
        write_all(SINKS[name](tmp_path / name), annotated(PLAIN, source="a.png"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a permission")
def test_a_link_in_a_folder_of_outputs_is_replaced(tmp_path):
    """Nobody named it: its target is somebody else's."""
    victim, folder = tmp_path / "victim", tmp_path / "out"
    victim.write_text("mine")
    folder.mkdir()
    (folder / "p.png").symlink_to(victim)
    write_all(FolderSink(folder), annotated(PLAIN, source="in/p.png"))
    assert victim.read_text() == "mine"
    assert not (folder / "p.png").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("name", SINKS)
def test_a_pipe_is_fed_with_records_and_refused_for_pictures(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    if not name.startswith("r"):
        with pytest.raises(OutputError, match="pipe or a device"):
            SINKS[name](path)
        assert path.is_fifo()
        return
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    write_all(SINKS[name](path), annotated(PLAIN, source="a.png"))
    reader.join(10)
    assert path.is_fifo()
    assert len(read[0].splitlines()) == (1 if name == "r.jsonl" else 2)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout", "/dev/stderr"])
def test_records_can_go_to_a_device(run_cli, astronaut_path, device):
    done = run_cli(astronaut_path, "--jsonl", device, "--quiet")
    assert done.returncode == 0, done.stderr
    told = {"/dev/null": "", "/dev/stdout": done.stdout, "/dev/stderr": done.stderr}[device]
    assert len(records_of(told)) == (device != "/dev/null")
