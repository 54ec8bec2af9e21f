"""Facts in the documents: figures, bounds, names and hashes are those of the program and of the measurements."""

import hashlib
import json
import re
import tomllib
from collections import defaultdict
from importlib import import_module

import pytest
from conftest import ROOT
from documents import DOCS, documents, resolve, table_after

README = (ROOT / "README.md").read_text()
SOURCES = "".join(
    path.read_text()
    for folder in ("ageinfer", "agetrain", "ageexport", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
SHIPPED = ("age-small", "age-small.fp32", "age-accurate", "age-accurate.fp32")


def test_the_bounds_of_the_checks_are_those_of_the_program():
    bounds = import_module("ageexport.ladder").Bounds()
    text = (DOCS / "reference" / "proof.md").read_text()
    rows = [(level, bound) for level, _, bound in table_after(text, "check")]
    assert rows == [
        ("L0", f"{bounds.tensor:g} years (fp32)"),
        ("L1", f"{bounds.tensor:g} years (fp32)"),
        ("L2", f"pixels equal, ages and deviations {bounds.tensor:g} years (fp32)"),
        ("L2", f"{bounds.fewest_equal_pixels_percent:g} % of the crops byte for byte"),
        ("L3", f"{bounds.mae:g} years (fp32)"),
        (
            "L4",
            f"{bounds.int8_mae:g} years, and {bounds.int8_decade_mae:g} in every decade of age with "
            f'{bounds.fewest_in_decade} faces; other decades are "not judged"',
        ),
        (
            "L4",
            f"{bounds.int8_time:g} of the time, or {bounds.int8_small_time:g} for a file of at most "
            f"{bounds.int8_small:g} of the size; a worse time is measured once more; `--verify-only` only reports it",
        ),
        ("L4", f"{bounds.fp16_mae:g} years"),
        (
            "L4",
            f'{bounds.tensor:g} (with TF32 {bounds.tf32:g}) years in fp32; "not measured" where it is not installed',
        ),
        ("L5", f"the same faces, boxes {bounds.box_px:g} px"),
        ("L5", f"{bounds.crop_percent:g} % of the values within one level"),
        (
            "L5",
            f"{bounds.elsewhere:g} years (fp32); in other precisions {bounds.reduced_elsewhere:g} year, and "
            f"{bounds.reduced_elsewhere_mean:g} on average",
        ),
    ]
    guide = " ".join((DOCS / "how-to" / "export.md").read_text().split())
    assert f"A proof needs at least {bounds.fewest_faces} faces." in text
    assert f"at least {bounds.fewest_labelled} labelled pictures" in text
    assert f"than the bound, and at most {bounds.int8_mae_of_few:g} years" in text
    assert (
        f"At least {bounds.fewest_faces} faces are needed. With fewer than {bounds.fewest_labelled} labelled ones"
        in guide
    )


def test_the_readme_names_targets_that_the_makefile_has():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)\b", README, re.MULTILINE)) == {"demo", "test"}
    assert set(re.findall(r"`make ([a-z-]+)`", README)) == {"docs"}
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert {"demo", "test", "docs"} <= targets
    assert targets == set(phony.split())


def requirements() -> dict[str, set[str]]:
    """Each package of pyproject.toml, and where it is needed: "runtime", "build", "extra `NAME`"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = {"runtime": project["project"]["dependencies"], "build": project["build-system"]["requires"]}
    lists |= {f"extra `{name}`": found for name, found in project["project"]["optional-dependencies"].items()}
    needed = defaultdict(set)
    for place, found in lists.items():
        for requirement in found:
            name = re.match(r"[\w.-]+(?:\[[\w,]+\])?", requirement)[0]
            if not name.startswith("ageinfer["):
                needed[name].add(place)
    return needed


def test_every_dependency_has_its_reason_and_no_other_has_one():
    rows = table_after((DOCS / "reference" / "dependencies.md").read_text(), "package")
    documented = {
        name: set(where.split(", ")) for names, where, _ in rows for name in re.split(r", (?![\w,]*\])", names)
    }
    assert documented == requirements()
    assert all(len(reason) > 10 for _, _, reason in rows)


def test_the_example_of_a_record_has_the_keys_of_the_schema():
    from ageinfer.sinks import record_schema

    text = (DOCS / "reference" / "records.md").read_text()
    [example] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    schema = record_schema()
    assert set(example) == set(schema["properties"]) - {"damaged"}
    assert set(example["faces"][0]) == set(schema["$defs"]["face"]["properties"]) - {"over"}  # only where one asks
    assert re.fullmatch(r"[\w.-]+@(fp32|fp16|int8|mixed)", example["model"])


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_is_there(path):
    """Files of the repository, names of Python and environment variables between backticks."""
    text = path.read_text()
    files = re.findall(r"`((?:benchmarks|tests|models|checkpoints|docs|age\w+)/[\w./-]+)`", text)
    assert [name for name in files if not (ROOT / name).exists()] == []
    names = re.findall(r"`((?:ageinfer|agetrain|ageexport)(?:\.\w+)+)[`(]", text)
    files_of = {name for name in names if (ROOT / name).exists()}
    assert {name for name in names if resolve(name) is None} - files_of == set()
    variables = re.findall(r"\bAGE[A-Z]+_[A-Z_]+\b", text)
    assert [name for name in variables if not re.search(rf"[\"$]{name}\b", SOURCES)] == []


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


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_of_a_shipped_model_is_of_that_file(name):
    card = (ROOT / "models" / f"{name}.md").read_text()
    assert hashlib.sha256((ROOT / "models" / f"{name}.onnx").read_bytes()).hexdigest() in card


def test_the_documents_say_of_the_models_what_was_measured():
    results = DOCS / "results"
    evaluations = json.loads((results / "evaluation" / "evaluation.json").read_text())["evaluations"]
    assert {e["model"] for e in evaluations} == {f"{name}.onnx" for name in SHIPPED}
    rows = table_after((results / "models.md").read_text(), "mean absolute error, years")
    for name in SHIPPED:
        figures = {e["dataset"]: e for e in evaluations if e["model"] == f"{name}.onnx"}
        [row] = [row for row in rows if re.match(rf"`{re.escape(name)}`", row[0])]
        assert row[1:] == [f"{figures[s]['mae']:.2f}" for s in ("appa-real", "utkface", "all-age-faces", "uk-mps-2017")]
        # Measured on the file that is shipped, not on one before it.
        card = (ROOT / "models" / f"{name}.md").read_text()
        assert all(e["model_sha256"] in card for e in figures.values())
    [found] = [row for row in rows if row[0] == "face found by YuNet"]
    small = [e for e in evaluations if e["model"] == "age-small.onnx"]
    assert found[1:] == [f"{e['detection_rate_percent']:.1f} %" for e in small]


def test_the_comparison_has_the_figures_of_its_record():
    rows = {
        row[0].strip("*"): row for row in table_after((DOCS / "results" / "comparison.md").read_text(), "estimator")
    }
    record = json.loads((DOCS / "results" / "comparison" / "2026-11-29.json").read_text())
    compared = {estimator["name"]: estimator for estimator in record["estimators"]}
    assert set(compared) == set(rows) - {"always the median of train"}
    for name, estimator in compared.items():
        sets = ("appa-real", "all-age-faces", "utkface", "uk-mps-2017")
        assert rows[name][4:8] == [f"{estimator['accuracy'][key]['mae']:.2f}" for key in sets]


def test_every_data_set_is_in_the_table():
    from agetrain.datasets import DATASETS

    rows = table_after((DOCS / "reference" / "datasets.md").read_text(), "name")
    assert [row[0] for row in rows] == [f"`{name}`" for name in DATASETS]
