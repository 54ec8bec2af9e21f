"""Writing files in one piece, so that they are there whole or not at all, and their hashes."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and moves what was written there into place.

    If anything goes wrong on the way, an older file stays as it was and nothing else is left. Where ``path`` is a
    symbolic link, its target is replaced. The temporary file exists when its path is yielded, under a name that nobody
    can foresee. It has the suffix of ``path``, by which some writers choose the format.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    unfinished = place.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    unfinished.open("x").close()  # it follows no link and opens no file that is there
    try:
        yield unfinished
        unfinished.replace(place)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file in one piece."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with replacing(path) as unfinished:
        unfinished.write_text(text)


def file_sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
