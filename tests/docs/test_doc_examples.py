"""The Python in the documents and in docstrings runs."""

import doctest
import re
from importlib import import_module

import pytest
from conftest import ROOT
from documents import blocks, generator, resolve

PACKAGES = ("ageinfer", "agetrain", "ageexport")
TESTED_ELSEWHERE = {"ageexport.files", "agetrain.data", "agetrain.evaluation.evaluated", "agetrain.training.fitting"}
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^ *>>> (?!.*doctest: \+SKIP)", path.read_text(), re.MULTILINE)
)
# They need a data set: tests/agetrain/test_train_library.py runs them on a small one.
WITH_EXAMPLES = [name for name in WITH_EXAMPLES if name not in TESTED_ELSEWHERE]
EXAMPLES = blocks("python")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with samples and models, in which the example runs."""
    monkeypatch.chdir(generator().with_samples(tmp_path))
    return tmp_path


def test_modules_with_examples_are_found():
    assert {"ageinfer", "ageinfer.pipeline", "ageinfer.engine.estimator", "ageinfer.ahead"} <= set(WITH_EXAMPLES)
    assert any(name.startswith("agetrain") for name in WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_give_what_they_say(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_of_the_documents_runs(block, folder, capsys):
    code = compile(block.text, str(block), "exec")
    if "to_supervision" in block.text:
        pytest.importorskip("supervision")
    if block.text.startswith("# needs the data set"):
        for name in re.findall(r"\b(?:agetrain|ageexport)(?:\.\w+)+", block.text):
            assert resolve(name) is not None, name
        return
    exec(code, {"__name__": "__main__"})  # noqa: S102
    if "print(" in block.text:
        assert capsys.readouterr().out.strip()


def test_the_example_of_the_readme_finds_the_eight_faces(folder, capsys):
    [block] = [block for block in EXAMPLES if block.path == ROOT / "README.md"]
    exec(compile(block.text, str(block), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(re.match(r"\d+ ± \d+ years \(\S+, \S+, \S+, \S+\)$", line) for line in lines)


def test_the_example_of_a_video_keeps_a_face_in_its_track(folder, capsys, write_video, astronaut):
    [block] = [block for block in EXAMPLES if "face.track, face.age_smoothed_years" in block.text]
    write_video(folder / "samples" / "clip.mp4", [astronaut] * 4)
    exec(compile(block.text, str(block), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert {line.split()[1] for line in lines} == {"1"}
