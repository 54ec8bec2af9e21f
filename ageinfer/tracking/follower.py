"""Finds and follows the faces of a video at a fraction of the cost of searching every whole frame."""

import math
from collections.abc import Collection, Sequence
from typing import Literal

from ageinfer.detect import SAME_FACE_IOU, FaceDetector, detect_at_all_scales, detect_near, detect_reduced
from ageinfer.tracking.appearance import small_grey
from ageinfer.tracking.track import Track
from ageinfer.tracking.tracker import Tracker
from ageinfer.types import DEFAULT_FPS, Box, Detection, Frame, Image, overlap

# Between two looks at the whole frame: at most so many frames, and no longer than a person notices.
_MOST_FRAMES, _LONGEST_S = 8, 0.35
# Without a face there is nothing to estimate, and the time is better spent on looking.
_MOST_FRAMES_WITHOUT_FACE = 2
_FULL_SIZE_EVERY_S = 2.0  # searches at full size find faces that are too small for the reduced ones
# In a reduced look no known face may be smaller than this, in pixels; more once one was missed.
_LEAST_FACE_PX = 40.0
# That is forgotten by this factor with every look in which nothing is missed: it may have been no face.
_FORGETTING = 0.97
_LEAST_SIDE_PX = 320
# A face that was found where it was expected, and in the next frame looks there as it did, needs no detector in that
# frame. In the one after that it does, and where frames are further apart than this:
_CARRIED_S = 0.05
_AS_EXPECTED_IOU = 0.85


class FaceFollower:
    """Finds the faces of successive frames and gives each one its track.

    It searches the whole frame now and then, and in between only near the faces that are known. A face that is missed
    in one way is searched for in the other way before the frame is done. The scale of a whole search follows the faces:
    it is as small as the smallest known face allows, and now and then the frame's own. A face that moves as expected
    and looks the same is carried over one frame between two searches. When a face is replaced by one that looks
    different, its track ends and another one begins.

    Args:
        detector: finds the faces.
        detect_every: searches every Nth frame whole; None: less often the longer nothing unexpected happens, at least
            every 8th frame and three times a second.
        max_side: reduces whole frames to this side in pixels first; None: never; ``auto``: as described above;
            ``all``: searches them at all scales.
        largest_side: with ``auto``, the largest side of a search in pixels; None for the frame's own. A single search
            of a large frame holds up a live source.
        least_face_px: drops faces whose longer side is shorter.
        tracker: keeps the tracks.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        detect_every: int | None = None,
        max_side: int | Literal["auto", "all"] | None = "auto",
        largest_side: int | None = None,
        least_face_px: float = 0.0,
        tracker: Tracker | None = None,
    ) -> None:
        self._detector = detector
        self._detect_every = detect_every
        self._max_side = max_side
        self._largest_side = largest_side
        self._least_face_px = least_face_px
        self._tracker = tracker or Tracker()
        self._size: tuple[int, int] | None = None
        self._time_s = 0.0
        self._interval = 1  # frames from one whole look to the next
        self._since_look = 0
        self._looked_s = -math.inf
        self._full_size_s = -math.inf
        self._least_seen_px = _LEAST_FACE_PX
        self._looked_at = 1.0  # scale of the last whole look

    def __call__(self, frame: Frame) -> tuple[list[Detection], list[Track]]:
        """Finds the faces of the next frame.

        Returns:
            The faces, best score first, and the track of each one.
        """
        image, time_s = frame.image, self._clock(frame)
        if image.shape[:2] != self._size:  # another mode of the camera, or another stream: nothing lies where it lay
            self._size = image.shape[:2]
            self._looked_s = self._full_size_s = -math.inf
            self._tracker.tracks.clear()
        before = {track.number: track for track in self._tracker.tracks if track.seen_s >= self._time_s}
        self._since_look += 1
        whole = self._is_look_due(time_s)
        expected = {track.number: track.expected(time_s) for track in self._tracker.tracks}
        carried: dict[int, Detection] = {}
        if whole:
            found = self._look(image, time_s)
        else:
            carried = self._carried(image, time_s)
            found = self._near(image, time_s, [t for t in self._tracker.tracks if t.number not in carried])
            # A look near one face may show its neighbour, too.
            carried = {n: c for n, c in carried.items() if all(overlap(c.box, d.box) < SAME_FACE_IOU for d in found)}
            found += carried.values()
        tracks = self._tracker.update(found, time_s)
        lost = [track for n, track in before.items() if n not in {t.number for t in tracks}]
        if lost:  # looked for in the other way, before the frame is done
            more = self._near(image, time_s, lost) if whole else self._look(image, time_s)
            more = [d for d in more if all(overlap(d.box, other.box) < SAME_FACE_IOU for other in found)]
            if whole:
                self._learn(more)
            tracks += self._tracker.update(more, time_s)
            found += more
        if whole or lost:
            self._plan(calm=not lost and all(track.number in before for track in tracks), time_s=time_s)
        tracks = self._remember(image, found, tracks, expected, carried, time_s)
        self._time_s = time_s
        order = sorted(range(len(found)), key=lambda i: -found[i].score)
        return [found[i] for i in order], [tracks[i] for i in order]

    @property
    def time_s(self) -> float:
        """The time of the last frame, in seconds; it grows with every frame whatever the source says."""
        return self._time_s

    def _clock(self, frame: Frame) -> float:
        """The time of a frame in seconds, later than that of the frame before whatever the source says."""
        time_s = frame.index / DEFAULT_FPS if frame.time_s is None else frame.time_s
        return max(time_s, self._time_s + 1e-3)

    def _is_look_due(self, time_s: float) -> bool:
        if self._detect_every is not None:
            return self._since_look >= self._detect_every or self._looked_s == -math.inf
        interval = self._interval if self._tracker.tracks else min(self._interval, _MOST_FRAMES_WITHOUT_FACE)
        return self._since_look >= interval or time_s - self._looked_s >= _LONGEST_S

    def _look(self, image: Image, time_s: float) -> list[Detection]:
        """Finds the faces of the whole frame, at the scale that the known ones allow."""
        if self._max_side == "all":
            self._looked_at = 1.0
            return self._large_enough(detect_at_all_scales(self._detector, image))
        side, whole = self._max_side, max(image.shape[:2])
        if side == "auto":
            side = whole
            if time_s - self._full_size_s < _FULL_SIZE_EVERY_S:
                # Not those that were lost: what has left, or was no face, must not keep the scale.
                seen = [t for t in self._tracker.tracks if t.seen_s >= self._time_s]
                smallest = min((max(t.box[2:]) for t in seen), default=math.inf)
                # Whole factors alone: other reductions cost more than they save.
                factor = min(smallest / self._least_seen_px, whole / _LEAST_SIDE_PX)
                side = math.ceil(whole / max(1, int(factor)))
            side = min(side, self._largest_side or whole)
            if side == min(whole, self._largest_side or whole):
                self._full_size_s = time_s
        self._looked_at = min(side or whole, whole) / whole
        return self._large_enough(detect_reduced(self._detector, image, side))

    def _near(self, image: Image, time_s: float, tracks: Collection[Track]) -> list[Detection]:
        """Finds faces near the places where those of some tracks are expected."""
        places = [track.expected(time_s) for track in tracks]
        return self._large_enough(detect_near(self._detector, image, places)) if places else []

    def _carried(self, image: Image, time_s: float) -> dict[int, Detection]:
        """The faces that surely are where they are expected, by the numbers of their tracks."""
        carried = {}
        if time_s - self._time_s <= _CARRIED_S:
            for track in self._tracker.tracks:
                detection, box = track.as_expected, track.expected(time_s)
                if detection is not None and track.look.still(small_grey(image, box), time_s):
                    x, y = detection.box[:2]
                    carried[track.number] = detection.moved((1, 1), (box[0] - x, box[1] - y))
        return carried

    def _remember(
        self, image: Image, found: list[Detection], tracks: list[Track], expected: dict[int, Box],
        carried: dict[int, Detection], time_s: float,
    ) -> list[Track]:  # fmt: skip
        """Keeps how the faces of this frame were found and how they look.

        Returns:
            The track of each face: where it looks like somebody else, that of whoever was lost nearby and looks the
            same, or a new one.
        """
        for track in self._tracker.tracks:
            track.as_expected = None
        owners = []
        for detection, track in zip(found, tracks, strict=True):
            owner = track
            if track.number not in carried:
                pixels = small_grey(image, detection.box)
                if track.look.seen_s is None:
                    owner = self._tracker.recognised(track, pixels, time_s)
                elif track.look.changed(pixels, time_s):
                    owner = self._tracker.replace(track, pixels, time_s)
                owner.look.take(pixels, time_s)
                place = expected.get(track.number)
                if place is not None and overlap(place, detection.box) >= _AS_EXPECTED_IOU:
                    owner.as_expected = detection
            owners.append(owner)
        return owners

    def _large_enough(self, detections: list[Detection]) -> list[Detection]:
        return [d for d in detections if max(d.box[2:]) >= self._least_face_px]

    def _learn(self, missed: Sequence[Detection]) -> None:
        """Faces of this size are missed in a reduced look: look closer for some time."""
        if self._looked_at < 1:
            for detection in missed:
                seen_px = max(detection.box[2:]) * self._looked_at
                self._least_seen_px = max(self._least_seen_px, 1.25 * seen_px)

    def _plan(self, *, calm: bool, time_s: float) -> None:
        """After a look at the whole frame: when the next one is due."""
        self._interval = min(2 * self._interval, _MOST_FRAMES) if calm else 1
        self._least_seen_px = max(_LEAST_FACE_PX, self._least_seen_px * (_FORGETTING if calm else 1))
        self._since_look, self._looked_s = 0, time_s
