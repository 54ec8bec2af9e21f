"""Zones and lines in the picture: who is in, and who crosses in which direction."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ageinfer.errors import UsageError
from ageinfer.types import Box, Point

Side = Literal["left", "right"]
Size = tuple[int, int]

MOST_PLACES, MOST_CORNERS, LONGEST_NAME = 32, 64, 40
# A face must be so far beyond a line, in its longer sides, before it has crossed: boxes tremble.
_BEYOND = 0.1


@dataclass(frozen=True, slots=True)
class Zone:
    """A polygon in the picture.

    Attributes:
        name: of the zone.
        corners: three or more, as fractions of the picture's width and height.
    """

    name: str
    corners: tuple[Point, ...]

    @classmethod
    def parse(cls, text: str) -> "Zone":
        """Reads ``NAME=x,y;x,y;x,y``.

        Raises:
            UsageError: it is not that.

        Example:
            >>> Zone.parse("door=0,0;0.5,0;0.5,1").name
            'door'
        """
        name, corners = _parsed("--zone", text, least=3)
        if abs(sum(_cross(a, b) for a, b in zip(corners, corners[1:] + corners[:1], strict=True))) < 1e-6:
            raise UsageError(f"--zone {text}: the corners enclose nothing; give them in the order of the outline")
        return cls(name, corners)

    def holds(self, point: Point) -> bool:
        """Whether a point, as fractions of the picture, lies inside."""
        x, y = point
        inside = False
        for (x1, y1), (x2, y2) in zip(self.corners, self.corners[1:] + self.corners[:1], strict=True):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
        return inside

    def __str__(self) -> str:
        return f"{self.name}={_text(self.corners)}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line in the picture that people cross to its left or to its right.

    Attributes:
        name: of the line.
        ends: start and end, as fractions of the picture's width and height. Left and right are those of somebody who
            looks from the start to the end.
    """

    name: str
    ends: tuple[Point, Point]

    @classmethod
    def parse(cls, text: str) -> "Line":
        """Reads ``NAME=x,y;x,y``.

        Raises:
            UsageError: it is not that.

        Example:
            >>> Line.parse("entrance=0.5,0;0.5,1").ends
            ((0.5, 0.0), (0.5, 1.0))
        """
        name, ends = _parsed("--line", text, least=2, most=2)
        if ends[0] == ends[1]:
            raise UsageError(f"--line {text}: it begins where it ends; give two points")
        return cls(name, (ends[0], ends[1]))

    def __str__(self) -> str:
        return f"{self.name}={_text(self.ends)}"


@dataclass(frozen=True, slots=True)
class Places:
    """All zones and lines of a run, each with a name of its own.

    Raises:
        UsageError: two have the same name, or there are too many.
    """

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        names = [zone.name for zone in self.zones] + [line.name for line in self.lines]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"two places have the name {twice}; give each its own")
        if len(names) > MOST_PLACES:
            raise UsageError(f"{len(names)} zones and lines; a run holds {MOST_PLACES}")

    @classmethod
    def parse(cls, zones: Sequence[str] = (), lines: Sequence[str] = ()) -> "Places":
        """Reads zones and lines, see `Zone.parse` and `Line.parse`."""
        return cls(tuple(map(Zone.parse, zones)), tuple(map(Line.parse, lines)))

    def __bool__(self) -> bool:
        return bool(self.zones or self.lines)

    def zones_at(self, box: Box, size: Size) -> list[str]:
        """Names of the zones that the centre of a face lies in.

        Args:
            box: of the face, ``(x, y, w, h)`` in pixels.
            size: ``(width, height)`` of the frame in pixels.
        """
        x, y = _centre(box)
        point = (x / size[0], y / size[1])
        return [zone.name for zone in self.zones if zone.holds(point)]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Somebody has crossed a line.

    Attributes:
        line: its name.
        to: the side of the line on which the face is now.
        time_s: when, in seconds of the source.
    """

    line: str
    to: Side
    time_s: float


@dataclass(slots=True)
class Path:
    """Where one face has been, as far as lines need it."""

    _last: dict[str, tuple[Side, Point]] = field(default_factory=dict)  # by line: the side that is sure, and where

    def crossed(self, box: Box, size: Size, lines: Sequence[Line], time_s: float) -> list[Crossing]:
        """Takes the next place of the face.

        Args:
            box: of the face, ``(x, y, w, h)`` in pixels.
            size: ``(width, height)`` of the frame in pixels.
            lines: those that count.
            time_s: of the frame.

        Returns:
            The lines that the centre of the face has crossed since it was last clearly on one side of them.
        """
        found = []
        here = _centre(box)
        for line in lines:
            start, end = ((x * size[0], y * size[1]) for x, y in line.ends)
            along, seen = _minus(end, start), _minus(here, start)
            distance = _cross(along, seen) / math.hypot(*along)  # pixels; y points down, so right is positive
            if abs(distance) < _BEYOND * max(box[2:]):
                continue
            side: Side = "right" if distance > 0 else "left"
            before = self._last.get(line.name)
            self._last[line.name] = side, here
            if before is not None and before[0] != side and _meet(before[1], here, start, end):
                found.append(Crossing(line.name, side, time_s))
        return found


def _parsed(option: str, text: str, *, least: int, most: int = MOST_CORNERS) -> tuple[str, tuple[Point, ...]]:
    name, _, points = text.partition("=")
    wanted = f"use {option} NAME=" + ";".join(["x,y"] * least) + ("" if most == least else ";...")
    wanted += ", fractions of the picture from 0 to 1"
    if not re.fullmatch(r"[\w .-]+", name) or name != name.strip() or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{option} {text}: a name has up to {LONGEST_NAME} letters, digits, spaces, dots and hyphens; {wanted}"
        )
    try:
        corners = tuple((float(x), float(y)) for x, y in (point.split(",") for point in points.rstrip(";").split(";")))
    except ValueError:
        raise UsageError(f"{option} {text}: {wanted}") from None
    if not least <= len(corners) <= most or not all(0 <= value <= 1 for corner in corners for value in corner):
        raise UsageError(f"{option} {text}: {wanted}")
    return name, corners


def _text(points: Sequence[Point]) -> str:
    return ";".join(f"{x:.4g},{y:.4g}" for x, y in points)


def _centre(box: Box) -> Point:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1]


def _cross(a: Point, b: Point) -> float:
    return a[0] * b[1] - a[1] * b[0]


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the way from a to b, which are on two sides of the line through c and d, passes between c and d."""
    way = _minus(b, a)
    return _cross(way, _minus(c, a)) * _cross(way, _minus(d, a)) <= 0
