import ctypes
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from fake_screen import Screen

from ageinfer.errors import MissingDependencyError
from ageinfer.sinks import Playback, WindowSink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Frame, FrameResult

NAME = re.compile(r"ageinfer-\d{8}-\d{6}-12\.png")


def frame(value=50, *, index=12, time_s=0.5, size=(96, 64)) -> AnnotatedFrame:
    image = np.full((size[1], size[0], 3), value, np.uint8)
    return AnnotatedFrame(Frame("clip.mp4", index, time_s, image), FrameResult("clip.mp4", index, time_s, size, ()))


def show(monkeypatch, keys, *frames, **options):
    """Shows frames until no more are wanted; the screen, and how many were taken."""
    screen, taken = Screen(monkeypatch, keys), 0
    with WindowSink(**options) as sink:
        for one in frames:
            sink.write(one)
            taken += 1
            if sink.stop_requested:
                break
    assert not screen.is_open
    return screen, taken


@pytest.mark.parametrize("key", ["q", "Q", 27, 0x100000 + ord("q"), "close", "close the last"])
def test_q_escape_and_closing_the_window_end_the_run(monkeypatch, key):
    screen, taken = show(monkeypatch, [-1, key, -1], *[frame()] * 5)
    assert taken == 2
    assert len(screen.shown) == 2


def test_other_keys_do_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    screen, taken = show(monkeypatch, ["x", 13, 255, 0, -1], *[frame(i) for i in range(5)])
    assert taken == 5
    assert [int(image[0, 0, 0]) for image in screen.shown] == [0, 1, 2, 3, 4]
    assert screen.waits == [1] * 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", [" ", "p", "P"])
def test_a_paused_window_waits_handles_keys_and_goes_on(monkeypatch, tmp_path, key):
    keys = [-1, key, -1, -1, "s", "x", -1, key, -1]
    screen, taken = show(monkeypatch, keys, *[frame(i) for i in range(4)], folder=tmp_path)
    assert taken == 4
    assert [int(image[0, 0, 0]) for image in screen.shown] == [0, 1, 2, 3]
    assert screen.waits[:2] == [1, 1]
    assert all(20 <= wait <= 100 for wait in screen.waits[2:8])  # neither busy nor slow to react
    assert screen.waits[8:] == [1, 1]
    [saved] = tmp_path.iterdir()
    assert cv2.imread(str(saved))[0, 0, 0] == 1
    going_on, paused = (
        "ageinfer - q: quit, space: pause, s: save", "ageinfer - paused - q: quit, space: go on, s: save",
    )  # fmt: skip
    assert screen.titles == [going_on, paused, f"ageinfer - saved {saved.name}", going_on]


@pytest.mark.parametrize("key", ["q", 27, "close"])
def test_a_paused_window_can_be_left(monkeypatch, key):
    _, taken = show(monkeypatch, [" ", -1, -1, key], *[frame()] * 3)
    assert taken == 1


def test_a_paused_window_gives_way_when_the_run_is_to_end(monkeypatch):
    asked = iter([False, False, True])
    screen, taken = show(monkeypatch, [-1, " "], *[frame()] * 4, should_end=lambda: next(asked))
    assert taken == 2
    assert len(screen.waits) == 4  # one for each frame, and then until it was to end
    assert next(asked, None) is None


def test_once_left_it_shows_nothing_more(monkeypatch):
    screen = Screen(monkeypatch, ["q"])
    with WindowSink() as sink:
        for _ in range(3):
            sink.write(frame())
            assert sink.stop_requested
    assert len(screen.shown) == 1


def test_s_saves_what_is_shown(monkeypatch, tmp_path, caplog, astronaut):
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    portrait = AnnotatedFrame(Frame("p", 12, 0.5, astronaut), FrameResult("p", 12, 0.5, (512, 512), ()))
    screen, taken = show(monkeypatch, ["s", -1], portrait, frame(index=13))
    [path] = tmp_path.iterdir()  # nothing unfinished beside it
    assert NAME.fullmatch(path.name)
    assert abs(time.mktime(time.strptime(path.name[9:24], "%Y%m%d-%H%M%S")) - time.time()) < 60
    assert (cv2.imread(str(path)) == astronaut).all()
    assert taken == 2
    assert [record.getMessage() for record in caplog.records] == [f"{path.name}: saved"]
    assert screen.titles == ["ageinfer - q: quit, space: pause, s: save", f"ageinfer - saved {path.name}"]


def test_a_picture_that_cannot_be_saved_is_a_warning_and_the_run_goes_on(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    _, taken = show(monkeypatch, ["s"], *[frame()] * 3, folder=tmp_path / "file")
    assert taken == 3
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith(": cannot be written: File exists; choose another place")


def test_pictures_stay_until_a_key_only_where_that_was_asked_for(monkeypatch):
    pictures = [frame(i, time_s=None) for i in range(3)]
    screen, _ = show(monkeypatch, [], *pictures)
    assert screen.waits == [1, 1, 1]
    screen, taken = show(monkeypatch, [-1, -1, " ", -1, "q"], *pictures, hold_pictures=True)
    assert taken == 2
    assert len(screen.waits) == 5
    screen, _ = show(monkeypatch, [], frame(), hold_pictures=True)  # a video goes on by itself
    assert screen.waits == [1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (640, 480)), ((3840, 2160), (1280, 720)), ((1080, 1920), (405, 720)), ((160, 120), (320, 240)),
     ((1, 1), (320, 320)), ((20_000, 10), (1280, 1))],
)  # fmt: skip
def test_the_window_opens_in_a_useful_size_and_the_right_ratio(monkeypatch, size, expected):
    screen, _ = show(monkeypatch, [], frame(size=size), frame())
    assert screen.size == expected


def test_the_title_names_the_keys(monkeypatch):
    screen, _ = show(monkeypatch, [], frame())
    assert screen.titles == ["ageinfer - q: quit, space: pause, s: save"]


def test_a_window_of_a_recording_names_the_key_that_repeats_it_once_it_can_be_repeated(monkeypatch):
    playback = Playback(whole=True)
    screen = Screen(monkeypatch, [-1, "r", " ", " ", -1, "r"])
    with WindowSink(playback=playback) as sink:
        for _ in range(4):
            sink.write(frame())
        assert not playback.repeat_wanted
        playback.ended = True
        sink.idle()
        assert playback.repeat_wanted
    assert screen.titles == [
        "ageinfer - q: quit, space: pause, s: save", "ageinfer - paused - q: quit, space: go on, s: save",
        "ageinfer - q: quit, space: pause, s: save", "ageinfer - at its end - q: quit, r: again, s: save",
    ]  # fmt: skip


def test_a_window_without_a_display_says_what_to_use_instead(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere there always is a display")
    with pytest.raises(MissingDependencyError, match="--output"):
        WindowSink()


# For real, on a display of memory


@pytest.fixture(scope="module")
def display():
    """The environment of an X server without a screen."""
    if shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        pytest.skip("Xvfb and xdotool are not installed")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as stream:
            number = stream.readline().strip()
        yield os.environ | {"DISPLAY": f":{number}", "WAYLAND_DISPLAY": ""}
        server.terminate()


PROGRAM = """
import json, sys, time
from pathlib import Path
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks import WindowSink
from ageinfer.sources import read_picture
from ageinfer.types import Frame, FrameResult
image = read_picture(sys.argv[1])
index = 0
with WindowSink() as sink:
    while not sink.stop_requested:
        result = FrameResult("", index, index / 50, (512, 512), ())
        sink.write(AnnotatedFrame(Frame("", index, index / 50, image), result))
        index += 1
        print(index, flush=True)
        time.sleep(0.02)
print("left")
"""


class Desktop:
    """A person at the display, and a program whose frames can be counted."""

    def __init__(self, environment, picture, folder):
        self.environment = environment
        self.counted = folder / "counted"
        with self.counted.open("w") as stream:
            command = [sys.executable, "-c", PROGRAM, picture]
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.PIPE, text=True
            )
        self.wait_for(lambda: self.frames() > 2)
        self.window = self.do("search", "--onlyvisible", "--name", "ageinfer").split()[-1]
        self.do("windowfocus", "--sync", self.window)

    def do(self, *what) -> str:
        return subprocess.run(
            ["xdotool", *map(str, what)], env=self.environment, check=True, capture_output=True, text=True, timeout=20
        ).stdout

    def frames(self) -> int:
        return len(self.counted.read_text().splitlines())

    def title(self) -> str:
        return self.do("getwindowname", self.window)

    def wait_for(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.02)

    def stands_still(self) -> bool:
        before = self.frames()
        time.sleep(0.4)
        return self.frames() == before


def test_a_real_window_pauses_saves_resizes_and_ends(display, astronaut_path, tmp_path):
    desktop = Desktop(display, astronaut_path, tmp_path)
    with desktop.process as process:
        try:
            assert "WIDTH=512\nHEIGHT=512" in desktop.do("getwindowgeometry", "--shell", desktop.window)
            desktop.do("key", "space")
            desktop.wait_for(lambda: "paused" in desktop.title())
            assert desktop.stands_still()
            desktop.do("key", "s")
            desktop.wait_for(lambda: list(tmp_path.glob("ageinfer-*.png")))
            desktop.do("windowsize", "--sync", desktop.window, 300, 200)
            frozen = desktop.frames()
            desktop.do("key", "p")
            desktop.wait_for(lambda: desktop.frames() > frozen + 3)
            desktop.do("key", "q")
            assert process.wait(20) == 0
        finally:
            process.kill()
        assert process.stderr.read() == ""
    lines = desktop.counted.read_text().splitlines()
    assert lines[-1] == "left"
    [saved] = tmp_path.glob("ageinfer-*.png")
    assert int(saved.stem.split("-")[-1]) == frozen == json.loads(lines[frozen]) - 1
    assert (cv2.imread(str(saved)) == cv2.imread(str(astronaut_path))).all()


class ClientMessage(ctypes.Structure):
    """An XClientMessageEvent of Xlib."""

    _fields_ = (
        ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int), ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong), ("message_type", ctypes.c_ulong), ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5), ("room", ctypes.c_long * 12),
    )  # fmt: skip


def ask_to_close(name: str, number: int) -> None:
    """Does what a click on the cross in a window's frame does; there is no window manager here to do it."""
    xlib = ctypes.CDLL("libX11.so.6")
    xlib.XOpenDisplay.restype = ctypes.c_void_p
    xlib.XInternAtom.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(xlib.XOpenDisplay(name.encode()))
    protocols, delete = (xlib.XInternAtom(connection, atom, 0) for atom in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    event = ClientMessage(type=33, window=number, message_type=protocols, format=32, data=(delete, 0, 0, 0, 0))
    xlib.XSendEvent(connection, ctypes.c_ulong(number), 0, ctypes.c_long(0), ctypes.byref(event))
    xlib.XCloseDisplay(connection)


def test_a_real_window_that_is_closed_ends_the_run_while_paused(display, astronaut_path, tmp_path):
    desktop = Desktop(display, astronaut_path, tmp_path)
    with desktop.process as process:
        try:
            desktop.do("key", "p")
            desktop.wait_for(lambda: "paused" in desktop.title())
            ask_to_close(display["DISPLAY"], int(desktop.window))
            assert process.wait(20) == 0, process.stderr.read()
        finally:
            process.kill()
    assert desktop.counted.read_text().endswith("left\n")
