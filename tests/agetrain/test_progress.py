"""Lines in the log where there is no terminal, by a clock of our own."""

import io
import itertools
import logging
import sys

import pytest

from agetrain import _progress
from agetrain._progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds; tests turn it on."""
    now = [1000.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def taken(clock, caplog):
    """Takes items of some seconds each; returns when a line came, in seconds from the beginning, and the lines."""
    caplog.set_level(logging.INFO)

    def take(items, seconds, total=None):
        caplog.clear()
        times, began, got = [], clock[0], []
        for item in progress(items, "learn", "img", total):
            if len(caplog.records) > len(times):
                times.append(clock[0] - began)
            clock[0] += seconds
            got.append(item)
        if len(caplog.records) > len(times):
            times.append(clock[0] - began)
        return times, caplog.messages, got

    return take


def test_what_is_done_soon_says_nothing(taken):
    times, lines, got = taken(range(99), 0.1)
    assert (times, lines, got) == ([], [], list(range(99)))


def test_lines_come_after_10_s_then_after_30_and_ever_more_rarely_down_to_5_minutes(taken):
    times, _, _ = taken(range(6000), 1)
    assert times[:4] == [10, 40, 85, 153]
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert waits == sorted(waits)
    assert max(waits) == 300
    assert waits[-5:] == [300] * 5


def test_a_line_says_what_how_many_how_fast_and_how_long(taken):
    _, lines, _ = taken(range(2000), 1 / 32)
    assert lines[0] == "learn: 320 of 2,000 img, 32 img/s, 52 s left"
    _, lines, _ = taken(iter(range(4113)), 2, total=4113)
    assert lines[0] == "learn: 5 of 4,113 img, 0.5 img/s, 2 h 17 min left"
    _, lines, _ = taken(range(20480), 1 / 1024)
    assert lines[0] == "learn: 10,240 of 20,480 img, 1,024 img/s, 10 s left"
    _, lines, _ = taken(range(100), 10)
    assert lines[0] == "learn: 1 of 100 img, 0.1 img/s, 16 min left"


def test_without_a_total_nothing_is_said_of_the_time_left(taken):
    _, lines, _ = taken(iter(range(100)), 1)
    assert lines[0] == "learn: 10 img, 1 img/s"


def test_the_last_item_needs_no_line(taken):
    assert taken(range(2), 6)[1] == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_and_the_log_nothing(taken, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert taken(range(50), 1) == ([], [], list(range(50)))
    assert "learn" in terminal.getvalue()


def test_a_terminal_without_tqdm_gets_the_lines(taken, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(_progress.importlib.util, "find_spec", lambda name: None)
    assert taken(range(50), 1)[0] == [10, 40]
