"""How fast many films are worked through by ``ageinfer archive`` and by the plain command, beside the bare steps.

    python benchmarks/clips.py DATA [--clips 200] [--before DIR] [--json F]

DATA has a folder videos. Links to its films, again and again, become one folder. The bare steps are one thread that
decodes, follows the faces and estimates their ages, without any record; they are measured in one process, and in two at
once, before and after the rest. Of the plain command the whole time counts, of an archive that from the first shard to
the last. ``--before`` is a checkout of an earlier version, which is called once for each film. Linux.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from archive import WORKERS, archive, films_in

from ageinfer.images import cv2
from ageinfer.pipeline import Pipeline, largest_look
from ageinfer.sources import open_source

HERE = Path(__file__).parent.parent


def bare(files: list[str]) -> tuple[int, float]:
    """Frames of films, and the seconds that the bare steps of them take."""
    cv2.setNumThreads(1)
    pipeline = Pipeline.default(provider="cpu", threads=1)
    began_s, frames = time.perf_counter(), 0
    for file in files:
        with open_source(file) as source:
            tracker = pipeline.start(file, largest_side=largest_look(source))
            frames += sum(1 for _ in map(tracker, source))
    return frames, time.perf_counter() - began_s


def plain(checkout: Path, films: list[str], *more: str) -> float:
    """Seconds of one plain command."""
    with tempfile.TemporaryDirectory() as place:
        arguments = [sys.executable, "-m", "ageinfer", *films, "--jsonl", f"{place}/records", "--quiet", *more]
        began_s = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        ran = subprocess.run(arguments, check=False, cwd=checkout, env=environment)
        if ran.returncode not in (0, 7):
            raise SystemExit(f"status {ran.returncode}: {arguments}")
        return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so it is written
    different = films_in(options.data.resolve())
    rates: dict[str, list[float]] = {}
    memory: dict[str, object] = {}

    def note(way: str, per_second: float) -> None:
        rates.setdefault(way, []).append(per_second)
        print(f"{way}: {per_second:.0f} frames a second", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place, multiprocessing.get_context("spawn").Pool(2) as pool:
        folder = Path(place, "clips")
        folder.mkdir()
        for number in range(options.clips):
            film = different[number % len(different)]
            (folder / f"{number:04d}{film.suffix}").symlink_to(film)
        films = sorted(map(str, folder.iterdir()))
        once = films[: len(different)]

        def steps() -> None:
            for processes in WORKERS:
                each = pool.map(bare, [once] * processes, chunksize=1)
                note(f"bare steps, {processes} at once", sum(frames / seconds for frames, seconds in each))

        steps()
        frames = 0
        for workers in WORKERS:
            made = archive(folder, workers)
            frames = int(made["frames"])  # type: ignore[call-overload]
            note(f"archive, {workers} workers", float(made["per_second"]))  # type: ignore[arg-type]
            memory[f"archive, {workers} workers"] = made["peak_mb"]
        for workers in WORKERS:
            note(f"plain, {workers} workers", frames / plain(HERE, films, "--workers", str(workers)))
        if options.before:
            seconds = sum(plain(options.before, [film]) for film in films)
            note("the version before", frames / seconds)
        steps()
    bound = sum(rates["bare steps, 1 at once"]) / len(rates["bare steps, 1 at once"])
    result = {"clips": options.clips, "frames": frames, "rates": rates, "peak_mb": memory}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print("| | frames a second | of the bare steps in one process | of twice that |")
    print("|---|---|---|---|")
    for way, each in rates.items():
        rate = sum(each) / len(each)
        print(f"| {way} | {rate:.0f} | {rate / bound:.2f} | {rate / bound / 2:.2f} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
