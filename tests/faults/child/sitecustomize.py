"""Stops a run at the place that the harness names, until the harness lets it go on (see `harness.Run`).

Python loads this module at its start, because its folder is on ``PYTHONPATH``. A place is the first audit event whose
name and arguments a pattern matches, such as the import of a module or the opening, renaming or removal of a file.
"""

import os
import re
import sys

_PATTERN, _SAY, _HEAR = os.environ["FAULT_AT"], int(os.environ["FAULT_SAY"]), int(os.environ["FAULT_HEAR"])
_reached = []


def _watch(event: str, arguments: tuple) -> None:
    if _reached or event not in ("import", "open", "os.rename", "os.remove", "socket.bind"):
        return
    if re.search(_PATTERN, f"{event} {arguments[0]!s} {arguments[1]!s}"):
        _reached.append(event)
        os.write(_SAY, b".")
        os.read(_HEAR, 1)  # a signal arrives here


if _PATTERN:
    sys.addaudithook(_watch)
