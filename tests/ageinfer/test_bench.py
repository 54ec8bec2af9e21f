import json
import time

import cv2
import numpy as np
import pytest

import ageinfer.commands.bench as bench_module
from ageinfer.commands.bench import STAGES, largest_memory_mb, measure, rendered
from ageinfer.commands.main import main
from ageinfer.detect import WholePicture
from ageinfer.errors import ExitStatus
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source

NETWORKS = ("detect network", "age network")


@pytest.fixture(scope="module")
def clip(tmp_path_factory, write_video, persons):
    return write_video(tmp_path_factory.mktemp("bench") / "clip.avi", [cv2.resize(persons[0], (240, 240))] * 8)


@pytest.fixture(scope="module")
def bench(clip):
    return measure(lambda: open_source(clip), Pipeline.default(provider="cpu", threads=1), 20)


def test_every_stage_is_measured_and_the_parts_make_the_whole(bench):
    assert (bench.frames, bench.faces, bench.size, bench.threads) == (20, 20, (240, 240), 1)
    assert set(bench.p50_ms) == set(bench.p95_ms) == set(STAGES)
    assert all(0 < bench.p50_ms[stage] <= bench.p95_ms[stage] for stage in STAGES)
    # The networks are much of the work (in the median, which a busy machine moves less), and nothing is counted twice.
    needed = sum(bench.mean_ms[stage] for stage in STAGES[:7])
    assert bench.p50_ms["age network"] + bench.p50_ms["detect network"] > 0.25 * sum(
        bench.p50_ms[stage] for stage in STAGES[:7]
    )
    assert bench.fps_sequential == pytest.approx(1000 / needed)
    assert 0 < bench.bound_ms < 4 * needed
    assert bench.overhead == pytest.approx(1000 / bench.fps_sequential / bench.bound_ms)
    assert 0 < bench.share_outside < 0.6
    assert 20 < bench.memory_mb <= largest_memory_mb()


def test_the_table_shows_every_stage(bench):
    text = rendered(bench)
    for stage in STAGES:
        assert f"{bench.p50_ms[stage]:.2f}" in next(line for line in text.splitlines() if line.startswith(stage))


def test_measuring_leaves_the_pipeline_as_it_was(clip):
    pipeline = Pipeline.default(provider="cpu", threads=1)
    parts = (pipeline, pipeline.estimator, pipeline.detector, pipeline.estimator.network, pipeline.detector.network)
    before = [dict(vars(part)) for part in parts]
    measure(lambda: open_source(clip), pipeline, 3)
    assert [dict(vars(part)) for part in parts] == before


def test_the_command_prints_json_and_says_what_is_wrong(clip, capsys, astronaut_path):
    assert main(["bench", str(clip), "--frames", "4", "--json", "--provider", "cpu"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["frames"] == 4
    assert main(["bench", str(astronaut_path), "--frames", "2"]) == ExitStatus.OK
    assert "age network" in capsys.readouterr().out
    assert main(["bench", "gone.mp4"]) == ExitStatus.SOURCE
    assert main(["bench", str(clip), "--frames", "0"]) == ExitStatus.USAGE
    assert "--frames 0" in capsys.readouterr().err


def test_a_detector_of_dlib_is_measured_too(clip):
    pytest.importorskip("dlib")
    bench = measure(lambda: open_source(clip), Pipeline.default(detector="dlib", provider="cpu", threads=1), 4)
    assert bench.p50_ms["detect network"] > 1
    assert np.isfinite(bench.overhead)


def test_what_would_be_faster_is_told(two_precisions, stopwatch, clip, capsys):
    assert main(["bench", str(clip), "--frames", "2", "--provider", "cpu"]) == ExitStatus.OK
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("tiny (int8) and yunet-2023mar on cpu")
    assert "int8 is 1.6 times as fast as fp32 here" in told
    assert main(["bench", str(clip), "--frames", "2", "--provider", "cpu", "--precision", "fp32"]) == ExitStatus.OK
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("tiny (fp32) and yunet-2023mar on cpu")
    assert "int8 would be 1.6 times as fast as fp32 here: --precision int8" in told
    assert main(["bench", str(clip), "--frames", "2", "--json", "--provider", "cpu"]) == ExitStatus.OK
    values = json.loads(capsys.readouterr().out)
    assert (values["precision"], values["ms_by_precision"]) == ("int8", {"int8": 5.0, "fp32": 8.0})


@pytest.fixture
def shown(monkeypatch):
    """The shapes that the networks are given while they are timed, by stage."""
    shapes = {stage: [] for stage in NETWORKS}
    real = bench_module._Watch._take

    def take(self, shape, seconds):
        shapes[self._stage].append(shape)
        real(self, shape, seconds)

    monkeypatch.setattr(bench_module._Watch, "_take", take)
    return shapes


@pytest.mark.parametrize("kind", ["picture", "folder"])
def test_pictures_are_measured_as_pictures_are_processed(shown, astronaut, tmp_path, kind):
    # A single face that is small at 640 pixels: a picture is then looked at again, more closely.
    picture = np.full((900, 1200, 3), 90, np.uint8)
    picture[100:200, 100:200] = cv2.resize(astronaut[20:240, 120:340], (100, 100), interpolation=cv2.INTER_AREA)
    path = tmp_path / "small.png"
    cv2.imwrite(str(path), picture)
    pipeline = Pipeline.default(provider="cpu", threads=1)
    source = path if kind == "picture" else tmp_path
    bench = measure(lambda: open_source(source), pipeline, 3)
    assert (bench.frames, bench.faces, bench.size) == (3, 3, (1200, 900))
    assert shown["detect network"] == [(1, 3, 480, 640), (1, 3, 928, 1216)] * 3
    assert len(shown["age network"]) == 3
    assert all(0 < bench.p50_ms[stage] <= bench.p95_ms[stage] for stage in STAGES)


@pytest.mark.parametrize("kind", ["picture", "video"])
def test_a_model_of_whole_pictures_is_measured_without_a_detector(shown, astronaut_path, clip, kind):
    pipeline = Pipeline(WholePicture(), Pipeline.default(provider="cpu", threads=1).estimator)
    bench = measure(lambda: open_source(astronaut_path if kind == "picture" else clip), pipeline, 4)
    assert (bench.frames, bench.faces) == (4, 4)
    assert bench.p50_ms["detect network"] == 0
    assert len(shown["age network"]) == 4  # and no track, which would not ask in every frame
    assert bench.p50_ms["crop"] > 0
    assert np.isfinite(bench.overhead)


def test_what_runs_inside_a_stage_is_not_its_own():
    clock = bench_module._Clock()
    clock.begin()
    with clock.stage("age"):
        time.sleep(0.02)
        with clock.stage("crop"):
            time.sleep(0.06)
            clock.add("age network", 0.05)  # of those 0.06 s
        with clock.stage("age"):
            time.sleep(0.03)
    [account] = clock.frames
    assert account["age network"] == 50
    assert 9 <= account["crop"] < 40
    assert 50 <= account["age rest"] < 85
