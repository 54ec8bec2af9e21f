"""Which precision is faster: measured by turns, and told, but never the reason to open another file."""

from functools import partial

import pytest
from conftest import ROOT
from portraits import tampered

from ageinfer.engine.speed import compare_precisions, in_words, measure

pytest.importorskip("onnx")


class Clock:
    """A clock that only the calls move on, each by the next of its own times in seconds."""

    def __init__(self, **times):
        self.now, self.order = 0.0, []
        self.left = {name: iter(taken) for name, taken in times.items()}
        self.calls = {name: partial(self._run, name) for name in times}

    def _run(self, name):
        self.order.append(name)
        self.now += next(self.left[name])

    def measure(self):
        return measure(self.calls, lambda: self.now)


def test_calls_take_turns_and_their_medians_count():
    # The first run of each, which is a hundred times as slow, does not count.
    clock = Clock(a=[0.4, *[0.004, 0.001, 0.003] * 5], b=[0.2, *[0.002, 0.009, 0.002] * 5])
    assert clock.measure() == pytest.approx({"a": 3.0, "b": 2.0})
    assert clock.order == ["a", "b"] * 16


def test_a_clear_lead_ends_the_measurement():
    clock = Clock(a=[0.001] * 16, b=[0.002] * 16)
    assert clock.measure() == pytest.approx({"a": 1.0, "b": 2.0})
    assert clock.order == ["a", "b"] * 6
    once_slower = Clock(a=[0.001, 0.001, 0.003, *[0.001] * 13], b=[0.002] * 16)
    once_slower.measure()
    assert len(once_slower.order) == 32
    third = Clock(a=[0.002] * 16, b=[0.001] * 16, c=[0.001] * 16)  # it is clear which is the slowest, not the fastest
    third.measure()
    assert len(third.order) == 48


def test_slow_networks_are_not_measured_for_long():
    clock = Clock(a=[1.0, 2.0] * 8, b=[2.0, 1.0] * 8)
    clock.measure()
    assert clock.order == ["a", "b"] * 6


@pytest.mark.parametrize(
    ("used", "ms", "words"),
    [
        ("int8", {"int8": 5.0}, ""),
        ("int8", {}, ""),
        ("mixed", {"int8": 5.0, "fp32": 8.0}, ""),
        ("int8", {"int8": 5.0, "fp32": 8.2}, "int8 is 1.6 times as fast as fp32 here"),
        ("int8", {"int8": 5.0, "fp32": 5.0}, "int8 is 1.0 times as fast as fp32 here"),
        ("fp32", {"int8": 5.0, "fp32": 8.0}, "int8 would be 1.6 times as fast as fp32 here: --precision int8"),
        (
            "int8", {"int8": 5.0, "fp32": 8.0, "fp16": 10.0},
            "int8 is 1.6 times as fast as fp32 and 2.0 times as fast as fp16 here",
        ),
    ],
)  # fmt: skip
def test_what_is_told_of_a_comparison(used, ms, words):
    assert in_words(used, ms) == words


def test_the_real_clock_tells_a_tiny_network_from_a_large_one(two_precisions):
    large = ROOT / "models" / "age-small.fp32.onnx"
    (two_precisions / "age-tiny.fp32.onnx").write_bytes(large.read_bytes())
    ms = compare_precisions(provider="cpu", threads=1)
    assert list(ms) == ["int8", "fp32"]
    assert ms["fp32"] > 3 * ms["int8"] > 0
    (two_precisions / "age-tiny.onnx").write_bytes(tampered(large.read_bytes(), precision="int8"))
    (two_precisions / "age-tiny.fp32.onnx").write_bytes((two_precisions / "age-other.onnx").read_bytes())
    ms = compare_precisions("age-tiny", provider="cpu", threads=1)
    assert ms["int8"] > 3 * ms["fp32"] > 0


def test_one_file_has_nothing_to_be_compared_with(two_precisions):
    assert compare_precisions("age-other", provider="cpu") == {}
    assert compare_precisions(two_precisions / "age-tiny.onnx", provider="cpu") == {}
