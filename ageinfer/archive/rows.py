"""The rows of an archive: one for each face, and one for each picture without a face or that cannot be read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ageinfer.people.people import PERSON_SCHEMA_VERSION, THRESHOLDS, Person
from ageinfer.sinks.records import over_cells
from ageinfer.types import SCHEMA_VERSION, FrameResult

if TYPE_CHECKING:
    import pyarrow as pa

POINTS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
OVER = ("over_years", "p_at_least", "over", "over_why")
OUTCOMES = ("face", "no face", "damaged", "unreadable")
_NO_FACE = dict.fromkeys(
    ("face", "box_x", "box_y", "box_w", "box_h", "score", *(f"{point}_{axis}" for point in POINTS for axis in "xy"),
     "track", "age", "age_std", "age_smoothed", "age_lag_s", "quality", *OVER)
)  # fmt: skip


def row_schema() -> "pa.Schema":
    """The columns of the rows; those that records have, too, are named as there, and mean the same."""
    import pyarrow as pa

    number, text = pa.float64(), pa.string()
    return pa.schema([
        ("schema", pa.int16()), ("shard", pa.int32()), ("source", text), ("member", text), ("frame", pa.int64()),
        ("time_s", number), ("size_w", pa.int32()), ("size_h", pa.int32()), ("outcome", text), ("reason", text),
        ("face", pa.int16()), ("box_x", number), ("box_y", number), ("box_w", number), ("box_h", number),
        ("score", number), *((f"{point}_{axis}", number) for point in POINTS for axis in "xy"), ("track", pa.int32()),
        ("age", number), ("age_std", number), ("age_smoothed", number), ("age_lag_s", number), ("quality", number),
        ("model", text), *_over_columns(),
    ])  # fmt: skip


def _over_columns() -> list[tuple[str, "pa.DataType"]]:
    import pyarrow as pa

    return list(zip(OVER, (pa.int16(), pa.float64(), pa.string(), pa.string()), strict=True))


def rows_of(result: FrameResult, shard: int, member: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of one picture or frame."""
    record = result.to_record()
    width, height = record["size"]
    alike = {
        "schema": SCHEMA_VERSION, "shard": shard, "source": record["source"], "member": member,
        "frame": record["frame"], "time_s": record["time_s"], "size_w": width, "size_h": height, "reason": None,
        "model": record["model"],
    }  # fmt: skip
    if not record["faces"]:
        yield alike | _NO_FACE | {"outcome": "damaged" if result.damaged else "no face"}
    for number, face in enumerate(record["faces"]):
        box, landmarks = face.pop("box"), face.pop("landmarks")
        points = [None] * 10 if landmarks is None else [value for point in landmarks for value in point]
        yield (
            alike
            | face
            | over_cells(face)
            | {"outcome": "face", "face": number}
            | dict(zip(("box_x", "box_y", "box_w", "box_h"), box, strict=True))
            | {f"{name}_{axis}": points[2 * i + j] for i, name in enumerate(POINTS) for j, axis in enumerate("xy")}
        )


def unreadable(source: str, shard: int, reason: str, member: str | None = None, frame: int = 0) -> dict[str, Any]:
    """The row of what cannot be read.

    Args:
        source: its name.
        shard: number of its shard.
        reason: why.
        member: its name within a tar file.
        frame: the page of a TIFF, or the frame from which on a film cannot be read.
    """
    nothing = dict.fromkeys(("time_s", "size_w", "size_h", "model"))
    return {
        "schema": SCHEMA_VERSION, "shard": shard, "source": source, "member": member, "frame": frame,
        "outcome": "unreadable", "reason": reason, **nothing, **_NO_FACE,
    }  # fmt: skip


def person_schema() -> "pa.Schema":
    """The columns of the rows of people, named as in their records; what only live sources have is left out."""
    import pyarrow as pa

    number, text = pa.float64(), pa.string()
    return pa.schema([
        ("schema", pa.int16()), ("shard", pa.int32()), ("source", text), ("track", pa.int32()), ("first_s", number),
        ("last_s", number), ("in_view_s", number), ("frames", pa.int32()), ("estimates", pa.int32()),
        ("unsure", pa.bool_()), ("age", number), ("age_std", number), ("age_p5", number), ("age_p50", number),
        ("age_p95", number), *((f"at_least_{years}", number) for years in THRESHOLDS), ("quality", number),
        ("good_view_share", number), ("largest_face_px", number), ("model", text), *_over_columns(),
    ])  # fmt: skip


def person_row(person: Person, shard: int) -> dict[str, Any]:
    """The row of one person of a film."""
    record = person.to_record()
    chances = {f"at_least_{years}": chance for years, chance in record["at_least"].items()}
    kept = {name: record[name] for name in person_schema().names if name in record}
    return kept | chances | over_cells(record) | {"schema": PERSON_SCHEMA_VERSION, "shard": shard}
