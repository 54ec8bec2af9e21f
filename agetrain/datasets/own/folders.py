"""Pictures whose age stands in the name of their folder or in their own name."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from agetrain.datasets.base import Problem
from agetrain.datasets.own.ages import parse_age
from agetrain.datasets.own.columns import Entry, part_of
from agetrain.errors import DatasetError, UsageError

_FIELD = re.compile(r"\{(\w+)\}")
_MEANINGS = {"subject": "subject", "person": "subject", "part": "part"}


def pictures_in(folder: Path) -> list[Path]:
    """Lists the pictures in a folder and below it, links followed, by their paths; hidden ones are passed over.

    Raises:
        DatasetError: a folder cannot be read.
    """
    from ageinfer.sources import PICTURE_SUFFIXES

    found: list[Path] = []
    entered: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}; check its permissions") from error

    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in entered else []
        if real in entered:  # by a link, in a circle or a second time
            continue
        entered.add(real)
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES
        ]
    return sorted(path for path in found if path.is_file())


def by_age_folder(folder: Path) -> Iterator[Entry | Problem]:
    """Reads a folder for each age or interval, ``23/x.jpg`` or ``20-29/x.jpg``.

    The nearest folder above a picture that is an age gives its label, and one that is called ``train``, ``valid`` or
    ``test`` its part.
    """
    for path in pictures_in(folder):
        names = path.relative_to(folder).parts[:-1]
        part = next((part_of(name) for name in names if part_of(name)), None)
        for name in reversed(names):
            try:
                age = parse_age(name)
            except ValueError:
                continue
            yield Entry(path, age, part=part)
            break
        else:
            yield Problem(path.relative_to(folder).as_posix(), "unlabelled", "none of its folders is an age")


def by_name(folder: Path, pattern: str) -> Iterator[Entry | Problem]:
    """Reads ages out of the names of pictures.

    Args:
        folder: of the pictures; those in folders below it count too.
        pattern: as ``{age}_{sex}_*.jpg``: ``{age}`` is the age, ``{subject}`` or ``{person}`` who it is, ``{part}``
            train, valid or test, any other name a group of the report; ``*`` stands for anything, ``?`` for one
            character. With a slash it is compared with as many folders of the path, else with the name alone.

    Raises:
        UsageError: the pattern has no ``{age}``, or a name twice.
    """
    expression = _expression(pattern)
    depth = pattern.count("/") + 1
    for path in pictures_in(folder):
        relative = path.relative_to(folder)
        match = expression.fullmatch("/".join(relative.parts[-depth:]))
        if match is None:
            yield Problem(relative.as_posix(), "unlabelled", f"its name does not follow {pattern}")
            continue
        values = match.groupdict()
        try:
            age = parse_age(values.pop("age"))
        except ValueError as error:
            yield Problem(relative.as_posix(), "unlabelled", str(error))
            continue
        known = {_MEANINGS[name]: values.pop(name) for name in list(values) if name in _MEANINGS}
        part = part_of(known["part"]) if "part" in known else None
        yield Entry(path, age, subject=known.get("subject"), part=part, groups=tuple(values.items()))


def _expression(pattern: str) -> re.Pattern[str]:
    names = _FIELD.findall(pattern)
    if "age" not in names:
        raise UsageError(f"--name-pattern {pattern}: has no {{age}}; write it where the age stands")
    if len(set(names)) < len(names):
        raise UsageError(f"--name-pattern {pattern}: has a name twice; give each another name")
    pieces = []
    for piece in re.split(r"(\{\w+\}|\*|\?)", pattern):
        if field := _FIELD.fullmatch(piece):
            # Of digits as few words as possible would be one digit: what follows a field decides where it ends.
            pieces.append(f"(?P<{field[1]}>[^/]+?)")
        else:
            pieces.append({"*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece)))
    return re.compile("".join(pieces))
