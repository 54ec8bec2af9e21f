"""Runs ``ageinfer`` of two checkouts in turn on the same films: what the second takes of the time of the first.

    git worktree add /tmp/before COMMIT
    python benchmarks/beside.py /tmp/before . CLIP ...

Each film is written to records alone, and annotated. Time is that of the processor (user and system), which other work
on the machine moves less than the time of the clock; the ratios are of neighbouring runs.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def seconds(checkout: Path, clip: Path, more: list[str]) -> float:
    """The time that one run takes of the processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "ageinfer", str(clip.resolve()), "--quiet", "--jsonl", os.devnull, *more]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=checkout, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("now", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| film | records: median (least to most) | annotated MP4: median (least to most) |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="ageinfer-beside-") as place:
        for clip in options.clips:
            row = []
            for annotated in (False, True):
                ratios = []
                for i in range(options.rounds):
                    took = {}
                    order = [options.before, options.now]
                    for checkout in order if i % 2 else reversed(order):
                        target = Path(place) / f"{i}-{len(took)}.mp4"
                        took[checkout] = seconds(checkout, clip, ["--output", str(target)] if annotated else [])
                        target.unlink(missing_ok=True)
                    ratios.append(took[options.now] / took[options.before])
                row.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            print(f"| {clip.name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
