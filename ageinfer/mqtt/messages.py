"""What is sent, and to which topics below that of the run.

====================  ===========================================================================
``status``            ``online`` or ``offline``; kept by the broker
``CAMERA/view``       who is in view now; kept
``CAMERA/person``     the record of ``--people`` of somebody who has left
``CAMERA/audience``   the record of ``--audience`` of a stretch of time that has ended; kept
====================  ===========================================================================
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePath
from typing import Any

from ageinfer.people import Places
from ageinfer.people.people import clock_time
from ageinfer.people.visits import time_of
from ageinfer.sources.address import is_address
from ageinfer.types import FrameResult

VIEW_SCHEMA_VERSION = 1
ONLINE, OFFLINE = b"online", b"offline"
LONGEST_CAMERA = 60
_OF_PERSON = ("track", "age", "age_std", "in_view_s", "unsure")


def status_topic(topic: str) -> str:
    """Where ``online`` and ``offline`` go."""
    return f"{topic}/status"


def camera_name(source: str, taken: Iterable[str] = ()) -> str:
    """The level of topics that stands for a source: letters, digits and underscores of its name.

    Of a path only the name of the file counts, of an address what stands behind the scheme. Where two sources would get
    the same name, the later one gets ``-2`` behind it.

    Args:
        source: name of the source, as results have it.
        taken: names that other sources have.

    Example:
        >>> camera_name("camera:0"), camera_name("rtsp://door.local/live"), camera_name("films/a b.mp4", {"a_b_mp4"})
        ('camera_0', 'door_local_live', 'a_b_mp4-2')
    """
    name = source.partition("://")[2] if is_address(source) else PurePath(source).name
    name = re.sub(r"[^A-Za-z0-9]+", "_", name)[:LONGEST_CAMERA].strip("_") or "source"
    found, number, others = name, 1, {other.lower() for other in taken}
    while found.lower() in others:  # Home Assistant has lower case only in its names
        number += 1
        found = f"{name}-{number}"
    return found


def payload(record: dict[str, Any]) -> bytes:
    """A record as it is sent: JSON in UTF-8."""
    # A file name need not be UTF-8; its other bytes are written as escapes.
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def view_record(
    result: FrameResult, persons: Iterable[dict[str, Any]], *, places: Places, began: datetime | None
) -> dict[str, Any]:  # fmt: skip
    """Who is in view in a frame, as JSON values.

    Args:
        result: of the frame.
        persons: the records of those who are in it, as far as they go.
        places: zones and lines.
        began: when time 0 of the source was, for a live source.
    """
    zones = {face.track: places.zones_at(face.detection.box, result.size) for face in result.faces}
    faces = [{key: person[key] for key in _OF_PERSON} | {"zones": zones[person["track"]]} for person in persons]
    return {
        "schema": VIEW_SCHEMA_VERSION,
        "source": result.source,
        "time_s": round(time_of(result), 3),
        "at": clock_time(began, time_of(result)),
        "people": sum(not face["unsure"] for face in faces),
        "faces": faces,
        "model": result.model,
    }
