"""The JavaScript library follows faces as Python does, with a detector that knows where they are."""

import cv2
import numpy as np
import pytest
from web_library import Library

from ageinfer.tracking.follower import FaceFollower
from ageinfer.types import Detection, Frame

WIDTH, HEIGHT = 960, 420


class KnownFaces:
    """A detector that knows the faces of each frame: as the class of that name in web_library.mjs."""

    identifier = "known"
    faces: tuple = ()

    def detect(self, image):
        scale = image.shape[1] / WIDTH
        large = [face for face in self.faces if scale == 1 or max(face["box"][2:]) * scale >= 64]
        return [Detection(tuple(value * scale for value in face["box"]), face["score"]) for face in large]

    def detect_near(self, image, places):
        def is_near(box, place):
            (x, y, w, h), (px, py, pw, ph) = box, place
            return max(abs(x + w / 2 - px - pw / 2), abs(y + h / 2 - py - ph / 2)) <= 0.4 * max(pw, ph)

        near = [face for face in self.faces if any(is_near(face["box"], place) for place in places)]
        return [Detection(tuple(face["box"]), face["score"]) for face in near]


def walkers(random, tiles, count):
    """Faces that walk, stand, pass before each other, vanish for a while, and give their place to another one."""
    people = [
        {"tile": i, "x": random.uniform(0, 800), "y": random.uniform(0, 200), "pace": random.uniform(-260, 260)}
        for i in range(len(tiles))
    ]
    time_s, step_s = 0.0, random.choice([0.04, 0.04, 0.1, 0.3])
    for number in range(count):
        time_s += step_s if number % 40 else random.uniform(0.5, 3)
        faces = []
        for person in people:
            if random.random() < 0.01:
                person["pace"] = random.choice([0.0, 0.0, random.uniform(-260, 260)])
            if random.random() < 0.01:
                person["tile"] = int(random.integers(len(tiles)))
            person["x"] = (person["x"] + person["pace"] * step_s + 150) % 1100 - 150
            side = tiles[person["tile"]].shape[0]
            at = [round(person["x"]), round(person["y"])]
            box = [value + random.normal(0, 0.6) for value in (*at, side * 0.9, side)]
            missed = random.random() < 0.06
            faces.append(
                {"tile": person["tile"], "at": at, "score": random.uniform(0.7, 1), "box": box, "missed": missed}
            )
        for i, face in enumerate(faces):  # who stands behind another one is not seen
            if any(abs(face["at"][0] - other["at"][0]) < 40 for other in faces[i + 1 :]) or face.pop("missed"):
                face["box"] = None
        yield {"timeS": time_s, "faces": faces}


def picture_of(frame, tiles):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for face in frame["faces"]:
        (x, y), tile = face["at"], tiles[face["tile"]]
        left, right = max(x, 0), min(x + tile.shape[1], WIDTH)
        if right > left:
            image[y : y + tile.shape[0], left:right] = tile[: HEIGHT - y, left - x : right - x]
    return image


def test_faces_are_followed_as_in_python(persons, tmp_path):
    library = Library(tmp_path)
    cases, ours = [], []
    for seed in range(9):
        random = np.random.default_rng(seed)
        sides = random.integers(50, 220, 4).tolist() if seed % 3 else [180, 200, 210, 190]
        tiles = [cv2.resize(persons[i % 3][:, :: 1 if i < 3 else -1], (side, side)) for i, side in enumerate(sides)]
        frames = list(walkers(random, tiles, 160))
        detector = KnownFaces()
        follower = FaceFollower(detector)
        followed = []
        for number, frame in enumerate(frames):
            detector.faces = [face for face in frame["faces"] if face["box"] is not None]
            found, tracks = follower(Frame("", number, frame["timeS"], picture_of(frame, tiles)))
            pairs = zip(found, tracks, strict=True)
            followed.append([[track.number, *face.box, *track.velocity] for face, track in pairs])
        ours.append(followed)
        pictures = [library.bgr(tile) for tile in tiles]
        cases.append({"op": "follow", "width": WIDTH, "height": HEIGHT, "tiles": pictures, "frames": frames})
    for seed, (found, followed) in enumerate(zip(library.run(cases), ours, strict=True)):
        for number, (faces, others) in enumerate(zip(found, followed, strict=True)):
            assert [face[0] for face in faces] == [other[0] for other in others], (seed, number)
            assert [value for face in faces for value in face[1:]] == pytest.approx(
                [value for other in others for value in other[1:]], abs=1e-6
            ), (seed, number)
    assert sum(max(face[0] for faces in followed for face in faces) for followed in ours) > 80
