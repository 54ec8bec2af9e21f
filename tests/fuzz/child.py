"""The process that is fed: runs the command again and again, with limited memory.

Its standard input has the arguments of a run on each line, as JSON; its standard output answers with a line of JSON
each. What the command prints goes to the files ``said`` and ``printed`` of the working folder.

The limit is one on data (RLIMIT_DATA), not on the address space: a run that reads one small picture takes 200 MB of the
first, but 1.7 GB of the second, nearly all of it libraries and stacks that are never touched.
"""

import faulthandler
import json
import os
import resource
import sys
import threading
import time
import traceback
from argparse import Namespace
from typing import Any

MEMORY = 1_500_000_000  # bytes


def main() -> None:
    """Answers until standard input ends."""
    limit_memory()
    commands, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    said, printed = (os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND) for name in ("said", "printed"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((0, nothing), (1, printed), (2, said)):
        os.dup2(new, old)
    faulthandler.enable()
    keep_pipelines()
    from ageinfer.commands.main import main as command

    print("ready", file=answers, flush=True)
    for line in commands:
        for file in (said, printed):
            os.ftruncate(file, 0)
        began, wrong, status = time.monotonic(), "", -1
        try:
            status = command(json.loads(line))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else -1
        except BaseException:  # whatever comes out is what is looked for
            wrong = traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        found = {"status": int(status), "wrong": wrong, "seconds": time.monotonic() - began,
                 "threads": threading.active_count(),
                 "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}  # fmt: skip
        print(json.dumps(found), file=answers, flush=True)


def limit_memory() -> None:
    """Limits the memory of this process."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def keep_pipelines() -> None:
    """Lets runs with the shipped model share what they open, which takes ten times as long as a small picture."""
    from ageinfer.commands import run

    opened: dict[str, Any] = {}
    really = run.open_pipeline

    def open_pipeline(options: Namespace) -> Any:
        if options.model is not None or options.detector != "yunet":
            return really(options)
        key = str((options.blur, options.detect_size, options.detect_every, options.min_face))
        if key not in opened:
            opened[key] = really(options)
        return opened[key]

    run.open_pipeline = open_pipeline


if __name__ == "__main__":
    main()
