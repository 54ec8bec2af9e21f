"""The generated parts of the documents are what the program says now."""

import re

import pytest
from conftest import ROOT
from documents import DOCS, generator, table_after

from ageinfer.errors import ExitStatus
from ageinfer.sinks import CSV_COLUMNS, record_schema

GENERATED = generator().documents()
PARSERS = generator().parsers()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_a_generated_part_is_what_the_program_says(path):
    assert path.read_text() == GENERATED[path], "run: python docs/generate.py"


def test_every_generated_part_has_its_maker():
    marked = {path for path in (ROOT / "README.md", *DOCS.rglob("*.md")) if "<!-- generated:" in path.read_text()}
    assert marked == set(GENERATED)


@pytest.mark.parametrize("name", PARSERS)
def test_a_command_is_documented_with_each_of_its_options(name):
    [package] = [package for package in ("ageinfer", "agetrain", "ageexport") if package in name]
    text = (DOCS / "reference" / "command-line" / f"{package}.md").read_text()
    section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    documented = {word for cell in cells for word in re.findall(r"`(-[\w-]*)", cell)}
    assert documented == {option for action in PARSERS[name]._actions for option in action.option_strings}
    assert all(len(line.split(" | ")[1]) > 4 for line in section.splitlines() if line.startswith("| `"))


@pytest.mark.parametrize("name", [name for name in PARSERS if not name.startswith("ageinfer ")])
def test_a_command_has_help(name):
    parser = PARSERS[name]
    assert parser.prog == name
    assert parser.description
    assert "exit status" in parser.epilog
    assert [action.dest for action in parser._actions if not action.help] == []
    assert len(parser.format_help()) > 400


def test_the_help_of_ageinfer_names_its_other_commands():
    others = {name.split()[1] for name in PARSERS if name.startswith("ageinfer ")}
    assert set(re.findall(r"^  ageinfer ([a-z]+)", PARSERS["ageinfer"].epilog, re.MULTILINE)) == others


def test_the_table_of_exit_statuses_has_all_of_them():
    rows = table_after((DOCS / "reference" / "exit-status.md").read_text(), "exit status")
    assert [int(row[0]) for row in rows] == [status.value for status in ExitStatus]
    commands = {int(row[0]): row[2] for row in rows}
    assert commands[ExitStatus.DIVERGED] == "`python -m agetrain`, `python -m agetrain.headfirst`"
    assert commands[ExitStatus.UNPROVED] == "`ageinfer prove`, `python -m ageexport`, `python -m ageexport.elsewhere`"
    assert commands[ExitStatus.USAGE] == "all"


def test_the_keys_and_columns_of_records_are_documented_by_whole_words():
    text = (DOCS / "reference" / "records.md").read_text()
    schema = record_schema()
    keys = [*schema["properties"], *schema["$defs"]["face"]["properties"]]
    assert [row[0] for row in table_after(text, "key")] == [f"`{key}`" for key in keys]
    rows = table_after(text, "column")
    assert [column for row in rows for column in re.findall(r"`(\w+)`", row[0])] == list(CSV_COLUMNS)
    assert {row[1] for row in rows} <= {f"`{key}`" for key in keys}
