"""The long run: ``python -m tests.fuzz --kind pictures --seed 1``, in the folder of the checkout.

A case that fails is saved with its number; ``--only NUMBER`` repeats it. Other kinds: films, models, requests.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import files, requests


def main() -> int:
    """Runs one kind; returns 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--kind", choices=(*files.KINDS, "requests"), required=True)
    parser.add_argument("--count", type=int, default=10_000, help="cases (default 10000)")
    parser.add_argument("--seed", type=int, default=1, help="of the whole run (default 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default 0)")
    parser.add_argument("--only", type=int, nargs="+", help="repeat these cases alone")
    parser.add_argument("--kept", type=Path, default=Path("fuzz-failures"), help="where failures are saved")
    options = parser.parse_args()
    numbers = options.only or range(options.first, options.first + options.count)

    def told() -> Iterator[int]:
        for n, number in enumerate(numbers):
            if n and n % 500 == 0:
                print(f"{n} ...", flush=True)
            yield number

    run = requests.run if options.kind == "requests" else files.run
    with tempfile.TemporaryDirectory() as folder:
        if options.kind == "requests":
            report = run(told(), options.seed, Path(folder), kept=options.kept)
        else:
            report = run(options.kind, told(), options.seed, Path(folder), kept=options.kept)
    for number, wrong in report.failures.items():
        print(f"case {number}: {wrong.strip().splitlines()[0]} ... {wrong.strip().splitlines()[-1]}")
    for line, n in report.foreign.most_common():
        print(f"{n} x {line!r}")
    print(f"{options.kind}, seed {options.seed}: {report}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
