"""How faces are looked for: the settings that a pipeline is given."""

from dataclasses import dataclass
from typing import Literal

from ageinfer.errors import UsageError

# Beyond that, a track would no longer notice within a second that somebody else has taken the place.
_LONGEST_AGE_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class Looking:
    """How faces are looked for, and how often they are estimated.

    Attributes:
        max_side: reduces a frame to this side, in pixels, before detection; None: never; ``auto``: pictures as
            `ageinfer.detect.detect_closely` does, video as `ageinfer.tracking.follower.FaceFollower` does; ``all``:
            searches at all scales, see `ageinfer.detect.detect_at_all_scales`.
        every: in video, searches every Nth whole frame and follows faces in between; None: as few as the scene allows.
        least_face_px: drops faces whose longer side is shorter.
        largest_side: with ``auto`` on video, the largest side of a search; None for the frame's own, and in
            `Pipeline.run` for what `largest_look` says.
        age_interval_s: in video, seconds between two estimates of a face whose age has settled; 0 for every frame.

    Raises:
        UsageError: a value is out of range.
    """

    max_side: int | Literal["auto", "all"] | None = "auto"
    every: int | None = None
    least_face_px: float = 0.0
    largest_side: int | None = None
    age_interval_s: float = 0.2

    def __post_init__(self) -> None:
        if isinstance(self.max_side, int) and self.max_side < 32:
            raise UsageError(f"detection side {self.max_side} px is too small: use 32 or more")
        if self.every is not None and self.every < 1:
            raise UsageError(f"detection at every {self.every}th frame: use 1 or more")
        if not 0 <= self.age_interval_s <= _LONGEST_AGE_INTERVAL_S:  # a NaN fails too
            raise UsageError(f"an age every {self.age_interval_s:g} s: use 0 to {_LONGEST_AGE_INTERVAL_S:g}")
