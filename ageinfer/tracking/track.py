"""One face over time: where it is, how it looks and how old it is, in one object."""

from dataclasses import dataclass, field

from ageinfer.tracking.age import TrackAge
from ageinfer.tracking.appearance import Look
from ageinfer.types import Box, Detection

# The expected movement follows the seen one by this share. The seen one is measured over at least so long: networks
# deliver frames in bursts, and a trembling box divided by a few milliseconds would be a face that flies.
_VELOCITY_GAIN, _VELOCITY_LEAST_S = 0.5, 0.03
# Prediction beyond this is a guess; the face is expected where it was lost.
_LONGEST_PREDICTION_S = 0.25


@dataclass(slots=True, eq=False)
class Track:
    """One face over time.

    The follower owns place and look, the age stage owns the age; the two may run in two threads.

    Attributes:
        number: of the track, from 1, never used again.
        box: where the face was last seen, ``(x, y, w, h)`` in pixels.
        seen_s: when it was last seen, in seconds of the source.
        velocity: of its centre, in pixels a second.
        look: how it looked when it was last seen.
        age: how old it is, from its newest estimate and over the whole track.
        as_expected: what the detector found in the last frame, if the face was where it was expected; else None.
    """

    number: int
    box: Box
    seen_s: float
    velocity: tuple[float, float] = (0.0, 0.0)
    look: Look = field(default_factory=Look)
    age: TrackAge = field(default_factory=TrackAge)
    as_expected: Detection | None = None
    _from: tuple[Box, float] = field(init=False)  # where and when the movement that is measured began

    def __post_init__(self) -> None:
        self._from = self.box, self.seen_s

    def expected(self, time_s: float) -> Box:
        """Where the face should be at a time, in pixels."""
        return self._moved(min(time_s - self.seen_s, _LONGEST_PREDICTION_S))

    def walked_on(self, time_s: float) -> Box:
        """Where the face should be at a time if it has gone on as it went, behind whatever hides it."""
        return self._moved(time_s - self.seen_s)

    def _moved(self, elapsed_s: float) -> Box:
        x, y, w, h = self.box
        return (x + self.velocity[0] * elapsed_s, y + self.velocity[1] * elapsed_s, w, h)

    def see(self, box: Box, time_s: float) -> None:
        """Takes the face's place at a time, in seconds of the source."""
        before, before_s = self._from
        elapsed = time_s - before_s
        if elapsed >= _VELOCITY_LEAST_S:
            moved = [
                (new + new_extent / 2 - old - extent / 2) / elapsed
                for new, new_extent, old, extent in zip(box[:2], box[2:], before[:2], before[2:], strict=True)
            ]
            vx, vy = (v + _VELOCITY_GAIN * (m - v) for v, m in zip(self.velocity, moved, strict=True))
            self.velocity = (vx, vy)
            self._from = box, time_s
        self.box, self.seen_s = box, time_s
