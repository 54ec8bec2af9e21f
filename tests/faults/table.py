"""Does every fault of the matrix and writes what came of it into ``docs/results/faults.md``.

    python tests/faults/table.py [--jobs N] [TEXT]

It writes the part between the marks of that page, and prints the cases that are not as they must be. With a text, it
does the faults whose names hold it, and prints their rows alone.
"""

import argparse
import re
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

import cv2
from cases import Case, Material, complaints, outcome
from harness import Outcome
from matrix import CASES

PAGE = ROOT / "docs" / "results" / "faults.md"
BEGIN, END = "<!-- faults: tests/faults/table.py -->", "<!-- end of faults -->"
HEAD = "| fault | when | outputs | exit status | left behind | answered | lost |\n|---|---|---|---|---|---|---|"


def row(case: Case, found: Outcome) -> str:
    """A row of the table."""
    status = "ended by KILL" if found.status == -9 else found.status
    lost = found.lost if found.records else "no count"
    cells = (case.fault, case.stage, ", ".join(case.sinks), status, left(found), found.frames, lost)
    return f"| {' | '.join(map(str, cells))} |"


def left(found: Outcome) -> str:
    """The files, those of one kind in a folder as one, with their number."""
    kinds = Counter(re.sub(r"(?<=/)(track-)?\d[\d-]*(?=\.jpg)", "N", name) for name in found.left)
    files = (f"`{kind}`" + (f" x {count}" if count > 1 else "") for kind, count in sorted(kinds.items()))
    return ", ".join(files) or "nothing"


def main() -> int:
    """Runs the matrix."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", nargs="?", default="", metavar="TEXT", help="only faults whose names hold this")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at once (default: 2)")
    options = parser.parse_args()
    cases = [case for case in CASES if options.text in str(case)]
    portrait = cv2.imread(str(ROOT / "samples" / "astronaut.jpg"))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the children would ignore it, too
    wrong = 0
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as place, ThreadPoolExecutor(options.jobs) as pool:
        material = Material(Path(place), portrait)

        def done(number: int) -> Outcome | str:
            folder = Path(place, str(number))
            folder.mkdir()
            try:
                return outcome(cases[number], material, folder)
            except (PermissionError, AssertionError) as error:
                return f"{type(error).__name__}: {error}"

        for case, found in zip(cases, pool.map(done, range(len(cases))), strict=True):
            problems = [found] if isinstance(found, str) else complaints(case, found)
            if not isinstance(found, str):
                rows.append(row(case, found))
            wrong += bool(problems)
            print(f"{case}: {'; '.join(problems) or 'well'}", flush=True)
            if problems and not isinstance(found, str):
                print(f"   {found}")
    table = "\n".join([HEAD, *rows])
    if options.text:
        print(table)
    else:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
