"""Matches the faces of a frame with the tracks of the frames before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ageinfer.tracking.appearance import SAME_LOOK
from ageinfer.tracking.track import Track
from ageinfer.types import Box, Detection, Image, overlap

# Of two candidates for one track, how much a box must overlap the place where the track is expected. A head that turns
# or a detector that trembles stays far above; two heads side by side stay below.
_LEAST_IOU = 0.2
# Without an overlap, a face of about the same size whose centre is nearer than this, in its sides, is still the same
# one: people move fast in slow streams.
_LARGEST_JUMP, _LARGEST_GROWTH = 0.75, 1.5
# Who was hidden and looks the same may come out so far from where it was lost or must by now be, in sides of the face.
# Who has walked on for at least so far, and comes out just where that leads to, may be half hidden still.
_LARGEST_DETOUR, _WALKED, _AT_ITS_PLACE_IOU, _HALF_HIDDEN_LOOK = 1.0, 0.5, 0.5, 0.3
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
        hidden: those at whose places other faces have appeared; they may come out again.
    """

    patience_s: float = PATIENCE_S
    tracks: list[Track] = field(default_factory=list)
    hidden: list[Track] = field(default_factory=list)
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
            self.hidden = [track for track in self.hidden if time_s - track.seen_s <= self.patience_s]
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

    def replace(self, track: Track, pixels: Image, time_s: float) -> Track:
        """Hides a track at whose place another face has appeared; returns the track of that face.

        Args:
            track: that was matched with the face.
            pixels: of the face, see `ageinfer.tracking.appearance.small_grey`.
            time_s: of the frame.
        """
        before_s = track.look.seen_s
        self.tracks.remove(track)
        found = self._out_of_sight(track, pixels, time_s)
        if before_s is not None:
            track.seen_s = before_s
            self.hidden.append(track)
        return self._resumed(found, track.box, time_s) if found else self._begin(track.box, time_s)

    def recognised(self, track: Track, pixels: Image, time_s: float) -> Track:
        """Returns the track of a face that has just begun: itself, or one that was lost nearby and looks the same.

        Args:
            track: of the face, begun in this frame.
            pixels: of the face, see `ageinfer.tracking.appearance.small_grey`.
            time_s: of the frame.
        """
        found = self._out_of_sight(track, pixels, time_s)
        if found is None:
            return track
        self.tracks.remove(track)
        if track.number == self._last_number:  # nobody has heard of it
            self._last_number -= 1
        return self._resumed(found, track.box, time_s)

    def _out_of_sight(self, track: Track, pixels: Image, time_s: float) -> Track | None:
        """The track that is not seen now, was lost near this one a moment ago, and looks most like it."""
        best, most = None, -1.0
        for lost in (*self.unseen(time_s), *self.hidden):
            if lost is not track and time_s - lost.seen_s <= self.patience_s:
                alike = lost.look.likeness(pixels)
                if alike > most and _comes_out(lost, track.box, alike, time_s):
                    best, most = lost, alike
        return best

    def _resumed(self, track: Track, box: Box, time_s: float) -> Track:
        """Goes on with a track that was out of sight."""
        if track in self.hidden:
            self.hidden.remove(track)
            self.tracks.append(track)
        track.see(box, time_s)
        return track

    def unseen(self, time_s: float) -> list[Track]:
        """The tracks that no face of the frame at this time was matched with."""
        return [track for track in self.tracks if track.seen_s < time_s]

    def _begin(self, box: Box, seen_s: float) -> Track:
        self._last_number += 1
        track = Track(self._last_number, box, seen_s)
        self.tracks.append(track)
        return track


def _comes_out(lost: Track, box: Box, alike: float, time_s: float) -> bool:
    """Whether a face may be one that was out of sight: it looks the same, or comes out where that must by now be."""
    place = lost.walked_on(time_s)
    if (
        _distance(lost.box, place) >= _WALKED
        and overlap(place, box) >= _AT_ITS_PLACE_IOU
        and alike >= _HALF_HIDDEN_LOOK
    ):
        return True
    return alike >= SAME_LOOK and min(_distance(place, box), _distance(lost.box, box)) <= _LARGEST_DETOUR


def _distance(a: Box, b: Box) -> float:
    """From centre to centre, in sides of the larger face; without end where one is much larger."""
    side, other = max(a[2:]), max(b[2:])
    if not 0 < side / _LARGEST_GROWTH <= other <= side * _LARGEST_GROWTH:  # a NaN, too
        return math.inf
    return math.dist((a[0] + a[2] / 2, a[1] + a[3] / 2), (b[0] + b[2] / 2, b[1] + b[3] / 2)) / max(side, other)


def _fit(place: Box, box: Box) -> float | None:
    """How well a face fits the place where a track is expected: above 0 by overlap, below by distance; None: not."""
    shared = overlap(place, box)
    if shared >= _LEAST_IOU:
        return shared
    distance = _distance(place, box)
    return -distance if distance <= _LARGEST_JUMP else None
