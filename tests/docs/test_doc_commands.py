"""The commands in the documents are commands of the programs."""

import argparse
import os
import re
import shlex

import pytest
from conftest import ROOT
from documents import blocks, commands, documents, generator

COMMANDS = commands()
PARSERS = generator().parsers()
# What runs within seconds on the samples alone; `mine.onnx` is what a reader trains.
CHEAP = ("ageinfer samples/", "ageinfer bench samples/", "python -m ageexport.inspect models/")
RUN = [c for c in COMMANDS if c.text.startswith(CHEAP) and "mine.onnx" not in c.text]
EXAMPLES = blocks("console")


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of a command line, and what it is to parse."""
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    length = 3 if words[0] == "python" else 2 if " ".join(words[:2]) in PARSERS else 1
    return PARSERS[" ".join(words[:length])], words[length:]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "benchmarks/" not in c.text], ids=str)
def test_a_command_of_the_documents_can_be_parsed(command, capsys):
    parser, arguments = parser_of(shlex.split(command.text))
    status = 0
    try:
        parser.parse_args(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", [c for c in COMMANDS if "benchmarks/" in c.text], ids=str)
def test_a_benchmark_of_the_documents_has_these_options(command):
    words = [word for word in shlex.split(command.text) if word != "..."]
    source = (ROOT / words[1]).read_text()
    known = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source))
    assert {word for word in words if word.startswith("--")} <= known


def test_the_documents_have_commands_of_every_program():
    programs = {" ".join(shlex.split(c.text)[:3]) for c in COMMANDS}
    assert {"python -m agetrain", "python -m agetrain.prepare", "python -m agetrain.splits", "python -m agetrain.audit",
            "python -m agetrain.evaluate", "python -m agetrain.calibrate", "python -m ageexport",
            "python -m ageexport.inspect"} <= programs  # fmt: skip
    assert sum(c.text.startswith("ageinfer ") for c in COMMANDS) > 20
    assert "ageinfer doctor" in {c.text for c in COMMANDS}


def test_the_documents_name_no_option_that_does_not_exist():
    known = {option for parser in PARSERS.values() for action in parser._actions for option in action.option_strings}
    known |= set(re.findall(r'"(--[a-z-]+)"', "".join(f.read_text() for f in (ROOT / "benchmarks").glob("*.py"))))
    known |= {"--nproc-per-node", "--strict", "--check", "--examples", "--editable", "--now"}
    for path in documents():
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w-])", path.read_text()))
        assert named - known == set(), path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generator().with_samples(tmp_path_factory.mktemp("documents"))


def masked(text: str) -> list[str]:
    """Lines without what differs from machine to machine: numbers, the version, the provider and the precision."""
    text = re.sub(r" on \w+ \([^)]*\)", " on X (Y)", text)
    text = re.sub(r"@(int8|fp32|fp16)", "@Y", text)
    return re.sub(r"\d+(\.\d+)*", "N", text).splitlines()


@pytest.mark.parametrize("command", RUN, ids=str)
def test_a_cheap_command_runs_on_the_samples(command, folder, monkeypatch):
    if "--detector dlib" in command.text:
        pytest.importorskip("dlib")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    output, status = generator().run_in(folder, command.text)
    assert status == 0, output


def test_there_are_commands_to_run():
    assert len(RUN) >= 10


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_prints_what_the_document_says(block, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    lines = [line for line in block.text.splitlines() if line.startswith("$ ")]
    assert lines
    printed = "".join(f"{line}\n{generator().run_in(folder, line[2:])[0]}" for line in lines)
    assert masked(printed) == masked(block.text)


def test_the_readme_shows_three_commands_with_their_output():
    shown = [block for block in EXAMPLES if block.path == ROOT / "README.md"]
    assert len(shown) == 3
    assert all(len(block.text.splitlines()) > 1 for block in shown)
