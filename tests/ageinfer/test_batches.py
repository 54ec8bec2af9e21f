"""Several threads that share one network, whose questions go into the same batches."""

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.engine.batches import Batches
from ageinfer.engine.estimator import AgeEstimator


class Network:
    """Doubles rows, notes the sizes of its batches, and holds the first one until the others wait."""

    def __init__(self, first_may_end: threading.Event | None = None) -> None:
        self.sizes: list[int] = []
        self.begun = threading.Event()
        self._first_may_end = first_may_end

    def __call__(self, rows: np.ndarray) -> list[int]:
        self.sizes.append(len(rows))
        self.begun.set()
        if self._first_may_end is not None and len(self.sizes) == 1:
            assert self._first_may_end.wait(10)
        if (rows < 0).any():
            raise ValueError("a negative row")
        return [2 * row for row in rows.tolist()]


def ask_while_busy(network: Network, batches: Batches[int], may_end: threading.Event, questions: list[np.ndarray]):
    """The answers to questions that all come while the first batch, of one row, runs."""
    with ThreadPoolExecutor(len(questions) + 1) as pool:
        first = pool.submit(batches, np.array([1]))
        assert network.begun.wait(10)
        others = [pool.submit(batches, rows) for rows in questions]
        while len(batches._waiting) < len(questions):
            pass
        may_end.set()
        assert first.result(10) == [2]
        return others


def test_what_is_asked_while_a_batch_runs_is_answered_together() -> None:
    may_end = threading.Event()
    network = Network(may_end)
    questions = [np.arange(i, 2 * i) for i in range(1, 6)]
    answers = ask_while_busy(network, Batches(network), may_end, questions)
    assert [answer.result(10) for answer in answers] == [[2 * v for v in rows.tolist()] for rows in questions]
    assert network.sizes == [1, 15]


def test_batches_end_with_the_call_that_fills_them() -> None:
    may_end = threading.Event()
    network = Network(may_end)
    answers = ask_while_busy(network, Batches(network, most_rows=4), may_end, [np.array([i, i, i]) for i in range(5)])
    assert [answer.result(10) for answer in answers] == [[2 * i] * 3 for i in range(5)]
    assert network.sizes == [1, 6, 6, 3]


def test_what_can_run_side_by_side_shares_no_batch() -> None:
    """Two cores do more than one core that is given twice as much."""
    both_run = threading.Barrier(2, timeout=10)

    def answer(rows: np.ndarray) -> list[int]:
        both_run.wait()
        return [2 * row for row in rows.tolist()]

    batches = Batches(answer, side_by_side=2)
    both_wait = threading.Event()

    class Turns(threading.Semaphore):
        def acquire(self, *arguments, **options) -> bool:
            while not both_wait.is_set():
                if len(batches._waiting) == 2:
                    both_wait.set()
            return super().acquire(*arguments, **options)

        __enter__ = acquire

    batches._turns = Turns(2)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(batches, [np.array([1]), np.array([2])])) == [[2], [4]]


def test_an_error_reaches_everybody_in_the_batch_and_nobody_after_it() -> None:
    may_end = threading.Event()
    network = Network(may_end)
    batches = Batches(network)
    for answer in ask_while_busy(network, batches, may_end, [np.array([3]), np.array([-1])]):
        with pytest.raises(ValueError, match="negative"):
            answer.result(10)
    assert batches(np.array([4])) == [8]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 3), st.none() | st.integers(1, 10))
def test_every_thread_gets_its_own_answers(sizes: list[int], side_by_side: int, most_rows: int | None) -> None:
    batches = Batches(Network(), most_rows=most_rows, side_by_side=side_by_side)
    questions = [np.arange(100 * i, 100 * i + size) for i, size in enumerate(sizes)]
    with ThreadPoolExecutor(len(sizes)) as pool:
        answers = list(pool.map(batches, questions, timeout=10))
    assert [list(answer) for answer in answers] == [[2 * v for v in rows.tolist()] for rows in questions]


def test_threads_get_the_ages_that_one_thread_gets() -> None:
    estimator = AgeEstimator(threads=1)
    size = estimator.metadata.crop.size
    picture = cv2.cvtColor(cv2.imread("samples/astronaut.jpg"), cv2.COLOR_BGR2RGB)
    crops = [cv2.resize(picture[i : i + 300, i : i + 300], (size, size))[np.newaxis] for i in range(0, 200, 10)]
    alone = [estimator.estimate(crop)[0].age_years for crop in crops]
    with ThreadPoolExecutor(8) as pool:
        together = [ages[0].age_years for ages in pool.map(estimator.estimate, crops)]
    assert together == pytest.approx(alone, abs=0.01)
    assert max(alone) - min(alone) > 1  # else any answer would do
