"""What bounds a large archive beside the workers: the listing, the plan, the driver of Ray, the manifest, the requests.

    python benchmarks/archive_limits.py [--items 10000000] [--files 100000] [--shards 10000]

The items of the plan are made up, the parts of the manifest hold a summary and no row, and the workers of the driver do
nothing, so that what is measured is all that does not grow with the number of machines. Each measurement has a process
of its own, but for the last; its memory is the peak of that process. Linux.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "ageinfer")]

from ageinfer.archive import engine, ledger  # noqa: E402
from ageinfer.archive.items import Item, items_of  # noqa: E402
from ageinfer.archive.plan import PLAN, Plan, Shard, write_plan  # noqa: E402
from ageinfer.archive.rows import row_schema  # noqa: E402
from ageinfer.archive.shard import FACES, Work, _as_parquet  # noqa: E402
from ageinfer.archive.store import Store  # noqa: E402

_COUNTS = dict.fromkeys(("rows", "frames", "faces", "no_face", "damaged", "unreadable", "people", "seconds"), 0)


def made_up(count: int) -> Iterator[Item]:
    """Pictures in folders of a thousand, as an object store has them."""
    for number in range(count):
        yield Item(f"s3://pictures/2026/{number // 1000:06d}/{number:08d}.jpg", 100_000, 1_790_000_000, "picture")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def listing(folder: str, files: int) -> dict[str, float]:
    """Lists a tree of empty files on this machine."""
    for number in range(files):
        place = Path(folder, f"{number // 1000:04d}", f"{number:07d}.jpg")
        if number % 1000 == 0:
            place.parent.mkdir()
        place.touch()
    began = time.perf_counter()
    count = sum(1 for _ in items_of([folder]))
    return {"files a second": count / (time.perf_counter() - began), "MB": peak_mb()}


def plan(folder: str, items: int) -> dict[str, float]:
    """Splits made-up items into shards, and writes the plan."""
    began = time.perf_counter()
    written = write_plan(Store(folder), made_up(items), Work().answers(b""))
    size = Path(folder, PLAN).stat().st_size
    return {"shards": len(written.shards), "s": time.perf_counter() - began, "MB": peak_mb(), "file MB": size / 1e6}


def opened(folder: str) -> dict[str, float]:
    """Opens that plan as each worker does, and reads the items of some shards."""
    began = time.perf_counter()
    found = Plan(Store(folder))
    numbers = range(0, len(found.shards), max(1, len(found.shards) // 100))
    open_s = time.perf_counter() - began
    began = time.perf_counter()
    for number in numbers:
        found.items(number)
    return {"s": open_s, "ms a shard": (time.perf_counter() - began) * 1e3 / len(numbers), "MB": peak_mb()}


def manifest(folder: str) -> dict[str, float]:
    """Writes the manifest over a part for each shard."""
    store = Store(folder)
    found = Plan(store)
    for shard in found.shards:
        summary = {**asdict(shard), **_COUNTS}
        Path(folder, FACES).mkdir(exist_ok=True)
        Path(folder, FACES, shard.part).write_bytes(_as_parquet(row_schema().empty_table(), summary))
    began = time.perf_counter()
    left = ledger.left_of(found, store)
    left_s = time.perf_counter() - began
    began = time.perf_counter()
    ledger.write_manifest(found)
    size = (Path(folder) / ledger.MANIFEST).stat().st_size
    return {
        "parts": left.done, "s to find what is left": left_s, "s": time.perf_counter() - began, "MB": peak_mb(),
        "file MB": size / 1e6,
    }  # fmt: skip


class Idle:
    """A worker that does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"summary": [json.dumps({"error": "", "number": int(batch["number"][0]), "faces": 0, "items": 0})]}


def driver(shards: int) -> dict[str, float]:
    """Hands shards to two workers that do nothing."""
    engine._Worker = Idle
    todo = [Shard(number, f"{number:016x}", 0, 0, 0, 0, 0) for number in range(shards)]
    with engine.cluster(None, 2) as workers:
        times = [time.perf_counter() for _ in engine.run("", todo, Work(), b"", workers)]
    return {"shards": shards, "shards a second": (shards - 1) / (times[-1] - times[0]), "MB": peak_mb()}


def requests(folder: str) -> dict[str, float]:
    """Counts the requests to an object store for 60 small pictures in shards of 10 on average, and for a shard."""
    from archive_runs import archive
    from object_store import running
    from portraits import write_portraits

    from ageinfer.sources import read_picture

    write_portraits(Path(folder, "in"), read_picture(ROOT / "samples" / "astronaut.jpg"), range(60))
    with running() as store:
        store.upload(Path(folder, "in"), "pictures/in")

        def asked(source: str, out: str) -> tuple[int, int]:
            before = store.proxy.requests
            found = archive(out, source, per_shard=10)
            return store.proxy.requests - before, found["shards"]

        reads, _ = asked(store.address("pictures/in"), str(Path(folder, "out")))
        writes, shards = asked(str(Path(folder, "in")), store.address("results/out"))
    return {"a picture": reads / 60, "a shard": writes / shards}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=10_000)
    options = parser.parse_args()

    def tell(function: Callable[..., dict[str, float]], found: dict[str, float]) -> None:
        print(f"{function.__name__}: {', '.join(f'{name} {value:,.4g}' for name, value in found.items())}", flush=True)

    def measure(function: Callable[..., dict[str, float]], folder: str, *arguments: int) -> None:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            tell(function, pool.apply(function, (folder, *arguments)))

    with tempfile.TemporaryDirectory() as folder:
        measure(requests, folder)
    with tempfile.TemporaryDirectory() as folder:
        measure(listing, folder, options.files)
    with tempfile.TemporaryDirectory() as folder:
        measure(plan, folder, options.items)
        measure(opened, folder)
        measure(manifest, folder)
    tell(driver, driver(options.shards))  # here, because Ray sends a class of the main module to its workers


if __name__ == "__main__":
    main()
