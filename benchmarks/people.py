"""People counted and aged over made films, against the truth.

    python benchmarks/people.py walk NAME=FOLDER ... [--seed 0] [--fps 25] [--live] [--least-quality 0]
        [--film FILE]
    python benchmarks/people.py coverage NAME=FOLDER ... [--people 300]
    python benchmarks/people.py crowd NAME=FOLDER ... [--each 500] [--spoil 0]

NAME is a data set of agetrain with exact ages; faces of its valid part are used, one picture a person. A film is made
of them: each portrait is moved over a ground of blurred noise.

``walk`` makes a film of 12 people, from 4 to 77 years old where the sets have them, who walk through in three groups,
with crossings of a line in the middle, exits, and one who comes back; --live gives it as a camera of 8 frames a second.
It compares people, seconds in view, ages, crossings and the audience with the truth, the audience also as a count of
rounded means. ``coverage`` gives how often the 90 % interval of a person's age holds the truth, by the number of
estimates. ``crowd`` counts all faces of each set as an audience: the differences of the bands from the truth, as a
share of the people, by means and by sums of distributions, and with gates on quality; --spoil makes a part of the faces
small, blurred and dark, as `benchmarks/quality.py` does.
"""

import argparse
import math
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from films import write_film
from mjpeg import network_camera
from quality import worse

from ageinfer.crop.cut import central_face
from ageinfer.people import BANDS, Audience, Band, People, Person, Places, Window
from ageinfer.people.bands import expected_count
from ageinfer.people.visits import FusedAge
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source, read_picture
from ageinfer.types import Age, Image
from agetrain.datasets import load_dataset

WIDTH, HEIGHT, FACE_PX = 1280, 720, 110
PLACES = Places.parse(["left=0,0;0.4,0;0.4,1;0,1"], ["middle=0.5,1;0.5,0"])
LANES = (0.2, 0.5, 0.8, 0.58)  # heights; the last one passes behind the second
AGES = (4, 9, 14, 17, 21, 24, 29, 36, 45, 53, 62, 77)


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One face, and how old it is."""

    image: Image
    true_years: float


@dataclass(frozen=True, slots=True)
class Walk:
    """Somebody walks through the picture.

    Attributes:
        who: place among the portraits.
        from_s, to_s: when.
        from_x, to_x: of the centre, in widths of the picture; beyond 0 and 1 it is not seen.
        y: of the centre, in heights.
    """

    who: int
    from_s: float
    to_s: float
    from_x: float
    to_x: float
    y: float

    def x(self, time_s: float) -> float | None:
        share = (time_s - self.from_s) / (self.to_s - self.from_s)
        return self.from_x + share * (self.to_x - self.from_x) if 0 <= share <= 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("walk", "coverage", "crowd"))
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--model", default="age-small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--least-quality", type=float, default=0.0)
    parser.add_argument("--film", type=Path, default=Path("/tmp/people.mp4"), help="where the film is made")  # noqa: S108
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--each", type=int, default=500)
    parser.add_argument("--spoil", type=float, default=0.0, help="share of the faces of a crowd that are seen badly")
    options = parser.parse_args()
    pipeline = Pipeline.default(options.model, provider="cpu")
    if options.what == "walk":
        walk(pipeline, options)
    elif options.what == "coverage":
        coverage(pipeline, options)
    else:
        crowd(pipeline, options)


def faces(pipeline: Pipeline, text: str, seed: int) -> Iterator[Portrait]:
    """Portraits of valid in an order of chance, of a size at which the face is `FACE_PX` large."""
    name, _, folder = text.partition("=")
    dataset, _ = load_dataset(name, Path(folder))
    samples = [sample for sample in dataset.parts["valid"] if sample.interval_years is None]
    for i in np.random.default_rng(seed).permutation(len(samples)):
        image = read_picture(samples[i].path)
        found = pipeline.find(image)
        place = central_face([d.box for d in found], (image.shape[1], image.shape[0]))
        if place is None or len(found) > 1:
            continue
        scale = FACE_PX / max(found[place].box[2:])
        if scale > 2:
            continue
        x, y, w, h = found[place].box
        side = max(w, h)
        x0, y0 = max(0, round(x + w / 2 - 0.9 * side)), max(0, round(y + h / 2 - 0.95 * side))
        head = image[y0 : round(y + h / 2 + 0.95 * side), x0 : round(x + w / 2 + 0.9 * side)]
        head = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        yield Portrait(head, samples[i].age_years)


def cast(pipeline: Pipeline, datasets: Sequence[str], seed: int) -> list[Portrait]:
    """Twelve portraits, of the age that is nearest to each of `AGES` among some of each set."""
    some = [p for text in datasets for p, _ in zip(faces(pipeline, text, seed), range(150), strict=False)]
    chosen = []
    for years in AGES:
        best = min(some, key=lambda portrait: abs(portrait.true_years - years))
        some = [portrait for portrait in some if portrait is not best]
        chosen.append(best)
    return chosen


def walks(seed: int) -> list[Walk]:
    """Three groups of four, one after the other; the first one comes back at the end."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(AGES))
    found = []
    for number, who in enumerate(order):
        group, lane = divmod(number, 4)
        begins = group * 9.0 + lane * 0.6
        ways = ((-0.1, 1.1), (1.1, -0.1), (-0.1, 1.1), (-0.1, 0.45))  # the last one turns round, see below
        from_x, to_x = ways[lane]
        found.append(Walk(int(who), begins, begins + 6.5, from_x, to_x, LANES[lane]))
        if lane == 2:
            found[-1] = Walk(int(who), begins + 1.6, begins + 8.1, from_x, to_x, LANES[lane])
        if lane == 3:  # in by the left, not over the line, and out by the left
            middle = begins + 1.2
            found[-1] = Walk(int(who), middle, middle + 3, -0.1, 0.35, LANES[lane])
            found.append(Walk(int(who), middle + 3, middle + 6, 0.35, -0.1, LANES[lane]))
    first = found[0]
    found.append(Walk(first.who, 28.5, 34.0, 1.1, -0.1, 0.5))
    return found


def scene(portraits: Sequence[Portrait], steps: Sequence[Walk], fps: float, seed: int) -> Iterator[Image]:
    """The frames, uint8 BGR."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(60, 190, (18, 32, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for i in range(round(35.5 * fps)):
        frame = ground.copy()
        for step in sorted(steps, key=lambda step: step.y):
            x = step.x(i / fps)
            if x is not None:
                paste(
                    frame, portraits[step.who].image, x * WIDTH, step.y * HEIGHT + 8 * math.sin(i / fps * 5 + step.who)
                )
        light = 1 + 0.08 * math.sin(i / fps)
        yield cv2.convertScaleAbs(frame, alpha=light)


def paste(frame: Image, image: Image, x: float, y: float) -> None:
    """Lays a head with its centre there, at a fraction of a pixel: an ellipse, which hides no more than a head does."""
    height, width = image.shape[:2]
    left, top = x - width / 2, y - height / 2
    x0, y0 = max(0, math.ceil(left)), max(0, math.ceil(top))
    x1, y1 = min(WIDTH, math.floor(left + width)), min(HEIGHT, math.floor(top + height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    move = np.array([[1, 0, left - x0], [0, 1, top - y0]], np.float32)
    shape = np.zeros((height, width), np.float32)
    cv2.ellipse(shape, (width // 2, height // 2), (width // 2 - 4, height // 2 - 4), 0, 0, 360, 1.0, cv2.FILLED)
    size = (x1 - x0, y1 - y0)
    share = cv2.warpAffine(cv2.GaussianBlur(shape, (0, 0), 2), move, size)[..., None]
    head = cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REPLICATE)
    frame[y0:y1, x0:x1] = np.rint(share * head + (1 - share) * frame[y0:y1, x0:x1]).astype(np.uint8)


def walk(pipeline: Pipeline, options: argparse.Namespace) -> None:
    portraits, steps = cast(pipeline, options.datasets, options.seed), walks(options.seed)
    fps = 8.0 if options.live else options.fps
    gate = options.least_quality
    people, audience = People(PLACES, least_quality=gate), Audience(places=PLACES, least_quality=gate)
    persons: list[Person] = []
    windows: list[Window] = []
    visits = passages(steps)
    tracks: dict[int, Counter[int]] = {}  # how often each track was at the place of each visit
    for result in results(pipeline, portraits, steps, fps, options):
        persons += people.add(result)
        for face in result.faces:
            x, y, w, h = face.detection.box
            at = near(visits, result.index / fps, x + w / 2, y + h / 2)  # a live source is a little slower than it says
            tracks.setdefault(face.track or 0, Counter())[at] += 1
        windows += audience.add(result)
    persons += people.end()
    [window] = windows + audience.end()
    report(portraits, visits, tracks, persons, window, fps)


def results(pipeline: Pipeline, portraits: Sequence[Portrait], steps: Sequence[Walk], fps: float, options) -> Iterator:
    frames = scene(portraits, steps, fps, options.seed)
    if not options.live:
        path = write_film(options.film, frames, fps=fps, options={"preset": "fast", "crf": "18"})
        with open_source(str(path)) as source:
            yield from (result for _, result in pipeline.run(source))
        return
    shown = list(frames)
    with network_camera(lambda number: shown[min(number, len(shown) - 1)], fps=fps) as camera:
        source = open_source(camera.address, reconnect_for_s=0)
        threading.Timer(len(shown) / fps + 0.5, source.close).start()
        with source:
            yield from (result for _, result in pipeline.run(source))


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody is in the picture, with the whole face."""

    who: int
    from_s: float
    to_s: float
    crossing: str
    steps: tuple[Walk, ...]


def passages(steps: Sequence[Walk]) -> list[Visit]:
    """All visits: of those who turn round, one."""
    seen: list[Visit] = []
    half = FACE_PX / 2 / WIDTH
    for step in steps:
        times = [t for t in np.arange(step.from_s, step.to_s, 0.01).tolist() if half <= (step.x(t) or 0.0) <= 1 - half]
        side = "right" if step.from_x < 0.5 < step.to_x else "left" if step.from_x > 0.5 > step.to_x else "none"
        if seen and seen[-1].who == step.who and abs(seen[-1].to_s - times[0]) < 0.1:
            before = seen.pop()
            seen.append(Visit(step.who, before.from_s, times[-1], side, (*before.steps, step)))
        else:
            seen.append(Visit(step.who, times[0], times[-1], side, (step,)))
    return seen


def near(visits: Sequence[Visit], time_s: float, x: float, y: float) -> int:
    """The visit whose face is nearest to this place, in pixels; -1 where none is."""
    distances = {}
    for number, visit in enumerate(visits):
        for step in visit.steps:
            at = step.x(time_s)
            if at is not None:
                distances[number] = math.hypot(at * WIDTH - x, step.y * HEIGHT - y)
    best = min(distances, key=distances.__getitem__, default=-1)
    return best if best >= 0 and distances[best] < FACE_PX else -1


def report(
    portraits: Sequence[Portrait], visits: Sequence[Visit], tracks: dict[int, Counter[int]],
    persons: Sequence[Person], window: Window, fps: float,
) -> None:  # fmt: skip
    sure = [person for person in persons if not person.unsure]
    print(f"{fps:g} frames a second; {len(visits)} visits in truth: 12 people, one of whom comes back")
    print("| true age | counted as | 5 % to 95 % | first seen, s (truth) | in view, s (truth) | crossings (truth) |")
    print("|---|---|---|---|---|---|")
    errors, inside, seconds, found, mixed = [], 0, [], 0, 0
    for number, visit in enumerate(visits):
        true, length = portraits[visit.who].true_years, visit.to_s - visit.from_s
        own = [person for person in sure if tracks[person.track].most_common(1)[0][0] == number]
        found += bool(own)
        seconds.append(sum(person.in_view_s for person in own) - length)
        for person in own:
            mixed += sum(at >= 0 and count > 5 for at, count in tracks[person.track].items()) > 1
            age = person.age or Age(0.0, 0.0)  # whoever is counted has one
            low, high = age.quantile(0.05), age.quantile(0.95)
            errors.append(abs(age.age_years - true))
            inside += low - 0.5 <= true <= high + 0.5
            sides = ", ".join(crossing.to for crossing in person.crossings) or "none"
            first, view = f"{person.first_s:.1f} ({visit.from_s:.1f})", f"{person.in_view_s:.1f} ({length:.1f})"
            age_cells = f"{true:.0f} | {age.age_years:.1f} | {low:.0f} to {high:.0f}"
            print(f"| {age_cells} | {first} | {view} | {sides} ({visit.crossing}) |")
    print(
        f"\n{found} visits are counted, by {len(sure)} persons, {mixed} of whom hold two people's frames; "
        f"{len(persons) - len(sure)} are marked as unsure"
    )
    print(f"ages: MAE {np.mean(errors):.2f} years, {inside} of {len(errors)} in the 90 % interval")
    print(f"seconds in view: {np.mean(seconds):+.2f} on average, {np.abs(seconds).max():.2f} at most")
    truth = Counter(visit.crossing for visit in visits)
    print(f"crossings: {dict(window.lines)['middle']}, in truth {truth['left']} and {truth['right']}")
    print(f"people in the zone: {dict(window.zones)['left'].people}, in truth {len(visits)}")
    true_ages = [portraits[visit.who].true_years for visit in visits]
    means = [person.age.age_years for person in sure if person.age is not None]
    print("\n| ages | truth | rounded means | sum of distributions | 90 % interval |\n|---|---|---|---|---|")
    by_means = by_sums = 0.0
    for band in window.everywhere.bands:
        count, low, high = band.count or 0.0, band.low or 0.0, band.high or 0.0
        number, points = in_band(true_ages, band.band), in_band(means, band.band)
        by_means += abs(points - number)
        by_sums += abs(count - number)
        print(f"| {band.band} | {number} | {points} | {count:.1f} | {low:.1f} to {high:.1f} |")
    print(f"\ndifferences from the truth: {by_means:.0f} by means, {by_sums:.1f} by distributions, of {len(visits)}")


def in_band(ages: Sequence[float], band: Band) -> int:
    return sum(band.low <= round(age) <= (200 if band.high is None else band.high) for age in ages)


def coverage(pipeline: Pipeline, options: argparse.Namespace) -> None:
    """Tracks of moved portraits: scaled, shifted, turned a little, in changing light, with noise."""
    counts = (1, 5, 20, 60)
    inside: dict[int, list[bool]] = {count: [] for count in counts}
    ratio: dict[int, list[float]] = {count: [] for count in counts}
    for text in options.datasets:
        own: dict[int, list[bool]] = {count: [] for count in counts}
        for portrait, _ in zip(faces(pipeline, text, options.seed), range(options.people), strict=False):
            estimates = list(moved(pipeline, portrait, max(counts), options.seed))
            for count in counts:
                fused = FusedAge()
                for time_s, age in estimates[:count]:
                    fused.add(age, time_s)
                if fused.count < count or fused.age is None:
                    continue
                low, high = fused.age.quantile(0.05) - 0.5, fused.age.quantile(0.95) + 0.5
                own[count].append(low <= portrait.true_years <= high)
                ratio[count].append(fused.age.std_years / estimates[0][1].std_years)
        print(
            text.partition("=")[0],
            {count: f"{np.mean(hits):.1%} of {len(hits)}" for count, hits in own.items()},
            flush=True,
        )
        for count in counts:
            inside[count] += own[count]
    print("\n| estimates | seconds | people | in the 90 % interval | deviation to that of one |\n|---|---|---|---|---|")
    for count in counts:
        hits = inside[count]
        print(f"| {count} | {(count - 1) / 5:g} | {len(hits)} | {np.mean(hits):.1%} | {np.mean(ratio[count]):.3f} |")


def moved(pipeline: Pipeline, portrait: Portrait, count: int, seed: int) -> Iterator[tuple[float, Age]]:
    rng = np.random.default_rng([seed, round(portrait.image.mean() * 1000)])
    height, width = portrait.image.shape[:2]
    phase = rng.uniform(0, 2 * math.pi, 4)
    for i in range(count):
        t = i / 5
        angle, scale = 8 * math.sin(t + phase[0]), 1 + 0.15 * math.sin(0.7 * t + phase[1])
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        turn[:, 2] += 6 * math.sin(2 * t + phase[2]), 6 * math.cos(1.5 * t + phase[3])
        image = cv2.warpAffine(portrait.image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        light = 1 + 0.25 * math.sin(0.9 * t + phase[0])
        image = np.clip(image * light + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        found = pipeline.find(image)
        place = central_face([d.box for d in found], (width, height))
        if place is not None:
            yield t, pipeline.ages(pipeline.crop(image, [found[place]]), [found[place]])[0]


def crowd(pipeline: Pipeline, options: argparse.Namespace) -> None:
    print("| faces | people | gate | left out | by rounded means | by distributions | bands in 90 % | bias |")
    print("|---|---|---|---|---|---|---|---|")
    for text in options.datasets:
        name, _, folder = text.partition("=")
        dataset, _ = load_dataset(name, Path(folder))
        samples = [sample for sample in dataset.parts["valid"] if sample.interval_years is None]
        order = np.random.default_rng(options.seed).permutation(len(samples))[: options.each]
        seen: list[tuple[float, Age]] = []
        rng = np.random.default_rng(options.seed)
        for i in order:
            image = read_picture(samples[i].path)
            found = pipeline.find(image)
            place = central_face([d.box for d in found], (image.shape[1], image.shape[0]))
            if place is not None and rng.random() < options.spoil:
                image = worse(image, "several", max(found[place].box[2:]), rng)
                found = pipeline.find(image)
                place = central_face([d.box for d in found], (image.shape[1], image.shape[0]))
            if place is not None:
                [age] = pipeline.ages(pipeline.crop(image, [found[place]]), [found[place]])
                seen.append((samples[i].age_years, age))
        for gate in (0.0, 0.6, 0.8):
            good = [(true, age) for true, age in seen if age.quality is not None and age.quality >= gate]
            print(f"| {name} | {len(good)} | {gate:g} | {len(seen) - len(good)} | {compared(good)} |", flush=True)


def compared(seen: Sequence[tuple[float, Age]]) -> str:
    by_means = by_sums = 0.0
    inside = 0
    for band in BANDS:
        truth = in_band([true for true, _ in seen], band)
        count, low, high = expected_count([age for _, age in seen], band)
        by_means += abs(in_band([age.age_years for _, age in seen], band) - truth)
        by_sums += abs(count - truth)
        inside += low - 0.5 <= truth <= high + 0.5
    bias = np.mean([age.age_years - true for true, age in seen])
    return f"{by_means / len(seen):.1%} | {by_sums / len(seen):.1%} | {inside} of {len(BANDS)} | {bias:+.2f}"


if __name__ == "__main__":
    main()
