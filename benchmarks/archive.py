"""How fast ``ageinfer archive`` works through pictures, beside the bare steps, and what memory it takes.

    python benchmarks/archive.py DATA [--pictures 20000] [--rounds 2] [--json F]

DATA has the folders UTKFace, appa-real-release and all-age-faces. Links to some of their files become one tree.
A round makes an archive with one worker and then one with two. Before and after each, the bare steps of a part of the
pictures (read, decode, find the faces, crop, estimate, one picture after the other, in one thread, no records) are
measured in as many processes; the bound is the mean of the two. Other work on the machine takes what it wants, so
beside the time by the clock there is that of the processor, and workers have the priority of other programs, which Ray
would take from them. The rate of an archive is that between its first and its last shard; what comes before is the
start. Films: `clips.py`. Linux.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests" / "ageinfer")]

import numpy as np  # noqa: E402
from ray_runs import Ran, ended, started  # noqa: E402

from ageinfer.pipeline import Pipeline  # noqa: E402
from ageinfer.sources.decoding import decode, read_file  # noqa: E402

PICTURES = ("UTKFace/*.jpg", "appa-real-release/*/*.jpg", "all-age-faces/**/*.jpg")
BARE = 600  # pictures of the bare steps
WORKERS = (1, 2)


def films_in(data: Path) -> list[Path]:
    """The films of DATA, and the one of the samples."""
    films = [*sorted((data / "videos").iterdir()), ROOT / "samples" / "clip.mp4"]
    return [path for path in films if path.suffix in (".mp4", ".mov", ".mkv", ".gif")]


def tree(data: Path, folder: Path, pictures: int) -> None:
    """Links to so many pictures, chosen by a seed."""
    found = sorted(path for pattern in PICTURES for path in data.glob(pattern))
    for number, path in enumerate(sorted(Random(0).sample(found, pictures))):  # noqa: S311
        place = folder / "pictures" / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)


def bare(files: list[str]) -> dict[str, float]:
    """Seconds of the bare steps of pictures, by the clock and of the processor."""
    pipeline = Pipeline.default(provider="cpu", threads=1)
    began = used = 0.0
    for number, file in enumerate(files[:20] + files):
        if number == 20:  # the first ones are slow
            began, used = time.perf_counter(), time.process_time()
        image = decode(read_file(file), file).image
        found = pipeline.find(image)
        pipeline.ages(pipeline.crop(image, found), found)
    return {"s": time.perf_counter() - began, "cpu_s": time.process_time() - used}


def processes_of(session: int) -> Iterator[tuple[int, str]]:
    """The processes of the session of Ray that a driver has started, and what each calls itself."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(fd.readlink()) for fd in (folder / "fd").iterdir()]
            name = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if any(f"_{session}/" in link and "/session_" in link for link in links):
            yield int(folder.name), name


class Watch:
    """Looks every half second at what the processes of a run take.

    Attributes:
        peak_mb: the largest memory of the driver, of a worker, and of Ray's own processes together.
        cpu_s: of the driver and of the workers together.
    """

    def __init__(self, driver: int) -> None:
        self.peak_mb = {"driver": 0.0, "worker": 0.0, "ray": 0.0}
        self._cpu: dict[int, tuple[str, float]] = {}
        self._worked: list[tuple[float, float]] = []  # times, and what all workers have taken by then
        self._driver, self._over = driver, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def end(self) -> dict[str, float]:
        """Ends it; returns seconds of the processor by kind."""
        self._over.set()
        self._thread.join()
        return {kind: sum(s for k, s in self._cpu.values() if k == kind) for kind in self.peak_mb}

    def workers_s(self, at: float) -> float:
        """What all workers had taken of the processor at a time, in seconds."""
        times, seconds = zip(*self._worked, strict=True)
        return float(np.interp(at, times, seconds))

    def _look(self) -> None:
        while not self._over.wait(0.5):
            now: dict[str, list[float]] = {"driver": [], "worker": [], "ray": []}
            for pid, name in [(self._driver, ""), *processes_of(self._driver)]:
                kind = "driver" if pid == self._driver else "worker" if "MapWorker" in name else "ray"
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if memory := re.search(r"RssAnon:\s+(\d+)", status):
                    now[kind].append(int(memory[1]) / 1e3)
                self._cpu[pid] = kind, (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
            self._worked.append((time.time(), sum(s for kind, s in self._cpu.values() if kind == "worker")))
            for kind, sizes in now.items():
                here = sum(sizes) if kind == "ray" else max(sizes, default=0)
                self.peak_mb[kind] = max(self.peak_mb[kind], here)


def archive(source: Path, workers: int) -> dict[str, object]:
    """Makes an archive; returns its rates and what it took."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        began = time.time()
        process = started(source, "--output", out, "--workers", workers, "--quiet")
        watch = Watch(process.pid)
        ran: Ran = ended(process, 3000)
        whole_s = time.time() - began
        cpu_s = watch.end()
        if ran.status not in (0, 7):
            raise SystemExit(ran.err)
        manifest = json.loads((out / "_manifest.json").read_text())
        done = sorted(((out / "faces" / part["part"]).stat().st_mtime, part) for part in manifest["parts"])
    frames = sum(part["frames"] for _, part in done[workers:])
    used_s = watch.workers_s(done[-1][0]) - watch.workers_s(done[workers - 1][0])
    working_s = done[-1][0] - done[0][0] + done[0][1]["seconds"]
    steady_s = done[-1][0] - done[workers - 1][0]
    return {
        "workers": workers, "files": manifest["items"], "frames": manifest["frames"], "shards": len(done),
        "per_second": frames / steady_s, "start_s": done[0][0] - done[0][1]["seconds"] - began, "whole_s": whole_s,
        "end_s": began + whole_s - done[-1][0],
        "busy_share": sum(part["seconds"] for _, part in done) / workers / working_s,
        "cpu_ms": used_s * 1e3 / frames, "cpu_s": cpu_s, "peak_mb": watch.peak_mb,
        "unreadable": manifest["unreadable"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so it is written
    rounds: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        tree(options.data.resolve(), Path(folder), options.pictures)
        files = sorted(map(str, Path(folder, "pictures").rglob("*.jpg")))[:: max(1, options.pictures // BARE)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:

            def steps(processes: int) -> tuple[float, float]:
                """Pictures a second in so many processes together, and milliseconds of the processor a picture."""
                each = pool.map(bare, [files] * processes, chunksize=1)
                cpu_ms = sum(found["cpu_s"] for found in each) * 1e3 / len(files) / processes
                return sum(len(files) / found["s"] for found in each), cpu_ms

            for _ in range(options.rounds):
                for workers in WORKERS:
                    before = steps(workers)
                    found = archive(Path(folder, "pictures"), workers)
                    after = steps(workers)
                    found |= {"bare_per_second": (before[0], after[0]), "bare_cpu_ms": (before[1], after[1])}
                    found["of_bound"] = found["per_second"] / statistics.fmean(found["bare_per_second"])
                    found["of_bound_cpu"] = statistics.fmean(found["bare_cpu_ms"]) / found["cpu_ms"]
                    rounds.append(found)
                    print(json.dumps(found), file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")
    print(
        "| workers | pictures a second | bare steps | of the bound | ms of the processor | bare steps | of the bound |"
    )
    print("|---|---|---|---|---|---|---|")
    for found in rounds:
        bare_per_second, bare_ms = (statistics.fmean(found[key]) for key in ("bare_per_second", "bare_cpu_ms"))
        print(
            f"| {found['workers']} | {found['per_second']:.0f} | {bare_per_second:.0f} | {found['of_bound']:.2f} "
            f"| {found['cpu_ms']:.2f} | {bare_ms:.2f} | {found['of_bound_cpu']:.2f} |"
        )
    for found in rounds:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
