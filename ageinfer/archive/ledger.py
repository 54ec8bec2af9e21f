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
from ageinfer.archive.shard import FACES, PEOPLE, summary_in
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
        stale: names of files whose items have changed or are gone.
    """

    shards: tuple[Shard, ...]
    done: int
    stale: tuple[str, ...]


def left_of(plan: Plan, store: Store) -> Left:
    """Finds what is left to do, by the names of files alone.

    Args:
        plan: of the archive as it shall become.
        store: its folder.

    Raises:
        StoreError: it cannot be listed.
    """
    there = store.names(FACES)
    parts = {shard.part for shard in plan.shards}
    done = parts.intersection(there)
    left = tuple(shard for shard in plan.shards if shard.part not in done)
    return Left(left, len(done), tuple(name for name in there if name not in parts))


def tidy(store: Store, left: Left) -> None:
    """Removes what stands in the way of going on: files of shards that have changed or gone, and what runs left behind.

    Raises:
        StoreError: a file cannot be removed.
    """
    if left.shards or left.stale:
        store.remove(MANIFEST)  # it says that the archive is complete
    for name in left.stale:
        store.remove(f"{FACES}/{name}")
    undone = {shard.part for shard in left.shards}
    for folder in (FACES, PEOPLE, ATTEMPTS):
        for name in store.names(folder, begun=True):
            store.remove(f"{folder}/{name}")
    for name in store.names(PEOPLE):
        if name in undone or name in left.stale:
            store.remove(f"{PEOPLE}/{name}")
    for name in store.names(ATTEMPTS):
        store.remove(f"{ATTEMPTS}/{name}")


def write_manifest(plan: Plan) -> dict[str, Any]:
    """Adds up all files of a complete archive and writes the manifest beside them.

    Raises:
        SourceError: a shard has no file, or a broken one.
        StoreError: a file cannot be read, or the manifest not be written.
    """
    store = plan.store
    with ThreadPoolExecutor(_THREADS) as executor:
        parts = list(executor.map(lambda shard: _entry(plan, shard), plan.shards))
    manifest = {
        "format": FORMAT, "answers": plan.about["answers"], "shards": len(parts),
        **{name: sum(part[name] for part in parts) for name in _COUNTS}, "parts": parts,
    }  # fmt: skip
    store.put(MANIFEST, json.dumps(manifest, indent=1).encode())
    return manifest


def _entry(plan: Plan, shard: Shard) -> dict[str, Any]:
    """What the manifest says of a shard: the summary in its file, and the hashes of its files."""
    store = plan.store
    try:
        data = store.read(f"{FACES}/{shard.part}")
        people = {"people_sha256": _sha256(store.read(f"{PEOPLE}/{shard.part}"))} if _has_people(plan.about) else {}
        return {"part": shard.part, "sha256": _sha256(data), **people, **summary_in(data)}
    except FileNotFoundError as error:
        raise SourceError(f"{store.shown}: {shard.part} is missing; --resume makes it") from error
    except ValueError as error:
        raise SourceError(f"{store.shown}/{FACES}/{shard.part}: broken; remove it, then --resume") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _has_people(about: dict[str, Any]) -> bool:
    return bool(about["answers"]["people"])


def check(store: Store) -> dict[str, Any]:
    """Counts an archive again, row by row, and compares it with its manifest and its plan.

    Returns:
        The counts of the manifest.

    Raises:
        SourceError: something is missing, is there twice, was changed, or does not add up; the message says what.
    """
    try:
        manifest: dict[str, Any] = json.loads(store.read(MANIFEST))
        wrong = _wrong(store, Plan(store), manifest)
    except FileNotFoundError as error:
        raise SourceError(f"{store.shown}: is not complete, it has no manifest; --resume goes on") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{store.shown}/{MANIFEST}: broken; remove it, then --resume") from error
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise SourceError(f"{store.shown}: {wrong[0]}{more}; remove such files, then --resume")
    return {name: manifest[name] for name in ("shards", *_COUNTS)}


def _wrong(store: Store, plan: Plan, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with an archive, in words."""
    parts = manifest["parts"]
    names = [part["part"] for part in parts]
    found = [
        *_differences(names, [shard.part for shard in plan.shards], "the plan"),
        *_differences(names, store.names(FACES), FACES),
        *_differences(names if _has_people(manifest) else [], store.names(PEOPLE), PEOPLE),
    ]
    if found:
        return found
    found += [
        f"the manifest says {name}: {manifest[name]}, its parts have {sum(part[name] for part in parts)}"
        for name in _COUNTS
        if sum(part[name] for part in parts) != manifest[name]
    ]
    with ThreadPoolExecutor(_THREADS) as executor:
        return found + [text for text in executor.map(lambda part: _recounted(plan, part), parts) if text]


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


def _recounted(plan: Plan, part: dict[str, Any]) -> str:
    """What is wrong with the files of a shard; empty where nothing is."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    name, store = part["part"], plan.store
    data = store.read(f"{FACES}/{name}")
    if _sha256(data) != part["sha256"]:
        return f"{FACES}/{name} was changed"
    if "people_sha256" in part:
        people = store.read(f"{PEOPLE}/{name}")
        if _sha256(people) != part["people_sha256"]:
            return f"{PEOPLE}/{name} was changed"
        if (count := pq.read_metadata(pa.BufferReader(people)).num_rows) != part["people"]:
            return f"{PEOPLE}/{name} has {count} rows, the manifest says {part['people']}"
    table = pq.read_table(pa.BufferReader(data), columns=["shard", "source", "member", "frame", "face", "outcome"])
    columns = table.to_pydict()
    outcomes = Counter(columns["outcome"])
    for outcome, key in _OUTCOMES.items():
        if outcomes[outcome] != part[key]:
            return f"{name} has {outcomes[outcome]} rows of {outcome!r}, the manifest says {part[key]}"
    if table.num_rows != part["rows"] or set(columns["shard"]) - {part["number"]}:
        return f"{name} has rows of another shard, or too many"
    items = plan.items(part["number"])
    empty = {item.name for item in items if item.kind == "tar"}  # which may hold no picture
    wrong = ({item.name for item in items} ^ set(columns["source"])) - empty
    if wrong:
        return f"{name} lacks rows of {min(wrong)}, or has them too much"
    keys = zip(*(columns[key] for key in ("source", "member", "frame", "face")), strict=True)
    twice = [key for key, count in Counter(keys).items() if count > 1 and key[1] is None]
    return f"{name} has a row of {twice[0][0]} twice" if twice else ""
