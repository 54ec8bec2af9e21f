"""What the quality of a view says about the error of an estimate of age.

    python benchmarks/quality.py fit NAME=FOLDER ... [--list FILE]
    python benchmarks/quality.py measure NAME=FOLDER ... [--each 1500] [--json FILE] [--plot FILE]

NAME is a data set of agetrain. ``fit`` uses the part of train that was kept out of training to choose the epoch
(`split_selection`, or the names in --list where the model was trained on another split), each picture as it is and made
worse in seven ways: fewer pixels, blur, darkness, overexposure, haze, lean, and several of them. The cost of each
property of a view is fitted by non-negative least squares to the absolute errors, in errors on well seen faces.
``measure`` uses valid, as it is and made worse in the same ways with other numbers: the mean error by quality, for the
shipped models.
"""

import argparse
import itertools
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ageinfer.crop.cut import central_face
from ageinfer.crop.quality import COSTS, View, view_of
from ageinfer.detect import detect_closely
from ageinfer.pipeline import Pipeline
from ageinfer.sources import read_picture
from ageinfer.types import Age, Image
from agetrain.crops.training_set import split_selection
from agetrain.datasets import Sample, load_dataset

WAYS = ("as it is", "fewer pixels", "blur", "dark", "overexposed", "haze", "lean", "several")
EDGES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """One face that was seen in one way."""

    source: str
    way: str
    true_years: float
    age: Age
    view: View


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("fit", "measure"))
    parser.add_argument("datasets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--each", type=int, default=1500, help="pictures of each data set")
    parser.add_argument("--list", type=Path, metavar="FILE", help="names of the only pictures to use, one a line")
    parser.add_argument("--model", action="append", help="default: age-small, and for measure age-accurate too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    listed = frozenset(options.list.read_text().splitlines() if options.list else ())
    results = {}
    for model in options.model or (["age-small"] if options.what == "fit" else ["age-small", "age-accurate"]):
        pipeline = Pipeline.default(model, provider="cpu", threads=1)
        seen = [face for text in options.datasets for face in faces(pipeline, text, options.what, options.each, listed)]
        if options.what == "fit":
            fit(seen)
        else:
            results[model] = measured(seen)
            print(f"\n{model}\n\n{table(results[model])}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        draw(results, options.plot)


def faces(pipeline: Pipeline, text: str, what: str, each: int, listed: frozenset[str]) -> Iterator[Seen]:
    """The labelled faces of a data set, each seen in all ways in which it is found."""
    name, _, folder = text.partition("=")
    samples = chosen(name, Path(folder), what, listed)
    spec = pipeline.estimator.metadata.crop
    for number, sample in enumerate(samples[:each]):
        rng = np.random.default_rng([zlib.crc32(name.encode()), number, what == "fit"])
        image = read_picture(sample.path)
        face_px = 0.0
        for way in WAYS:
            shown = worse(image, way, face_px, rng)
            found = detect_closely(pipeline.detector, shown)
            place = central_face([d.box for d in found], (shown.shape[1], shown.shape[0]))
            if place is None:
                if way == "as it is":
                    break
                continue
            face_px = face_px or max(found[place].box[2:])
            [crop] = pipeline.crop(shown, [found[place]])
            [age] = pipeline.estimator.estimate(crop[None])
            yield Seen(name, way, sample.age_years, age, view_of(crop, spec, found[place]))


def chosen(name: str, folder: Path, what: str, listed: frozenset[str]) -> list[Sample]:
    """The part of a data set that may be used for this, in an order of chance."""
    dataset, _ = load_dataset(name, folder)
    samples = [s for s in dataset.parts["valid" if what == "measure" else "train"] if s.interval_years is None]
    if listed:
        samples = [sample for sample in samples if sample.path.name in listed]
    elif what == "fit":
        samples = [samples[i] for i in split_selection(samples, 0.05, 0)[1]]
    return [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]


def worse(image: Image, way: str, face_px: float, rng: np.random.Generator) -> Image:
    """A picture seen worse in one way; uint8 BGR."""
    if way in ("fewer pixels", "several"):
        wanted_px = math.exp(rng.uniform(math.log(12), math.log(100)))
        if wanted_px < face_px:
            scale = wanted_px / face_px
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            face_px = wanted_px
    if way in ("blur", "several"):
        sigma = math.exp(rng.uniform(math.log(0.005), math.log(0.08))) * face_px
        image = cv2.GaussianBlur(image, (0, 0), sigma) if rng.random() < 0.5 else moved(image, 3 * sigma, rng)
    if way in ("dark", "several"):
        noise = rng.normal(0, rng.uniform(0, 6), image.shape)
        image = np.clip(image * rng.uniform(0.05, 1) + noise, 0, 255).astype(np.uint8)
    if way == "overexposed":
        image = np.clip(image * rng.uniform(1, 4), 0, 255).astype(np.uint8)
    if way == "haze":
        share = rng.uniform(0.05, 1)
        image = np.clip(image * share + rng.uniform(40, 200) * (1 - share), 0, 255).astype(np.uint8)
    if way == "lean":
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-70, 70), 1)
        image = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if way == "several":
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 95))])[1], 1)
    return image


def moved(image: Image, length_px: float, rng: np.random.Generator) -> Image:
    """A picture of something that moved by so many pixels while it was taken."""
    side = max(2, round(length_px))
    kernel, angle = np.zeros((side, side), np.float32), rng.uniform(0, math.pi)
    dx, dy = side / 2 * math.cos(angle), side / 2 * math.sin(angle)
    ends = [(int(side / 2 - dx), int(side / 2 - dy)), (int(side / 2 + dx), int(side / 2 + dy))]
    cv2.line(kernel, *ends, 1.0)
    return cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1))


def fit(seen: list[Seen]) -> None:
    """Prints the costs for `ageinfer.crop.quality.COSTS`."""
    from scipy.optimize import nnls

    errors = np.array([abs(face.age.age_years - face.true_years) for face in seen])
    columns = [np.ones(len(seen))]
    columns += [np.array([cost.distance(getattr(face.view, cost.name)) for face in seen]) for cost in COSTS]
    found, _ = nnls(np.stack(columns, 1), errors)
    print(f"{len(seen)} views; error of a well seen face: {found[0]:.2f} years")
    for cost, years in zip(COSTS, found[1:], strict=True):
        print(f"{cost.name:13} {'below' if cost.below else 'above'} {cost.knot:<5} each {years / found[0]:.3f}")


def measured(seen: list[Seen]) -> dict[str, list[dict[str, float]]]:
    """Mean errors by quality: of all views, and of pictures as they are by data set."""
    groups = {"all views": seen}
    for name in dict.fromkeys(face.source for face in seen):
        groups[f"{name}, as it is"] = [face for face in seen if face.source == name and face.way == "as it is"]
    return {name: curve(group) for name, group in groups.items()}


def curve(seen: list[Seen]) -> list[dict[str, float]]:
    quality = np.array([face.view.quality for face in seen])
    errors = np.array([abs(face.age.age_years - face.true_years) for face in seen])
    rows = []
    for low, high in itertools.pairwise(EDGES):
        inside = (quality > low) & (quality <= high)
        if inside.any():
            rows.append({
                "from": low, "to": high, "n": int(inside.sum()), "quality": round(float(quality[inside].mean()), 3),
                "mae_years": round(float(errors[inside].mean()), 2),
                "standard_error": round(float(errors[inside].std() / math.sqrt(inside.sum())), 2),
            })  # fmt: skip
    return rows


def table(result: dict[str, list[dict[str, float]]]) -> str:
    lines = ["| pictures | " + " | ".join(f"{a:g} to {b:g}" for a, b in itertools.pairwise(EDGES)) + " |"]
    lines.append("|---" * len(EDGES) + "|")
    for name, rows in result.items():
        cells = {row["from"]: f"{row['mae_years']:.2f} ({row['n']:.0f})" for row in rows}
        lines.append(f"| {name} | " + " | ".join(cells.get(low, "-") for low in EDGES[:-1]) + " |")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for model, result in results.items():
        rows = result["all views"]
        axes.errorbar(
            [row["quality"] for row in rows], [row["mae_years"] for row in rows],
            [1.96 * row["standard_error"] for row in rows], marker="o", capsize=3, label=model,
        )  # fmt: skip
        best = rows[-1]
        x = np.linspace(0.3, 1, 50)
        axes.plot(x, best["mae_years"] * best["quality"] / x, color=axes.lines[-1].get_color(), ls=":", lw=1)
    axes.set(xlabel="quality of the view", ylabel="mean absolute error, years", ylim=(0, None))
    axes.legend(title="dotted: what quality means")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
