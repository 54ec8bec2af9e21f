"""This project's age models beside other age estimators: error on the same faces, and time for the same faces.

    python benchmarks/accuracy.py NAME=FOLDER [NAME=FOLDER ...] [--speed FOLDER] [--model FILE ...] [--peer NAME ...]
        [--peer-files FOLDER] [--tune 300 | --crops FILE] [--rounds 15] [--json FILE] [--plot FILE]
    python benchmarks/accuracy.py --merge FILE [FILE ...] [--plot FILE]

NAME is a data set of agetrain, FOLDER where it lies unpacked. Faces are found by YuNet for all, the one nearest the
centre counts; a picture without a face is answered with the median label of train, and counts: what `python -m
agetrain.evaluate` measures, on the same pictures (valid). Each peer has the crop (margin round the box, and what is
shown beyond the picture) with which the mean of its errors on so many (--tune) pictures of train of each set is least.

With --speed and a folder of portraits: crop and age together, without the detection, of frames with 1, 5 and 20 faces
of about 100 pixels, one thread; this project's first model and each other estimator in turns, and the ratio of
neighbours. Run it with OMP_NUM_THREADS=1.

The peers (`peer_estimators.py`) are not part of the project: files are looked for in --peer-files, packages are
imported when they are there, and what is missing is named. A peer whose package asks for an environment of its own is
run in that one, which needs NumPy, OpenCV and ONNX Runtime beside it, and this checkout on PYTHONPATH; --merge makes
one table of several --json files (the first one is the measure of time for all), and needs no peer. --plot needs
matplotlib.
"""

import argparse
import datetime
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from peer_estimators import PEERS, Crop, Estimator, NotHereError, open_peer

from ageinfer.crop.cut import central_face
from ageinfer.detect import YuNet, detect_closely
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.pipeline import Pipeline
from ageinfer.sources import PICTURE_SUFFIXES, read_picture
from ageinfer.types import Detection, Image
from agetrain.datasets import Sample, load_dataset
from agetrain.evaluation.metrics import measure

MODELS = Path(__file__).parents[1] / "models"
SHIPPED = tuple(
    MODELS / f"{name}.onnx" for name in ("age-small", "age-small.fp32", "age-accurate", "age-accurate.fp32")
)
FACES, FACE_PX = (1, 5, 20), 100
FRAME, COLUMNS, ROWS = (960, 1280), 5, 4
ADULTS = (18, 75)  # what the peer with the narrowest range was made for; everybody is measured there too

Ask = Callable[[Image, Sequence[Detection]], list[float]]


class Ours(Estimator):
    """A model file of this project, the way the pipeline uses it: all faces of a picture together."""

    def __init__(self, path: Path, detector: YuNet) -> None:
        self._pipeline = Pipeline(detector, AgeEstimator(path, provider="cpu", threads=1))
        described = self._pipeline.estimator.metadata
        self.name, self.version = f"{described.name}, {described.precision}", path.name
        self.learned_from = tuple(data["dataset"] for data in described.training.get("data", ()))
        self.megabytes = path.stat().st_size / 1e6

    def ages(self, image: Image, detections: Sequence[Detection]) -> list[float]:
        return [age.age_years for age in self._pipeline.estimator.estimate(self._pipeline.crop(image, detections))]


def main() -> None:
    options = parsed()
    if options.merge:
        results = merged([json.loads(file.read_text()) for file in options.merge])
    else:
        cv2.setNumThreads(1)
        result = run(options)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
        results = merged([result])
    print(table(results))
    if options.plot:
        draw(results, options.plot)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--speed", type=Path, metavar="FOLDER", help="portraits for the frames that are timed")
    parser.add_argument("--model", type=Path, action="append", metavar="FILE", help="default: those that are shipped")
    parser.add_argument("--peer", action="append", choices=PEERS, help="default: all")
    parser.add_argument("--peer-files", type=Path, default=Path("../shared/peers"), metavar="FOLDER")
    parser.add_argument("--tune", type=int, default=300, help="pictures of each set's train that choose the crop")
    parser.add_argument("--crops", type=Path, metavar="FILE", help="the crops that an earlier --json has chosen")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not options.merge and not options.datasets and not options.speed:
        parser.error("name data sets, --speed or --merge")
    return options


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Opens the estimators and measures them: the values of ``--json``."""
    detector = YuNet(provider="cpu", threads=1)
    estimators: list[Estimator] = [Ours(path, detector) for path in options.model or SHIPPED]
    peers, missing = [""] * len(estimators), {}
    for name in options.peer or PEERS:
        try:
            estimators.append(open_peer(name, options.peer_files))
            peers.append(name)
        except NotHereError as error:
            missing[name] = str(error)
    records: list[dict[str, Any]] = [
        {
            "name": e.name, "peer": peer, "version": e.version, "ours": not peer, "megabytes": round(e.megabytes, 2),
            "ages_known": e.ages_known, "learned_from": e.learned_from, "seen": e.seen, "tuning": {}, "accuracy": {},
            "speed": {},
        }
        for peer, e in zip(peers, estimators, strict=True)
    ]  # fmt: skip
    if options.crops:
        take_crops(estimators, json.loads(options.crops.read_text()))
    sets: dict[str, Any] = {}
    if options.datasets:
        sets = accuracy(estimators, records, options, detector)
    if options.speed:
        speed(estimators, records, options, detector)
    for estimator, record in zip(estimators, records, strict=True):
        record["crop"] = str(estimator.crop) if estimator.crops else "own"
    protocol = {key: getattr(options, key) for key in ("tune", "seed", "rounds")}
    return {"machines": [machine()], "protocol": protocol, "sets": sets, "estimators": records, "not_here": missing}


def take_crops(estimators: Sequence[Estimator], results: dict[str, Any]) -> None:
    """Leaves each estimator the one crop that was chosen for it in earlier results, if it is there."""
    chosen = {record["name"]: record["crop"] for record in results["estimators"]}
    for estimator in estimators:
        for crop in estimator.crops:
            if str(crop) == chosen.get(estimator.name):
                estimator.crop, estimator.crops = crop, (crop,)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "date": str(datetime.date.today()),
        "python": platform.python_version(), "onnxruntime": onnxruntime.__version__, "opencv": cv2.__version__,
    }  # fmt: skip


# Accuracy


@dataclass(frozen=True, slots=True)
class Picture:
    """A labelled picture and its face, if one was found."""

    sample: Sample
    face: Detection | None


def accuracy(
    estimators: Sequence[Estimator], records: Sequence[dict[str, Any]], options: argparse.Namespace, detector: YuNet
) -> dict[str, Any]:
    """Chooses each estimator's crop on train and measures it on valid; returns what is to be known of the sets."""
    sets: dict[str, Any] = {}
    held_out: dict[str, list[Picture]] = {}
    tuned: list[dict[tuple[int, Crop], float]] = []
    medians = {}
    for argument in options.datasets:
        name, _, folder = argument.partition("=")
        dataset, _ = load_dataset(name, folder or None)
        # An interval of ages tells no error in years.
        train, valid = ([s for s in dataset.parts[part] if s.interval_years is None] for part in ("train", "valid"))
        # A set that is only measured on has no median of train; that of the others serves where no face is found.
        others = [of["train_median"] for of in sets.values()] or [0.0]
        medians[name] = dataset.train_median if train else float(np.mean(others))
        chosen = random.Random(options.seed).sample(train, min(options.tune, len(train)))  # noqa: S311
        if train and any(len(e.crops) > 1 for e in estimators):
            say(f"{name}: crops on {len(chosen)} pictures of train")
            tuned.append(errors_by_crop(estimators, found_in(chosen, detector), medians[name]))
        say(f"{name}: looking for faces in {len(valid)} pictures of valid")
        held_out[name] = found_in(valid, detector)
        labels = years(held_out[name])
        nobody = measure(labels, labels, np.zeros(len(labels), bool), medians[name])
        sets[name] = {
            "n": len(valid), "split_sha256": dataset.split_sha256(), "train_median": medians[name],
            "mae_of_train_median": round(nobody.mae, 3), "found": sum(p.face is not None for p in held_out[name]),
            "adults": int(adults(labels).sum()),
        }  # fmt: skip
    for i, (estimator, record) in enumerate(zip(estimators, records, strict=True)):
        if len(estimator.crops) > 1:
            means = {crop: float(np.mean([of_set[i, crop] for of_set in tuned])) for crop in estimator.crops}
            record["tuning"] = {str(crop): round(mae, 3) for crop, mae in means.items()}
            estimator.crop = min(means, key=lambda crop: means[crop])
            say(f"{estimator.name}: {estimator.crop} of {record['tuning']}")
    for name, pictures in held_out.items():
        say(f"{name}: ages on {len(pictures)} pictures of valid")
        labels = years(pictures)
        grown_up = adults(labels)
        for record, answers in zip(records, ask([e.ages for e in estimators], pictures), strict=True):
            every = measure(answers, labels, ~np.isnan(answers), medians[name])
            within = measure(answers[grown_up], labels[grown_up], ~np.isnan(answers[grown_up]), medians[name])
            record["accuracy"][name] = {
                "mae": round(every.mae, 3), "bias": round(every.bias, 3), "cs5_percent": round(every.cs5_percent, 2),
                "mae_adults": round(within.mae, 3),
            }  # fmt: skip
    return sets


def found_in(samples: Sequence[Sample], detector: YuNet) -> list[Picture]:
    """The pictures with the face nearest the centre, as `agetrain.evaluate` takes it."""
    pictures = []
    for sample in samples:
        image = read_picture(sample.path)
        faces = detect_closely(detector, image)
        central = central_face([face.box for face in faces], (image.shape[1], image.shape[0]))
        pictures.append(Picture(sample, None if central is None else faces[central]))
    return pictures


def errors_by_crop(
    estimators: Sequence[Estimator], pictures: Sequence[Picture], train_median: float
) -> dict[tuple[int, Crop], float]:
    """The mean absolute error of each estimator that has a choice, by its number, with each of its crops."""
    tried = [(i, crop) for i, e in enumerate(estimators) if len(e.crops) > 1 for crop in e.crops]
    answers = ask([with_crop(estimators[i], crop) for i, crop in tried], pictures)
    labels = years(pictures)
    return {
        key: measure(of_one, labels, ~np.isnan(of_one), train_median).mae
        for key, of_one in zip(tried, answers, strict=True)
    }


def with_crop(estimator: Estimator, crop: Crop) -> Ask:
    def ages(image: Image, detections: Sequence[Detection]) -> list[float]:
        estimator.crop = crop
        return estimator.ages(image, detections)

    return ages


def ask(askers: Sequence[Ask], pictures: Sequence[Picture]) -> np.ndarray:
    """Ages in years ``[len(askers), len(pictures)]``, NaN where no face was found."""
    answers = np.full((len(askers), len(pictures)), np.nan)
    for i, picture in enumerate(pictures):
        if picture.face is None:
            continue
        image = read_picture(picture.sample.path)
        for j, asker in enumerate(askers):
            [answers[j, i]] = asker(image, [picture.face])
    return answers


def years(pictures: Sequence[Picture]) -> np.ndarray:
    return np.array([p.sample.age_years for p in pictures], float)


def adults(labels: np.ndarray) -> np.ndarray:
    return (labels >= ADULTS[0]) & (labels <= ADULTS[1])


# Speed


def speed(
    estimators: Sequence[Estimator], records: Sequence[dict[str, Any]], options: argparse.Namespace, detector: YuNet
) -> None:
    """Times the first estimator and each other one in turns, so that a busy machine disturbs both alike."""
    tiles = portraits(options.speed, max(FACES), detector)
    first = estimators[0]
    for count in FACES:
        frame = mosaic(tiles[:count])
        faces = detector.detect(frame)
        if len(faces) != count:
            raise SystemExit(f"{len(faces)} faces found in a frame of {count}: use other portraits")
        say(f"speed: {count} faces, side {np.mean([max(f.box[2:]) for f in faces]):.0f} px")
        times = np.empty((len(estimators), options.rounds + 2, 2))
        for step in range(options.rounds + 2):
            for i, estimator in enumerate(estimators):
                times[i, step, 0] = milliseconds(first, frame, faces)
                times[i, step, 1] = milliseconds(estimator, frame, faces)
        times = times[:, 2:]  # the first rounds are for warming up
        for record, pairs in zip(records, times, strict=True):
            record["speed"][str(count)] = {
                "ms": round(float(np.median(pairs[:, 1])), 3), "first_ms": round(float(np.median(pairs[:, 0])), 3),
                "ratio": round(float(np.median(pairs[:, 1] / pairs[:, 0])), 3),
            }  # fmt: skip
        records[0]["speed"][str(count)]["ratio"] = 1.0


def milliseconds(estimator: Estimator, frame: Image, faces: Sequence[Detection]) -> float:
    start = time.perf_counter()
    estimator.ages(frame, faces)
    return 1000 * (time.perf_counter() - start)


def portraits(folder: Path, count: int, detector: YuNet) -> list[Image]:
    """So many tiles of a frame, each with the one face of a portrait in its middle, 100 px high."""
    height, width = FRAME[0] // ROWS, FRAME[1] // COLUMNS
    tiles: list[Image] = []
    for file in sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES):
        image = read_picture(file)
        faces = detect_closely(detector, image)
        if len(faces) == 1 and len(tiles) < count:
            x, y, w, h = faces[0].box
            scale = FACE_PX / max(w, h)
            shift = (width / 2 - scale * (x + w / 2), height / 2 - scale * (y + h / 2))
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            tiles.append(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))
    if len(tiles) < count:
        raise SystemExit(f"{folder}: {len(tiles)} portraits with one face, {count} are needed")
    return tiles


def mosaic(tiles: Sequence[Image]) -> Image:
    """A grey frame with the tiles in its cells, row by row."""
    frame = np.full((*FRAME, 3), 128, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // COLUMNS * tile.shape[0], i % COLUMNS * tile.shape[1]
        frame[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return frame


# Results


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result of several; what an estimator has in more than one of them is taken from the first that has it."""
    whole: dict[str, Any] = {"sets": {}, "runs": [], "estimators": {}, "not_here": {}}
    for result in results:
        if any(whole["sets"] and whole["sets"].get(name, of) != of for name, of in result["sets"].items()):
            raise SystemExit("the files are about different pictures: measure them with the same data sets")
        whole["sets"] = whole["sets"] or result["sets"]
        whole["not_here"] |= result["not_here"]
        names = [record["name"] for record in result["estimators"]]
        whole["runs"] += [{**machine, **result["protocol"], "estimators": names} for machine in result["machines"]]
        for record in result["estimators"]:
            known = whole["estimators"].setdefault(record["name"], record)
            if known["crop"] != record["crop"]:
                raise SystemExit(f"{record['name']} has different crops: hand the first file's on with --crops")
            for figures in ("tuning", "accuracy", "speed"):
                known[figures] = known[figures] or record[figures]
    records = list(whole["estimators"].values())
    here = {record.get("peer") for record in records}
    missing = {name: reason for name, reason in whole["not_here"].items() if name not in here}
    return whole | {"estimators": records, "not_here": missing}


def mean_of(record: dict[str, Any], figure: str) -> float | None:
    """Of the sets; None where nothing was measured."""
    values = [of_set[figure] for of_set in record["accuracy"].values()]
    return float(np.mean(values)) if values else None


def table(results: dict[str, Any]) -> str:
    """All of it as Markdown."""
    sets, records = results["sets"], results["estimators"]
    by_error = sorted(records, key=lambda r: mean_of(r, "mae") or 0.0)
    heads = ["estimator", "MB", "crop", "learned from", *(f"{name} ({of['n']})" for name, of in sets.items())]
    heads += ["mean", f"mean, {ADULTS[0]} to {ADULTS[1]} years"] if sets else []
    timed = any(r["speed"] for r in records)
    heads += [f"time, {n} face{'s' * (n > 1)}" for n in FACES] if timed else []
    rows = [[*heads], ["---"] * len(heads)]
    for r in by_error:
        row = [f"**{r['name']}**" if r["ours"] else r["name"], f"{r['megabytes']:.1f}"]
        row.append(r["crop"])
        row.append(", ".join(r.get("learned_from") or r.get("seen") or ["not said"]))
        if sets:
            row += [f"{r['accuracy'][name]['mae']:.2f}" if name in r["accuracy"] else "-" for name in sets]
            row += [f"{mean:.2f}" if (mean := mean_of(r, figure)) else "-" for figure in ("mae", "mae_adults")]
        if timed:
            row += [timing(r["speed"].get(str(n))) for n in FACES]
        rows.append(row)
    if sets:
        medians = [of["mae_of_train_median"] for of in sets.values()]
        answers = [f"{v:.2f}" for v in [*medians, np.mean(medians)]]
        row = ["always the median of train", "", "", "", *answers]
        rows.append(row + [""] * (len(heads) - len(row)))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = []
    if sets:
        notes.append("Mean absolute error in years, real age; the face found in " + found_line(sets) + ".")
        notes += [
            f"{r['name']} learned from the train part of {', '.join(r['learned_from'])}."
            for r in records
            if r.get("learned_from")
        ]
    if timed:
        notes.append(f"Time: of {records[0]['name']} for the same frame = 1; in brackets ms of both, medians.")
    for r in records:
        if r["ages_known"]:
            notes.append(f"{r['name']} is made for ages {r['ages_known'][0]} to {r['ages_known'][1]}.")
    notes += [f"Not here: {name} ({reason})." for name, reason in results["not_here"].items()]
    for run in results["runs"]:
        notes.append(
            f"{', '.join(run['estimators'])}: {run['date']}, {run['processor']}, {run['cores']} cores (load "
            f"{run['load']}), Python {run['python']}, ONNX Runtime {run['onnxruntime']}, OpenCV {run['opencv']}; crops "
            f"chosen on {run['tune']} pictures of each train part, medians of {run['rounds']} rounds."
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def found_line(sets: dict[str, Any]) -> str:
    return ", ".join(f"{of['found']} of {of['n']} ({name})" for name, of in sets.items())


def timing(measured: dict[str, float] | None) -> str:
    return f"{measured['ratio']:.2f} ({measured['ms']:.2f} / {measured['first_ms']:.2f})" if measured else "-"


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points than which none is both faster and better, fastest first.

    Example:
        >>> pareto([(1.0, 9.0), (2.0, 9.5), (3.0, 7.0)])
        [(1.0, 9.0), (3.0, 7.0)]
    """
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def draw(results: dict[str, Any], file: Path) -> None:
    """Error against time of a face, with the Pareto front; times of other runs are brought to the first one's."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    count = FACES[1]
    first_ms = results["estimators"][0]["speed"][str(count)]["ms"] / count
    points = sorted(
        (first_ms * r["speed"][str(count)]["ratio"], mean, r["name"], r["ours"])
        for r in results["estimators"]
        if str(count) in r["speed"] and (mean := mean_of(r, "mae")) is not None
    )
    middle = (points[0][0] * points[-1][0]) ** 0.5
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    front = pareto([(ms, mean) for ms, mean, _, _ in points])
    axes.step(*zip(*front, strict=True), where="post", color="0.6", linestyle="--", zorder=1, label="Pareto front")
    for ms, mean, name, ours in points:
        axes.scatter(ms, mean, color="tab:red" if ours else "tab:blue", zorder=2)
        # Beneath where another point's name stands above.
        crowded = any(0.45 < ms / x < 2.1 and 0 < y - mean < 0.3 for x, y, _, _ in points)
        place = (-6 if ms > middle else 6, -12 if crowded else 4)
        side = "right" if ms > middle else "left"
        axes.annotate(name, (ms, mean), xytext=place, textcoords="offset points", fontsize=8, ha=side)
    axes.set(
        xscale="log", xlabel=f"crop and age, ms a face ({count} faces a frame, one thread)",
        ylabel="mean absolute error, years", title=f"mean of {', '.join(results['sets'])}",
    )  # fmt: skip
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    figure.savefig(file, dpi=150)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
