"""How YuNet and dlib see the same faces: detection rates, and the extent of dlib's boxes in terms of YuNet's.

    python benchmarks/detectors.py FOLDER [FOLDER ...] [--pictures 300] [--seed 1] [--cnn FILE]

The last line gives the constants of `ageinfer.detect.DlibHog`, or of `DlibCnn` with its file: side and shift of YuNet's
box in units of dlib's side (medians over the pictures in which both find exactly one face). Needs the extra dlib.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import cv2
import dlib
import numpy as np

from ageinfer.detect import YuNet
from ageinfer.errors import SourceError
from ageinfer.sources import PICTURE_SUFFIXES, read_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--pictures", type=int, default=300, help="of each folder, seeded")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cnn", metavar="FILE", help="dlib's mmod_human_face_detector.dat, instead of HOG")
    options = parser.parse_args()

    yunet, by_dlib = YuNet(provider="cpu"), dlib_detector(options.cnn)
    relations = []
    for folder in options.folders:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES)
        files = random.Random(options.seed).sample(files, min(options.pictures, len(files)))  # noqa: S311
        counts = np.zeros(2, int)
        read = 0
        for file in files:
            try:
                image = read_picture(file)
            except SourceError:
                continue
            read += 1
            by_yunet = yunet.detect(image)
            found = by_dlib(image)
            counts += (len(by_yunet) > 0, len(found) > 0)
            if len(by_yunet) == len(found) == 1:
                relations.append(relation(by_yunet[0].box, found[0]))
        rates = counts / read
        print(f"{folder.name}: {read} pictures, face found by YuNet {rates[0]:.1%}, by dlib {rates[1]:.1%}")
    middle = np.median(relations, axis=0)
    print(
        f"YuNet in units of dlib's side over {len(relations)} faces: side {middle[0]:.2f}, shift {middle[1:].round(2)}"
    )


def dlib_detector(cnn: str | None) -> Callable[[np.ndarray], list[dlib.rectangle]]:
    if cnn is None:
        hog = dlib.get_frontal_face_detector()
        return lambda image: list(hog(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1))
    network = dlib.cnn_face_detection_model_v1(cnn)
    return lambda image: [found.rect for found in network(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), 0)]


def relation(box: tuple[float, float, float, float], rectangle: dlib.rectangle) -> tuple[float, float, float]:
    x, y, w, h = box
    side = max(rectangle.width(), rectangle.height())
    centre_x, centre_y = rectangle.left() + rectangle.width() / 2, rectangle.top() + rectangle.height() / 2
    return max(w, h) / side, (x + w / 2 - centre_x) / side, (y + h / 2 - centre_y) / side


if __name__ == "__main__":
    main()
