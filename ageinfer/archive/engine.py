"""Runs the shards of an archive on Ray Data: on the cores of this machine, or on a cluster."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ageinfer.archive.plan import Shard
from ageinfer.archive.shard import ShardWorker, Work
from ageinfer.engine.cores import usable_cores
from ageinfer.errors import AgeError, MissingDependencyError, SourceError

if TYPE_CHECKING:
    import numpy as np

# Of rows that go through it there are few and small ones: the pictures never do.
_OBJECT_STORE_BYTES = 128 << 20


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Joins a cluster, or starts Ray on this machine alone for as long as the context lasts.

    Args:
        address: of a cluster, as Ray takes it (``HOST:PORT``, ``auto``, ``ray://HOST:PORT``); None: this machine.

    Raises:
        MissingDependencyError: Ray is not installed.
        SourceError: the cluster does not answer.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report how it is used
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # What Ray's own processes and libraries have to say is in their files; here it would stand between our lines.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError("archives need Ray: pip install 'ageinfer[archive]'") from error
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _native_stderr_closed():
            if address is None:
                ray.init(
                    num_cpus=max(1, round(usable_cores())), include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES, **quiet,
                )  # fmt: skip
            else:
                ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"--address {address}: {reason}; check the address of the cluster") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Drops what is written to the descriptor of standard error: Ray tells there which of its settings it has read."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def workers_here(asked: int | None, gpus: int) -> int:
    """How many workers run at the same time: as many as were asked for, else as there are GPUs or cores."""
    import ray

    found = ray.cluster_resources()
    return asked or gpus or max(1, int(found.get("CPU", 1)))


def run(
    place: str, shards: Sequence[Shard], work: Work, model: bytes, workers: int, *, gpus: int = 0
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Does shards, in any order.

    A worker that dies is replaced, and its shard done again; so is that of a node that is lost.

    Args:
        place: of the archive.
        shards: to be done.
        work: how items are looked at.
        model: the bytes of the age model; each worker opens it once, from the object store.
        workers: that run at the same time.
        gpus: so many of the workers have a GPU; 0: none.

    Yields:
        The summary of each shard, see `ageinfer.archive.shard.summary_of`; or, of one that failed, ``number`` and
        ``error``.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    strategy = ray.data.ActorPoolStrategy(size=min(workers, len(shards)), max_tasks_in_flight_per_actor=2)
    rows = [{"number": shard.number} for shard in shards]
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Worker, batch_size=1, compute=strategy, fn_constructor_args=(place, work, model),
        num_cpus=1, num_gpus=1 if gpus else None,
    )  # fmt: skip
    yield from results.iter_rows()


class _Worker:
    """A worker in a process of Ray, on any machine."""

    def __init__(self, place: str, work: Work, model: bytes) -> None:
        self._worker = ShardWorker(place, work, model)

    def __call__(self, batch: "dict[str, np.ndarray]") -> dict[str, list[Any]]:
        """Does the shard of a batch."""
        number = int(batch["number"][0])
        summary: dict[str, Any]
        try:
            summary = {"error": "", **self._worker(number)}
        except AgeError as error:
            summary = {"error": str(error), "number": number}
        return {"summary": [summary]}
