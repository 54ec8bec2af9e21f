"""The steadiness of a model in films as tables of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from agetrain.evaluation.tables import Table, number

Record = Mapping[str, Any]
TITLE = "Steadiness in films"
SAYS = (
    "Every face that is followed through enough frames of a film is asked about in each of them. How far these answers "
    "to one face differ says how much depends on the frame in which somebody happens to be asked about. The steady age "
    "is the one that the runtime shows: one age for a face, from all frames so far.",
    "A face crosses a cut-off when the answer to one frame is below it and the answer to the next is not, or the other "
    "way round. No true age is known or needed, so nothing here says which answer is right. A person who goes out of "
    "sight and comes back may count as two faces.",
)


def tables(found: Record) -> Iterator[Table]:
    """The tables of one model, of what `agetrain.evaluation.film_steadiness.measure` returns."""
    least = found["least_frames"]
    yield Table(
        "The films",
        ("film", "frames", f"faces followed for {least} frames or more", "for fewer, left out"),
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
                f"range of the steady age after {found['settled_s']:g} s (5 % to 95 %)",
                _years(everybody["steady_width_years"]),
            ),
        ),
    )
    yield Table(
        f"Cut-offs, {of_all}",
        (
            "cut-off", "frames on the other side than most (median)", "crossings a minute (median)",
            "of the steady age (median)", "faces that ever cross", "by their steady age",
        ),
        tuple(
            (
                years, _percent(at["other_side_percent"]), number(at["crossings_per_minute"], 1),
                number(at["steady_crossings_per_minute"], 1), _percent(at["crossing_tracks_percent"]),
                _percent(at["steady_crossing_tracks_percent"]),
            )
            for years, at in everybody["cutoffs"].items()
        ),
    )  # fmt: skip
    faces = [(f"{_name(film)}, {track['track']}", track) for film in found["films"] for track in film["tracks"]]
    yield Table(
        "Each face, years",
        ("film, track", "seconds", "frames", "mean", "standard deviation", "largest change", "steady age, 5 % to 95 %"),
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
        "Each face: frames on the other side than most; crossings a minute (of the steady age)",
        ("film, track", *cutoffs),
        tuple((name, *map(_at, track["cutoffs"].values())) for name, track in faces),
    )


def _name(film: Record) -> str:
    return film["film"].rpartition("/")[2]


def _count(film: Record) -> str:
    if film["tracks"] or film["short_tracks"]:
        return str(len(film["tracks"]))
    return "nobody is seen"


def _at(at: Record) -> str:
    if not at["other_side_percent"] and not at["steady_crossings"]:
        return "-"
    rates = f"{at['crossings_per_minute']:.0f} ({at['steady_crossings_per_minute']:.0f})"
    return f"{at['other_side_percent']:.1f} %; {rates}"


def _range(ends: tuple[float, float] | None) -> str:
    return "too short" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def _years(value: float | None) -> str:
    return "too short" if value is None else f"{value:.2f} years"


def _percent(value: float) -> str:
    return f"{value:.1f} %"
