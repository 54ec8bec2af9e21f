"""The options of people and audiences, and what they mean."""

import argparse
import re

from ageinfer.errors import UsageError

_MORE_THAN_COUNTS = ("output", "faces", "jsonl", "csv", "people", "window")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_WINDOW_S = 366 * 86_400
_MOST_THRESHOLDS = 40


def add_people_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a parser."""
    people = parser.add_argument_group("people")
    people.add_argument(
        "--people", metavar="F", help="write one record per person of a video or camera, JSON Lines or .csv; -: JSON "
        "Lines on standard output",
    )  # fmt: skip
    people.add_argument(
        "--audience", metavar="F", help="write how many people of each age there were, JSON Lines or .csv; -: JSON "
        "Lines on standard output",
    )  # fmt: skip
    people.add_argument(
        "--every", metavar="T", help="of an audience, one record in this time, as 30s, 15m (default), 2h"
    )
    people.add_argument("--bands", metavar="A-B,...", help="of an audience, count these ages, as 0-12,13-17,18-64,65+")
    people.add_argument(
        "--least", type=int, default=0, metavar="N", help="of an audience, hide numbers of fewer than N people"
    )
    people.add_argument(
        "--only-counts", action="store_true",
        help="let nothing but --audience, and that of --mqtt, leave this program: no boxes, no pictures, no records of "
        "persons",
    )  # fmt: skip
    people.add_argument(
        "--thresholds", metavar="Y,...", default="13,16,18,21,25",
        help="of people, give the probability that somebody is at least so old (default: 13,16,18,21,25)",
    )  # fmt: skip
    people.add_argument(
        "--zone", action="append", default=[], metavar="NAME=x,y;...",
        help="tell who is in this part of the picture; corners in fractions of width and height; may be repeated",
    )  # fmt: skip
    people.add_argument(
        "--line", action="append", default=[], metavar="NAME=x,y;x,y",
        help="tell who crosses this line to its left and right, as seen from its first point; may be repeated",
    )  # fmt: skip
    people.add_argument(
        "--least-quality", type=float, default=0.0, metavar="Q",
        help="for people and audience, leave out estimates of faces that are seen worse than this, 0 to 1 (default: 0)",
    )  # fmt: skip


def check_people_options(options: argparse.Namespace) -> None:
    """Refuses what contradicts itself or is no number.

    Raises:
        UsageError: something does.
    """
    counted = options.audience or options.mqtt
    if options.only_counts:
        if not counted:
            raise UsageError("--only-counts lets nothing but --audience out; name its file, or use --mqtt")
        if other := next((name for name in _MORE_THAN_COUNTS if getattr(options, name)), ""):
            raise UsageError(f"--{other} shows more than counts; leave it or --only-counts out")
    if not counted and (options.every or options.bands or options.least):
        raise UsageError("--every, --bands and --least are for --audience and --mqtt; name its file, or the broker")
    if not 0 <= options.least_quality <= 1:
        raise UsageError(f"--least-quality {options.least_quality}: use 0 to 1")
    if options.least < 0:
        raise UsageError(f"--least {options.least}: use a number of people, 0 or more")
    seconds_of(options.every)
    thresholds_of(options.thresholds)


def seconds_of(text: str | None) -> float | None:
    """Reads a length of time such as 30s, 15m or 2h; a number alone is seconds.

    Raises:
        UsageError: it is not that.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 1 <= seconds <= _LONGEST_WINDOW_S:
        raise UsageError(f"--every {text}: use a time from 1s to 366d, such as 30s, 15m or 2h")
    return seconds


def thresholds_of(text: str) -> tuple[int, ...]:
    """Reads ages in years, with commas between them.

    Raises:
        UsageError: it is not that.
    """
    words = text.split(",")
    if not all(re.fullmatch(r"\s*\d{1,3}\s*", word) for word in words) or len(words) > _MOST_THRESHOLDS:
        raise UsageError(f"--thresholds {text}: use up to {_MOST_THRESHOLDS} whole years, such as 13,18")
    return tuple(dict.fromkeys(int(word) for word in words))
