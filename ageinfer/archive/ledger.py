"""What of an archive is done: found by its files alone, added up in a manifest, and counted again by a check."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ageinfer.archive.attempts import ATTEMPTS
from ageinfer.archive.plan import Plan, Shard
from ageinfer.archive.shard import FACES, PEOPLE, summary_of
from ageinfer.archive.store import HIDDEN, Store
from ageinfer.errors import SourceError

MANIFEST = f"{HIDDEN}manifest.json"
FORMAT = 1
_THREADS = 16  # that read the ends of files; an object store answers slowly, and many at once
_COUNTS = ("items", "pictures", "films", "tars", "bytes", "rows", "frames", "faces", "no_face", "damaged",
           "unreadable", "people")  # fmt: skip
_OUTCOMES = {"face": "faces", "no face": "no_face", "damaged": "damaged", "unreadable": "unreadable"}


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to do of an archive.

    Attributes:
        shards: without a file.
        done: how many have one.
        removed: how many files were removed, because their items have changed or are gone.
    """

    shards: tuple[Shard, ...]
    done: int
    removed: int


def left_of(plan: Plan) -> Left:
    """Finds what is left to do, and removes files of shards that the plan no longer has, and notes of dead workers.

    Args:
        plan: of the archive as it shall become.
    """
    store = plan.store
    wanted = {shard.hash: shard for shard in plan.shards}
    done: set[str] = set()
    removed = 0
    for name in store.names(FACES):
        shard_hash = name.removesuffix(".parquet").rpartition("-")[2]
        shard = wanted.get(shard_hash)
        if shard is not None and name == shard.part:
            done.add(shard_hash)
        else:
            store.remove(f"{FACES}/{name}")
            removed += 1
    for name in store.names(PEOPLE):
        if name.removesuffix(".parquet").rpartition("-")[2] not in done:
            store.remove(f"{PEOPLE}/{name}")
    for name in store.names(ATTEMPTS):
        if name.rpartition("-")[0] not in wanted:
            store.remove(f"{ATTEMPTS}/{name}")
    return Left(tuple(s for s in plan.shards if s.hash not in done), len(done), removed)


def write_manifest(plan: Plan) -> dict[str, Any]:
    """Adds up all files of a complete archive and writes the manifest beside them.

    Raises:
        SourceError: a shard has no file.
        OutputError: the manifest cannot be written.
    """
    store = plan.store

    def part_of(shard: Shard) -> dict[str, Any]:
        summary = summary_of(store, shard.part)
        if summary is None:
            raise SourceError(f"{store.shown}: {FACES}/{shard.part} is missing; --resume makes it")
        return {
            "part": shard.part,
            "sha256": hashlib.sha256(store.read(f"{FACES}/{shard.part}")).hexdigest(),
            **summary,
        }

    with ThreadPoolExecutor(_THREADS) as executor:
        parts = list(executor.map(part_of, plan.shards))
    manifest = {
        "format": FORMAT, "answers": plan.about["answers"], "shards": len(parts),
        **{name: sum(part[name] for part in parts) for name in _COUNTS}, "parts": parts,
    }  # fmt: skip
    store.put(MANIFEST, json.dumps(manifest, indent=1).encode())
    return manifest


def check(store: Store) -> dict[str, Any]:
    """Counts an archive again, row by row, and compares it with its manifest and its plan.

    Returns:
        The counts of the manifest.

    Raises:
        SourceError: something is missing, is there twice, was changed, or does not add up; the message says what.
    """
    try:
        manifest: dict[str, Any] = json.loads(store.read(MANIFEST))
    except (OSError, ValueError) as error:
        raise SourceError(f"{store.shown}: has no manifest, so it is not complete; --resume goes on") from error
    plan = Plan(store)
    wrong = _wrong(store, plan, manifest)
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise SourceError(f"{store.shown}: {wrong[0]}{more}; remove those files, then --resume")
    return {name: manifest[name] for name in ("shards", *_COUNTS)}


def _wrong(store: Store, plan: Plan, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with an archive, in words."""
    parts = manifest["parts"]
    names = [part["part"] for part in parts]
    found = [
        *_differences(names, [shard.part for shard in plan.shards], "the plan"),
        *_differences(names, store.names(FACES), "the folder"),
    ]
    if found:
        return found
    found += [
        f"{name} are {sum(part[name] for part in parts)}, the manifest says {manifest[name]}"
        for name in _COUNTS
        if sum(part[name] for part in parts) != manifest[name]
    ]
    with ThreadPoolExecutor(_THREADS) as executor:
        recounted = executor.map(lambda part: _recounted(store, part, plan), parts)
        return found + [text for text in recounted if text]


def _differences(said: Sequence[str], there: Iterable[str], where: str) -> list[str]:
    ours, theirs = Counter(said), Counter(there)
    return [
        *(
            f"{name} is in the manifest {count} times, in {where} {theirs[name]}"
            for name, count in ours.items()
            if theirs[name] != count
        ),
        *(f"{name} is in {where}, not in the manifest" for name in theirs if name not in ours),
    ]


def _recounted(store: Store, part: dict[str, Any], plan: Plan) -> str:
    """What is wrong with one file; empty where nothing is."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    name = part["part"]
    data = store.read(f"{FACES}/{name}")
    if hashlib.sha256(data).hexdigest() != part["sha256"]:
        return f"{name} was changed"
    table = pq.read_table(pa.BufferReader(data), columns=["shard", "source", "frame", "face", "outcome"])
    outcomes = Counter(table["outcome"].to_pylist())
    for outcome, key in _OUTCOMES.items():
        if outcomes[outcome] != part[key]:
            return f"{name} has {outcomes[outcome]} rows of {outcome!r}, the manifest says {part[key]}"
    if table.num_rows != part["rows"] or set(table["shard"].to_pylist()) - {part["number"]}:
        return f"{name} has rows of another shard, or too many"
    sources = set(table["source"].to_pylist())
    missing = {item.name for item in plan.items(part["number"])} ^ sources
    empty = {item.name for item in plan.items(part["number"]) if item.kind == "tar"}
    if missing - empty:
        return f"{name} lacks rows of {sorted(missing - empty)[0]}, or has them too much"
    return ""
