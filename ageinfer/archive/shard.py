"""The work of one shard: its items are read, faces found and ages estimated, and all rows written as one file."""

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.archive.attempts import Attempt
from ageinfer.archive.looker import Looker
from ageinfer.archive.plan import Plan
from ageinfer.archive.rows import row_schema
from ageinfer.archive.store import Store
from ageinfer.detect.looking import Looking
from ageinfer.pipeline import Pipeline

if TYPE_CHECKING:
    import pyarrow as pa

FACES, PEOPLE = "faces", "people"  # folders of the output
KEY = b"ageinfer"  # of the summary in a file's metadata


@dataclass(frozen=True, slots=True)
class Work:
    """How the items of an archive are looked at.

    Attributes:
        detector, detector_file, looking, precision, provider, threads: see `ageinfer.pipeline.Pipeline.default`.
        every_s: of a film, only a frame in so many seconds is looked at, as a picture; None: all of it, with tracks.
        people: whether the people of films are written, too.
        over_years: see `ageinfer.pipeline.Pipeline`.
        in_threads: see `ageinfer.pipeline.Pipeline.run`; rows do not depend on it.
    """

    detector: str = "yunet"
    detector_file: str | None = None
    looking: Looking = Looking()  # noqa: RUF009 - it is frozen
    precision: str = "auto"
    provider: str = "auto"
    threads: int = 1
    every_s: float | None = None
    people: bool = False
    over_years: int | None = None
    in_threads: bool = False

    def open(self, model: bytes | Path) -> Pipeline:
        """Opens detector and model, of which the bytes or the file is given.

        Raises:
            AgeError: one of them cannot be opened.
        """
        return Pipeline.default(
            model, self.detector, detector_file=self.detector_file, looking=self.looking, precision=self.precision,
            over_years=self.over_years, provider=self.provider, threads=self.threads,
        )  # fmt: skip

    def answers(self, model: bytes) -> dict[str, Any]:
        """All that rows depend on beside the items."""
        files = (name for name in (self.detector, self.detector_file) if name and Path(name).is_file())
        return {
            "model_sha256": hashlib.sha256(model).hexdigest(), "detector": Path(self.detector).name,
            "detector_sha256": [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in files],
            "looking": asdict(self.looking), "every_s": self.every_s, "people": self.people, "over": self.over_years,
            "columns": row_schema().names,
        }  # fmt: skip


class ShardWorker:
    """Does shards of one archive, one after the other, with models that are opened once.

    Args:
        place: of the archive.
        work: how items are looked at.
        model: the bytes of the age model.

    Raises:
        AgeError: models or archive cannot be opened.
    """

    def __init__(self, place: str, work: Work, model: bytes) -> None:
        self._store = Store(place)
        self._plan = Plan(self._store)
        self._work = work
        self._pipeline = work.open(model)

    def __call__(self, number: int) -> dict[str, Any]:
        """Does one shard, unless it is done.

        Returns:
            Its summary, see `summary_in`.

        Raises:
            OutputError: its file cannot be written, or an object store does not answer.
        """
        shard = self._plan.shard(number)
        with suppress(FileNotFoundError, ValueError):  # another worker has done it, and was lost before it said so
            return summary_in(self._store.read(f"{FACES}/{shard.part}"))
        with Attempt(self._store, shard.hash) as attempt:
            began = time.monotonic()
            work = self._work
            looker = Looker(
                self._pipeline, number, every_s=work.every_s, people=work.people, in_threads=work.in_threads
            )  # fmt: skip
            looker.look_at(self._plan.items(number), attempt)
            rows = looker.rows
            summary = {**asdict(shard), **rows.counts(), "seconds": round(time.monotonic() - began, 3)}
            if self._work.people:
                self._store.put(f"{PEOPLE}/{shard.part}", _as_parquet(rows.people_table(), summary))
            self._store.put(f"{FACES}/{shard.part}", _as_parquet(rows.table(), summary))  # the last: now it is done
        return summary


def summary_in(data: bytes) -> dict[str, Any]:
    """What the file of a shard says of itself.

    Its keys are those of `ageinfer.archive.plan.Shard`, ``rows``, ``frames`` (that were looked at), ``faces``,
    ``no_face``, ``damaged`` and ``unreadable`` (rows of each outcome), ``people``, and ``seconds``.

    Raises:
        ValueError: it is broken.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    summary = (pq.read_metadata(pa.BufferReader(data)).metadata or {}).get(KEY, b"")
    return json.loads(summary)


def _as_parquet(table: "pa.Table", summary: dict[str, Any]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(summary)}), buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()
