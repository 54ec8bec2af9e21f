"""Reads the options of a run from a TOML file (``--config``)."""

import argparse
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ageinfer.commands.inputs import Input
from ageinfer.errors import UsageError

_LARGEST_BYTES = 1 << 20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CAMERA_KEYS = ("name", "source", "zone", "line")
_NAME = re.compile(r"[\w][\w .:-]{0,39}")
_NOT_IN_FILES = ("config", "help", "version", "json-schema")


def with_config(
    parser: argparse.ArgumentParser, words: Sequence[str], options: argparse.Namespace
) -> argparse.Namespace:
    """The options of a command line together with those of its ``--config``.

    The command line wins. What may be repeated, such as ``--zone``, is added.

    Args:
        parser: has read the command line.
        words: of the command line.
        options: that it has read.

    Raises:
        UsageError: see `read_config`.
    """
    path = getattr(options, "config", None)
    return options if path is None else parser.parse_args(words, read_config(parser, path))


def read_config(parser: argparse.ArgumentParser, path: str) -> argparse.Namespace:
    """Reads a file in which every option has its long name, and each camera a table of its own.

        model = "age-small"
        serve = true
        mqtt = "mqtts://${MQTT_USER}:${MQTT_PASSWORD}@broker.local/ageinfer"

        [[camera]]
        name = "door"
        source = "rtsp://viewer:${DOOR_PASSWORD}@10.0.0.5/live"
        zone = ["queue=0,0;0.5,0;0.5,1;0,1"]

    ``${NAME}`` is a variable of the environment; in an address, what has a meaning there is written as ``%XX``.

    Args:
        parser: knows the options; it checks the values as it checks those of a command line.
        path: of the file.

    Returns:
        The options, with those that the file leaves out at their defaults, and the cameras as ``inputs``.

    Raises:
        UsageError: the file cannot be read, or one of its values is wrong; the message names the file and the key.
    """
    values = _loaded(path)
    actions = {name[2:]: action for action in parser._actions for name in action.option_strings if name[:2] == "--"}
    for name in _NOT_IN_FILES:
        actions.pop(name, None)
    inputs = _inputs(path, values) if "camera" in actions else []
    arguments: list[str] = []
    for key, value in values.items():
        if key not in actions:
            near = difflib.get_close_matches(key, actions, 1)
            raise UsageError(f"{path}: {key}: no such option" + (f"; did you mean {near[0]}?" if near else ""))
        arguments += _arguments(f"{path}: {key}", key, value, actions[key])
    options = _parsed(parser, path, arguments)
    options.inputs = inputs
    return options


def _loaded(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; check it") from error
    if len(text) > _LARGEST_BYTES:
        raise UsageError(f"{path}: has more than {_LARGEST_BYTES >> 20} MB; a configuration is small")
    try:
        return tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}; write key = value, and texts in quotes") from error


def _inputs(path: str, values: dict[str, Any]) -> list[Input]:
    """Takes the sources and the tables of cameras out of a file."""
    sources = _strings(f"{path}: source", values.pop("source", []))
    inputs = [Input(_with_variables(f"{path}: source", source)) for source in sources]
    if _is_tables(values.get("camera")):
        tables = enumerate(values.pop("camera"), 1)
        inputs += [_input(f"{path}: camera {number}", table) for number, table in tables]
    return inputs


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(table, dict) for table in value)


def _input(place: str, table: dict[str, Any]) -> Input:
    if unknown := next((key for key in table if key not in _CAMERA_KEYS), None):
        raise UsageError(f"{place}: {unknown}: unknown; use {', '.join(_CAMERA_KEYS)}")
    source, name = table.get("source"), table.get("name", "")
    if isinstance(source, bool) or not isinstance(source, str | int) or source == "":
        raise UsageError(f"{place}: source: use an address or a path in quotes, or the number of a camera")
    if not isinstance(name, str) or not (name == "" or _NAME.fullmatch(name)):
        raise UsageError(f"{place}: name: use up to 40 letters, digits, spaces, and _ . : -")
    if isinstance(source, str):
        source = _with_variables(f"{place}: source", source)
    zones, lines = (tuple(_strings(f"{place}: {key}", table.get(key, []))) for key in ("zone", "line"))
    return Input(source, name, zones, lines)


def _strings(place: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in values):
        raise UsageError(f"{place}: use texts in quotes, several as a list in brackets")
    return values


def _arguments(place: str, key: str, value: Any, action: argparse.Action) -> Iterator[str]:
    """Writes a value as the words of a command line."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{place}: use true or false")
        if value:
            yield f"--{key}"
        return
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        raise UsageError(f"{place}: use a number or a text in quotes")
    texts = [_with_variables(place, str(one)) for one in values]
    repeatable = isinstance(action, argparse._AppendAction)
    for text in texts if repeatable else [",".join(texts)]:
        yield f"--{key}={text}"


def _with_variables(place: str, text: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise UsageError(f"{place}: the environment has no {name}; set it")
        return quote(os.environ[name], safe="") if "://" in text[: found.start()] else os.environ[name]

    return _VARIABLE.sub(value, text)


def _parsed(parser: argparse.ArgumentParser, path: str, arguments: list[str]) -> argparse.Namespace:
    error = parser.error

    def complain(message: str) -> None:
        from ageinfer.sources.address import without_secrets

        raise UsageError(f"{path}: {without_secrets(message.removeprefix('argument '))}")

    parser.error = complain  # type: ignore[assignment, method-assign]
    try:
        return parser.parse_args(arguments)
    finally:
        parser.error = error  # type: ignore[method-assign]
