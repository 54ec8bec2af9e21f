"""A file at which workers die is found, left out and told; other deaths cost nothing."""

import os
from pathlib import Path

import cv2
import pytest
from archive_runs import MODEL, WORK, planned, rows_in

from ageinfer.archive import attempts, ledger
from ageinfer.archive.attempts import Attempt
from ageinfer.archive.shard import ShardWorker
from ageinfer.errors import OutputError
from ageinfer.pipeline import Pipeline
from ageinfer.sources import decoding

pytest_plugins = ["archive_runs"]


class Death(BaseException):
    """What no worker survives, and nobody tidies up after."""


def work_until_done(out, number, monkeypatch, *, dies_at=None):
    """Does a shard as Ray would: another worker tries again whenever one dies. Returns how many have died."""
    monkeypatch.setattr(attempts.Attempt, "__exit__", lambda self, kind, *rest: kind is not Death and leave(self, kind))
    leave = lambda self, kind: LEAVE(self, kind, None, None)  # noqa: E731
    deaths = 0
    while True:
        try:
            ShardWorker(str(out), WORK, MODEL)(number)
            return deaths
        except Death:
            deaths += 1


LEAVE = Attempt.__exit__


@pytest.fixture
def deadly(faces, monkeypatch):
    """One picture, of which the decoder dies."""
    file = faces / "0" / "000004.jpg"
    file.write_bytes(b"deadly")
    decode = decoding.decode

    def dying(data, name):
        if data == b"deadly":
            raise Death
        return decode(data, name)

    monkeypatch.setattr("ageinfer.archive.looker.decode", dying)
    return file


def test_a_picture_that_kills_three_workers_is_left_out_and_the_others_are_done(faces, deadly, tmp_path, monkeypatch):
    out = tmp_path / "out"
    plan, _ = planned(out, faces / "0", per_shard=50)
    assert work_until_done(out, 0, monkeypatch) == 3
    rows = rows_in(out)
    assert [Path(row["source"]).name for row in rows] == [f"{n:06d}.jpg" for n in range(10)]
    [row] = [row for row in rows if row["outcome"] != "face"]
    assert row["source"] == str(deadly)
    assert (row["outcome"], row["reason"]) == ("unreadable", "2 workers died at it")
    assert ledger.write_manifest(plan)["unreadable"] == 1
    assert plan.store.names("_attempts") == []


def test_a_picture_whose_faces_kill_workers_is_found_among_those_of_its_batch(faces, tmp_path, monkeypatch):
    file = faces / "0" / "000004.jpg"
    cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (333, 333)))
    crop, ages = Pipeline.crop, Pipeline.ages

    def remembering(pipeline, image, detections):
        pipeline.deadly = getattr(pipeline, "deadly", False) or image.shape[1] == 333
        return crop(pipeline, image, detections)

    def dying(pipeline, *arguments):
        if pipeline.deadly:
            raise Death
        return ages(pipeline, *arguments)

    monkeypatch.setattr(Pipeline, "crop", remembering)
    monkeypatch.setattr(Pipeline, "ages", dying)
    planned(tmp_path / "out", faces / "0", per_shard=50)
    assert work_until_done(tmp_path / "out", 0, monkeypatch) == 3
    assert [row["source"] for row in rows_in(tmp_path / "out") if row["outcome"] != "face"] == [str(file)]


def test_deaths_at_other_places_leave_nothing_out(faces, tmp_path, monkeypatch):
    out = tmp_path / "out"
    plan, _ = planned(out, faces / "0", per_shard=50)
    [shard] = plan.shards
    items = plan.items(0)
    for at in (None, items[2], items[5], items[2].__class__("/other", 1, 1, "picture")):
        attempt = Attempt(plan.store, shard.hash)
        if at is not None:
            assert attempt.begins(at) is None
    ShardWorker(str(out), WORK, MODEL)(0)
    assert {row["outcome"] for row in rows_in(out)} == {"face"}


def test_a_new_run_forgets_deaths_so_that_interrupted_long_films_are_not_left_out(faces, tmp_path):
    out = tmp_path / "out"
    for _ in range(4):
        plan, _ = planned(out, faces / "0", per_shard=50)
        for _ in range(2):
            assert Attempt(plan.store, plan.shards[0].hash).begins(plan.items(0)[0]) is None


def test_an_error_is_no_death(faces, tmp_path):
    out = tmp_path / "out"
    plan, _ = planned(out, faces / "0", per_shard=50)
    for _ in range(30):
        with pytest.raises(OutputError, match="full"), Attempt(plan.store, plan.shards[0].hash):
            raise OutputError("full")
    assert plan.store.names("_attempts") == []


def test_twenty_deaths_at_one_shard_are_told(faces, tmp_path):
    plan, _ = planned(tmp_path / "out", faces / "0")
    for _ in range(20):
        Attempt(plan.store, "abc")
    with pytest.raises(OutputError, match="shard abc: 20 workers have died at it"):
        Attempt(plan.store, "abc")
    Attempt(plan.store, "abd")
    assert len(os.listdir(tmp_path / "out" / "_attempts")) == 21  # noqa: PTH208
