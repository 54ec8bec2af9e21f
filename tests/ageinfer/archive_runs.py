"""Makes archives without Ray, by the worker that Ray would run, and reads their rows."""

import json
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from ageinfer.archive import ledger
from ageinfer.archive.items import items_of
from ageinfer.archive.plan import Plan, write_plan
from ageinfer.archive.rows import POINTS, row_schema
from ageinfer.archive.shard import FACES, PEOPLE, ShardWorker, Work
from ageinfer.archive.store import Store
from ageinfer.engine.estimator import chosen_file
from ageinfer.engine.modelfile import read_model
from ageinfer.errors import AgeError

MODEL = read_model(chosen_file(None))
WORK = Work(provider="cpu")


def planned(out, *sources, work=WORK, per_shard=4) -> tuple[Plan, ledger.Left]:
    """The plan of an archive, what is left of it, and a folder that is ready for it."""
    store = Store(str(out))
    before = Plan(store) if store.names() else None
    plan = write_plan(store, items_of([str(s) for s in sources]), work.answers(MODEL), per_shard, before)
    left = ledger.left_of(plan, store)
    ledger.tidy(store, left)
    return plan, left


def archive(out, *sources, work=WORK, per_shard=4) -> dict:
    """Makes an archive, or what is missing of it; returns its manifest."""
    plan, left = planned(out, *sources, work=work, per_shard=per_shard)
    worker = ShardWorker(str(out), work, MODEL)
    for shard in left.shards:
        worker(shard.number)
    return ledger.write_manifest(plan)


def attempts(out, numbers, work=WORK) -> list[str]:
    """Does shards one by one; returns why some have failed."""
    worker = ShardWorker(str(out), work, MODEL)
    failed = []
    for number in numbers:
        try:
            worker(number)
        except AgeError as error:
            failed.append(str(error))
    return failed


def rows_in(out, folder=FACES) -> list[dict]:
    """All rows of an archive, in the order of the numbers of its shards; that number itself is left out."""
    rows = [row for part in sorted(Path(out, folder).glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    return [{key: value for key, value in row.items() if key != "shard"} for row in rows]


def people_in(out) -> list[dict]:
    return rows_in(out, PEOPLE)


def names_in(out) -> list[str]:
    """The names of the sources, each once, in the order of the rows."""
    return list(dict.fromkeys(Path(row["source"]).name for row in rows_in(out)))


def rows_of_records(lines) -> list[dict]:
    """The rows that the records of a JSONL output should become, written down from the table of columns."""
    rows = []
    for record in map(json.loads, lines):
        frame = {
            "schema": record["schema"], "source": record["source"], "member": None, "frame": record["frame"],
            "time_s": record["time_s"], "size_w": record["size"][0], "size_h": record["size"][1], "reason": None,
            "model": record["model"],
        }  # fmt: skip
        nothing = dict.fromkeys(set(row_schema().names) - {*frame, "shard"})
        if not record["faces"]:
            rows.append(nothing | frame | {"outcome": "damaged" if record.get("damaged") else "no face"})
        for number, face in enumerate(record["faces"]):
            row = nothing | frame | {"outcome": "face", "face": number}
            row |= dict(zip(("box_x", "box_y", "box_w", "box_h"), face["box"], strict=True))
            for name, (x, y) in zip(POINTS, face["landmarks"], strict=True):
                row |= {f"{name}_x": x, f"{name}_y": y}
            keys = ("score", "track", "age", "age_std", "age_smoothed", "age_lag_s", "quality")
            rows.append(row | {key: face[key] for key in keys})
    return rows


@pytest.fixture
def faces(portraits, tmp_path):
    """A folder of thirty portraits, in three folders, that may be changed."""
    import shutil

    for number, path in enumerate(sorted(portraits.iterdir())):
        folder = tmp_path / "faces" / f"{number // 10}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder)
    return tmp_path / "faces"
