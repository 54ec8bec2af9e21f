"""Recordings where people watch them: at their own speed, paused, repeated, and there until they are ended."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest
from command_line import records_of
from fake_screen import Screen
from web_viewers import ask, events_of, status_of, wait_for

import ageinfer.sinks.playback as playback_module
from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.sinks import Playback

pytest_plugins = ["command_line"]


class Clock:
    """A clock that only goes on while somebody sleeps."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(playback_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(playback_module.time, "sleep", self.sleep)

    def sleep(self, seconds):
        assert 0 < seconds <= 0.05  # a person at the window is never kept waiting
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def shown_at(playback, clock, times, *, work_s=0.0):
    """The times at which the pictures are shown, from the first one on."""
    began, shown = clock.now, []
    for time_s in times:
        clock.now += work_s
        playback.wait(time_s, lambda: True)
        shown.append(clock.now - began)
    return shown


def test_pictures_come_at_their_own_time_however_unequal(clock):
    times = [0.0, 0.04, 0.5, 0.54, 2.0]
    assert shown_at(Playback(), clock, times, work_s=0.01) == pytest.approx([t + 0.01 for t in times])
    assert shown_at(Playback(fast=True), clock, times) == [0.0] * 5
    assert shown_at(Playback(), clock, [None, None]) == [0.0] * 2
    assert shown_at(Playback(), clock, [7.0, 7.5]) == pytest.approx([0.0, 0.5])  # a film that begins late


def test_a_slow_machine_shows_all_pictures_and_hurries_none(clock):
    shown = shown_at(Playback(), clock, [i / 10 for i in range(20)], work_s=0.3)
    assert shown == pytest.approx([0.3 * (i + 1) for i in range(20)])


def test_after_a_pause_it_goes_on_where_it_was(clock):
    playback = Playback()
    playback.wait(0.0, lambda: True)
    playback.paused = True
    asked = []

    def idle():
        asked.append(clock.now)
        playback.paused = len(asked) < 100
        return True

    playback.wait(0.1, idle)
    paused_s = clock.now - 100
    assert paused_s > 2
    playback.wait(0.2, lambda: True)
    assert clock.now - 100 == pytest.approx(paused_s + 0.1)


def test_who_wants_no_more_pictures_does_not_wait_for_them(clock):
    playback = Playback()
    playback.wait(0.0, lambda: True)
    answers = iter([True, True, False])
    playback.wait(60.0, lambda: next(answers))
    assert clock.now < 101


def test_what_is_written_to_files_can_be_repeated_after_its_end_alone():
    playback = Playback(whole=True)
    playback.repeat()
    assert not playback.repeat_wanted
    playback.ended = True
    playback.toggle()
    playback.repeat()
    assert playback.repeat_wanted
    assert not playback.paused
    playback.begin()
    assert playback.state() == {"paused": False, "ended": False, "repeatable": True}
    playback.repeat()
    assert playback.repeat_wanted


def test_the_window_stays_and_shows_the_film_again(clip, monkeypatch, tmp_path):
    screen = Screen(monkeypatch, [])
    pressed = {"at its end": iter("r"), "again": iter("q")}

    def key(delay):
        if len(screen.shown) == 30 and "at its end" in screen.titles[-1]:
            return ord(next(pressed["at its end"], "x"))
        return ord("q") if len(screen.shown) == 60 and "at its end" in screen.titles[-1] else -1

    monkeypatch.setattr("cv2.waitKey", key)
    records = tmp_path / "r.jsonl"
    assert main([str(clip), "--window", "--fast", "--jsonl", str(records), "--quiet"]) == ExitStatus.OK
    assert len(screen.shown) == 60
    assert len(records_of(records.read_text())) == 30  # written once
    assert [one.tobytes() for one in screen.shown[:30]] == [one.tobytes() for one in screen.shown[30:]]


def test_in_the_window_a_film_can_be_seen_from_its_beginning_before_its_end(clip, monkeypatch):
    screen = Screen(monkeypatch, [])
    keys = {10: ord("r"), 25: ord("q")}
    monkeypatch.setattr("cv2.waitKey", lambda _: keys.pop(len(screen.shown), -1))
    assert main([str(clip), "--window", "--fast", "--quiet"]) == ExitStatus.OK
    assert len(screen.shown) == 25
    assert screen.shown[0].tobytes() == screen.shown[10].tobytes()
    assert screen.shown[10].tobytes() != screen.shown[9].tobytes()


class Running:
    """A run with a page, as the viewers' helpers want a sink."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "ageinfer", *map(str, arguments), "--serve-at", "127.0.0.1:0", "--quiet"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = self.process.stderr.readline().removeprefix("the page: ").strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def state(self) -> dict:
        with closing(ask(self, "/events?view=x")) as answer:
            return next(values for name, values in events_of(answer) if name == "state")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


def test_the_page_shows_a_film_at_its_own_speed_stays_and_shows_it_again(clip, tmp_path):
    pytest.importorskip("uvicorn")
    records = tmp_path / "r.jsonl"
    began = time.monotonic()
    with Running(clip, "--jsonl", records) as run:
        wait_for(lambda: run.state()["playback"]["ended"], 30)
        assert time.monotonic() - began > 29 / 25  # thirty pictures, 25 a second
        assert run.process.poll() is None
        with urllib.request.urlopen(run.url, timeout=10) as answer:  # noqa: S310
            assert b"playback" in answer.read()
        wait_for(lambda: len(records.read_text().splitlines()) == 30)
        assert status_of(run, "/playback?do=repeat", "POST") == 204
        wait_for(lambda: run.state()["frames"] > 30 and not run.state()["playback"]["ended"])
        assert status_of(run, "/playback?do=pause", "POST") == 204
        wait_for(lambda: run.state()["playback"]["paused"])
        time.sleep(0.2)  # a picture that was on its way
        number = run.state()["frames"]
        time.sleep(0.3)
        assert run.state()["frames"] == number < 60
        assert status_of(run, "/playback?do=play", "POST") == 204
        wait_for(lambda: run.state()["playback"]["ended"] and run.state()["frames"] == 60)
        assert run.end() == (ExitStatus.OK, "")
    assert len(records_of(records.read_text())) == 30


def test_the_page_of_a_picture_stays_and_has_no_buttons(astronaut_path):
    pytest.importorskip("uvicorn")
    with Running(astronaut_path) as run:
        wait_for(lambda: run.state()["frames"] == 1, 20)
        state = run.state()
        assert state["playback"] is None
        json.dumps(state)
        time.sleep(1.5)  # until the run has come to its end, also on a machine that is busy
        assert run.process.poll() is None
        assert run.end() == (ExitStatus.OK, "")
