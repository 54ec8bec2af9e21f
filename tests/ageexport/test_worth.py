"""What a quantised file must save to be written."""

import math
import shutil

import numpy as np
import onnx
import pytest
from portraits import write_pack

from ageexport import export, graph, latency, precision, worth
from ageexport.__main__ import main
from ageexport.errors import RungError, WorthError
from ageexport.ladder import Bounds, Ladder, Rung
from ageexport.worth import refused
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties

FACES = np.zeros((1, 8, 8, 3), np.uint8)
WHOLE = b"f" * 1000


@pytest.fixture
def timed(monkeypatch):
    """Lets the files take so many milliseconds, pair by pair; returns how often they were timed."""
    asked = []

    def use(*pairs):
        asked.clear()

        def compare(models, faces):
            asked.append(models)
            return pairs[len(asked) - 1], 40

        monkeypatch.setattr(worth, "compare", compare)
        return asked

    return use


@pytest.mark.parametrize(
    ("size", "ms", "status", "bound"),
    [
        (300, 9.4, "passed", 0.95),  # small, and no slower
        (300, 9.6, "failed", 0.95),
        (500, 9.4, "passed", 0.95),
        (501, 9.4, "failed", 0.8),  # not small, so it must be fast
        (990, 7.9, "passed", 0.8),
        (990, 8.1, "failed", 0.8),
        (1200, 3.0, "passed", 0.8),
    ],
)
def test_a_file_is_worth_it_when_it_is_fast_or_small_and_no_slower(timed, size, ms, status, bound):
    timed((ms, 10.0), (ms, 10.0))
    rung = worth.worth(b"q" * size, WHOLE, FACES, Bounds())
    assert (rung.level, rung.status, rung.bound) == ("L4", status, bound)
    assert rung.figure == pytest.approx(ms / 10)
    assert rung.n == 40


def test_a_bad_time_is_measured_once_more(timed):
    asked = timed((9.9, 10.0), (6.0, 10.0))
    rung = worth.worth(b"q" * 300, WHOLE, FACES, Bounds())
    assert (rung.status, rung.figure, len(asked)) == ("passed", 0.6, 2)
    asked = timed((6.0, 10.0), (9.9, 10.0))
    assert worth.worth(b"q" * 300, WHOLE, FACES, Bounds()).status == "passed"
    assert len(asked) == 1
    timed((12.0, 10.0), (11.0, 10.0), (1.0, 10.0))
    assert worth.worth(b"q" * 300, WHOLE, FACES, Bounds()).figure == pytest.approx(1.1)


def test_without_a_bound_it_is_only_reported(timed):
    asked = timed((20.0, 10.0))
    rung = worth.worth(b"q" * 990, WHOLE, FACES, Bounds(int8_time=math.inf))
    assert (rung.status, rung.bound, rung.figure, len(asked)) == ("reported", None, 2.0, 1)
    assert rung.note == "0.0 MB and 20.00 ms, fp32 0.0 MB and 10.00 ms"


def ladder(*rungs):
    return Ladder("int8", "pictures", 20, 20, {}, rungs, {})


def test_a_file_that_saves_too_little_is_told_so_and_not_that_it_answers_wrongly(timed):
    timed((9.9, 10.0), (9.9, 10.0))
    slow = worth.worth(b"q" * 300_000, b"f" * 1_000_000, FACES, Bounds())
    fine = Rung("L4", "MAE in int8 and in fp32", 0.01, 0.05, "years", 20, "passed")
    text = (
        "int8: not worth a file: 0.3 MB and 9.90 ms, fp32 1.0 MB and 10.00 ms: 0.99 of its time, where at most 0.95 is "
        "worth it; use the fp32 file, or fp16 on a GPU"
    )
    assert refused(ladder(fine, slow)) == text
    with pytest.raises(WorthError) as caught:
        export.require(ladder(fine, slow))
    assert str(caught.value) == text
    wrong = Rung("L4", "MAE in int8 and in fp32", 0.2, 0.05, "years", 20, "failed")
    assert refused(ladder(fine)) == refused(ladder(wrong)) == refused(ladder(wrong, slow)) == ""
    with pytest.raises(RungError, match=r"does not answer what the checkpoint does: .*MAE.*; L4 time") as caught:
        export.require(ladder(wrong, slow))
    assert not isinstance(caught.value, WorthError)


def test_models_are_called_in_turns(monkeypatch):
    called = []

    class Session:
        def __init__(self, name):
            self.name = name

        def run(self, names, given):
            called.append(self.name)
            assert given["face"].shape == (1, 8, 8, 3)

    opened = []

    def open_session(model, name, provider, threads):
        opened.append((provider, threads))
        return Session(model.decode())

    monkeypatch.setattr(latency, "open_session", open_session)
    times, calls = latency.compare([b"a", b"b"], np.zeros((3, 8, 8, 3), np.uint8), seconds=0.0)
    assert opened == [("cpu", 1)] * 2
    assert called == ["a", "b"] * (len(called) // 2)
    assert calls == 25
    assert len(called) == 2 * (calls + 5)  # and a warm-up
    assert len(times) == 2


def test_the_time_is_the_median_without_the_warm_up(monkeypatch):
    clock = [0.0]
    took = [0.5] * 5 + [0.002, 0.004, 9.0] * 9

    class Session:
        def run(self, names, given):
            clock[0] += took.pop(0)

    monkeypatch.setattr(latency, "open_session", lambda *_: Session())
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    (ms,), calls = latency.compare([b"a"], FACES, seconds=0.0)
    assert calls == 25
    assert ms == pytest.approx(4.0)


@pytest.fixture(scope="module")
def converted(exported_distribution):
    return graph.without_metadata(onnx.load(exported_distribution.model))


@pytest.fixture
def place(exported_distribution, converted, proof, tmp_path, monkeypatch, cpu_alone):
    """A checkpoint with its pack; its quantised form is made quickly and without care."""
    monkeypatch.setattr(graph, "convert", lambda values, opset: graph.without_metadata(converted))

    def attempts(model, faces):
        quantiser = precision.Quantiser(model, faces)
        yield quantiser.quantise("minmax", ())
        yield quantiser.quantise("minmax", quantiser.leading(1))
        pytest.fail("a form with even more in float was tried")

    monkeypatch.setattr(precision, "int8_attempts", attempts)
    shutil.copy(exported_distribution.checkpoint, tmp_path / "best.pth")
    write_pack(tmp_path, proof, CropSpec(size=64))
    return tmp_path


@pytest.mark.slow
def test_such_a_file_is_not_written_and_fp32_is_where_it_was_asked_for(place, bounds, timed, capsys):
    timed((9.9, 10.0), (9.8, 10.0), (9.7, 10.0), (9.75, 10.0))
    bounds(int8_mae=9, int8_decade_mae=9, int8_time=0.8)
    assert main([str(place / "best.pth"), "--precision", "int8", "--quiet"]) == 10
    captured = capsys.readouterr()
    [line] = [line for line in captured.err.splitlines() if line.startswith("ageexport: ")]
    assert "int8: not worth a file: " in line
    assert "9.70 ms, fp32 9." in line
    assert line.endswith("; nothing was written")
    assert not list(place.glob("*.onnx"))
    timed((9.9, 10.0), (9.8, 10.0), (9.7, 10.0), (9.75, 10.0))
    assert main([str(place / "best.pth"), "--precision", "fp32", "int8", "--quiet"]) == 10
    assert f"; written: {place / 'best.onnx'}" in capsys.readouterr().err
    assert sorted(path.name for path in place.glob("*.onnx")) == ["best.onnx"]


@pytest.mark.slow
def test_with_the_first_layer_in_float_it_may_be_worth_it(place, bounds, timed, capsys):
    timed((9.9, 10.0), (9.8, 10.0), (5.0, 10.0))
    bounds(int8_mae=9, int8_decade_mae=9, int8_time=0.8)
    assert main([str(place / "best.pth"), "--precision", "int8", "--quiet"]) == 0, capsys.readouterr().err
    metadata = ModelMetadata.from_json(metadata_properties((place / "best.int8.onnx").read_bytes())[METADATA_KEY])
    assert len(metadata.export["kept_in_float"]) > 0


@pytest.mark.slow
def test_a_library_brings_its_own_bounds(place):
    from ageexport import export_model

    loose = Bounds(int8_mae=9, int8_decade_mae=9, int8_time=math.inf)
    result = export_model(place / "best.pth", precision=["fp32", "int8"], bounds=loose)
    assert [file.path.name for file in result.files] == ["best.onnx", "best.int8.onnx"]
    [rung] = [rung for rung in result.files[1].model.ladder.rungs if rung.what.startswith("time of a face")]
    assert rung.status == "reported"
    assert rung.n >= 25
    assert 0.05 < rung.figure < 20
    assert "time of a face" in (place / "best.int8.md").read_text()
