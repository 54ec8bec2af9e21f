"""The whole ladder on real data, where it is: the kept checkpoint in fp32 and int8, by the exporter's own bounds."""

import json
import shutil

import pytest
from conftest import ROOT

from ageexport.__main__ import main

pytestmark = [pytest.mark.shared, pytest.mark.slow]


def test_the_kept_checkpoint_climbs_the_whole_ladder(shared_data, tmp_path, capsys):
    folder = shared_data / "appa-real-release"
    if not folder.is_dir():
        pytest.skip(f"no APPA-REAL at {folder}")
    shutil.copy(ROOT / "checkpoints" / "best-tuned.pth", tmp_path / "best.pth")
    status = main(
        [str(tmp_path / "best.pth"), "--precision", "fp32", "int8", "--data", f"appa-real={folder}", "--quiet"]
    )
    assert status == 0, capsys.readouterr().err
    for name in ("best", "best.int8"):
        proof = json.loads((tmp_path / f"{name}.parity.json").read_text())
        assert (proof["pictures"], proof["origin"]) == (1500, "appa-real valid")
        assert proof["faces"] > 1480
        told = {r["what"]: r for r in proof["rungs"]}
        assert told["MAE by the runtime"]["figure"] == pytest.approx(5.61, abs=0.06)
        assert told["crops by training's preprocessing and by the runtime that differ in a pixel"]["figure"] == 0
    judged = [r for r in proof["rungs"] if ", ages " in r["what"] and r["status"] == "passed"]
    assert len(judged) >= 5
    assert (tmp_path / "best.int8.onnx").stat().st_size < 0.35 * (tmp_path / "best.onnx").stat().st_size
    assert "ages 20-29" in (tmp_path / "best.int8.md").read_text()
