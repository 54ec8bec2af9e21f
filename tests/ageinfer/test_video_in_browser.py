"""An annotated film in the ``<video>`` of a real browser: it plays at its length, with sound and boxes on faces."""

import json

import cv2
import films
import numpy as np
import pytest

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.sinks.draw import colour_of
from ageinfer.sources import read_picture
from ageinfer.types import Age, Detection, Face

pytest_plugins = ["web_browser"]

FPS, SECONDS = 25, 3
PLAYED = """async () => {
    const film = document.querySelector("video");
    await film.play();
    await new Promise((done) => { film.onended = done; });
    return { length_s: film.duration, at_s: film.currentTime, width: film.videoWidth, height: film.videoHeight,
             sound: film.webkitAudioDecodedByteCount, pictures: film.getVideoPlaybackQuality().totalVideoFrames };
}"""
SEEK = """async (at_s) => {
    const film = document.querySelector("video");
    const there = new Promise((done) => { film.onseeked = done; });
    film.currentTime = at_s;
    await there;
}"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory, astronaut_path):
    portrait = read_picture(astronaut_path)
    images = films.moving_face(portrait, FPS * SECONDS, (480, 360))
    return films.write_film(tmp_path_factory.mktemp("clip") / "clip.mp4", images, fps=FPS, sound_s=SECONDS)


@pytest.mark.parametrize("name", ["annotated.mp4", pytest.param("annotated.webm", marks=pytest.mark.slow)])
def test_an_annotated_film_plays_in_a_browser(page, clip, tmp_path, name):
    target, records = tmp_path / name, tmp_path / "r.jsonl"
    codec = [] if name.endswith(".mp4") else ["--no-audio"]  # a WebM holds no AAC
    assert main([str(clip), "--output", str(target), "--jsonl", str(records), "--quiet", *codec]) == ExitStatus.OK
    (tmp_path / "page.html").write_text(f'<!doctype html><video src="{name}" muted></video>')
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    played = page.evaluate(PLAYED)
    assert played["length_s"] == pytest.approx(SECONDS, abs=1.5 / FPS)
    assert played["at_s"] == pytest.approx(played["length_s"], abs=0.01)
    assert (played["width"], played["height"]) == (480, 360)
    assert (played["sound"] > 0) == (not codec)
    [(kind, language, sound_s)] = films.facts(target)["sounds"] or [("", "", 0.0)]
    assert (kind, language) == (("aac", "cat") if not codec else ("", ""))
    assert not sound_s or sound_s == pytest.approx(SECONDS, abs=1 / FPS)

    page.evaluate(SEEK, 2.0 + 0.5 / FPS)
    seen = cv2.imdecode(np.frombuffer(page.locator("video").screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int)
    [face] = json.loads(records.read_text().splitlines()[2 * FPS])["faces"]
    x, y, w, h = (round(value) for value in face["box"])
    colour = colour_of(Face(Detection((0, 0, 1, 1), 1.0), Age(0, 0), face["track"]))
    left, middle, right = (np.abs(seen[y + h // 2, at] - colour).max() for at in (x, x + w // 2, x + w - 1))
    assert left < 60
    assert right < 60
    assert middle > 60
