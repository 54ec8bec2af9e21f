"""The notebook in docs/ runs from its first cell to its last, as Jupyter runs it."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tutorials" / "own-faces.ipynb"


@pytest.fixture
def place(tmp_path, portraits):
    """A folder as the notebook expects it: faces with a list, and a checkpoint to start from."""
    (tmp_path / "faces").mkdir()
    lines = ["file,age,person"]
    for i, path in enumerate(sorted(portraits.iterdir()) * 4):  # thirty pictures, four times over
        shutil.copy(path, tmp_path / "faces" / f"{i:03d}.jpg")
        lines.append(f"{i:03d}.jpg,{20 + i % 60},P{i % 30}")
    (tmp_path / "faces" / "labels.csv").write_text("\n".join([*lines, ""]))
    for name in ("checkpoints", "models", "samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
def test_the_notebook_runs(place, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # the same calls on less
            cell.source = cell.source.replace("epochs=5", "epochs=1, size=64, batch_size=16")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    )
    client.execute()
    text = "\n".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )  # fmt: skip
    assert "Data(faces, real age, train 96, valid 24)" in text
    assert "mine.onnx" in text
    assert (place / "mine.onnx").is_file()
    assert (place / "mine.parity.json").is_file()


def test_the_notebook_is_small_and_shows_no_face():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 300_000
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any("image/jpeg" in output.get("data", {}) for output in outputs)
    assert str(Path.home()) not in NOTEBOOK.read_text()
