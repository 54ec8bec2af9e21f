"""Worker processes from Python: results in order, pictures that cannot be read, and workers that die."""

import logging
import os
import threading
import time
from functools import partial

import cv2
import numpy as np
import pytest
import worker_openers
from portraits import variation

from ageinfer.detect import YuNet
from ageinfer.detect.looking import Looking
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.errors import AgeError, ModelError, SourceError, UsageError
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PictureListSource, open_source, open_sources
from ageinfer.workers import Workers
from ageinfer.workers import run as run_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory, persons):
    """Forty faces of three persons, and among them pages of a TIFF, damage, and files that are none."""
    folder = tmp_path_factory.mktemp("folder")
    for i in range(40):
        assert cv2.imwrite(str(folder / f"{i:02}.jpg"), variation(persons[i % 3], i))
    whole = (folder / "07.jpg").read_bytes()
    (folder / "07.jpg").write_bytes(whole[: len(whole) // 2] + bytes(400) + whole[len(whole) // 2 + 400 :])
    (folder / "20.jpg").write_bytes(b"no picture")
    (folder / "33.jpg").write_bytes(whole[:300])
    cv2.imwritemulti(str(folder / "25.tif"), [variation(person, 1) for person in persons])
    cv2.imwrite(str(folder / "39.png"), np.zeros((50, 60, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def workers():
    with Workers(partial(Pipeline.default, provider="cpu", threads=1), count=2) as workers:
        yield workers


@pytest.fixture(scope="module")
def alone(folder):
    """What one process makes of the folder: results and images, and the source."""
    with open_source(folder) as source:
        return list(Pipeline.default(provider="cpu", threads=1).run(source)), source


def test_results_are_those_of_one_process_to_the_last_digit_and_in_its_order(workers, folder, alone, caplog):
    expected, known = alone
    with open_source(folder) as source:
        done = list(workers.run(source))
    assert [result for _, result in done] == [result for _, result in expected]
    assert sum(len(result.faces) for _, result in done) > 30
    assert [frame.source for frame, _ in done] == [frame.source for frame, _ in expected]
    assert {frame.image.size for frame, _ in done} == {0}
    assert [frame.damaged for frame, _ in done] == [frame.damaged for frame, _ in expected]
    assert (source.failed, source.damaged, source.truncated) == (known.failed, known.damaged, False) == (2, 1, False)
    named = [next(name for name in ("07.jpg", "20.jpg", "33.jpg") if name in text) for text in caplog.messages]
    assert named == ["07.jpg", "20.jpg", "33.jpg"]


def test_images_come_with_the_results_where_they_are_wanted(workers, folder, alone):
    with open_source(folder) as source:
        done = list(workers.run(source, pixels=True))
    assert [result for _, result in done] == [result for _, result in alone[0]]
    for (frame, _), (expected, _) in zip(done, alone[0], strict=True):
        assert np.array_equal(frame.image, expected.image)
        frame.image[0] = 0  # it belongs to whoever takes it


def test_pictures_of_which_none_can_be_read_are_an_error(workers, tmp_path, caplog):
    paths = [tmp_path / f"{i}.jpg" for i in range(40)]
    source = PictureListSource("list", paths, len(paths))
    with pytest.raises(SourceError, match="list: none of its 40 pictures can be read"):
        list(workers.run(source))
    assert source.failed == len(caplog.messages) == 40


def test_another_source_is_refused(workers, astronaut_path):
    with open_source(astronaut_path) as source, pytest.raises(UsageError, match=r"give it to Pipeline\.run"):
        next(workers.run(source))


def write(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{i:02}.png"), image)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_a_picture_that_ends_two_workers_is_named_and_all_others_are_done(tmp_path, persons, caplog):
    images = [cv2.resize(persons[i % 3], (120, 120)) for i in range(24)]
    images[11] = worker_openers.DEADLY
    folder, marks = write(tmp_path / "in", images), tmp_path / "marks"
    marks.mkdir()
    with open_source(folder) as source, Workers(partial(worker_openers.mortal, marks), 2) as workers:
        done = [(frame.source, len(result.faces)) for frame, result in workers.run(source)]
    assert done == [(str(folder / f"{i:02}.png"), 1) for i in range(24) if i != 11]
    assert source.failed == 1
    assert len(list(marks.iterdir())) == 3  # twice among others, and then by itself
    said = [text for text in caplog.messages if "11.png" in text]
    assert said == [
        f"{folder / '11.png'}: the process that read it died twice (signal 9, perhaps for want of memory); it is "
        "left out"
    ]


@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.parametrize("pixels", [False, True])
def test_the_pictures_of_a_worker_that_dies_once_are_done_by_another(tmp_path, persons, caplog, pixels):
    images = [cv2.resize(persons[i % 3], (120, 120)) for i in range(20)]
    images[3] = worker_openers.DEADLY
    folder, marks = write(tmp_path / "in", images), tmp_path / "marks"
    marks.mkdir()
    with open_source(folder) as source, Workers(partial(worker_openers.once_mortal, marks), 1) as workers:
        done = [(frame.source, frame.image.size) for frame, _ in workers.run(source, pixels=pixels)]
    size = 120 * 120 * 3 if pixels else 0
    assert done == [(str(folder / f"{i:02}.png"), 40 * 40 * 3 * pixels if i == 3 else size) for i in range(20)]
    assert (source.failed, len(list(marks.iterdir()))) == (0, 1)
    assert ["another one takes its place" in text for text in caplog.messages] == [True]


@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_film_whose_worker_dies_goes_on_where_it_was_and_a_second_death_ends_it(
    tmp_path, persons, write_video, caplog, deaths
):
    face = cv2.resize(persons[0], (96, 96))
    films = [write_video(tmp_path / f"{i}.avi", [np.roll(face, j % 7, axis=1) for j in range(120)]) for i in range(2)]
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_sources(films) as source:
        pipeline = Pipeline(YuNet(threads=1), AgeEstimator(threads=1), Looking(every=1))
        expected = [result for _, result in pipeline.run(source)]
    with open_sources(films) as source, Workers(partial(worker_openers.mortal_in_films, marks, deaths), 1) as workers:
        done = []
        for _, result in workers.run(source):
            done.append(result)
            while len(done) == 1 and workers.running[0].process.is_alive():  # what it sent before is not taken yet
                time.sleep(0.01)
    assert len(list(marks.iterdir())) == deaths
    ended = [text for text in caplog.messages if "died twice" in text]
    if deaths == 1:
        assert (done, source.failed, ended) == (expected, 0, [])
    else:
        assert [result for result in done if result.source == str(films[1])] == expected[120:]
        first = [result for result in done if result.source == str(films[0])]
        assert first == expected[: len(first)]
        assert 32 <= len(first) < 120
        assert (source.failed, len(ended)) == (1, 1)


@pytest.mark.parametrize(
    ("opener", "error", "said"),
    [
        (worker_openers.hopeless, AgeError, "cannot be started (it ended by status 3); use --workers 1"),
        (worker_openers.broken, ModelError, "age-none.onnx: no such model; name another one"),
        (worker_openers.faulty, RuntimeError, "ZeroDivisionError"),
    ],
)
def test_a_worker_that_cannot_work_is_an_error(portraits, opener, error, said):
    with open_source(portraits) as source, Workers(opener, 1) as workers:
        with pytest.raises(error) as raised:
            list(workers.run(source))
        assert said in str(raised.value)
        assert workers.running == []


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_what_waits_for_a_slow_picture_is_bounded(tmp_path, persons, monkeypatch):
    monkeypatch.setattr(run_module, "_MOST_TASKS", 3)
    images = [worker_openers.SLOW, *(cv2.resize(persons[0], (100, 100)) for _ in range(99))]
    folder, marks = write(tmp_path / "in", images), tmp_path / "marks"
    marks.mkdir()
    with open_source(folder) as source, Workers(partial(worker_openers.mortal, marks), 2) as workers:
        run = run_module.Run(workers, source, pixels=False)
        threading.Thread(target=lambda: time.sleep(2) or (marks / "go on").touch()).start()
        most, done = 0, 0
        take = run._take

        def watched(worker):
            nonlocal most
            take(worker)
            most = max(most, sum(len(task.messages) for task in run._outstanding))

        run._take = watched
        done = len(list(run.results()))
    assert done == 100
    assert most == 2  # and the slow one itself


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_images_that_wait_for_a_slow_picture_are_bounded(tmp_path, persons, monkeypatch):
    monkeypatch.setattr(run_module, "_MOST_IMAGE_BYTES", 5 * 30_000)
    images = [worker_openers.SLOW, *(cv2.resize(persons[0], (100, 100)) for _ in range(39))]
    folder, marks = write(tmp_path / "in", images), tmp_path / "marks"
    marks.mkdir()
    with open_source(folder) as source, Workers(partial(worker_openers.mortal, marks), 2) as workers:
        run = run_module.Run(workers, source, pixels=True)
        threading.Thread(target=lambda: time.sleep(2) or (marks / "go on").touch()).start()
        held = []
        take = run._take
        run._take = lambda worker: take(worker) or held.append(run._held.image_bytes)
        assert len(list(run.results())) == 40
    assert 5 * 30_000 <= max(held) <= 6 * 30_000


def test_a_run_that_is_left_ends_its_workers(portraits):
    with open_source(portraits) as source, Workers(count=1) as workers:
        results = workers.run(source)
        next(results)
        process = workers.running[0].process
        results.close()
        assert (workers.running, process.is_alive()) == ([], False)


def test_without_a_number_there_is_a_worker_for_each_core_that_may_be_used(monkeypatch):
    monkeypatch.setattr("ageinfer.workers.usable_cores", lambda: 3.5)
    assert Workers().count == 3
    monkeypatch.setattr("ageinfer.workers.usable_cores", lambda: 0.5)
    assert Workers().count == 1


def test_films_and_pictures_come_in_the_order_given(workers, tmp_path, persons, write_video, folder, caplog):
    face = cv2.resize(persons[0], (160, 160))
    clips = [write_video(tmp_path / f"{name}.avi", [np.roll(face, i, axis=1) for i in range(40)]) for name in "ab"]
    with clips[1].open("rb") as whole:
        (tmp_path / "c.avi").write_bytes(whole.read(clips[1].stat().st_size // 2))  # a film that is cut off
    given = [clips[0], folder / "01.jpg", folder / "33.jpg", clips[1], tmp_path / "c.avi"]
    with open_sources(given) as source:
        expected = [result for _, result in Pipeline.default(provider="cpu", threads=1).run(source)]
    said = caplog.messages.copy()
    caplog.clear()
    with open_sources(given) as again:
        done = [result for _, result in workers.run(again)]
    assert done == expected
    assert list(dict.fromkeys(result.source for result in done)) == [str(p) for p in given if p.name != "33.jpg"]
    for clip in clips:
        assert {face.track for result in done if result.source == str(clip) for face in result.faces} == {1}
    counts = [(one.failed, one.damaged, one.truncated) for one in (source, again)]
    assert counts[0] == counts[1]
    assert again.failed == 1
    assert caplog.messages == said


def test_log_messages_come_at_the_level_of_this_process(workers, folder, caplog):
    caplog.set_level(logging.ERROR)
    with Workers(count=1) as quiet, open_source(folder) as source:
        assert len(list(quiet.run(source))) > 30
    assert caplog.messages == []
