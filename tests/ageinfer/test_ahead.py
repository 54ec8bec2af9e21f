import threading
import time

import pytest

from ageinfer.ahead import ahead


def working():
    return [t for t in threading.enumerate() if t.name == "working ahead"]


def test_items_come_in_order_and_are_made_ahead_but_not_too_far():
    made = []

    def items():
        for i in range(20):
            made.append(i)
            yield i

    stream = ahead(items(), 3)
    assert made == []
    assert next(stream) == 0
    time.sleep(0.2)
    assert len(made) <= 5  # the one in use, three that wait, one being made
    assert list(stream) == list(range(1, 20))
    assert not working()


def test_heavy_items_wait_one_at_a_time():
    made = []

    def items():
        for i in range(6):
            made.append(i)
            yield i

    stream = ahead(items(), 100, weight=lambda _: 10, most_weight=10)
    next(stream)
    time.sleep(0.2)
    assert len(made) <= 3
    assert list(stream) == [1, 2, 3, 4, 5]


def test_a_pause_is_told_before_an_item_that_must_be_waited_for():
    go_on = threading.Event()

    def items():
        yield 1
        go_on.wait(10)
        yield 2

    stream = ahead(items(), 3, pauses=True)
    assert next(stream) == 1
    assert next(stream) is None
    go_on.set()
    rest = list(stream)
    assert [item for item in rest if item is not None] == [2]
    assert len(rest) <= 2  # once a wait


def test_an_error_comes_at_its_place():
    def items():
        yield 1
        yield 2
        raise OSError("gone")

    stream = ahead(items(), 8)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(stream)
    assert not working()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_whoever_has_seen_enough_ends_the_work(taken):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = ahead(endless(), 2)
    for _ in range(taken):
        next(stream)
    stream.close()
    assert closed.is_set() or taken == 0
    assert not working()


def test_work_that_hangs_does_not_hang_its_user():
    release = threading.Event()

    def items():
        yield 1
        release.wait(20)

    stream = ahead(items(), 2)
    next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 2
    release.set()


def test_the_work_overlaps():
    def slow():
        for i in range(6):
            time.sleep(0.1)
            yield i

    began = time.monotonic()
    for _ in ahead(slow(), 2):
        time.sleep(0.1)
    assert time.monotonic() - began < 1.1  # one after the other would be 1.2
