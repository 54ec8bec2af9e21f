"""What following faces costs and keeps, against full-size detection on every frame; and how fast it all is.

    python benchmarks/video.py CLIP ... [--speed CLIP] [--frames 1000] [--portraits FOLDER]

For every clip: recall and precision of the faces of the default pipeline (whole looks as the scene allows) and of
``--detect-every 1``, at IoU 0.5, where what YuNet finds at full size in every frame counts as the truth. For the
clip of ``--speed``, repeated to so many frames: ``ageinfer bench`` for both. With ``--portraits``: how much one face
correlates with itself from frame to frame in the clips, and with other people's portraits (the threshold of
`ageinfer.tracking.appearance`).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ageinfer.commands.bench import measure, rendered
from ageinfer.detect import YuNet
from ageinfer.pipeline import Looking, Pipeline
from ageinfer.sources import PICTURE_SUFFIXES, open_source, read_picture
from ageinfer.tracking.appearance import correlation, small_grey
from ageinfer.tracking.follower import FaceFollower
from ageinfer.types import Box, Frame, overlap

_SAME_FACE_IOU = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--speed", type=Path, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--portraits", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    yunet = YuNet(provider="cpu", threads=1)
    if options.clips:
        follow(options.clips, yunet)
    if options.portraits:
        compare_looks(options.clips, options.portraits, yunet)
    if options.speed:
        for every, looking in ((1, Looking(every=1, age_interval_s=0)), (None, Looking())):
            pipeline = Pipeline.default(provider="cpu", threads=1, looking=looking)
            print(f"\n== detection on {'every frame' if every else 'whole frames as the scene allows'}")
            print(rendered(measure(lambda: open_source(options.speed), pipeline, options.frames)))


def follow(clips: list[Path], yunet: YuNet) -> None:
    print("| clip | frames | faces | looks a frame | tracks | recall | precision | recall, every frame | precision |")
    print("|---|---|---|---|---|---|---|---|---|")
    totals = np.zeros((2, 3), int)
    for clip in clips:
        truth = [[d.box for d in yunet.detect(frame.image)] for frame in open_source(clip)]
        cells = []
        for i, every in enumerate((None, 1)):
            counting = Counting(yunet)
            follower = FaceFollower(counting, detect_every=every)
            found, tracks = [], set()
            for frame in open_source(clip):
                detections, seen = follower(frame)
                found.append([d.box for d in detections])
                tracks |= {track.number for track in seen}
            counts = np.array([sum(map(matches, truth, found)), sum(map(len, truth)), sum(map(len, found))])
            totals[i] += counts
            if every is None:
                cells += [f"{counting.looks / len(truth):.2f}", str(len(tracks))]
            cells += shares(counts)
        print(f"| {clip.name} | {len(truth)} | {sum(map(len, truth))} | {' | '.join(cells)} |")
    print(f"| all | | {totals[0][1]} | | | {' | '.join([*shares(totals[0]), *shares(totals[1])])} |")


def shares(counts: np.ndarray) -> list[str]:
    """Recall and precision from matches, true faces and found faces."""
    return [f"{counts[0] / n:.2%}" if n else "-" for n in counts[1:]]


def matches(truth: list[Box], found: list[Box]) -> int:
    """How many true faces have a found one of their own."""
    left = list(found)
    count = 0
    for box in truth:
        best = max(left, key=lambda other: overlap(box, other), default=None)
        if best is not None and overlap(box, best) >= _SAME_FACE_IOU:
            left.remove(best)
            count += 1
    return count


class Counting:
    """YuNet that counts its looks at whole frames."""

    def __init__(self, yunet: YuNet) -> None:
        self.identifier, self._yunet, self.looks = yunet.identifier, yunet, 0
        self.detect_near = yunet.detect_near

    def detect(self, image: np.ndarray) -> list:
        self.looks += 1
        return self._yunet.detect(image)


def compare_looks(clips: list[Path], portraits: Path, yunet: YuNet) -> None:
    same = [value for clip in clips for value in _frame_to_frame(clip, yunet)]
    print(f"one face from frame to frame ({len(same)} pairs): correlation at 1, 5, 50 %:", percentiles(same, 1, 5, 50))
    looks = []
    for file in sorted(f for f in portraits.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES):
        image = read_picture(file)
        if faces := yunet.detect(image):
            looks.append(small_grey(image, faces[0].box))
    others = [correlation(a, b) for i, a in enumerate(looks) for b in looks[i + 1 :]]
    print(f"two of {len(looks)} portraits: correlation at 50, 90, 99 %:", percentiles(others, 50, 90, 99))


def percentiles(values: list[float], *shares_percent: float) -> list[float]:
    return np.percentile(values, shares_percent).round(2).tolist()


def _frame_to_frame(clip: Path, yunet: YuNet) -> Iterator[float]:
    follower, last = FaceFollower(yunet), {}
    frame: Frame
    for frame in open_source(clip):
        detections, tracks = follower(frame)
        now = {t.number: small_grey(frame.image, d.box) for t, d in zip(tracks, detections, strict=True)}
        yield from (correlation(last[n], looks) for n, looks in now.items() if n in last)
        last = now


if __name__ == "__main__":
    main()
