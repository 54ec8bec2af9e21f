"""What is done is found from files alone; a change is done again, and a check finds what is wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from archive_runs import MODEL, WORK, archive, names_in, people_in, planned, rows_in
from pyarrow import parquet as pq

from ageinfer.archive import ledger
from ageinfer.archive.shard import ShardWorker
from ageinfer.archive.store import Store
from ageinfer.errors import SourceError

pytest_plugins = ["archive_runs", "command_line"]


def parts(out):
    return {path.name: path.stat().st_mtime_ns for path in Path(out, "faces").iterdir()}


def checked(out):
    return ledger.check(Store(str(out)))


def test_an_archive_is_made_in_pieces_and_equals_one_that_was_made_at_once(faces, tmp_path):
    whole = archive(tmp_path / "whole", faces)
    plan, left = planned(tmp_path / "out", faces)
    assert len(left.shards) == len(plan.shards) > 5
    worker = ShardWorker(str(tmp_path / "out"), WORK, MODEL)
    for shard in left.shards[::2]:
        worker(shard.number)
    before = parts(tmp_path / "out")
    _, left = planned(tmp_path / "out", faces)
    assert (left.done, left.stale) == (len(before), ())
    manifest = archive(tmp_path / "out", faces)
    assert parts(tmp_path / "out").items() >= before.items()
    assert rows_in(tmp_path / "out") == rows_in(tmp_path / "whole")
    counts = {key: value for key, value in manifest.items() if key != "parts"}
    assert counts == {key: value for key, value in whole.items() if key != "parts"}
    assert checked(tmp_path / "out")["faces"] == 30


def test_a_shard_that_is_done_is_not_done_again(faces, tmp_path, monkeypatch):
    manifest = archive(tmp_path / "out", faces / "0")
    monkeypatch.setattr("ageinfer.archive.shard.Looker", None)
    summary = ShardWorker(str(tmp_path / "out"), WORK, MODEL)(0)
    assert manifest["parts"][0].items() >= summary.items()


def test_a_changed_a_new_and_a_removed_file_change_their_shards_alone(faces, tmp_path):
    archive(tmp_path / "out", faces)
    before = parts(tmp_path / "out")
    changed, *_, removed = sorted(faces.rglob("*.jpg"))
    os.utime(changed, ns=(1, 1))
    removed.rename(faces / "2" / "zzz.jpg")
    _, left = planned(tmp_path / "out", faces)
    assert set(left.stale) <= before.keys()
    assert 2 <= len(left.stale) <= 4
    assert not set(left.stale) & parts(tmp_path / "out").keys()
    assert not (tmp_path / "out" / "_manifest.json").exists()
    archive(tmp_path / "out", faces)
    kept = before.keys() - set(left.stale)
    assert {name: time for name, time in parts(tmp_path / "out").items() if name in kept} == {
        name: before[name] for name in kept
    }
    assert sorted(names_in(tmp_path / "out")) == sorted(path.name for path in faces.rglob("*.jpg"))
    assert checked(tmp_path / "out")["items"] == 30


@pytest.mark.parametrize("change", ["model", "looking", "people", "every_s"])
def test_another_model_or_other_options_do_everything_again(faces, tmp_path, tiny_model, change):
    plan, _ = planned(tmp_path / "out", faces / "0")
    work, model = WORK, MODEL
    if change == "model":
        model = tiny_model()
    elif change == "looking":
        work = replace(work, looking=replace(work.looking, least_face_px=60))
    else:
        work = replace(work, **{change: 1.0 if change == "every_s" else True})
    assert work.answers(model) != WORK.answers(MODEL)
    again, _ = planned(tmp_path / "out", faces / "0", work=work) if model is MODEL else (None, None)
    if again:
        assert not {shard.part for shard in plan.shards} & {shard.part for shard in again.shards}


def test_another_detector_file_is_another_answer(tmp_path):
    def answers(data):
        (tmp_path / "d.onnx").write_bytes(data)
        return replace(WORK, detector=str(tmp_path / "d.onnx")).answers(MODEL)

    assert answers(b"1") != answers(b"2")
    assert answers(b"1") == answers(b"1")


def test_what_runs_left_behind_is_removed(faces, clip, tmp_path):
    (faces / "clip.avi").symlink_to(clip)
    work = replace(WORK, people=True)
    archive(tmp_path / "out", faces, work=work)
    store = Store(str(tmp_path / "out"))
    [lost, *_] = sorted(parts(tmp_path / "out"))
    (tmp_path / "out" / "faces" / lost).unlink()
    for name in ("faces/.part-1-abc", "people/.part-1-abc", "_attempts/abc-01", "faces/part-000099-abc.parquet"):
        store.put(name, b"x")
    _, left = planned(tmp_path / "out", faces, work=work)
    assert [shard.part for shard in left.shards] == [lost]
    assert left.stale == ("part-000099-abc.parquet",)
    assert store.names("_attempts") == store.names("faces", begun=True) == store.names("people", begun=True) == []
    assert lost not in store.names("people")
    archive(tmp_path / "out", faces, work=work)
    assert checked(tmp_path / "out")["people"] == len(people_in(tmp_path / "out")) == 1


def test_a_missing_shard_has_no_manifest(faces, tmp_path):
    plan, _ = planned(tmp_path / "out", faces / "0")
    with pytest.raises(SourceError, match="is missing; --resume makes it"):
        ledger.write_manifest(plan)
    with pytest.raises(SourceError, match="has no manifest; --resume goes on"):
        checked(tmp_path / "out")


def test_a_broken_part_is_told_and_made_again_when_it_is_removed(faces, tmp_path):
    archive(tmp_path / "out", faces / "0")
    rows = rows_in(tmp_path / "out")
    part = next((tmp_path / "out" / "faces").iterdir())
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(SourceError, match="broken; remove it, then --resume"):
        archive(tmp_path / "out", faces / "0")
    part.unlink()
    archive(tmp_path / "out", faces / "0")
    assert rows_in(tmp_path / "out") == rows


@pytest.fixture(scope="module")
def finished(portraits, clip, tmp_path_factory):
    """An archive with a film, people and some shards; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    archive(out, portraits, clip, work=replace(WORK, people=True), per_shard=8)
    return out


def rewritten(part, change, **metadata):
    table = pq.read_table(part)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), part)


def with_hash(out, part):
    """Makes the manifest believe in a file that was changed, so that only counting finds it."""
    manifest = json.loads((out / "_manifest.json").read_text())
    [entry] = [entry for entry in manifest["parts"] if entry["part"] == part.name]
    entry["sha256" if part.parent.name == "faces" else "people_sha256"] = ledger._sha256(part.read_bytes())
    (out / "_manifest.json").write_text(json.dumps(manifest))


def damage(out, what):
    first, second, *_ = sorted((out / "faces").iterdir())
    film = sorted((out / "people").iterdir())[-1]
    if what == "missing part":
        first.unlink()
    elif what == "added part":
        (out / "faces" / "part-000077-0123456789abcdef.parquet").write_bytes(first.read_bytes())
    elif what == "changed part":
        first.write_bytes(first.read_bytes() + b" ")
    elif what == "doubled part":
        first.write_bytes(second.read_bytes())
        with_hash(out, first)
    elif what == "row too many":
        rewritten(first, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
        with_hash(out, first)
    elif what == "row twice instead of another":
        rewritten(first, lambda table: pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)]))
        with_hash(out, first)
    elif what == "frame twice instead of another":
        film_rows = sorted((out / "faces").iterdir())[-1]
        rewritten(film_rows, lambda table: pa.concat_tables([table[:-1], table[-2:-1]]))
        with_hash(out, film_rows)
    elif what == "missing people":
        film.unlink()
    elif what == "changed people":
        rewritten(film, lambda table: table.slice(1))
    elif what == "people too few":
        rewritten(film, lambda table: table.slice(1))
        with_hash(out, film)
    elif what in ("wrong count", "entry twice"):
        manifest = json.loads((out / "_manifest.json").read_text())
        if what == "wrong count":
            manifest["faces"] += 1
        else:
            manifest["parts"].append(manifest["parts"][0])
        (out / "_manifest.json").write_text(json.dumps(manifest))
    else:
        (out / "_manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing part", r"part-000000-\w+.parquet is in the manifest 1 times, in faces 0"),
        ("added part", "part-000077-0123456789abcdef.parquet is in faces, not in the manifest"),
        ("changed part", r"faces/part-000000-\w+.parquet was changed"),
        ("doubled part", "part-000000"),
        ("row too many", "part-000000"),
        ("row twice instead of another", "part-000000"),
        ("frame twice instead of another", r"has a row of \S+clip.avi twice"),
        ("missing people", "in people 0"),
        ("changed people", "people/part-.* was changed"),
        ("people too few", "has 0 rows, the manifest says 1"),
        ("wrong count", "the manifest says faces: 61, its parts have 60"),
        ("entry twice", "2 times, in the plan 1"),
        ("no manifest", "_manifest.json: broken"),
    ],
)
def test_a_check_finds_what_is_wrong(finished, tmp_path, what, said):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(finished, out)
    assert checked(out)["people"] == 1
    damage(out, what)
    with pytest.raises(SourceError, match=said):
        checked(out)
