"""Documents say what the programs do."""

import doctest
import hashlib
import json
import re
from dataclasses import asdict
from importlib import import_module

import pytest
from conftest import ROOT

from ageinfer.cli import build_parser
from ageinfer.errors import ExitStatus
from ageinfer.sinks import CSV_COLUMNS

README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
EXPORT = (ROOT / "docs" / "export.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "ageinfer",
        "ageinfer.estimate",
        "ageinfer.fastest",
        "ageinfer.pipeline",
        "ageinfer.smoothing",
        "ageinfer.ahead",
        "agetrain.metrics",
    ],
)
def test_examples_in_docstrings_give_what_they_say(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_library_example_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_library_example_of_the_runtime_runs(monkeypatch, capsys, tmp_path, write_video, astronaut):
    write_video(tmp_path / "clip.mp4", [astronaut] * 4)
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "runtime.md").read_text(), re.DOTALL)
    exec(compile(example, "runtime.md", "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(" 1 " in line for line in lines)  # one track


def test_the_readme_names_every_option_of_ageinfer_and_no_other():
    options = {o for action in build_parser()._actions for o in action.option_strings if o.startswith("--")}
    section = README[README.index("## Faces and ages") : README.index("## How fast")]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
    assert options - {"--help", "--version"} == named


COMMANDS = (
    "agetrain.cli", "agetrain.prepare", "agetrain.audit", "agetrain.splits", "agetrain.evaluate", "agetrain.calibrate",
    "ageexport.__main__", "ageexport.inspect", "agetrain.facestart", "agetrain.headfirst", "agetrain.interpolate",
)  # fmt: skip


def options_of(parser) -> set[str]:
    return {o for action in parser._actions for o in action.option_strings if o.startswith("--")}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_training_is_documented_and_has_help(name):
    parser = import_module(name).build_parser()
    assert parser.prog in TRAINING + README
    assert parser.description
    assert "exit status" in parser.epilog
    assert [action.dest for action in parser._actions if not action.help] == []
    assert len(parser.format_help()) > 400


def test_the_documents_of_training_name_no_option_that_does_not_exist():
    known = set().union(*(options_of(import_module(name).build_parser()) for name in COMMANDS))
    known |= options_of(build_parser()) | {"--nproc-per-node"}
    text = (
        TRAINING
        + EXPORT
        + (ROOT / "docs" / "reproduction.md").read_text()
        + README[README.index("## A model of your") :]
    )
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert len(named) > 20
    assert named - known == set()


def test_every_option_of_the_export_is_documented():
    assert options_of(import_module("ageexport.__main__").build_parser()) - {"--help"} - named_in(EXPORT) == set()


def named_in(text) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def test_the_bounds_of_the_ladder_are_those_of_the_document():
    from ageexport.ladder import Bounds

    for name, value in asdict(Bounds()).items():
        assert re.search(rf"(?<![\d.]){value:g}(?![\d.]\d)", EXPORT), name


def test_the_readme_names_every_exit_status():
    named = {int(status) for status in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert named == {status.value for status in ExitStatus}


def test_the_readme_names_targets_that_the_makefile_has():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) == {"demo", "test"} <= targets


def test_every_dependency_has_its_reason():
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    names = re.findall(r'"([a-z][a-z-]+)(?:\[[a-z,]+\])?(?:>=|<)', (ROOT / "pyproject.toml").read_text())
    assert len(names) > 10
    assert [name for name in names if name not in reasons] == []


def test_the_columns_of_the_csv_are_documented():
    text = (ROOT / "docs" / "records.md").read_text()
    for column in CSV_COLUMNS:
        stem = re.sub(r"_[xywh]$", "", column)
        assert stem.replace("_", " ").split()[-1] in text, column


def test_the_hashes_of_the_models_are_theirs():
    lines = (ROOT / "models" / "SHA256SUMS").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    for model in (ROOT / "models").glob("*.onnx"):
        assert hashlib.sha256(model.read_bytes()).hexdigest() == hashes.pop(model.name)
    assert hashes == {}
    # The detector is the published file, byte for byte.
    assert (
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4  face_detection_yunet_2023mar.onnx" in lines
    )


SHIPPED = ("age-small", "age-small.fp32", "age-accurate", "age-accurate.fp32")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_of_a_shipped_model_is_of_that_file(name):
    card = (ROOT / "models" / f"{name}.md").read_text()
    assert hashlib.sha256((ROOT / "models" / f"{name}.onnx").read_bytes()).hexdigest() in card


def test_the_readme_says_of_the_models_what_was_measured():
    evaluations = json.loads((ROOT / "docs" / "evaluation" / "evaluation.json").read_text())["evaluations"]
    assert {e["model"] for e in evaluations} == {f"{name}.onnx" for name in SHIPPED}
    for figures in evaluations:
        name = figures["model"].removesuffix(".onnx")
        [row] = [line for line in README.splitlines() if line.startswith(f"| `{name}`")]
        assert f"{figures['mae']:.2f}" in row
        # Measured on the file that is shipped, not on one before it.
        card = (ROOT / "models" / f"{name}.md").read_text()
        assert figures["model_sha256"] in card
