"""The documents, and what stands in them: commands, Python examples, tables."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from conftest import ROOT

DOCS = ROOT / "docs"
sys.path.append(str(DOCS))
from limits import value_of  # noqa: E402

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^(?:ageinfer|python -m (?:agetrain|ageexport)[\w.]*|torchrun|python benchmarks/\w+\.py)(?: |$)")


@dataclass(frozen=True)
class Found:
    """A piece of a document; its name in a list of tests is the place."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "samples" / "README.md",
        *sorted(DOCS.rglob("*.md")),
    ]


def blocks(language: str) -> list[Found]:
    """The code blocks of a language, "" for those without one."""
    found = []
    for path in documents():
        text = path.read_text()
        for block in _BLOCK.finditer(text):
            if block[1] == language:
                found.append(Found(path, text.count("\n", 0, block.start()) + 2, block[2]))
    return found


def commands() -> list[Found]:
    """The command lines of the documents: those of blocks, and those between backticks with all that they need."""
    found = []
    for path in documents():
        text = path.read_text()
        for block in _BLOCK.finditer(text):
            first = text.count("\n", 0, block.start()) + 2
            for number, line in enumerate(block[2].splitlines(), first):
                typed = line.startswith("$ ") if block[1] == "console" else not block[1]
                command = line.removeprefix("$ ").partition("  #")[0].rstrip()
                if typed and _COMMAND.match(command):
                    found.append(Found(path, number, command))
        prose = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
        for code in re.finditer(r"`([^`]+)`", prose):
            command = " ".join(code[1].split())
            if _COMMAND.match(command) and " " in command.removeprefix("python -m ") and "..." not in command:
                found.append(Found(path, prose.count("\n", 0, code.start()) + 1, command))
    return found


def table_after(text: str, head: str) -> list[list[str]]:
    """The rows of the table whose first line begins so, as cells."""
    lines = text[text.index(f"| {head} |") :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def resolve(name: str) -> object | None:
    """What a dotted name stands for; None if there is no such thing."""
    try:
        return value_of(name)
    except AttributeError:
        return None


def generator() -> ModuleType:
    """docs/generate.py as a module."""
    if "docs_generate" not in sys.modules:
        sys.path.append(str(DOCS))  # as where it is run
        spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["docs_generate"] = module
        spec.loader.exec_module(module)
    return sys.modules["docs_generate"]
