"""Splits the items of an archive into shards, each with a number and a hash, and keeps them in one file."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from ageinfer.archive.items import Item
from ageinfer.archive.store import HIDDEN, Store, tried
from ageinfer.errors import SourceError

PLAN = f"{HIDDEN}plan.parquet"
ITEMS, BYTES = 256, 256 << 20  # that a shard has on average, and at most
_AS_PICTURES = 64  # that a film or a tar file counts as, at least that much work
_KEY = b"ageinfer"


@dataclass(frozen=True, slots=True)
class Shard:
    """Items that one worker reads one after the other, and whose rows one file has.

    Attributes:
        number: by which its file and its rows name it; a shard that was planned before keeps it.
        hash: of the items, their sizes and times of change, and of all that answers depend on.
        items: how many.
        pictures, films, tars: of these, so many of each kind.
        bytes: of all of them.
    """

    number: int
    hash: str
    items: int
    pictures: int
    films: int
    tars: int
    bytes: int

    @property
    def part(self) -> str:
        """The name of its file."""
        return f"part-{self.number:06d}-{self.hash}.parquet"


def groups_of(items: Iterable[Item], per_shard: int = ITEMS) -> Iterator[list[Item]]:
    """Splits items into the groups that become shards.

    Where a shard ends depends on the names in it, so that a file more or less changes the shard that it is in, and not
    all that follow.

    Args:
        items: in their order.
        per_shard: pictures of a shard on average, never more than twice as many; a film or a tar file counts as 64.
    """
    group: list[Item] = []
    work = size = 0
    least = max(1, per_shard // 2)
    for item in items:
        group.append(item)
        one = 1 if item.kind == "picture" else _AS_PICTURES
        work, size = work + one, size + max(0, item.size)
        full = work >= 2 * per_shard or size >= BYTES
        if full or (work >= least and _digest(item.path) % max(1, least // one) == 0):
            yield group
            group, work, size = [], 0, 0
    if group:
        yield group


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(text)).digest()[:8], "big")


def _hash(items: list[Item], answers: str) -> str:
    digest = hashlib.sha256(answers.encode())
    for item in items:
        digest.update(os.fsencode(f"\n{item.path}\0{item.size}\0{item.stamp}"))
    return digest.hexdigest()[:16]


def _shard(number: int, shard_hash: str, items: list[Item]) -> Shard:
    kinds = [item.kind for item in items]
    return Shard(
        number, shard_hash, len(items), kinds.count("picture"), kinds.count("film"), kinds.count("tar"),
        sum(max(0, item.size) for item in items),
    )  # fmt: skip


class Plan:
    """The shards of an archive, as they were written into its folder.

    Args:
        store: the folder.

    Raises:
        SourceError: there is no plan, or it cannot be read.
    """

    def __init__(self, store: Store) -> None:
        from pyarrow import parquet as pq

        self.store = store
        self._one_reads = Lock()
        try:
            self._file = tried(lambda: pq.ParquetFile(store.opened(PLAN)), f"{store.shown}/{PLAN}")
            self.about: dict[str, Any] = json.loads(self._file.metadata.metadata[_KEY])
        except FileNotFoundError as error:
            raise SourceError(f"{store.shown}: no archive, it has no {PLAN}; check the place") from error
        except (TypeError, KeyError, ValueError) as error:
            raise SourceError(f"{store.shown}/{PLAN}: broken: {error}; remove it, then --resume") from error

    @cached_property
    def shards(self) -> list[Shard]:
        """All of them, in the order of their items."""
        return [Shard(*values) for values in self.about["shards"]]

    @cached_property
    def _places(self) -> dict[int, int]:
        return {shard.number: place for place, shard in enumerate(self.shards)}

    def shard(self, number: int) -> Shard:
        """The shard with a number."""
        return self.shards[self._places[number]]

    def items(self, number: int) -> list[Item]:
        """The items of a shard.

        Raises:
            StoreError: they cannot be read.
        """
        with self._one_reads:
            group = tried(lambda: self._file.read_row_group(self._places[number]), f"{self.store.shown}/{PLAN}")
        columns = group.to_pydict()
        columns["path"] = map(os.fsdecode, columns["path"])
        return list(map(Item, *columns.values()))


def write_plan(
    store: Store, items: Iterable[Item], answers: dict[str, Any], per_shard: int = ITEMS, before: Plan | None = None
) -> Plan:  # fmt: skip
    """Writes the plan of an archive, one row group a shard, so that a worker reads its own items alone.

    Args:
        store: the folder of the archive.
        items: see `ageinfer.archive.items.items_of`; they are taken one by one.
        answers: all that the rows depend on beside the items.
        per_shard: see `groups_of`.
        before: an earlier plan of this archive; shards that it has keep their numbers.

    Raises:
        SourceError: there is no item.
        OutputError: it cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    schema = pa.schema(
        [
            ("path", pa.binary()),  # not every name of a file is text
            ("size", pa.int64()),
            ("stamp", pa.int64()),
            ("kind", pa.dictionary(pa.int8(), pa.string())),
        ]
    )
    text = json.dumps(answers, sort_keys=True)
    known = {shard.hash: shard.number for shard in before.shards} if before else {}
    following = max(known.values(), default=-1) + 1
    shards: list[Shard] = []
    with tempfile.TemporaryDirectory(prefix="ageinfer-") as folder:
        file = Path(folder, "plan.parquet")
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in groups_of(items, per_shard):
                columns = {name: [getattr(item, name) for item in group] for name in schema.names}
                columns["path"] = list(map(os.fsencode, columns["path"]))
                writer.write_table(pa.table(columns, schema))
                shard_hash = _hash(group, text)
                number = known.pop(shard_hash, None)
                if number is None:
                    number, following = following, following + 1
                shards.append(_shard(number, shard_hash, group))
            about = {"answers": answers, "shards": [list(asdict(shard).values()) for shard in shards]}
            writer.add_key_value_metadata({_KEY.decode(): json.dumps(about)})
        if not shards:
            raise SourceError("no picture, film or tar file in the sources; check them")
        store.put(PLAN, file.read_bytes())
    return Plan(store)
