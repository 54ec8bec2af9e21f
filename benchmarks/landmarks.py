"""Where YuNet sees eyes, nose and mouth relative to its own box: the constants of `ageinfer.crop.cut.MEAN_LANDMARKS`.

    python benchmarks/landmarks.py FOLDER [FOLDER ...] [--pictures 1500] [--seed 1]

Medians over the face nearest the centre of each picture, in units of the box's longer side, relative to its centre,
made symmetric: right eye, left eye, nose tip, right and left corner of the mouth. The second line says how far the
similarity of these points turns when the picture is turned by 20 degrees.
"""

import argparse
import random
from pathlib import Path

import cv2
import numpy as np

from ageinfer.crop.cut import MEAN_LANDMARKS, central_face
from ageinfer.detect import YuNet
from ageinfer.sources import PICTURE_SUFFIXES, read_picture

TURN_DEGREES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--pictures", type=int, default=1500, help="of each folder, seeded")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    detector, points, turns = YuNet(provider="cpu"), [], []
    for folder in options.folders:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES)
        for file in random.Random(options.seed).sample(files, min(options.pictures, len(files))):  # noqa: S311
            image = read_picture(file)
            faces = detector.detect(image)
            central = central_face([f.box for f in faces], image.shape[1::-1])
            if central is not None:
                x, y, w, h = faces[central].box
                upright = turn_of(faces[central].landmarks)
                turned = detector.detect(rotated(image))
                again = central_face([f.box for f in turned], image.shape[1::-1])
                if again is not None:
                    turns.append(upright - turn_of(turned[again].landmarks))
                points.append((np.array(faces[central].landmarks) - (x + w / 2, y + h / 2)) / max(w, h))
    median = np.median(points, axis=0)
    mirrored = median[[1, 0, 2, 4, 3]] * (-1, 1)
    print(len(points), "faces:", ", ".join(f"{x:.3f}{y:+.3f}j" for x, y in (median + mirrored) / 2))
    print(f"turned by {TURN_DEGREES} degrees, the similarity turns by {np.median(turns):.1f} degrees (median)")


def rotated(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), TURN_DEGREES, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def turn_of(landmarks: tuple[tuple[float, float], ...]) -> float:
    """Degrees by which the mean landmarks have to be turned to lie on these, by least squares."""
    points = np.array([complex(*point) for point in landmarks])
    mean = MEAN_LANDMARKS - MEAN_LANDMARKS.mean()
    return float(np.degrees(np.angle((mean.conj() * (points - points.mean())).sum())))


if __name__ == "__main__":
    main()
