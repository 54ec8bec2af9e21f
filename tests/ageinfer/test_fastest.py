import json
import logging
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from portraits import change_initializer, tampered

from ageinfer.engine import estimator, fastest
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.processor import examine_processor
from ageinfer.errors import ModelError, UsageError

pytest.importorskip("onnx")
# Taken before any test replaces it.
really_measure = fastest.measure


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the model files for which a session was opened."""
    names = []

    def open_session(data, name, *how):
        names.append(Path(name).name)
        return really(data, name, *how)

    really = estimator.open_session
    monkeypatch.setattr(estimator, "open_session", open_session)
    return names


def remembered() -> list[Path]:
    folder = Path(os.environ["AGEINFER_CACHE"])
    return sorted(folder.iterdir()) if folder.is_dir() else []


# Measuring


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
        return really_measure(self.calls, lambda: self.now)


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


def test_what_is_told_of_a_choice():
    assert fastest.winner({"fp32": 8.0, "int8": 5.0}) == "int8"
    assert fastest.winner({"fp32": 5.0, "int8": 5.0}) == "fp32"
    assert fastest.times_as_fast({"int8": 5.0, "fp32": 8.0, "fp16": 10.0}) == {"fp32": 1.6, "fp16": 2.0}
    assert fastest.told("int8", {}) == "int8"
    assert fastest.told("int8", {"fp32": 1.64}) == "int8, 1.6 times as fast as fp32 here"
    both = "int8, 1.6 times as fast as fp32 and 2.0 times as fast as fp16 here"
    assert fastest.told("int8", {"fp32": 1.6, "fp16": 2.0}) == both


# Choosing


@pytest.mark.parametrize(("int8", "fp32", "chosen"), [(5.0, 8.0, "int8"), (8.0, 5.0, "fp32")])
def test_the_faster_one_is_chosen_and_used(two_precisions, stopwatch, int8, fp32, chosen):
    stopwatch.ms |= {"int8": int8, "fp32": fp32}
    estimator = AgeEstimator(provider="cpu")
    assert estimator.metadata.precision == chosen
    assert estimator.times_as_fast == {({"int8", "fp32"} - {chosen}).pop(): 1.6}
    assert stopwatch.asked == [["int8", "fp32"]]
    reddish = np.zeros((1, 8, 8, 3), np.uint8)
    reddish[..., 0] = 70
    [age] = estimator.estimate(reddish)
    assert age.age_years == 70
    again = AgeEstimator(provider="cpu")
    assert (again.metadata, again.times_as_fast) == (estimator.metadata, estimator.times_as_fast)


def test_three_precisions_and_two_files_of_the_same(two_precisions, stopwatch, opened, tiny_model):
    (two_precisions / "age-tiny.fp16.onnx").write_bytes(tiny_model(precision="fp16"))
    (two_precisions / "age-tiny.int8.onnx").write_bytes(tiny_model(precision="int8"))  # the default file comes first
    assert AgeEstimator(provider="cpu").times_as_fast == {"fp32": 1.6, "fp16": 1.8}
    assert sorted(opened) == ["age-tiny.fp16.onnx", "age-tiny.fp32.onnx", "age-tiny.onnx"]
    (two_precisions / "age-tiny.fp16.onnx").unlink()
    (two_precisions / "age-tiny.fp32.onnx").unlink()
    opened.clear()
    assert AgeEstimator(provider="cpu").times_as_fast == {}
    assert opened == ["age-tiny.onnx"]
    assert len(stopwatch.asked) == 1


def test_the_real_clock_tells_a_tiny_network_from_a_large_one(two_precisions):
    large = ROOT / "models" / "age-small.fp32.onnx"
    (two_precisions / "age-tiny.fp32.onnx").write_bytes(large.read_bytes())
    estimator = AgeEstimator(provider="cpu", threads=1)
    assert estimator.metadata.precision == "int8"
    assert estimator.times_as_fast["fp32"] > 3
    (two_precisions / "age-tiny.onnx").write_bytes(tampered(large.read_bytes(), precision="int8"))
    (two_precisions / "age-tiny.fp32.onnx").write_bytes((two_precisions / "age-other.onnx").read_bytes())
    assert AgeEstimator(provider="cpu", threads=1).metadata.precision == "fp32"


def test_a_model_of_one_file_is_not_measured(two_precisions, stopwatch, opened):
    assert AgeEstimator("age-other", provider="cpu").times_as_fast == {}
    assert opened == ["age-other.onnx"]
    assert stopwatch.asked == remembered() == []


def test_a_file_given_by_path_is_that_file_whatever_lies_beside_it(two_precisions, stopwatch, opened, monkeypatch):
    monkeypatch.chdir(two_precisions)
    for path in (two_precisions / "age-tiny.onnx", "./age-tiny.onnx", "age-tiny.onnx"):
        estimator = AgeEstimator(path, provider="cpu")
        assert (estimator.metadata.precision, estimator.times_as_fast) == ("int8", {})
    assert opened == ["age-tiny.onnx"] * 3
    assert stopwatch.asked == remembered() == []


@pytest.mark.parametrize("model", [None, "age-tiny", "age-tiny.onnx"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_named_precision_is_used_and_nothing_else_opened(two_precisions, stopwatch, opened, model, precision):
    estimator = AgeEstimator(model, precision=precision, provider="cpu")
    assert (estimator.metadata.precision, estimator.times_as_fast) == (precision, {})
    assert opened == [{"int8": "age-tiny.onnx", "fp32": "age-tiny.fp32.onnx"}[precision]]
    assert stopwatch.asked == remembered() == []


@pytest.mark.parametrize(
    ("model", "precision", "there"),
    [
        (None, "fp16", "int8 and fp32"),
        ("age-tiny.fp32", "int8", "fp32"),
        ("age-other", "int8", "fp32"),
        ("PATH", "fp32", "int8"),
    ],
)
def test_a_precision_that_is_not_there_is_refused_with_those_that_are(two_precisions, model, precision, there):
    model = two_precisions / "age-tiny.onnx" if model == "PATH" else model
    with pytest.raises(
        UsageError, match=rf"age-\w+(\.fp32)?\.onnx: is there in {there}, not in {precision}; .*--precision"
    ):
        AgeEstimator(model, precision=precision, provider="cpu")


def test_an_unknown_precision_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError, match="unknown precision 'fp64': use one of auto, fp32, fp16, int8, mixed"):
        AgeEstimator(precision="fp64")


def test_a_broken_file_is_an_error_that_names_it(two_precisions, stopwatch):
    (two_precisions / "age-tiny.fp32.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"age-tiny\.fp32\.onnx: not an ONNX model"):
        AgeEstimator(provider="cpu")


# Remembering


def test_what_was_measured_is_remembered_and_one_file_opened(two_precisions, stopwatch, opened):
    first = AgeEstimator(provider="cpu")
    assert sorted(opened) == ["age-tiny.fp32.onnx", "age-tiny.onnx"]
    opened.clear()
    again = AgeEstimator("age-tiny", provider="cpu")
    assert opened == ["age-tiny.onnx"]
    assert len(stopwatch.asked) == len(remembered()) == 1
    assert again.times_as_fast == first.times_as_fast == {"fp32": 1.6}


def test_the_chosen_file_is_still_checked(two_precisions, stopwatch):
    AgeEstimator(provider="cpu")
    path = two_precisions / "age-tiny.onnx"
    path.write_bytes(path.read_bytes().replace(b"deviation", b"deviatioN"))
    with pytest.raises(ModelError, match="changed after the export"):
        AgeEstimator(provider="cpu")


def other_graph(folder, monkeypatch):
    path = folder / "age-tiny.fp32.onnx"
    path.write_bytes(tampered(path.read_bytes(), change_initializer("axes", lambda axes: axes[::-1])))


CHANGES = {
    "graph": other_graph,
    "threads": lambda folder, patch: patch.setattr(fastest, "default_threads", lambda: 99),
    "version of ONNX Runtime": lambda folder, patch: patch.setattr(fastest.ort, "__version__", "99.1"),
    "processor": lambda folder, patch: patch.setattr(
        fastest, "examine_processor", lambda: replace(examine_processor(), name="Fast One")
    ),
    "instructions": lambda folder, patch: patch.setattr(
        fastest, "examine_processor", lambda: replace(examine_processor(), found=("avx_vnni",))
    ),
    "provider": lambda folder, patch: patch.setattr(fastest, "first_provider", lambda provider: "cuda"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_under_other_circumstances_it_is_measured_anew(two_precisions, stopwatch, monkeypatch, name):
    assert AgeEstimator(provider="cpu").metadata.precision == "int8"
    stopwatch.ms["int8"] = 99.0
    with monkeypatch.context() as patch:
        before = (two_precisions / "age-tiny.fp32.onnx").read_bytes()
        CHANGES[name](two_precisions, patch)
        assert AgeEstimator(provider="cpu").metadata.precision == "fp32"
        assert AgeEstimator(provider="cpu").metadata.precision == "fp32"
    (two_precisions / "age-tiny.fp32.onnx").write_bytes(before)
    assert AgeEstimator(provider="cpu").metadata.precision == "int8"  # the first measurement is kept
    assert len(stopwatch.asked) == len(remembered()) == 2


def test_threads_and_provider_are_those_of_the_session(two_precisions, stopwatch):
    for threads in (1, 2, 1, 2):
        AgeEstimator(provider="cpu", threads=threads)
    assert len(stopwatch.asked) == 2
    known = [json.loads(path.read_text())["circumstances"] for path in remembered()]
    assert sorted(circumstances["threads"] for circumstances in known) == [1, 2]
    assert {circumstances["provider"] for circumstances in known} == {"cpu"}


def test_a_file_that_was_copied_or_touched_is_the_same(two_precisions, stopwatch):
    AgeEstimator(provider="cpu")
    for path in two_precisions.iterdir():
        path.write_bytes(path.read_bytes())
        os.utime(path, (1, 1))
    AgeEstimator(provider="cpu")
    assert len(stopwatch.asked) == 1


def with_ms(**ms):
    return lambda text: json.dumps(json.loads(text) | {"ms": ms})


SPOILED = {
    "empty": lambda text: "",
    "cut": lambda text: text[:-9],
    "a list": lambda text: "[]",
    "nothing": lambda text: "null",
    "deep": lambda text: "[" * 100_000,
    "a long number": lambda text: "9" * 5000,
    "not UTF-8": lambda text: text.encode() + b"\xff",
    "of another machine": lambda text: text.replace('"threads"', '"heads"'),
    "no times": lambda text: json.dumps(json.loads(text) | {"ms": None}),
    "one time": with_ms(int8=1.0),
    "another precision": with_ms(int8=1.0, fp32=2.0, fp16=3.0),
    "a word": with_ms(int8="fast", fp32=2.0),
    "true": with_ms(int8=True, fp32=2.0),
    "zero": with_ms(int8=0, fp32=2.0),
    "negative": with_ms(int8=-1, fp32=2.0),
    "not a number": with_ms(int8=math.nan, fp32=2.0),
    "endless": with_ms(int8=1.0, fp32=math.inf),
    "huge": with_ms(int8=1.0, fp32=10**400),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_broken_memory_is_measured_again_and_mended(two_precisions, stopwatch, caplog, name):
    AgeEstimator(provider="cpu")
    [path] = remembered()
    good = path.read_text()
    spoiled = SPOILED[name](good)
    path.write_bytes(spoiled if isinstance(spoiled, bytes) else spoiled.encode())
    assert AgeEstimator(provider="cpu").times_as_fast == {"fp32": 1.6}
    assert len(stopwatch.asked) == 2
    assert remembered() == [path]
    assert path.read_text() == good
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_folder_in_the_place_of_the_memory_is_no_error(two_precisions, stopwatch):
    AgeEstimator(provider="cpu")
    [path] = remembered()
    path.unlink()
    path.mkdir()
    (path / "something").touch()
    for _ in range(2):
        assert AgeEstimator(provider="cpu").metadata.precision == "int8"
    assert len(stopwatch.asked) == 3
    assert remembered() == [path]  # and no unfinished file


@pytest.mark.parametrize("place", ["a file", "below a file", "below /proc", "a null device", "no name for a folder"])
def test_where_nothing_can_be_written_it_is_measured_each_time(
    two_precisions, stopwatch, monkeypatch, tmp_path, caplog, place
):
    (tmp_path / "file").touch()
    places = {
        "a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache", "below /proc": "/proc/nothing/cache",
        "a null device": os.devnull, "no name for a folder": tmp_path / ("x" * 300),
    }  # fmt: skip
    monkeypatch.setenv("AGEINFER_CACHE", str(places[place]))
    for count in (1, 2):
        assert AgeEstimator(provider="cpu").times_as_fast == {"fp32": 1.6}
        assert len(stopwatch.asked) == count
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.skipif(sys.platform != "linux", reason="where the cache of a user is")
def test_the_folder_is_that_of_the_user(two_precisions, stopwatch, monkeypatch, tmp_path):
    monkeypatch.delenv("AGEINFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of-mine"))
    AgeEstimator(provider="cpu")
    [path] = (tmp_path / "of-mine" / "ageinfer").iterdir()
    assert path.suffix == ".json"


def test_a_user_without_a_home_gets_no_file(two_precisions, stopwatch, monkeypatch, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.delenv("AGEINFER_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/ageinfer"))
    AgeEstimator(provider="cpu")
    assert list(empty.iterdir()) == []


def test_two_processes_at_once_are_harmless(two_precisions):
    code = """
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from ageinfer.engine import modelfile
modelfile.packaged_folders = lambda: (Path(sys.argv[1]),)
from ageinfer.engine.estimator import AgeEstimator
for threads in range(1, 9):
    assert AgeEstimator("age-tiny", provider="cpu", threads=threads).times_as_fast
"""
    command = [sys.executable, "-c", code, str(two_precisions)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    assert [path.suffix for path in remembered()] == [".json"] * 8
    assert not [path for path in remembered() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_real_model_in_int8_and_fp32(two_precisions, proof, tmp_path, astronaut_path, capsys):
    from ageexport.__main__ import main as export
    from ageinfer.commands.main import main

    checkpoint, base = ROOT / "checkpoints" / "best-tuned.pth", tmp_path / "age-real.onnx"
    options = ["--precision", "fp32", "int8", "--name", "age-real", "--data", str(proof), "--quiet"]
    assert export([str(checkpoint), "-o", str(base), *options]) == 0
    base.rename(two_precisions / "age-real.fp32.onnx")
    (tmp_path / "age-real.int8.onnx").rename(two_precisions / "age-real.onnx")
    capsys.readouterr()

    ages, lines = {}, {}
    for precision in ("auto", "auto", "int8", "fp32"):
        out = tmp_path / "r.jsonl"
        command = [str(astronaut_path), "--model", "age-real", "--precision", precision, "--jsonl", str(out)]
        assert main([*command, "--provider", "cpu", "--threads", "1"]) == 0
        lines[precision] = capsys.readouterr().err.splitlines()[0]
        ages[precision] = json.loads(out.read_text())["faces"][0]["age"]
    [path] = remembered()
    ms = json.loads(path.read_text())["ms"]
    chosen, other = sorted(ms, key=ms.get)
    assert f"({chosen}, {ms[other] / ms[chosen]:.1f} times as fast as {other} here)" in lines["auto"]
    assert "(fp32)" in lines["fp32"]
    assert ages["auto"] == ages[chosen]
    assert 0 < abs(ages["int8"] - ages["fp32"]) < 3
