"""Matches the faces of a frame with the tracks of the frames before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ageinfer.tracking.track import Track
from ageinfer.types import Box, Detection, overlap

# Of two candidates for one track, how much a box must overlap the place where the track is expected. A head that turns
# or a detector that trembles stays far above; two heads side by side stay below.
_LEAST_IOU = 0.2
# Without an overlap, a face of about the same size whose centre is nearer than this, in its sides, is still the same
# one: people move fast in slow streams.
_LARGEST_JUMP, _LARGEST_GROWTH = 0.75, 1.5
# Cameras that give single pictures now and then: who is there in two that follow each other is taken for the same, but
# not after longer than this.
_LONGEST_GAP_S = 10.0
# How long a face may be out of sight.
PATIENCE_S = 1.0


@dataclass(slots=True)
class Tracker:
    """Decides which track each face of the next frame belongs to.

    Faces are matched with the places where tracks are expected: the best overlap first, then the nearest. A track
    whose face is not seen waits for it at its last place and ends after ``patience_s``. A track that was seen in the
    frame before goes on in the next frame, however late that one comes (up to 10 s).

    Attributes:
        patience_s: how long a face may be out of sight, in seconds of the source.
        tracks: those that have not ended, the oldest first.
    """

    patience_s: float = PATIENCE_S
    tracks: list[Track] = field(default_factory=list)
    _last_number: int = 0
    _newest_s: float = -math.inf  # of the frames so far

    def update(self, detections: Sequence[Detection], time_s: float) -> list[Track]:
        """Takes the faces of the next frame, or more faces of the same frame; a track gets one face a frame.

        Args:
            detections: of this frame, in its pixels.
            time_s: of the frame, never less than that of the frame before.

        Returns:
            The track of each detection, in their order.
        """
        gap_s = time_s - self._newest_s
        if gap_s > 0:
            patience_s = max(self.patience_s, gap_s if gap_s <= _LONGEST_GAP_S else 0.0)
            self.tracks = [track for track in self.tracks if time_s - track.seen_s <= patience_s]
            self._newest_s = time_s
        pairs = []
        for track in self.unseen(time_s):
            place = track.expected(time_s)
            fits = ((_fit(place, detection.box), i) for i, detection in enumerate(detections))
            pairs += [(fit, track, i) for fit, i in fits if fit is not None]
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for _, track, i in sorted(pairs, key=lambda pair: -pair[0]):
            if track.number not in taken and i not in matched:
                taken.add(track.number)
                matched[i] = track
                track.see(detections[i].box, time_s)
        return [matched.get(i) or self._begin(detection.box, time_s) for i, detection in enumerate(detections)]

    def replace(self, track: Track) -> Track:
        """Ends a track and begins another one at its place; returns the new one."""
        self.tracks.remove(track)
        return self._begin(track.box, track.seen_s)

    def unseen(self, time_s: float) -> list[Track]:
        """The tracks that no face of the frame at this time was matched with."""
        return [track for track in self.tracks if track.seen_s < time_s]

    def _begin(self, box: Box, seen_s: float) -> Track:
        self._last_number += 1
        track = Track(self._last_number, box, seen_s)
        self.tracks.append(track)
        return track


def _fit(place: Box, box: Box) -> float | None:
    """How well a face fits the place where a track is expected: above 0 by overlap, below by distance; None: not."""
    shared = overlap(place, box)
    if shared >= _LEAST_IOU:
        return shared
    side, other = max(place[2:]), max(box[2:])
    if not 0 < side / _LARGEST_GROWTH <= other <= side * _LARGEST_GROWTH:  # a NaN, too
        return None
    dx = box[0] + box[2] / 2 - place[0] - place[2] / 2
    dy = box[1] + box[3] / 2 - place[1] - place[3] / 2
    distance = (dx * dx + dy * dy) ** 0.5 / max(side, other)
    return -distance if distance <= _LARGEST_JUMP else None
