"""How far the answers to one face differ from frame to frame of a film; no label is needed or used.

The runtime follows the faces and is asked for an age in every frame. Beside the answers to single frames stands the
steady age, which the runtime shows for a track.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ageinfer.crop.spec import NO_DETECTOR
from ageinfer.detect.looking import Looking
from ageinfer.errors import SourceError
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source
from agetrain._files import file_sha256
from agetrain._progress import progress
from agetrain.errors import UsageError
from agetrain.evaluation.aev import CUTOFFS_YEARS

LEAST_FRAMES = 25  # a second of most films
SETTLED_S = 2.0  # from then on the runtime keeps an age steady
_RANGE_PERCENT = (5, 95)
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrackAges:
    """The ages of one track, in the frames in which its face is seen.

    Attributes:
        number: of the track in its film.
        times_s: ``[n]`` seconds since the start of the film, rising.
        answers: ``[n]`` years, each from one frame alone.
        steady: ``[n]`` years, over the track so far.
    """

    number: int
    times_s: Array
    answers: Array
    steady: Array

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return float(self.times_s[-1] - self.times_s[0])


def check_films(films: Sequence[Path]) -> None:
    """Decodes a frame of each film, so that nothing is measured in vain.

    Raises:
        SourceError: one cannot be read, or is not a film.
    """
    for film in films:
        with open_source(film) as source:
            if source.kind != "video":
                raise SourceError(f"{film}: not a film; give --films the files of films")
            next(iter(source))


def open_pipeline(model: Path, detector: str = "yunet") -> Pipeline:
    """Opens a model file with the runtime, which is to be asked for an age in every frame.

    Args:
        model: a model file.
        detector: one of `agetrain.evaluation.answers.DETECTORS`.

    Raises:
        UsageError: it is a checkpoint, or no face would be followed.
        ageinfer.errors.ModelError: the runtime refuses the model file.
    """
    if model.suffix != ".onnx":
        raise UsageError(
            f"{model}: --films needs a model file (*.onnx), which the runtime can run; export it first "
            f"(python -m ageexport {model})"
        )
    if detector == NO_DETECTOR:
        raise UsageError("--detector none finds no face that --films could follow; choose another detector")
    pipeline = Pipeline.default(model, detector, looking=Looking(age_interval_s=0), provider="cpu")
    if pipeline.estimator.metadata.crop.kind == "resize":
        raise UsageError(f"{model}: takes whole pictures, in which --films can follow no face; leave it out")
    return pipeline


def measure(model: Path, pipeline: Pipeline, films: Sequence[Path]) -> dict[str, Any]:
    """Measures how steady a model is in films, as JSON values.

    Args:
        model: a model file.
        pipeline: of `open_pipeline`.
        films: files of films.

    Raises:
        SourceError: a film cannot be read.
    """
    of_films = [_of_film(pipeline, film) for film in films]
    return {
        "model": model.name, "model_sha256": file_sha256(model), "detector": pipeline.detector.identifier,
        "least_frames": LEAST_FRAMES, "settled_s": SETTLED_S, "films": of_films,
        "overall": overall([track for film in of_films for track in film["tracks"]]),
    }  # fmt: skip


def line(found: Mapping[str, Any]) -> str:
    """Returns what `measure` found as a line for a terminal."""
    films, everybody = found["films"], found["overall"]
    place = f"{found['model']} in {len(films)} film{'s' if len(films) > 1 else ''}"
    if not everybody["tracks"]:
        return f"{place}: no face was followed for {LEAST_FRAMES} frames"
    ever = ", ".join(f"{years}: {a['crossing_tracks_percent']:.0f} %" for years, a in everybody["cutoffs"].items())
    return (
        f"{place}: faces followed for {LEAST_FRAMES} frames or more: {everybody['tracks']}; standard deviation of "
        f"their answers {everybody['std_years']:.2f} years (median); faces whose answers ever cross {ever}"
    )


def _of_film(pipeline: Pipeline, film: Path) -> dict[str, Any]:
    frames, tracks = followed(pipeline, film)
    long = [track for track in tracks if len(track.times_s) >= LEAST_FRAMES]
    return {
        "film": film.as_posix(), "film_sha256": file_sha256(film), "frames": frames,
        "short_tracks": len(tracks) - len(long), "tracks": [of_track(track) for track in long],
    }  # fmt: skip


def followed(pipeline: Pipeline, film: Path) -> tuple[int, list[TrackAges]]:
    """Follows the faces of a film by the runtime; returns its number of frames, and every track.

    Raises:
        SourceError: the film cannot be read.
    """
    frames, seen = 0, defaultdict[int, list[tuple[float, float, float]]](list)
    with open_source(film) as source:
        for _, result in progress(pipeline.run(source), film.name, "frames", source.frame_count):
            frames += 1
            for face in result:
                if face.track is not None and face.age_smoothed_years is not None and result.time_s is not None:
                    seen[face.track].append((result.time_s, face.age_years, face.age_smoothed_years))
    return frames, [TrackAges(number, *np.array(ages).T) for number, ages in sorted(seen.items())]


def of_track(track: TrackAges) -> dict[str, Any]:
    """Computes the figures of one track of at least two frames, as JSON values."""
    late = track.steady[track.times_s - track.times_s[0] >= SETTLED_S]
    return {
        "track": track.number, "frames": len(track.answers), "seconds": round(track.seconds, 3),
        "mean_years": _rounded(track.answers.mean()), "std_years": _rounded(track.answers.std()),
        "largest_change_years": _rounded(np.abs(np.diff(track.answers)).max()),
        "steady_p5_p95_years": [_rounded(end) for end in np.percentile(late, _RANGE_PERCENT)] if len(late) else None,
        "cutoffs": {str(years): _at_cutoff(track, years) for years in CUTOFFS_YEARS},
    }  # fmt: skip


def _at_cutoff(track: TrackAges, years: float) -> dict[str, Any]:
    other_side = (track.answers >= years) != (np.median(track.answers) >= years)
    single, steady = crossings(track.answers, years), crossings(track.steady, years)
    return {
        "other_side_percent": round(100 * float(other_side.mean()), 3),
        "crossings": single, "crossings_per_minute": round(60 * single / track.seconds, 3),
        "steady_crossings": steady, "steady_crossings_per_minute": round(60 * steady / track.seconds, 3),
    }  # fmt: skip


def crossings(ages: Array, years: float) -> int:
    """Counts how often successive ages lie on two sides of a cut-off, which itself belongs to the upper side.

    Example:
        >>> crossings(np.array([24.0, 25.0, 26.0, 24.9]), 25)
        2
    """
    above = ages >= years
    return int((above[1:] != above[:-1]).sum())


def overall(tracks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Computes the medians over tracks of `of_track`, and at each cut-off the share of those that ever cross it."""
    found: dict[str, Any] = {"tracks": len(tracks)}
    if not tracks:
        return found
    widths = [high - low for low, high in (t["steady_p5_p95_years"] for t in tracks if t["steady_p5_p95_years"])]
    return found | {
        **{name: _median([t[name] for t in tracks]) for name in ("seconds", "std_years", "largest_change_years")},
        "steady_width_years": _median(widths) if widths else None,
        "cutoffs": {years: _all_at([t["cutoffs"][years] for t in tracks]) for years in map(str, CUTOFFS_YEARS)},
    }


def _all_at(tracks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    medians = ("other_side_percent", "crossings_per_minute", "steady_crossings_per_minute")

    def ever(name: str) -> float:
        return round(100 * sum(t[name] > 0 for t in tracks) / len(tracks), 3)

    return {
        **{name: _median([t[name] for t in tracks]) for name in medians},
        "crossing_tracks_percent": ever("crossings"), "steady_crossing_tracks_percent": ever("steady_crossings"),
    }  # fmt: skip


def _median(values: Sequence[float]) -> float:
    return _rounded(np.median(values))


def _rounded(years: np.floating[Any] | float) -> float:
    return round(float(years), 4)
