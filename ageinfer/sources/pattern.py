"""Paths that match a pattern of the shell, without following links to folders below ``**``."""

import glob
import os
import re
from collections.abc import Iterator

_SEPARATORS = re.escape(os.sep + (os.altsep or ""))
_ANY_FOLDERS = re.compile(rf"(?:^|(?<=[{_SEPARATORS}]))\*\*(?:[{_SEPARATORS}]+\*\*)*(?:[{_SEPARATORS}]+|$)")


def paths_matching(pattern: str) -> Iterator[str]:
    """Yields the paths that match a pattern, some perhaps twice, in no order.

    ``**`` stands for any number of folders. It leaves out hidden folders and links to folders, which may lead back to a
    folder above them, where `glob.glob` goes round in circles.
    """
    found = _ANY_FOLDERS.search(pattern)
    if found is None:
        yield from glob.iglob(pattern)  # noqa: PTH207, as the shell has it
        return
    below, after = pattern[: found.start()], pattern[found.end() :] or "*"
    for base in glob.iglob(below) if below else [os.curdir]:  # noqa: PTH207
        for folder, subfolders, _ in os.walk(base):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from paths_matching(os.path.join(glob.escape(folder), after))  # noqa: PTH118, names may be any text
