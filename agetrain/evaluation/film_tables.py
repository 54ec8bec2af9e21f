"""The steadiness of a model in films as tables of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from agetrain.evaluation.tables import Table, number

Record = Mapping[str, Any]
TITLE = "Steadiness in films"
SAYS = (
    "The model is asked about a face in every frame in which it is seen. How far these answers differ says how much "
    "depends on the moment at which somebody is asked about. The steady age is the one that the runtime shows: one age "
    "for a face, from all frames so far. It settles in the first two seconds.",
    "A face crosses a cut-off when one answer is below it and the next one is not, or the other way round. Crossings "
    "are counted from the first frame on, those of the steady age as well. No true age is known or needed, so nothing "
    "here says which answer is right. A person who goes out of sight and comes back may count as two faces.",
)


def tables(found: Record) -> Iterator[Table]:
    """The tables of one model, of what `agetrain.evaluation.film_steadiness.measure` returns."""
    least = found["least_frames"]
    yield Table(
        "The films",
        ("film", "frames", f"faces followed for {least} frames or more", "followed for fewer, left out"),
        tuple((_name(film), str(film["frames"]), _count(film), str(film["short_tracks"])) for film in found["films"]),
    )
    everybody = found["overall"]
    if not everybody["tracks"]:
        return
    of_all = f"all {everybody['tracks']} faces" if everybody["tracks"] > 1 else "the one face"
    yield Table(
        f"Medians of {of_all}",
        ("what", "median"),
        (
            ("time in view", f"{everybody['seconds']:.1f} s"),
            ("standard deviation of the answers to single frames", _years(everybody["std_years"])),
            ("largest change from one frame to the next", _years(everybody["largest_change_years"])),
            (
                f"range of the steady age after {found['settled_s']:g} s (5 to 95 %)",
                _years(everybody["steady_width_years"]),
            ),
        ),
    )
    yield Table(
        f"At each cut-off: medians of {of_all}, and how many of them ever cross it",
        (
            "cut-off", "frames on the other side than most", "crossings a minute: single frames",
            "crossings a minute: steady age", "faces that ever cross: single frames",
            "faces that ever cross: steady age",
        ),
        tuple(
            (
                years, _percent(at["other_side_percent"]), f"{at['crossings_per_minute']:.0f}",
                f"{at['steady_crossings_per_minute']:.0f}", _percent(at["crossing_tracks_percent"]),
                _percent(at["steady_crossing_tracks_percent"]),
            )
            for years, at in everybody["cutoffs"].items()
        ),
    )  # fmt: skip
    faces = [(f"{_name(film)}, {track['track']}", track) for film in found["films"] for track in film["tracks"]]
    yield Table(
        "Each face, years",
        ("film, track", "seconds", "frames", "mean", "standard deviation", "largest change", "steady age (5 to 95 %)"),
        tuple(
            (
                name, number(track["seconds"], 1), str(track["frames"]), number(track["mean_years"], 1),
                number(track["std_years"]), number(track["largest_change_years"]), _range(track["steady_p5_p95_years"]),
            )
            for name, track in faces
        ),
    )  # fmt: skip
    cutoffs = tuple(f"cut-off {years}" for years in everybody["cutoffs"])
    yield Table(
        "Each face: frames on the other side of a cut-off than most",
        ("film, track", *cutoffs),
        tuple(
            (name, *(_percent(at["other_side_percent"]) for at in track["cutoffs"].values())) for name, track in faces
        ),
    )
    yield Table(
        "Each face: crossings a minute of single frames, and in brackets of the steady age",
        ("film, track", *cutoffs),
        tuple((name, *map(_crossings, track["cutoffs"].values())) for name, track in faces),
    )


def _name(film: Record) -> str:
    return film["film"].rpartition("/")[2]


def _count(film: Record) -> str:
    if film["tracks"] or film["short_tracks"]:
        return str(len(film["tracks"]))
    return "nobody is seen"


def _crossings(at: Record) -> str:
    return f"{at['crossings_per_minute']:.0f} ({at['steady_crossings_per_minute']:.0f})"


def _range(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "too short"
    low, high = (number(end, 1) for end in ends)
    return low if low == high else f"{low} to {high}"


def _years(value: float | None) -> str:
    return "too short" if value is None else f"{value:.2f} years"


def _percent(value: float) -> str:
    return f"{value:.1f} %" if value else "0"
