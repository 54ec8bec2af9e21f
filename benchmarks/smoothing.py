"""How steady the age over a track is, and how fast it follows when another person takes the place.

    python benchmarks/smoothing.py CLIP ... [--portraits FOLDER] [--model NAME] [--pairs 40]

For every clip, of its longest track: spread of the ages of single frames, and from 2 seconds on the largest distance of
the smoothed age from its last value and from the median of all single ages. With ``--portraits``: films are made in
which one portrait stands for five seconds, moving and changing its light a little, and another one for five seconds in
its place. Given is how many seconds after the change a new track begins, or else the smoothed age is nearer to the
second person's age than to the first's; pairs whose ages differ by less than five years are left out.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ageinfer.pipeline import Looking, Pipeline
from ageinfer.sources import PICTURE_SUFFIXES, open_source, read_picture
from ageinfer.types import DEFAULT_FPS, Frame, FrameResult, Image

SETTLED_S, STANDS_S = 2.0, 5.0
LEAST_DIFFERENCE_YEARS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--portraits", type=Path, metavar="FOLDER")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--model")
    options = parser.parse_args()
    # Every frame is asked about: the age over a track is held against all of them.
    pipeline = Pipeline.default(model=options.model, provider="cpu", looking=Looking(age_interval_s=0))
    if options.clips:
        print(
            "| clip | frames | sd of single ages | last smoothed age | farthest from it after 2 s | from the median |"
        )
        print("|---|---|---|---|---|---|")
        for clip in options.clips:
            print(f"| {clip.name} | {steadiness(result for _, result in pipeline.video(open_source(clip)))} |")
    if options.portraits:
        change(pipeline, options.portraits, options.pairs)


def steadiness(results: Iterator[FrameResult]) -> str:
    tracks = defaultdict(list)
    for result in results:
        for face in result.faces:
            tracks[face.track].append((result.time_s, face.age.age_years, face.age_smoothed_years))
    if not tracks:
        return "no face | | | |"
    times, ages, smoothed = np.array(max(tracks.values(), key=len)).T
    late = smoothed[times - times[0] >= SETTLED_S]
    if not len(late):
        return f"{len(ages)} | {ages.std():.2f} | {smoothed[-1]:.2f} | shorter than 2 s |"
    farthest = [f"{np.abs(late - centre).max():.2f}" for centre in (smoothed[-1], np.median(ages))]
    return f"{len(ages)} | {ages.std():.2f} | {smoothed[-1]:.2f} | {farthest[0]} | {farthest[1]}"


def change(pipeline: Pipeline, folder: Path, most: int) -> None:
    pictures = [read_picture(p) for p in sorted(folder.iterdir()) if p.suffix.lower() in PICTURE_SUFFIXES]
    size = (225, 275)
    pictures = [cv2.resize(p, size) for p in pictures if len(pipeline(p).faces) == 1]
    pairs = list(itertools.permutations(range(len(pictures)), 2))
    chosen = np.random.default_rng(0).permutation(len(pairs))
    needed, renumbered = [], 0
    for i in chosen:
        first, second = pairs[i]
        results = [r for _, r in pipeline.video(film(pictures[first], pictures[second])) if r.faces]
        before = [r.faces[0] for r in results if r.time_s < STANDS_S]
        after = [(r.time_s - STANDS_S, r.faces[0]) for r in results if r.time_s >= STANDS_S]
        was, track = before[-1].shown_years, before[-1].track
        becomes = float(np.median([f.age.age_years for _, f in after]))
        if abs(becomes - was) < LEAST_DIFFERENCE_YEARS:
            continue
        began = [t for t, f in after if f.track != track]
        moved = [t for t, f in after if abs(f.shown_years - becomes) < abs(f.shown_years - was)]
        renumbered += bool(began)
        needed.append(min([*began, *moved], default=STANDS_S))
        if len(needed) == most:
            break
    in_time = np.mean(np.array(needed) <= SETTLED_S)
    print(
        f"\n{len(needed)} changes to another person: {renumbered} began a new track; a new track, or the other's age, "
        f"after {np.median(needed):.2f} s (median), {max(needed):.2f} s at most, in {in_time:.0%} within 2 s"
    )


def film(first: Image, second: Image) -> Iterator[Frame]:
    """Two portraits in the same place, one after the other; both sway and flicker."""
    height, width = first.shape[:2]
    for i in range(round(2 * STANDS_S * DEFAULT_FPS)):
        time_s = i / DEFAULT_FPS
        picture = first if time_s < STANDS_S else second
        sway = np.float32([[1, 0, 20 + 3 * np.sin(2 * time_s)], [0, 1, 20 + 2 * np.sin(3 * time_s)]])
        image = cv2.warpAffine(picture, sway, (width + 40, height + 40), borderMode=cv2.BORDER_REPLICATE)
        yield Frame("film", i, time_s, np.clip(image * (1 + 0.05 * np.sin(time_s)), 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
