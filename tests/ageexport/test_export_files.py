"""The files of an export: all of them or none, nothing replaced that nobody said, names that depend on no outcome."""

import json
from pathlib import Path

import pytest
from portraits import tampered

from ageexport import evidence, export, export_model
from ageexport.__main__ import main
from ageexport.errors import OutputError, ParityError, UsageError
from ageexport.export import ProvedModel
from ageexport.ladder import Ladder, Rung
from ageexport.latency import Latency
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties

ALL = [f"best{kind}{suffix}" for kind in ("", ".int8", ".fp16") for suffix in (".onnx", ".md", ".parity.json")]
MISS = ParityError("int8: too far off")
QUANTISED = {
    "quantised_share": 0.95, "weight_bits": 7, "activation_bits": 8, "ranges": "minmax", "calibration_faces": 24,
    "kept_in_float": [], "size_share": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def proved(exported_distribution):
    """One model as it was proved, and as if it had been proved in other precisions."""
    data = exported_distribution.model.read_bytes()
    proof = json.loads(exported_distribution.model.with_suffix(".parity.json").read_text())
    latency = Latency(**{k: v for k, v in proof["latency"].items() if k in Latency.__slots__})
    ladder = {name: proof[name] for name in Ladder.__slots__} | {"rungs": tuple(Rung(**r) for r in proof["rungs"])}

    def model(precision):
        made = tampered(data, precision=precision, export={"opset": 18, **QUANTISED})
        return ProvedModel(made, precision, Ladder(**{**ladder, "precision": precision}), latency)

    return {precision: model(precision) for precision in ("fp32", "int8", "fp16", "mixed")}


@pytest.fixture
def prove(proved, monkeypatch):
    """Leaves out what takes long: `prove(int8="mixed")` says that int8 is proved in that form, None that it is not."""
    outcome: dict[str, str | None] = {}
    work: list[str] = []

    def models(checkpoint, sha256, proof, precisions, *_, **__):
        work.append("proof")
        made = {p: proved[outcome.get(p, p)] for p in ("fp32", *precisions) if outcome.get(p, p)}
        return made, MISS if None in outcome.values() else None

    monkeypatch.setattr(export, "open_checkpoint", lambda *_, **__: work.append("checkpoint") or (None, "0" * 64))
    monkeypatch.setattr(evidence, "open_evidence", lambda *_: work.append("pictures"))
    monkeypatch.setattr(export, "proved_models", models)

    def say(**changes):
        outcome.update(changes)
        return work

    return say


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*")}


def older(folder):
    """A file of an earlier export under each name."""
    for name in ALL:
        (folder / name).write_bytes(f"an older {name}".encode())
    return contents(folder)


def test_all_files_of_all_precisions(prove, proved, tmp_path):
    prove()
    result = export_model(tmp_path / "best.pth", precision="all")
    assert [file.path.name for file in result.files] == ["best.onnx", "best.int8.onnx", "best.fp16.onnx"]
    assert sorted(contents(tmp_path)) == sorted(ALL)
    for file in result.files:
        assert file.path.read_bytes() == file.model.data
        proof = json.loads(file.path.with_suffix(".parity.json").read_text())
        assert (proof["file"], proof["precision"]) == (file.path.name, file.model.precision)
        assert proof["sha256"] in file.path.with_suffix(".md").read_text()
    assert result.fp32 is proved["fp32"]


@pytest.mark.parametrize("nth", range(len(ALL)))
def test_a_disk_that_is_full_in_the_middle_replaces_nothing(prove, tmp_path, monkeypatch, capsys, nth):
    """Whichever of the files it is that no longer fits."""
    prove()
    before = older(tmp_path)
    write_bytes, written = Path.write_bytes, []

    def full(self, data):
        written.append(self)
        if len(written) == nth + 1:
            write_bytes(self, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main([str(tmp_path / "best.pth"), "--precision", "all", "--overwrite"]) == 5
    err = capsys.readouterr().err
    assert "No space left" in err
    assert "choose another place with -o" in err
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_no_first_export_either(prove, tmp_path, monkeypatch):
    prove()
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left"):
        export_model(tmp_path / "best.pth")
    assert contents(tmp_path) == {}


def test_nothing_is_moved_before_all_is_written_and_each_model_comes_last(prove, tmp_path, monkeypatch):
    prove()
    steps = []
    write_bytes, replace = Path.write_bytes, Path.replace
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: (steps.append("write"), write_bytes(self, data)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append(to.name), replace(self, to)))
    export_model(tmp_path / "best.pth", precision="all")
    assert steps[:9] == ["write"] * 9
    moved = steps[9:]
    assert sorted(moved) == sorted(ALL)
    for model in (name for name in ALL if name.endswith(".onnx")):
        stem = model.removesuffix(".onnx")
        assert moved.index(model) > max(moved.index(f"{stem}.md"), moved.index(f"{stem}.parity.json"))


@pytest.mark.parametrize("there", [[name] for name in ALL] + [ALL, ["best.md", "best.int8.onnx"]])
def test_what_is_there_is_refused_before_any_work(prove, tmp_path, capsys, there):
    work = prove()
    for name in there:
        (tmp_path / name).write_bytes(b"an older one")
    before = contents(tmp_path)
    assert main([str(tmp_path / "best.pth"), "--precision", "all"]) == 2
    err = capsys.readouterr().err
    assert "--overwrite" in err
    assert [name for name in ALL if f"{tmp_path / name}," in err or f"{tmp_path / name}:" in err] == [
        name for name in ALL if name in there
    ]
    assert work == []
    assert contents(tmp_path) == before
    with pytest.raises(UsageError, match="there already"):
        export_model(tmp_path / "best.pth", precision="all")


def test_what_is_there_is_replaced_where_that_is_said(prove, proved, tmp_path):
    prove()
    before = older(tmp_path)
    export_model(tmp_path / "best.pth", precision="all", overwrite=True)
    now = contents(tmp_path)
    assert set(now) == set(before)
    assert not set(now.values()) & set(before.values())
    assert now["best.int8.onnx"] == proved["int8"].data


def test_files_of_other_precisions_are_none_of_its_targets(prove, tmp_path):
    prove()
    (tmp_path / "best.onnx").write_bytes(b"an older one")
    export_model(tmp_path / "best.pth", precision="int8")
    assert (tmp_path / "best.onnx").read_bytes() == b"an older one"
    assert sorted(contents(tmp_path)) == ["best.int8.md", "best.int8.onnx", "best.int8.parity.json", "best.onnx"]


def test_a_file_that_appears_during_the_work_is_not_overwritten(prove, tmp_path, monkeypatch):
    prove()
    models = export.proved_models

    def slowly(*arguments, **more):
        (tmp_path / "best.md").write_text("of another export")
        return models(*arguments, **more)

    monkeypatch.setattr(export, "proved_models", slowly)
    with pytest.raises(UsageError, match=r"best\.md: there already"):
        export_model(tmp_path / "best.pth")
    assert contents(tmp_path) == {"best.md": b"of another export"}


@pytest.mark.parametrize("form", ["int8", "mixed"])
def test_an_8_bit_file_has_one_name_whatever_comes_out(prove, proved, tmp_path, form):
    prove(int8=form)
    result = export_model(tmp_path / "best.pth", precision=["int8", "fp32"])
    assert [file.path.name for file in result.files] == ["best.onnx", "best.int8.onnx"]
    data = (tmp_path / "best.int8.onnx").read_bytes()
    assert ModelMetadata.from_json(metadata_properties(data)[METADATA_KEY]).precision == form
    assert (tmp_path / "best.int8.md").read_text().startswith(f"# distribution ({form})")


def test_what_was_proved_is_written_beside_what_was_not(prove, tmp_path, capsys):
    prove(int8=None)
    before = older(tmp_path)
    assert main([str(tmp_path / "best.pth"), "--precision", "all", "--overwrite"]) == 10
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert captured.err.rstrip().endswith(
        f"too far off; written: {tmp_path / 'best.onnx'}, {tmp_path / 'best.fp16.onnx'}"
    )
    changed = {name for name, data in contents(tmp_path).items() if data != before[name]}
    assert changed == {name for name in ALL if ".int8." not in name}


@pytest.mark.parametrize("output", [None, "age.onnx", "age.int8.onnx"])
def test_no_file_is_written_that_nobody_asked_for(prove, tmp_path, output):
    prove(int8=None)
    with pytest.raises(ParityError, match="too far off; nothing was written"):
        export_model(tmp_path / "best.pth", output and tmp_path / output, precision="int8")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("checkpoint", ["best.md", "best.onnx", "best.parity.json", "link.md"])
def test_a_checkpoint_is_never_overwritten(prove, tmp_path, checkpoint):
    work = prove()
    if checkpoint == "link.md":
        (tmp_path / "real.pth").write_bytes(b"weights")
        (tmp_path / checkpoint).symlink_to("real.pth")
        arguments = tmp_path / "real.pth", tmp_path / "link.onnx"
    else:
        (tmp_path / checkpoint).write_bytes(b"weights")
        arguments = tmp_path / checkpoint, tmp_path / "best.onnx"
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="the checkpoint would be overwritten"):
        export_model(*arguments, overwrite=True)
    assert work == []
    assert contents(tmp_path) == before


def test_a_folder_is_never_overwritten(prove, tmp_path):
    work = prove()
    (tmp_path / "best.md").mkdir()
    with pytest.raises(OutputError, match=r"best\.md: a folder"):
        export_model(tmp_path / "best.pth", overwrite=True)
    assert work == []
