"""Many pictures with one process and with a worker for each core, beside what the bare steps would allow.

    python benchmarks/cores.py FOLDER ... [--pictures 3000] [--rounds 3] [--before DIR]

The bare steps are decoding, finding, cropping and estimating, one after the other in one thread of one process, without
any record. Their rate times the cores is the bound. As many processes with the bare steps at the same time show what of
it the machine really gives. Beside it: ``ageinfer FOLDER --jsonl F`` with ``--workers 1`` and
with a worker for each core, each a new process, with its start; workers that have started already, without records; and
the checkout of an earlier version (``--before``).

Of each: pictures a second; processor time for a picture in milliseconds, of all processes together; what share of the
cores other programs took meanwhile, and what share of the rest was used; and memory (PSS) in MB, of the parent and of
each worker. Records of all ways are compared. The round that others disturbed least counts, each for itself.
"""

import argparse
import json
import multiprocessing
import multiprocessing.pool
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ageinfer.engine.cores import usable_cores
from ageinfer.images import cv2
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PICTURE_SUFFIXES, PictureListSource, read_picture
from ageinfer.workers import Workers

_TICKS = os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Processor time that all programs of this machine have taken."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / _TICKS


def own_s() -> float:
    """Processor time of this process and of the children that have ended."""
    return sum(os.times()[:4])


def measured(pictures: int, work: Callable[[], Any]) -> dict[str, Any]:
    """Rate, processor time a picture, and the share of the cores that others took."""
    began_s, own, busy = time.monotonic(), own_s(), busy_s()
    found = work() or {}
    wall_s, own, busy = time.monotonic() - began_s, own_s() - own, busy_s() - busy
    own = found.pop("cpu_s", own)
    cores = os.cpu_count() or 1
    others = max(0.0, busy - own) / wall_s / cores
    used = own / wall_s / cores / (1 - others)
    return {"rate": pictures / wall_s, "cpu_ms": 1000 * own / pictures, "others": others, "used": used, **found}


def pss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+)", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]


@cache
def pipeline() -> Pipeline:
    cv2.setNumThreads(1)
    return Pipeline.default(threads=1)


def bare(files: Sequence[Path]) -> float:
    """The bare steps; returns the processor time."""
    steps = pipeline()
    began_s = time.process_time()
    for file in files:
        image = read_picture(file)
        detections = steps.find(image)
        steps.ages(steps.crop(image, detections), detections)
    return time.process_time() - began_s


def bare_side_by_side(pool: multiprocessing.pool.Pool, files: Sequence[Path]) -> dict[str, float]:
    groups = [files[start : start + 16] for start in range(0, len(files), 16)]
    return {"cpu_s": sum(pool.imap_unordered(bare, groups))}


def command(folder: Path, records: Path, workers: int | None, checkout: Path) -> Callable[[], None]:
    def run() -> None:
        more = [] if workers is None else ["--workers", str(workers)]
        arguments = [sys.executable, "-m", "ageinfer", str(folder), "--jsonl", str(records), "--quiet", *more]
        subprocess.run(arguments, check=True, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)})

    return run


def started(pool: Workers, files: Sequence[Path], *, pixels: bool) -> Callable[[], dict[str, Any]]:
    """Runs workers that have started already."""
    pids = [worker.process.pid or 0 for worker in pool.running]

    def workers_s() -> float:
        stats = (Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids)
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / _TICKS

    def run() -> dict[str, Any]:
        cpu_s = own_s() + workers_s()
        for _ in pool.run(PictureListSource("pictures", files, len(files)), pixels=pixels):
            pass
        cpu_s = own_s() + workers_s() - cpu_s
        return {"cpu_s": cpu_s, "memory_mb": [round(pss_mb(pid)) for pid in [os.getpid(), *pids]]}

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout of an earlier version")
    options = parser.parse_args()
    pipeline()
    here, cores = Path(__file__).parent.parent, max(1, int(usable_cores()))
    others = multiprocessing.get_context("spawn").Pool(cores)
    for folder in options.folders:
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
        with tempfile.TemporaryDirectory() as place, Workers(count=cores) as pool:
            chosen = Path(place, "pictures")
            chosen.mkdir()
            for file in found[:: max(1, len(found) // options.pictures)][: options.pictures]:
                (chosen / file.name).symlink_to(file.resolve())
            files = sorted(chosen.iterdir())
            bare_side_by_side(others, files[: 64 * cores])
            for _ in pool.run(PictureListSource("pictures", files[: 64 * cores], 64 * cores)):
                pass
            records = {name: Path(place, name) for name in ("one", "all", "before")}
            ways: dict[str, Callable[[], Any]] = {
                "bare steps": lambda files=files: {"cpu_s": bare(files)},
                f"bare steps, {cores} processes": lambda files=files: bare_side_by_side(others, files),
                "one process": command(chosen, records["one"], 1, here),
                f"{cores} workers": command(chosen, records["all"], cores, here),
                f"{cores} workers, started": started(pool, files, pixels=False),
                f"{cores} workers, started, with images": started(pool, files, pixels=True),
            }
            if options.before is not None:
                ways["before"] = command(chosen, records["before"], None, options.before)
            rounds = [{name: measured(len(files), way) for name, way in ways.items()} for _ in range(options.rounds)]
            best = {name: min((one[name] for one in rounds), key=lambda one: one["others"]) for name in ways}
            bound = cores * best["bare steps"]["rate"]
            for name, way in best.items():
                shares = {
                    "of_bound": way["rate"] / bound,
                    "of_bound_cpu": best["bare steps"]["cpu_ms"] / way["cpu_ms"],
                }
                line = {key: value if isinstance(value, list) else round(value, 3) for key, value in way.items()}
                line |= {key: round(value, 3) for key, value in shares.items()}
                print(json.dumps({"folder": folder.name, "pictures": len(files), "way": name} | line))
            same = records["one"].read_bytes() == records["all"].read_bytes()
            print(json.dumps({"folder": folder.name, "same_records": same}))


if __name__ == "__main__":
    main()
