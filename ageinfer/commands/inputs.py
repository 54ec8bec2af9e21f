"""What a run reads: one file, folder, camera or stream, or several live sources with a name and places each."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ageinfer.errors import UsageError

if TYPE_CHECKING:
    from ageinfer.people.board import Boards
    from ageinfer.sources import Source

_LAST_CAMERA = 99  # OpenCV takes hundreds in the number for the name of a driver
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Input:
    """One source as it was asked for.

    Attributes:
        source: a path, an address or whatever else ``SOURCE`` may be, or the number of a camera.
        name: that records and messages have for it; empty: as the source names itself.
        zones, lines: of this source alone, as the options ``--zone`` and ``--line`` have them.
    """

    source: str | int
    name: str = ""
    zones: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether it surely is a camera or a stream, as far as can be told before it is opened."""
        from ageinfer.sources import is_live

        return isinstance(self.source, int) or is_live(self.source)

    @property
    def shown(self) -> str:
        """The name in records and messages; it holds no password."""
        from ageinfer.sources import name_of

        return self.name or name_of(self.source)

    def opened(self, reconnect_for_s: float | None) -> "Source":
        """Opens it alone.

        Raises:
            SourceError: that fails.
        """
        from ageinfer.sources import open_camera, open_source

        if isinstance(self.source, int):
            source = open_camera(self.source, reconnect_for_s=reconnect_for_s)
        else:
            source = open_source(self.source, reconnect_for_s=reconnect_for_s)
        source.name = self.name or source.name
        return source


def inputs_of(options: argparse.Namespace) -> list[Input]:
    """The sources of a command line, or else those of its configuration file.

    Raises:
        UsageError: there is none, or they do not go together.
    """
    numbers = options.camera or []
    for number in numbers:
        if number < 0:
            raise UsageError(f"--camera {number}: cameras are numbered from 0")
        if number > _LAST_CAMERA:
            raise UsageError(f"--camera {number}: use 0 to {_LAST_CAMERA}, or the path of the device")
    inputs = [Input(number) for number in numbers] + [Input(source) for source in options.source]
    inputs = inputs or list(options.inputs)
    if not inputs:
        raise UsageError("name one SOURCE, or --camera N (see ageinfer --help)")
    live = [one for one in inputs if one.is_live]
    if live and len(live) < len(inputs):
        other = next(one for one in inputs if not one.is_live)
        raise UsageError(f"{live[0].shown} is live, {other.shown} is a file; give several live sources, or files")
    if len(live) > 1:
        names = [one.shown for one in live]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{twice}: given twice; leave one out, or give each a name in a --config file")
    return inputs


def check_live_outputs(options: argparse.Namespace) -> None:
    """Refuses outputs that hold one live source only.

    Raises:
        UsageError: one of them was asked for.
    """
    for name in ("output", "window"):
        if getattr(options, name):
            raise UsageError(f"--{name} is for one source; use --serve, --jsonl or --faces for several")


def check_film_outputs(options: argparse.Namespace) -> None:
    """Refuses outputs that hold one video only.

    Raises:
        UsageError: one of them was asked for.
    """
    for name in ("output", "window", "serve", "serve_at", "mqtt"):
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for one video; give videos one by one, or use --jsonl, --people or --faces")


def opener_of(inputs: Sequence[Input], reconnect_for: float | None) -> "Callable[[], Source]":
    """Returns what opens the sources together, as often as it is called.

    Args:
        inputs: from `inputs_of`.
        reconnect_for: seconds for which a lost live source is tried again; None: 60, and for ever where there are
            several, because the others would hide that one has gone.
    """
    from ageinfer.sources import LiveGroup, open_sources

    several = len(inputs) > 1 and inputs[0].is_live
    if reconnect_for is None:
        reconnect_for = float("inf") if several else _PATIENCE_S
    patience_s = None if reconnect_for == float("inf") else reconnect_for
    if several:
        openers = {one.shown: partial(one.opened, patience_s) for one in inputs}
        return lambda: LiveGroup(openers, patience_s=patience_s)
    if len(inputs) == 1:
        return partial(inputs[0].opened, patience_s)
    return lambda: open_sources([str(one.source) for one in inputs], reconnect_for_s=patience_s)


def boards_of(inputs: Sequence[Input], options: argparse.Namespace) -> "Boards":
    """The places of each source: those of all, and its own.

    Raises:
        UsageError: a place is none, or two have the same name.
    """
    from ageinfer.people import Places
    from ageinfer.people.board import Board, Boards

    def board(one: Input) -> Board:
        return Board(Places.parse([*options.zone, *one.zones], [*options.line, *one.lines]))

    boards = {one.shown: board(one) for one in inputs if len(inputs) > 1 and one.is_live}
    return Boards(board(inputs[0]), boards)


def names_of(source: "Source") -> list[str]:
    """The names of several live sources; none where there is a single source, or a list of files."""
    from ageinfer.sources import LiveGroup

    return [member.name for member in source.members] if isinstance(source, LiveGroup) else []
