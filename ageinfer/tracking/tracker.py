"""Which face of this frame is which of the frames before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ageinfer.types import Box, Detection, overlap

# Of two candidates for one track, how much a box must overlap the place where the track is expected. A head that turns
# or a detector that trembles stays far above; two heads side by side stay below.
_LEAST_IOU = 0.2
# Without an overlap, a face of about the same size whose centre is nearer than this, in its sides, is still the same
# one: people move fast in slow streams.
_LARGEST_JUMP, _LARGEST_GROWTH = 0.75, 1.5
# How fast the expected movement follows the seen one, which is measured over at least so long: networks deliver frames
# in bursts, and a trembling box divided by a few milliseconds would be a face that flies.
_VELOCITY_GAIN, _VELOCITY_LEAST_S = 0.5, 0.03
# Prediction beyond this is a guess; the face is expected where it was lost.
_LONGEST_PREDICTION_S = 0.25
# Cameras that give single pictures now and then: who is there in two that follow each other is taken for the same, but
# not after longer than this.
_LONGEST_GAP_S = 10.0


@dataclass(slots=True)
class Track:
    """One face over time.

    Attributes:
        number: of the track, from 1, never used again.
        box: where the face was last seen, ``(x, y, w, h)`` in pixels.
        seen_s: when it was last seen, in seconds of the source.
        velocity: of its centre, in pixels a second.
    """

    number: int
    box: Box
    seen_s: float
    velocity: tuple[float, float] = (0.0, 0.0)
    _from: tuple[Box, float] = field(init=False)  # where and when the movement that is measured began

    def __post_init__(self) -> None:
        self._from = self.box, self.seen_s

    def expected(self, time_s: float) -> Box:
        """Where the face should be at a time."""
        elapsed = min(time_s - self.seen_s, _LONGEST_PREDICTION_S)
        x, y, w, h = self.box
        return (x + self.velocity[0] * elapsed, y + self.velocity[1] * elapsed, w, h)

    def see(self, box: Box, time_s: float) -> None:
        """Takes the face's place at a time."""
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


@dataclass(slots=True)
class Tracker:
    """Gives the faces of successive frames the numbers of their tracks.

    Faces are matched with the places where tracks are expected, the best overlap first, and then by nearness. A track
    whose face is not seen waits for it where it was, and ends after ``patience_s``; one that was seen in the frame
    before goes on in the next one, though it may come later than that.

    Attributes:
        patience_s: how long a face may be out of sight, in seconds of the source.
        tracks: those that have not ended, by number.
    """

    patience_s: float = 1.0
    tracks: dict[int, Track] = field(default_factory=dict)
    _last_number: int = 0
    _newest_s: float = -math.inf  # of the frames so far

    def update(self, detections: Sequence[Detection], time_s: float) -> list[int]:
        """Takes the faces of the next frame, or more faces of the same one: a track gets one face a frame.

        Args:
            detections: of this frame, in its pixels.
            time_s: of the frame, never less than that of the one before.

        Returns:
            The number of the track of each detection.
        """
        gap_s = time_s - self._newest_s
        if gap_s > 0:
            patience_s = max(self.patience_s, gap_s if gap_s <= _LONGEST_GAP_S else 0.0)
            self.tracks = {n: t for n, t in self.tracks.items() if time_s - t.seen_s <= patience_s}
            self._newest_s = time_s
        places = {track.number: track.expected(time_s) for track in self.unseen(time_s)}
        pairs = [
            (fit, n, i)
            for n, place in places.items()
            for i, detection in enumerate(detections)
            if (fit := _fit(place, detection.box)) is not None
        ]
        numbers: dict[int, int] = {}
        taken: set[int] = set()
        for _, n, i in sorted(pairs, key=lambda pair: -pair[0]):
            if n not in taken and i not in numbers:
                taken.add(n)
                numbers[i] = n
                self.tracks[n].see(detections[i].box, time_s)
        for i, detection in enumerate(detections):
            if i not in numbers:
                numbers[i] = self._next_number()
                self.tracks[numbers[i]] = Track(numbers[i], detection.box, time_s)
        return [numbers[i] for i in range(len(detections))]

    def renumber(self, number: int) -> int:
        """Ends a track and begins another one at its place; returns the new number."""
        ended = self.tracks.pop(number)
        new = self._next_number()
        self.tracks[new] = Track(new, ended.box, ended.seen_s)
        return new

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def unseen(self, time_s: float) -> list[Track]:
        """The tracks that no face of the frame at this time was matched with."""
        return [track for track in self.tracks.values() if track.seen_s < time_s]


def _fit(place: Box, box: Box) -> float | None:
    """How well a face fits the place where a track is expected: above 0 by overlap, below by distance; None: not."""
    shared = overlap(place, box)
    if shared >= _LEAST_IOU:
        return shared
    side, other = max(place[2:]), max(box[2:])
    if not 1 / _LARGEST_GROWTH <= other / side <= _LARGEST_GROWTH:
        return None
    dx = box[0] + box[2] / 2 - place[0] - place[2] / 2
    dy = box[1] + box[3] / 2 - place[1] - place[3] / 2
    distance = (dx * dx + dy * dy) ** 0.5 / max(side, other)
    return -distance if distance <= _LARGEST_JUMP else None
