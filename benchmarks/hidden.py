"""How many faces ``--blur`` hides, by their size, alone and beside a large one.

    python benchmarks/hidden.py PORTRAITS [--sizes 12,14,16,20,30,50,100,200,400,900]

Portraits are laid into noisy pictures of 1920 x 1080 and 3840 x 2160 so that their faces have a size; a face is hidden
where the search of ``--blur`` finds it. The last column is the time of that search, in units
of one search at full size.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from ageinfer.detect import YuNet, detect_at_all_scales, detect_reduced
from ageinfer.sources import open_source

_FACES, _HEAD = 24, 1.6  # a head with its surroundings, in longer sides of the face


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portraits", type=Path)
    parser.add_argument("--sizes", default="12,14,16,20,30,50,100,200,400,900")
    options = parser.parse_args()
    yunet = YuNet(provider="cpu", threads=1)
    heads = list(heads_of(options.portraits, yunet))
    print("| face, px | 1920 x 1080 | beside a face of 450 px | 3840 x 2160 | beside a face of 900 px | time |")
    print("|---|---|---|---|---|---|")
    for size in map(int, options.sizes.split(",")):
        cells, ratios = [], []
        for width, height, large in ((1920, 1080, 450), (3840, 2160, 900)):
            for beside in (0, large):
                image, places = scene(heads, size, (width, height), beside)
                if not places:
                    cells.append("-")
                    continue
                began = time.perf_counter()
                found = [face.box for face in detect_at_all_scales(yunet, image)]
                took_s = time.perf_counter() - began
                began = time.perf_counter()
                detect_reduced(yunet, image, None)
                ratios.append(took_s / (time.perf_counter() - began))
                hidden = sum(any(covers(box, place, size) for box in found) for place in places)
                cells.append(f"{hidden} of {len(places)}")
        print(f"| {size} | {' | '.join(cells)} | {np.median(ratios):.1f} |", flush=True)


def heads_of(folder: Path, yunet: YuNet):
    """Square pictures of heads, and the share of the side that the face has."""
    for frame in open_source(folder):
        faces = yunet.detect(frame.image)
        if len(faces) == 1:
            x, y, w, h = faces[0].box
            half = max(w, h) * _HEAD / 2
            x0, y0 = max(0, round(x + w / 2 - half)), max(0, round(y + h / 2 - half))
            part = frame.image[y0 : round(y + h / 2 + half), x0 : round(x + w / 2 + half)]
            side = min(part.shape[:2])
            yield part[:side, :side], max(w, h) / side


def scene(heads, size: int, shape: tuple[int, int], beside: int):
    """A noisy picture with heads whose faces have a size, and with a large one at its left; and their centres."""
    width, height = shape
    noise = np.random.default_rng(0).integers(60, 180, (height // 40, width // 40, 3), dtype=np.uint8)
    image = cv2.resize(noise, shape)
    left = 20
    if beside:
        left = lay(image, heads[0], beside, 20, 20)[0] + 40
    places, x, y, line = [], left, 20, 0
    for head in heads[1 : _FACES + 1]:
        side = round(size / head[1])
        if x + side > width:
            x, y, line = left, y + line + 12, 0
        if y + side > height or x + side > width:
            break
        right, bottom = lay(image, head, size, x, y)
        places.append(((x + right) / 2, (y + bottom) / 2))
        x, line = right + 12, max(line, side)
    return image, places


def lay(image: np.ndarray, head, size: int, x: int, y: int) -> tuple[int, int]:
    picture, share = head
    side = min(round(size / share), image.shape[0] - y)
    how = cv2.INTER_AREA if side < len(picture) else cv2.INTER_CUBIC
    image[y : y + side, x : x + side] = cv2.resize(picture, (side, side), interpolation=how)
    return x + side, y + side


def covers(box, place, size: int) -> bool:
    x, y, w, h = box
    return x < place[0] < x + w and y < place[1] < y + h and max(w, h) < 3 * size


if __name__ == "__main__":
    main()
