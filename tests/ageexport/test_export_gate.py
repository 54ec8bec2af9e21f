"""A gate of an export: a file with a group beyond its bounds is not written, in each precision by itself."""

import csv
import json
import re
import shutil
import types

import numpy as np
import onnx
import pytest
import torch

from ageexport import evidence, export_model, graph, parity, precision, providers
from ageexport.__main__ import main
from ageexport.card import with_points
from ageexport.errors import ParityError
from ageexport.latency import Latency
from ageinfer.crop.spec import CropSpec
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain.crops import cache

N = 30  # of each sex, and ten others


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """OpenVINO, browsers and latencies have tests of their own."""
    monkeypatch.setattr(providers, "rungs", lambda *_: [])
    monkeypatch.setattr(parity.elsewhere, "rungs", lambda *_: [])
    monkeypatch.setattr("ageexport.export.time_model", lambda *_: Latency(1, 1, 1.0, 1.0, 10))


@pytest.fixture(autouse=True)
def _at_once(exported_distribution, monkeypatch):
    """Spares torch's conversion."""
    model = onnx.load(exported_distribution.model)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: types.SimpleNamespace(model_proto=model))


@pytest.fixture(scope="module")
def ages(exported_distribution, proof, tmp_path_factory):
    """What the network answers to 70 pictures, in fp32 and in fp16."""
    samples = evidence.from_own(proof).samples[: 2 * N + 10]
    crops = cache.open_crops(samples, CropSpec(size=64), tmp_path_factory.mktemp("crops"), "crops")
    faces = np.array(crops.crops)
    assert crops.found.all()
    model = onnx.load(exported_distribution.model)
    fp16 = precision.fp16(graph.without_metadata(model)).model
    return graph.ages_of(model, faces), graph.ages_of(fp16, faces)


@pytest.fixture(scope="module")
def older_women(ages, proof, tmp_path_factory):
    """The pictures with other labels: the 30 that are answered as the oldest are girls, the youngest 30 are boys."""
    folder = tmp_path_factory.mktemp("labelled")
    order = np.argsort(-ages[0]).tolist()
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "age", "sex", "part"))
        for rank, i in enumerate(order):
            minor, sex = 13 + rank % 5, "girl" if rank < N else "boy"
            row = (minor, sex) if rank < N or rank >= N + 10 else (30, "")
            writer.writerow((proof / f"{i:06d}.jpg", *row, "valid"))
    return folder


@pytest.fixture
def place(exported_distribution, tmp_path):
    """A folder with a checkpoint alone."""
    shutil.copy(exported_distribution.checkpoint, tmp_path / "best.pth")
    return tmp_path


@pytest.fixture
def export(place, older_women, capsys):
    """Exports with a gate; returns the exit status and what was said."""

    def run(gate, *options):
        (place / "gates.toml").write_text(gate)
        checkpoint = [] if "--verify-only" in options else [place / "best.pth"]
        arguments = [*checkpoint, "--data", older_women, "--gate", place / "gates.toml", *options]
        status = main(list(map(str, arguments)))
        return status, capsys.readouterr()

    return run


def models(place):
    return sorted(path.name for path in place.glob("*.onnx"))


def between(answers, rank):
    """A cut-off between two neighbours: so many of the pictures are answered as of it or older."""
    older, younger = np.sort(answers)[::-1][rank - 1 : rank + 1].tolist()
    assert older - younger > 1e-3
    return round((older + younger) / 2, 4)


def minors(bound, cutoff, **more):
    lines = [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(
        ["[minors]", 'groups = "sex"', f"false_positive_percent = {bound}", f"cutoff_years = {cutoff}", *lines]
    )


def test_a_group_beyond_its_bound_is_not_written_and_a_looser_gate_lets_it_pass(place, ages, export):
    cutoff = between(ages[0], 6)  # six of the thirty girls, and no boy
    status, said = export(minors(19.9, cutoff), "--quiet")
    assert status == 10
    [line] = said.err.splitlines()
    assert line.startswith(
        "ageexport: fp32: beyond the bounds of gates.toml: gate minors: sex girl: false positives of 13 to 17 at "
        f"cut-off {cutoff:g}: 20.00 % (9.51 to 37.31), at most 19.9 %, n 30: failed; "
    )
    assert line.endswith("; nothing was written")
    assert "boy" not in line
    assert sorted(p.name for p in place.iterdir()) == ["best.pth", "gates.toml"]

    status, said = export(minors(20, cutoff), "--quiet")
    assert status == 0, said.err
    assert "; gates.toml: 2 kept\n" in said.out
    assert models(place) == ["best.onnx"]
    found = json.loads((place / "best.parity.json").read_text())["gate"]
    assert found["file"] == "gates.toml"
    girl, boy = found["verdicts"][1], found["verdicts"][0]
    assert girl == {
        "gate": "minors", "attribute": "sex", "group": "girl", "key": "false_positive_percent",
        "what": f"false positives of 13 to 17 at cut-off {cutoff:g}", "n": 30, "figure": 20.0,
        "interval_95": [9.5051, 37.3057], "bound": 20, "status": "kept", "note": "",
    }  # fmt: skip
    assert (boy["group"], boy["n"], boy["figure"]) == ("boy", 30, 0)
    card = (place / "best.md").read_text()
    assert f"`gates.toml` (SHA-256 `{found['sha256']}`)" in card
    metadata = ModelMetadata.from_json(metadata_properties((place / "best.onnx").read_bytes())[METADATA_KEY])
    assert with_points(card, metadata) == card  # what is written later into a card takes nothing away from it
    assert (
        f"\n| `minors` | sex girl | 30 | {girl['what']} | 20.00 % (9.51 to 37.31) | 20 % | kept |\n\n## Training"
        in card
    )


def test_the_mae_is_that_of_the_file_by_the_runtime(place, ages, older_women, export):
    with (older_women / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    order = np.sort(ages[0])[::-1]
    errors = np.abs(order - [int(row["age"]) for row in rows])
    girls, boys, both = errors[:N].mean(), errors[-N:].mean(), errors.mean()
    assert girls > max(both, boys)
    gate = f'[g]\ngroups = "sex"\nmae_years = {girls + 0.01}\nmae_ratio = {girls / both - 0.01}\n'
    status, said = export(gate + f'[all]\ngroups = "all"\nbias_years = {both - 0.01}\n', "--quiet")
    assert status == 10
    assert f"sex girl: MAE over that of all: {girls / both:.2f} (" in said.err
    assert f"gate all: all: bias: {both:+.2f} years (" in said.err
    assert said.err.count("gate ") == 2
    assert models(place) == []


def test_each_precision_is_judged_by_itself(place, ages, export):
    """Between the answers of both precisions to one face: in fp16 there is one false positive less."""
    fp32, fp16 = ages
    girls = np.argsort(-fp32)[: N // 2]
    cutoffs = [round(float(fp32[i] + fp16[i]) / 2, 5) for i in girls if fp32[i] - fp16[i] > 1e-3]
    counted = {cutoff: [int((answers >= cutoff).sum()) for answers in ages] for cutoff in cutoffs}
    cutoff, hits = next((cutoff, hits) for cutoff, hits in counted.items() if hits[1] < hits[0])
    gate = minors(100 * hits[1] / N, cutoff)
    status, said = export(gate, "--precision", "fp32", "fp16", "--quiet")
    assert status == 10, said
    assert "ageexport: fp32: beyond the bounds of gates.toml: gate minors: sex girl: " in said.err
    assert said.err.rstrip().endswith(f"; written: {place / 'best.fp16.onnx'}")
    assert models(place) == ["best.fp16.onnx"]
    assert said.out.startswith(f"{place / 'best.fp16.onnx'}: fp16, ")
    assert f"{100 * hits[1] / N:.2f} % (" in (place / "best.fp16.md").read_text()
    # A precision that nobody asked for stops no other.
    status, said = export(gate, "--precision", "fp16", "--quiet", "--overwrite")
    assert (status, said.err) == (0, "")


def test_every_precision_that_fails_is_told(export, place):
    status, said = export(minors(0, 18), "--precision", "fp32", "fp16", "--quiet")
    assert status == 10
    assert "ageexport: fp32: beyond the bounds of gates.toml: " in said.err
    assert "; fp16: beyond the bounds of gates.toml: " in said.err
    assert models(place) == []


def test_where_nobody_can_be_judged_the_file_is_written_and_says_so(export, place):
    gate = minors(0, 18, least_n=31) + '\n[everybody]\ngroups = "all"\nmae_years = 100'
    status, said = export(gate, "--quiet")
    assert status == 0
    [warning] = [line for line in said.err.splitlines() if "nobody" in line]
    assert warning == "gate minors: nobody is judged by it: each group has too few pictures"
    assert "; gates.toml: 1 kept, 2 not judged\n" in said.out
    card = (place / "best.md").read_text()
    assert (
        "| `minors` | sex girl | 30 | false positives of 13 to 17 at cut-off 18 | - | 0 % | not judged: 30 of 31 |"
        in card
    )
    assert "Nobody is judged by `minors`: each group has too few pictures." in card
    assert "Nobody is judged by `everybody`" not in card
    found = json.loads((place / "best.parity.json").read_text())["gate"]["verdicts"]
    assert [v["status"] for v in found] == ["not judged", "not judged", "kept"]


def test_the_single_figures_are_printed(export):
    _, said = export(minors(100, 18, least_n=1) + '\n[errors]\ngroups = "age"\nbias_years = 90')
    false = "false positives of 13 to 17 at cut-off 18: 100.00 % (88.65 to 100.00), at most 100 %, n 30: kept"
    [boys, girls, young, old] = [line for line in said.err.splitlines() if line.startswith("fp32 gate ")]
    assert boys == f"fp32 gate minors: sex boy: {false}"
    assert girls == f"fp32 gate minors: sex girl: {false}"
    assert re.fullmatch(
        r"fp32 gate errors: age 10-19: bias: \+\d+\.\d\d years \(.*\), at most 90 years, n 60: kept", young
    )
    assert old == "fp32 gate errors: age 30-39: bias: -, at most 90 years, n 10: not judged: 10 of 30"


def test_an_attribute_that_the_evidence_does_not_have_is_said_before_any_face_is_cropped(export, place, monkeypatch):
    monkeypatch.setattr(parity, "crop", lambda *_: pytest.fail("was cropped"))
    status, said = export(minors(5, 25).replace('"sex"', '"gender"'))
    assert status == 2
    assert said.err.startswith(
        f"ageexport: {place / 'gates.toml'}: [minors]: groups: gender: the pictures of the proof ("
    )
    assert said.err.endswith("do not have it; use all, age, sex\n")


def test_a_file_is_verified_with_a_gate(export, place, ages):
    cutoff = between(ages[0], 6)
    assert export(minors(20, cutoff), "--quiet")[0] == 0
    options = ("--verify-only", place / "best.onnx", "--checkpoint", place / "best.pth", "--quiet")
    status, said = export(minors(20, cutoff), *options)
    assert (status, said.err) == (0, "")
    assert said.out.rstrip().endswith("; gates.toml: 2 kept")
    status, said = export(minors(19.9, cutoff), *options)
    assert status == 10
    assert "sex girl: false positives of 13 to 17" in said.err
    assert "verified" not in said.out


def test_from_python_and_other_runtimes_are_not_asked_about_a_file_that_fails(place, older_women, monkeypatch):
    asked = []
    monkeypatch.setattr(parity.elsewhere, "rungs", lambda *_: asked.append(1) or [])
    (place / "gates.toml").write_text(minors(0, 18))
    with pytest.raises(ParityError, match=r"gate minors: sex boy.*; nothing was written"):
        export_model(place / "best.pth", data=older_women, gate=place / "gates.toml")
    assert asked == []
    (place / "gates.toml").write_text(minors(100, 18))
    result = export_model(str(place / "best.pth"), data=older_women, gate=str(place / "gates.toml"))
    assert [verdict.status for verdict in result.fp32.ladder.gate.verdicts] == ["kept", "kept"]
    assert asked == [1]


def test_without_a_gate_nothing_is_said_of_it(exported_distribution):
    assert "gate" not in exported_distribution.model.with_suffix(".md").read_text().lower()
    assert json.loads(exported_distribution.model.with_suffix(".parity.json").read_text())["gate"] is None
