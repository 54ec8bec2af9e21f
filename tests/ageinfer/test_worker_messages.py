"""What passes between processes: nothing is lost of it, and what is not due is kept."""

import multiprocessing
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.errors import OutputError, SourceError
from ageinfer.sources.paths import ComingPaths
from ageinfer.types import Age, Detection, Face, FrameResult
from ageinfer.workers import held
from ageinfer.workers.images import receive_image, send_image
from ageinfer.workers.messages import Counts, Failure, Note, decoded, encoded

real = st.floats(allow_nan=False)
optional = st.none() | real
points = st.none() | st.lists(st.tuples(real, real), max_size=5).map(tuple)
detections = st.builds(Detection, st.tuples(real, real, real, real), real, points)
faces = st.builds(Face, detections, st.builds(Age, real, real, optional), st.none() | st.integers(), optional, real)
results = st.builds(
    FrameResult, st.text(), st.integers(0), optional, st.tuples(st.integers(1), st.integers(1)),
    st.lists(faces, max_size=3).map(tuple), st.text(), st.booleans(),
)  # fmt: skip
events = (
    results
    | st.builds(Note, st.text(), st.integers(0, 50), st.text())
    | st.builds(Counts, st.integers(0), st.integers(0), st.booleans())
    | st.builds(Failure, st.text(), st.text())
)


@given(st.lists(events, max_size=5))
def test_what_is_told_arrives_to_the_last_digit(told):
    assert list(decoded(encoded(told))) == told


def test_a_name_that_is_not_unicode_arrives():
    told = [Note("log", 30, "odd\udcff.jpg"), FrameResult("odd\udcff.jpg", 0, None, (1, 1), ())]
    assert list(decoded(encoded(told))) == told


def test_an_error_of_the_family_keeps_its_class_and_any_other_its_traceback():
    error = Failure("SourceError", "a.jpg: gone; copy it again").error()
    assert (type(error), str(error)) == (SourceError, "a.jpg: gone; copy it again")
    for name in ("", "ExitStatus", "IntEnum", "status_table"):
        assert type(Failure(name, "Traceback").error()) is RuntimeError


@pytest.mark.parametrize("transposed", [False, True])
def test_an_image_larger_than_a_pipe_arrives(transposed):
    image = np.random.default_rng(1).integers(0, 256, (700, 500, 3), np.uint8)
    image = image.transpose(1, 0, 2) if transposed else image
    ours, theirs = multiprocessing.Pipe()
    threading.Thread(target=send_image, args=(theirs, image)).start()
    assert np.array_equal(receive_image(ours, *image.shape[:2]), image)
    theirs.close()
    with pytest.raises((EOFError, OSError)):
        receive_image(ours, 1, 1)


@given(st.lists(st.tuples(st.binary(max_size=30), st.booleans()), max_size=30))
def test_what_is_not_due_is_kept_in_memory_and_beyond_that_in_a_file(steps):
    before, held._MOST_BYTES = held._MOST_BYTES, 40
    kept, expected = [], []
    store = held.Held()
    try:
        for data, take in steps:
            kept.append(store.keep(data))
            expected.append(data)
            assert sum(len(one.data) for one in kept if isinstance(one.data, bytes)) <= 40
            if take:
                assert store.take(kept.pop(0)) == expected.pop(0)
        assert [store.take(one) for one in kept] == expected
    finally:
        held._MOST_BYTES = before
        store.close()


def test_a_temporary_folder_that_is_full_is_named(monkeypatch):
    monkeypatch.setattr(held, "_MOST_BYTES", 0)
    monkeypatch.setattr(held.tempfile, "TemporaryFile", lambda **_: open("/dev/full", "wb", buffering=0))  # noqa: PTH123, SIM115
    with pytest.raises(OutputError, match="cannot be kept: No space left on device; make room, set TMPDIR"):
        held.Held().keep(b"x")


def test_paths_that_come_are_seen_without_waiting():
    there = threading.Event()

    def paths():
        yield from "abc"
        there.wait(10)
        yield "d"

    coming = ComingPaths(paths())
    assert [next(coming) for _ in range(2)] == ["a", "b"]
    found = coming.or_none()
    assert "c" in [next(found) for _ in range(1000)]
    assert next(found) is None
    there.set()
    assert [path for path in found if path] == ["d"]
    assert list(coming) == []


def test_an_error_in_paths_comes_after_the_paths_before_it():
    def paths():
        yield "a"
        raise SourceError("no path")

    coming = ComingPaths(paths())
    assert next(coming) == "a"
    with pytest.raises(SourceError, match="no path"):
        next(coming)
    found = ComingPaths(paths()).or_none()
    with pytest.raises(SourceError, match="no path"):
        list(found)
