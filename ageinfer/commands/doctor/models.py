"""Examines the models, whether a picture can be processed with them, and how fast."""

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ageinfer.commands.doctor.findings import Finding, State
from ageinfer.engine.cores import usable_cores
from ageinfer.errors import AgeError, ExitStatus, ModelError
from ageinfer.types import Image

_AREA = "models"
_DETECTOR_WIDTHS = (320, 640)  # pixels
_REMEDY = "install ageinfer again, or copy the file again"


def examine_models(folder: Path | None, named: str | None = None) -> Iterator[Finding]:
    """Examines every model of a folder: whether it is valid and equal to the shipped file.

    Args:
        folder: the folder with the models of the package and their SHA256SUMS.
        named: the path or name of the age model to use; None for the default one.
    """
    from ageinfer.detect import YUNET_FILE

    sums = _sums(folder) if folder else {}
    files = {path.name: path for path in sorted(folder.glob("*.onnx"))} if folder else {}
    asked = _files_of(named, folder)
    shipped = named is None or asked != [Path(named)]
    needed = {YUNET_FILE, *(path.name for path in asked if shipped)}
    for name in sorted({*files, *sums, *needed}):
        status = ExitStatus.MODEL if name in needed else ExitStatus.OK
        if name not in files:
            yield Finding(_AREA, name, State.FAULT, "the file is not there", _REMEDY, status=status)
            continue
        yield _examined(files[name], sums.get(name), status, is_detector=name == YUNET_FILE)
    if not shipped:
        yield _examined(asked[0], None, ExitStatus.MODEL, is_detector=False)


def _files_of(named: str | None, folder: Path | None) -> list[Path]:
    """Returns the files of the age model, one for each precision; if there is none, the path where it should be."""
    from ageinfer.engine.modelfile import DEFAULT_MODEL, in_every_precision, model_files

    if named is None:
        return in_every_precision((folder or Path()) / DEFAULT_MODEL)
    try:
        return model_files(named)
    except ModelError:
        return [Path(named)]


def _examined(path: Path, expected: str | None, status: ExitStatus, *, is_detector: bool) -> Finding:
    from ageinfer.detect import YuNet
    from ageinfer.engine.modelfile import check_age_model, read_model

    try:
        data = read_model(path)
        if is_detector:
            YuNet(path, provider="cpu", threads=1)
            what = "face detector"
        else:
            metadata = check_age_model(data, path)
            what = f"age model {metadata.name}, {metadata.precision}"
    except ModelError as error:
        return Finding(_AREA, path.name, State.FAULT, str(error), _REMEDY, status=status)
    digest = hashlib.sha256(data).hexdigest()
    values = {"bytes": len(data), "sha256": digest, "listed": expected is not None}
    text = f"{what}, {len(data) / 1e6:.1f} MB, SHA-256 {digest[:12]}"
    if expected is not None and digest != expected:
        text += f" is not the {expected[:12]} of SHA256SUMS"
        return Finding(_AREA, path.name, State.FAULT, text, _REMEDY, values, status)
    text += " as in SHA256SUMS" if expected else " (not in SHA256SUMS)"
    return Finding(_AREA, path.name, State.OK, text, values=values)


def _sums(folder: Path) -> dict[str, str]:
    """Reads the names and SHA-256 sums of the shipped models."""
    try:
        lines = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    except OSError:
        return {}
    return {line[1].lstrip("*"): line[0] for line in lines if len(line) == 2 and line[1].endswith(".onnx")}


def sample_picture() -> tuple[Image, bool]:
    """Returns a picture for a trial, uint8 BGR ``[512, 512, 3]``, and whether it has a face.

    It is the sample picture of a checkout, else noise without a face.
    """
    from ageinfer.sources import read_picture

    path = Path(__file__).parents[3] / "samples" / "astronaut.jpg"
    if path.is_file():
        return read_picture(path), True
    return np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8), False


def examine_pictures(model: str | None) -> Iterator[Finding]:
    """Examines whether a picture can be processed on the CPU, from pixels to ages.

    Args:
        model: the path or name of the age model; None for the default one.
    """
    from ageinfer.pipeline import Pipeline

    picture, has_face = sample_picture()
    try:
        pipeline = Pipeline.default(model, provider="cpu")
        faces = pipeline(picture).faces
    except AgeError as error:
        yield Finding("verdict", "pictures", State.FAULT, f"cannot be processed: {error}", status=error.exit_status)
        return
    if has_face and not faces:
        text = "the face of the sample is not found"
        yield Finding("verdict", "pictures", State.FAULT, text, _REMEDY, status=ExitStatus.MODEL)
        return
    ages = [round(face.age.age_years, 1) for face in faces]
    found = f"age {ages[0]:.0f} on the sample" if ages else "tried on a picture without a face"
    metadata = pipeline.estimator.metadata
    text = f"can be processed ({found}, {metadata.name} on the CPU in {metadata.precision})"
    values = {"ages": ages, "precision": metadata.precision}
    yield Finding("verdict", "pictures", State.OK, text, values=values)


def examine_speed(model: str | None, seconds: float = 2.0) -> Iterator[Finding]:
    """Measures how long the networks take on the CPU, with one thread and all cores, and which precision is faster.

    Args:
        model: the path or name of the age model; None for the default one.
        seconds: the time for all measurements together.
    """
    from ageinfer.detect import YuNet
    from ageinfer.engine.estimator import AgeEstimator
    from ageinfer.engine.speed import compare_precisions, in_words
    from ageinfer.images import cv2

    picture, _ = sample_picture()
    threads = sorted({1, max(1, int(usable_cores()))})
    share = seconds / (len(threads) * (len(_DETECTOR_WIDTHS) + 1))
    sizes = [(width, width * 3 // 4) for width in _DETECTOR_WIDTHS]
    views = [cv2.resize(picture, size) for size in sizes]
    spent: dict[str, dict[int, float]] = {}
    for count in threads:
        detector = YuNet(provider="cpu", threads=count)
        for (width, height), view in zip(sizes, views, strict=True):
            name = f"detector, {width} x {height}"
            spent.setdefault(name, {})[count] = median_ms(partial(detector.detect, view), share)
        estimator = AgeEstimator(model, provider="cpu", threads=count)
        side = estimator.metadata.crop.size
        crop = cv2.resize(picture, (side, side))[None]
        name = f"age model in {estimator.metadata.precision}, one face"
        spent.setdefault(name, {})[count] = median_ms(partial(estimator.estimate, crop), share)
    for name, by_threads in spent.items():
        text = ", ".join(f"{ms:.1f} ms on {n} thread{'s' * (n > 1)}" for n, ms in by_threads.items())
        values = {"ms_by_threads": {str(n): round(ms, 3) for n, ms in by_threads.items()}}
        yield Finding("speed", name, State.OK, text, values=values)
    ms_by_precision = compare_precisions(model, provider="cpu")
    if text := in_words(estimator.metadata.precision, ms_by_precision):
        values = {"ms_by_precision": {name: round(ms, 3) for name, ms in ms_by_precision.items()}}
        yield Finding("speed", "precision", State.OK, text, values=values)


def median_ms(call: Callable[[], object], seconds: float) -> float:
    """Returns the median time of a call in milliseconds.

    A first call does not count, because it also prepares.

    Args:
        call: the call to measure.
        seconds: calls are repeated for this many seconds, at least three times.
    """
    call()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000
