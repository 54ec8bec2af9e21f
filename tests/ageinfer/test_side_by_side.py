"""Iterators that run side by side: what comes out, in which order, and what an error does."""

import logging
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.errors import SourceError
from ageinfer.side_by_side import side_by_side


def ends_with(error: Exception, *items: int):
    yield from items
    raise error


@given(st.lists(st.lists(st.integers()), max_size=5))
def test_every_item_comes_once_and_those_of_one_iterator_in_their_order(numbers: list[list[int]]) -> None:
    sources = [[(i, number) for number in some] for i, some in enumerate(numbers)]
    found = list(side_by_side(sources))
    assert [[item for item in found if item[0] == i] for i in range(len(sources))] == sources


def test_an_iterator_makes_its_next_item_when_the_one_before_was_taken() -> None:
    made = [0, 0]

    def counts(which: int):
        while True:
            made[which] += 1
            yield which

    items = side_by_side([counts(0), counts(1)])
    for taken in range(1, 20):
        next(items)
        time.sleep(0.01)
        assert sum(made) <= taken + 2
    items.close()


def test_a_slow_iterator_holds_up_no_other() -> None:
    may_go_on = threading.Event()

    def slow():
        assert may_go_on.wait(10)
        yield "slow"

    items = side_by_side([slow(), ["quick"] * 50])
    assert [next(items) for _ in range(50)] == ["quick"] * 50
    may_go_on.set()
    assert list(items) == ["slow"]


def test_a_source_that_is_gone_is_left_out_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = list(side_by_side([ends_with(SourceError("door: gone"), 1), iter_late(range(10, 13))]))
    assert sorted(found) == [1, 10, 11, 12]
    assert caplog.messages == ["door: gone; the others go on"]


def iter_late(items):
    for item in items:
        time.sleep(0.02)
        yield item


def test_the_error_of_the_last_source_is_raised() -> None:
    items = side_by_side([ends_with(SourceError("only one"), 1)])
    assert next(items) == 1
    with pytest.raises(SourceError, match="only one"):
        next(items)


def test_any_other_error_is_raised_at_once() -> None:
    items = side_by_side([ends_with(ValueError("a defect")), iter_late(range(1000))])
    with pytest.raises(ValueError, match="a defect"):
        list(items)


def test_closing_ends_the_threads_and_closes_their_generators() -> None:
    closed = []

    def endless(number: int):
        try:
            while True:
                yield number
        finally:
            closed.append(number)

    items = side_by_side([endless(0), endless(1)])
    next(items)
    items.close()
    give_up_s = time.monotonic() + 5
    while len(closed) < 2:
        assert time.monotonic() < give_up_s
