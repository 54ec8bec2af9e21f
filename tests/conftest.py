import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

# Before torch is loaded: the tests share the cores among themselves, and its threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A busy machine must not fail a test; pytest's own duration report shows what is slow.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

# Their assertions say what they compared, as those of the tests do.
pytest.register_assert_rewrite(
    "api_clients", "archive_runs", "command_line", "fake_cameras", "media_files", "mqtt_senders", "sink_frames",
    "web_viewers",
)  # fmt: skip

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AGEINFER_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def astronaut_path() -> Path:
    """A portrait of one person, 512 x 512, public domain."""
    return ROOT / "samples" / "astronaut.jpg"


@pytest.fixture
def astronaut(astronaut_path):
    """The same as uint8 BGR."""
    from ageinfer.sources import read_picture

    return read_picture(astronaut_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets and clips, which are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data sets at {SHARED} (set AGEINFER_TEST_DATA)")
    return SHARED


@pytest.fixture(scope="session")
def run_cli():
    """Runs ``python -m ageinfer`` in a process of its own; its outputs come back as text."""

    def run(*arguments, **options) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "ageinfer", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=120, check=False, **options
        )

    return run


@pytest.fixture(scope="session")
def write_video():
    """Writes pictures as a video, in the codec that the suffix of the path usually holds; returns the path."""
    import cv2

    def write(path: Path, pictures, fps: float = 25, codec: str | None = None) -> Path:
        codec = codec or {".avi": "MJPG", ".mkv": "MJPG"}.get(path.suffix, "mp4v")
        pictures = list(pictures)
        height, width = pictures[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
        assert writer.isOpened()
        for picture in pictures:
            writer.write(picture)
        writer.release()
        return path

    return write


@pytest.fixture(scope="session")
def tiny_model():
    """Makes an age model of a few hundred bytes, see `tiny_models.tiny_model`."""
    pytest.importorskip("onnx")
    from tiny_models import tiny_model

    return tiny_model


@pytest.fixture
def two_precisions(tiny_model, tmp_path, monkeypatch) -> Path:
    """The folder of a package whose default model, ``age-tiny``, is there in int8 and in fp32."""
    import shutil

    from ageinfer.engine import modelfile

    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "age-tiny.onnx").write_bytes(tiny_model(precision="int8"))
    (folder / "age-tiny.fp32.onnx").write_bytes(tiny_model())
    (folder / "age-other.onnx").write_bytes(tiny_model(name="other"))
    shutil.copy(modelfile.packaged_model("face_detection_yunet_2023mar.onnx"), folder)
    monkeypatch.setattr(modelfile, "packaged_folders", lambda: (folder,))
    monkeypatch.setattr(modelfile, "DEFAULT_MODEL", "age-tiny.onnx")
    return folder


@pytest.fixture
def stopwatch(monkeypatch) -> dict[str, float]:
    """What the comparison of precisions will say, in milliseconds by precision."""
    from ageinfer.engine import speed

    ms = {"int8": 5.0, "fp32": 8.0, "fp16": 9.0}
    monkeypatch.setattr(speed, "measure", lambda calls: {name: ms[name] for name in calls})
    return ms


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits between two tries of a download, in seconds; nobody waits for them."""
    from types import SimpleNamespace

    from agetrain.datasets import fetch

    waited = []
    monkeypatch.setattr(fetch, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture(scope="session")
def portraits(astronaut_path, tmp_path_factory) -> Path:
    """A folder of 30 different pictures of one face."""
    from portraits import write_portraits

    from ageinfer.sources import read_picture

    folder = tmp_path_factory.mktemp("portraits")
    write_portraits(folder, read_picture(astronaut_path), range(30))
    return folder


@pytest.fixture(scope="session")
def persons(astronaut_path):
    """Three portraits in the public domain, uint8 BGR, see samples/README.md."""
    from ageinfer.sources import read_picture

    return [read_picture(astronaut_path.with_name(f"{name}.jpg")) for name in ("astronaut", "obama", "biden")]


@pytest.fixture(scope="session")
def proof(persons, tmp_path_factory) -> Path:
    """A folder of 100 pictures of three faces to prove an export on, and 24 to calibrate int8; not to be changed."""
    from portraits import write_proof

    return write_proof(tmp_path_factory.mktemp("proof"), persons)


@pytest.fixture(scope="session")
def appa_real(astronaut_path, tmp_path_factory) -> Path:
    """A data set of 24 and 8 such pictures in the layout of APPA-REAL; not to be changed."""
    from portraits import write_appa_real

    from ageinfer.sources import read_picture

    return write_appa_real(tmp_path_factory.mktemp("appa"), read_picture(astronaut_path))


@contextmanager
def shared_folder(tmp_path_factory, name):
    """A folder that all processes of a test run share; one of them at a time is inside."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield tmp_path_factory.mktemp(name)
        return
    import fcntl

    folder = tmp_path_factory.getbasetemp().parent / name
    folder.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def exported_distribution(proof, tmp_path_factory):
    """A network with a distribution head, exported and proved on a folder of pictures; not to be changed."""
    from portraits import Exported

    with shared_folder(tmp_path_factory, "distribution") as folder:
        return Exported("distribution", proof, folder, with_pack=False)


@pytest.fixture(scope="session")
def exported_linear(proof, tmp_path_factory):
    """A network with a linear head, exported and proved on the parity pack beside it; not to be changed."""
    from portraits import Exported

    with shared_folder(tmp_path_factory, "linear") as folder:
        return Exported("linear", proof, folder, with_pack=True)


@pytest.fixture(scope="module")
def cpu_alone(exported_distribution, exported_linear):
    """Leaves OpenVINO and CUDA out of proofs: test_export_elsewhere.py compares them, elsewhere they only cost time.

    The models that all tests share are made before, with everything.
    """
    from ageexport import providers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(providers, "rungs", lambda *_: [])
        yield


@pytest.fixture
def bounds(monkeypatch):
    """Lets the command line prove with other bounds; what a small network saves in 8 bits is only reported."""
    import math

    from ageexport.ladder import Bounds

    def use(**changes):
        wanted = Bounds(**{"int8_time": math.inf, **changes})
        for module in ("parity", "verify"):
            monkeypatch.setattr(f"ageexport.{module}.Bounds", lambda: wanted)

    return use
