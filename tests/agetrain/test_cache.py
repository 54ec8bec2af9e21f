import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from portraits import variation

from ageinfer.crop.cut import central_face, crop_face
from ageinfer.crop.spec import NO_DETECTOR, CropSpec
from ageinfer.detect import YuNet
from ageinfer.sources import read_picture
from agetrain.crops import cache as cache_module
from agetrain.crops.cache import VALUES, available_cores, in_order, join, open_crops
from agetrain.datasets import Sample
from agetrain.errors import DatasetError

SPEC = CropSpec(size=48)
WHOLE = CropSpec(size=40, margin=0, kind="resize", detector=NO_DETECTOR, resize_to=48)


@pytest.fixture
def samples(tmp_path, astronaut):
    """A portrait, three faces of which the best is not the central one, a picture without a face, a portrait."""
    small = cv2.resize(variation(astronaut, 3), (160, 160))
    large = cv2.resize(variation(astronaut, 4), (160, 160), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.resize(small, (24, 24)), (160, 160))  # a face, but a worse one
    pictures = [variation(astronaut, 1), cv2.hconcat([large, blurred, large]), astronaut[280:, 300:]]
    pictures.append(variation(astronaut, 2))
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"{i}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        assert cv2.imwrite(str(path), picture)
    return [Sample(path, 20.5 + i, None if i % 2 else 3.0) for i, path in enumerate(paths)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def detections(monkeypatch):
    """Counts how often the detector is asked."""
    calls = []
    original = YuNet.detect

    def detect(self, image):
        calls.append(image.shape)
        return original(self, image)

    monkeypatch.setattr(YuNet, "detect", detect)
    return calls


@pytest.mark.parametrize("kind", ["box", "landmarks"])
def test_crops_are_those_of_the_runtime(samples, folder, kind):
    spec = CropSpec(size=48, kind=kind)
    cache = open_crops(samples, spec, folder, "test")
    detector = YuNet(provider="cpu")
    assert cache.found.tolist() == [True, True, False, True]
    assert len(cache) == 4
    for i in np.flatnonzero(cache.found):
        image = read_picture(samples[i].path)
        faces = detector.detect(image)
        boxes = [face.box for face in faces]
        labelled = central_face(boxes, (image.shape[1], image.shape[0]))
        if i == 1:  # or the test could not tell the central face from the best one
            assert len(boxes) == 3
            assert labelled != 0
            assert abs(boxes[labelled][0] + boxes[labelled][2] / 2 - image.shape[1] / 2) < 40
        expected = crop_face(image, boxes[labelled], spec, faces[labelled].landmarks)
        np.testing.assert_array_equal(cache.crops[i], expected)
        by_box = crop_face(image, boxes[labelled], SPEC)
        assert (cache.crops[i] == by_box).all() == (kind == "box")
        assert cache.crops[i].std() > 20
    assert not cache.crops[2].any()


def test_crops_are_rgb(samples, folder):
    crop = open_crops(samples, SPEC, folder, "test").crops[0]
    red, _, blue = crop[16:32, 16:32].mean(axis=(0, 1))
    assert red > blue + 15  # skin


def test_whole_pictures_need_no_detector_and_all_count(samples, folder, detections):
    cache = open_crops(samples, WHOLE, folder, "test")
    assert detections == []
    assert cache.found.tolist() == [True] * 4
    for crop, sample in zip(cache.crops, samples, strict=True):
        image = read_picture(sample.path)
        np.testing.assert_array_equal(crop, crop_face(image, (0, 0, *image.shape[1::-1]), WHOLE))


def test_labels(samples, folder):
    cache = open_crops(samples, SPEC, folder, "test")
    assert cache.ages.tolist() == [20.5, 21.5, 22.5, 23.5]
    assert cache.stds.tolist() == pytest.approx([3, np.nan, 3, np.nan], nan_ok=True)
    assert np.isnan(cache.others).all()
    assert np.isnan(cache.other_stds).all()


def test_the_other_label_comes_along(samples, folder):
    both = [Sample(s.path, s.age_years, None, 40.5 + i, 2.5) for i, s in enumerate(samples[:2])]
    cache = open_crops([*both, *samples[2:]], SPEC, folder, "test")
    assert cache.others.tolist() == pytest.approx([40.5, 41.5, np.nan, np.nan], nan_ok=True)
    assert cache.other_stds.tolist() == pytest.approx([2.5, 2.5, np.nan, np.nan], nan_ok=True)


def test_digests_name_the_file_whatever_its_crop(samples, folder):
    expected = [int.from_bytes(hashlib.sha256(s.path.read_bytes()).digest()[:8], sys.byteorder) for s in samples]
    assert open_crops(samples, SPEC, folder, "test").digests.tolist() == expected
    assert open_crops(samples[::-1], WHOLE, folder, "test").digests.tolist() == expected[::-1]


def test_prepared_once(samples, folder, detections):
    first = open_crops(samples, SPEC, folder, "test")
    assert len(detections) == len(samples)
    second = open_crops(samples, SPEC, folder, "test")
    assert len(detections) == len(samples)
    np.testing.assert_array_equal(first.crops, second.crops)
    np.testing.assert_array_equal(first.found, second.found)


def test_new_labels_do_not_need_new_crops_but_are_used(samples, folder, detections):
    open_crops(samples, SPEC, folder, "test")
    relabelled = [Sample(s.path, s.age_years + 1, s.std_years) for s in samples]
    assert open_crops(relabelled, SPEC, folder, "test").ages.tolist() == [21.5, 22.5, 23.5, 24.5]
    assert len(detections) == len(samples)


@pytest.mark.parametrize(
    "spec",
    [
        CropSpec(size=48, margin=0.3), CropSpec(size=56), CropSpec(size=48, fill=(0, 0, 0)),
        CropSpec(size=48, kind="landmarks"),
    ],
)  # fmt: skip
def test_another_crop_is_another_cache(samples, folder, detections, spec):
    old = open_crops(samples, SPEC, folder, "test")
    new = open_crops(samples, spec, folder, "test")
    assert len(detections) == 2 * len(samples)
    assert new.crops.shape != old.crops.shape or (new.crops[0] != old.crops[0]).any() or spec.fill != SPEC.fill
    # And the old one is still what it was.
    np.testing.assert_array_equal(open_crops(samples, SPEC, folder, "test").crops, old.crops)


def test_a_changed_picture_is_cropped_anew(samples, folder, astronaut):
    old = open_crops(samples, SPEC, folder, "test").crops[0].copy()
    cv2.imwrite(str(samples[0].path), variation(astronaut, 7))
    new = open_crops(samples, SPEC, folder, "test").crops[0]
    assert (new != old).mean() > 0.5


def test_another_order_is_not_answered_with_the_old_one(samples, folder):
    ahead = open_crops(samples, SPEC, folder, "test")
    back = open_crops(samples[::-1], SPEC, folder, "test")
    np.testing.assert_array_equal(back.crops, ahead.crops[::-1])
    assert back.found.tolist() == ahead.found.tolist()[::-1]


def test_a_detector_of_another_name_is_refused(samples, folder):
    with pytest.raises(DatasetError, match=r"dlib-hog.*yunet-2023mar"):
        open_crops(samples, CropSpec(size=48, detector="dlib-hog"), folder, "test")


@pytest.mark.parametrize("damage", ["text", "cut off", "empty"])
def test_a_broken_picture_is_named_and_leaves_nothing(samples, folder, damage):
    data = samples[3].path.read_bytes()
    broken = {"text": b"<html>not found</html>", "cut off": data[: len(data) // 2], "empty": b""}[damage]
    samples[3].path.write_bytes(broken)
    with pytest.raises(DatasetError, match=r"3\.png"):
        open_crops(samples, SPEC, folder, "test")
    assert list(folder.iterdir()) == []
    samples[3].path.write_bytes(data)
    assert open_crops(samples, SPEC, folder, "test").found[3]


def test_pictures_that_cannot_be_read_are_all_named_and_count_as_without_a_face(samples, folder):
    whole = open_crops(samples, SPEC, folder, "test").crops[0]
    samples[1].path.write_bytes(b"")
    samples[3].path.unlink()
    for _ in range(2):  # made, and found again
        bad = {}
        cache = open_crops(samples, SPEC, folder, "test", bad)
        assert cache.found.tolist() == [True, False, False, False]
        np.testing.assert_array_equal(cache.crops[0], whole)
        assert list(bad) == [samples[1].path, samples[3].path]
        assert all(str(path) in reason for path, reason in bad.items())
    samples[3].path.write_bytes(b"")
    open_crops(samples, SPEC, folder, "test", {})
    with pytest.raises(DatasetError, match=r"1\.png.*3\.png"):  # of a cache that is there already
        open_crops(samples, SPEC, folder, "test")
    with pytest.raises(DatasetError, match=r"1\.png.*3\.png"):
        open_crops(samples, WHOLE, folder, "test")


def test_a_picture_that_vanished_is_named(samples, folder):
    samples[3].path.unlink()
    with pytest.raises(DatasetError, match=r"3\.png"):
        open_crops(samples, SPEC, folder, "test")


def test_a_cache_that_cannot_be_written_is_an_error_of_ours(samples, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot write the cache"):
        open_crops(samples, SPEC, tmp_path / "file" / "cache", "test")


@pytest.mark.parametrize("file", ["crops.npy", "found.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "of others"])
def test_a_damaged_cache_is_named_with_the_remedy(samples, folder, file, damage):
    if (file, damage) == ("crops.npy", "gone"):
        pytest.skip("then there is no cache, and it is made")
    open_crops(samples, SPEC, folder, "")
    [place] = folder.iterdir()
    path = place / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "of others":
        np.save(path, np.load(path)[:-1])
    else:
        path.write_bytes(data[: len(data) - 1] if damage == "cut" else b"")
    with pytest.raises(DatasetError, match=r"a damaged cache .* delete this folder") as error:
        open_crops(samples, SPEC, folder, "")
    assert str(place) in str(error.value)


@pytest.mark.parametrize("killed", [False, True])
def test_an_interruption_leaves_nothing_that_looks_like_a_cache(samples, folder, monkeypatch, killed):
    original = YuNet.detect
    calls = []

    monkeypatch.setattr("agetrain.crops.cache.available_cores", lambda: 1)

    def interrupted(self, image):
        calls.append(image)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, image)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(YuNet, "detect", interrupted)
        if killed:  # a power cut: nobody tidies up
            patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        open_crops(samples, SPEC, folder, "test")
    assert len(calls) == 3
    assert [p.name for p in folder.iterdir() if not p.name.startswith(".")] == []
    if not killed:
        assert list(folder.iterdir()) == []
    cache = open_crops(samples, SPEC, folder, "test")
    assert cache.found.tolist() == [True, True, False, True]
    assert cache.crops[3].any()


@pytest.fixture
def many(samples, monkeypatch):
    """More pictures than two threads have in hand at once."""
    monkeypatch.setattr("agetrain.crops.cache.available_cores", lambda: 2)
    monkeypatch.setattr("agetrain.crops.cache._AHEAD", 4)
    return [dataclasses.replace(samples[i % 4], age_years=float(i)) for i in range(37)]


@pytest.mark.parametrize("spec", [SPEC, WHOLE])
def test_several_threads_cut_the_same_crops_in_the_same_order(many, folder, detections, monkeypatch, spec):
    threads = set()
    original = cache_module.read_labelled_picture
    monkeypatch.setattr(
        cache_module, "read_labelled_picture", lambda path: (threads.add(threading.get_ident()), original(path))[1]
    )
    together = open_crops(many, spec, folder, "test")
    assert len(threads) == 2
    monkeypatch.setattr("agetrain.crops.cache.available_cores", lambda: 1)
    threads.clear()
    alone = open_crops(many, spec, folder.with_name("alone"), "test")
    assert threads == {threading.get_ident()}
    assert len(detections) == (0 if spec is WHOLE else 2 * 37)
    assert together.found.tolist() == alone.found.tolist() == [spec is WHOLE or i % 4 != 2 for i in range(37)]
    np.testing.assert_array_equal(together.crops, alone.crops)


def test_a_picture_that_one_of_several_threads_cannot_read_is_named(many, folder):
    many[30].path.write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"{many[30].path.name}.*"):
        open_crops(many, SPEC, folder, "test")
    assert list(folder.iterdir()) == []


def test_only_so_many_pictures_are_begun_ahead(many):
    begun = []
    with ThreadPoolExecutor(1) as pool:
        for i in in_order(pool, lambda n: (begun.append(n), n)[1], range(50), ahead=5):
            assert len(begun) <= i + 7
    assert begun == list(range(50))


WITHOUT_A_GUARD = """
import sys
from pathlib import Path
import agetrain.crops.cache as cache
from agetrain.datasets import Sample
from ageinfer.crop.spec import CropSpec

cache.available_cores = lambda: 2
print("begun", flush=True)
samples = [Sample(Path(sys.argv[1]), float(i)) for i in range(200)]
print(cache.open_crops(samples, CropSpec(size=8), sys.argv[2], "test").found.sum())
"""


def test_a_script_without_a_main_guard_can_make_crops(samples, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_A_GUARD)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        [sys.executable, script, samples[0].path, tmp_path / "cache"], env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert ran.stdout.split() == ["begun", "200"], ran.stderr


def test_two_runs_that_prepare_the_same_cache_both_get_it(samples, folder, monkeypatch):
    original = YuNet.detect
    calls = []

    def overtaken(self, image):
        calls.append(image)
        if len(calls) == 2:  # another process begins later and is done first
            open_crops(samples, SPEC, folder, "the other")
        return original(self, image)

    monkeypatch.setattr(YuNet, "detect", overtaken)
    assert open_crops(samples, SPEC, folder, "test").found.tolist() == [True, True, False, True]


def test_a_prepared_cache_is_read_without_opencv_and_onnx_runtime(samples, folder):
    """The promise of agetrain/crops/cache.py: training on a bare GPU machine needs torch and numpy alone."""
    open_crops(samples, SPEC, folder, "test")
    program = f"""
import sys
from pathlib import Path
for name in ("cv2", "onnxruntime", "dlib", "wandb"):
    sys.modules[name] = None
from ageinfer.crop.spec import CropSpec
from agetrain.crops.cache import open_crops
from agetrain.datasets import Sample
paths = sorted(Path({str(samples[0].path.parent)!r}).iterdir())
print(open_crops([Sample(p, 1) for p in paths], CropSpec(size=48), {str(folder)!r}, "test").found.sum())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout == "3\n", ran.stderr.splitlines()[-1]


def test_joined_caches_are_read_like_one(samples, folder):
    samples = [dataclasses.replace(s, other_years=30.0 + i, other_std_years=i) for i, s in enumerate(samples)]
    whole = open_crops(samples, SPEC, folder, "whole")
    joined = join([open_crops(samples[:1], SPEC, folder, "a"), open_crops(samples[1:], SPEC, folder, "b")])
    assert len(joined) == 4
    for chosen in ([0, 1, 2, 3], [0], [1, 3], [3], []):
        np.testing.assert_array_equal(joined.crops[np.array(chosen, int)], whole.crops[chosen])
    for name in VALUES:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_a_join_of_joined_caches_loses_nothing(samples, folder):
    cache = open_crops(samples, SPEC, folder, "whole")
    joined = join([join([cache, cache]), cache])
    np.testing.assert_array_equal(joined.crops[np.arange(12)], np.concatenate([cache.crops] * 3))


@pytest.mark.parametrize(("quota", "processes"), [(0.5, 1), (1.9, 1), (4.0, 4)])
def test_no_more_processes_than_a_container_gives_cores(monkeypatch, quota, processes):
    monkeypatch.setattr("agetrain.crops.cache.usable_cores", lambda: quota)
    assert available_cores() == processes
