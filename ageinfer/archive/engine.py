"""Runs the shards of an archive on Ray Data: on the cores of this machine, or on a cluster."""

import json
import logging
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.archive.plan import Shard
from ageinfer.archive.shard import ShardWorker, Work
from ageinfer.engine.cores import usable_cores
from ageinfer.errors import AgeError, MissingDependencyError, SourceError, UsageError

if TYPE_CHECKING:
    import numpy as np

# Of rows that go through it there are few and small ones: the pictures never do.
_OBJECT_STORE_BYTES = 128 << 20
_ANSWER_S = 10  # in which a cluster takes a connection


def workers_here(asked: int | None, gpus: int) -> int:
    """How many workers run on this machine at the same time: as many as were asked for, else as GPUs or cores."""
    return asked or gpus or max(1, round(usable_cores()))


@contextmanager
def cluster(address: str | None, asked: int | None = None, gpus: int = 0) -> Iterator[int]:
    """Joins a cluster, or starts Ray on this machine alone for as long as the context lasts.

    Args:
        address: of a cluster (``HOST:PORT``, or ``auto`` on one of its machines); None: this machine.
        asked: so many workers; None: as many as there are GPUs or cores.
        gpus: so many workers have a GPU; 0: none.

    Yields:
        How many workers run at the same time.

    Raises:
        MissingDependencyError: Ray is not installed.
        SourceError: Ray cannot be started, or the cluster does not answer.
        UsageError: the cluster has too few cores or GPUs.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report how it is used
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # one of its threads would start another Ray while this one ends
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # What Ray's own processes and libraries have to say is in their files; here it would stand between our lines.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError("archives need Ray: pip install 'ageinfer[archive]'") from error
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # If we are killed, two of its processes hold each other's pipe, by which they would learn it, and never end.
        os.environ.setdefault("RAY_enable_pipe_based_agent_to_parent_health_check", "0")
        options |= {"num_cpus": workers_here(asked, gpus), "object_store_memory": _OBJECT_STORE_BYTES}
        options |= {"include_dashboard": False, "address": "local"}  # not one that RAY_ADDRESS names
    else:
        options["address"] = address
    try:
        _reach(address)
        with _native_stderr_closed():
            ray.init(**options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        where = f"--address {address}" if address else "Ray cannot be started"
        raise SourceError(f"{where}: {reason}; check the cluster, or leave out --address") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # Ray prints there what became of its own processes.
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        try:
            yield _workers(ray.cluster_resources(), asked, gpus)
        finally:
            ray.shutdown()


def _reach(address: str | None) -> None:
    """Asks whether somebody listens at an address; Ray would ask for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), _ANSWER_S).close()


def _workers(found: dict[str, float], asked: int | None, gpus: int) -> int:
    for name, wanted in (("CPU", asked or gpus or 1), ("GPU", gpus)):
        if found.get(name, 0) < wanted:
            raise UsageError(f"{wanted} workers: Ray finds {found.get(name, 0):.0f} {name}s; ask for fewer")
    return asked or gpus or int(found["CPU"])


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


def run(
    place: str, shards: Sequence[Shard], work: Work, model: bytes, workers: int, *, gpus: int = 0
) -> Generator[dict[str, Any]]:  # fmt: skip
    """Does shards, in any order.

    A worker that dies is replaced, and its shard done again; so is that of a node that is lost.

    Args:
        place: of the archive.
        shards: to be done.
        work: how items are looked at.
        model: the bytes of the age model; each worker opens it once, from the object store.
        workers: that run at the same time.
        gpus: so many of the workers have a GPU; 0: none.

    Close it before the cluster is left, so that nothing goes on in the background.

    Yields:
        The summary of each shard, see `ageinfer.archive.shard.summary_in`; or, of one that failed, ``number`` and
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
    for row in results.iter_rows():
        yield json.loads(row["summary"])


class _Worker:
    """A worker in a process of Ray, on any machine."""

    def __init__(self, *about: Any) -> None:
        self._about = about

    @cached_property
    def _worker(self) -> ShardWorker:
        # Opened with the first shard: Ray does not tell why a worker cannot be made.
        return ShardWorker(*self._about)

    def __call__(self, batch: "dict[str, np.ndarray]") -> dict[str, list[Any]]:
        """Does the shard of a batch."""
        number = int(batch["number"][0])
        try:
            summary = {"error": "", **self._worker(number)}
        except AgeError as error:
            summary = {"error": str(error), "number": number}
        return {"summary": [json.dumps(summary)]}
