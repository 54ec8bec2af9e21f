"""From nothing to the first record, and the memory of a whole run.

    python benchmarks/start.py PICTURE CLIP [--rounds 7]

Each round is a process of its own: ``ageinfer PICTURE --jsonl -`` until its record is there, and ``ageinfer CLIP``
until it ends, with its largest resident memory. Linux and macOS.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def first_record_s(picture: Path) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "ageinfer", str(picture), "--jsonl", "-", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        if process.stdout is None or not process.stdout.readline():
            raise SystemExit(f"no record of {picture}")
        return time.perf_counter() - began


def largest_memory_mb(clip: Path) -> float:
    process = subprocess.Popen([sys.executable, "-m", "ageinfer", str(clip), "--jsonl", os.devnull, "--quiet"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{clip}: ageinfer ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    seconds = [first_record_s(options.picture) for _ in range(options.rounds)]
    memory = [largest_memory_mb(options.clip) for _ in range(3)]
    print(f"first record after {statistics.median(seconds):.2f} s (largest of {options.rounds}: {max(seconds):.2f} s)")
    print(f"largest resident memory on {options.clip.name}: {statistics.median(memory):.0f} MB")


if __name__ == "__main__":
    main()
