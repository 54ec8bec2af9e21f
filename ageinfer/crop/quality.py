"""How well a face is seen: what its size, sharpness, turn and light cost an estimate of its age.

The quality of a view is a share: the typical error of an estimate on well seen faces, over the error that is to be
expected on this one. At 0.5, errors are about twice as large. `benchmarks/quality.py` fits the costs below on real
faces that were made worse, and measures what quality says on others (``docs/results/people.md``).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ageinfer.crop.spec import CropSpec
from ageinfer.images import cv2
from ageinfer.types import Detection, Image

_SIDE = 96  # in pixels; faces of all crops are compared at this side
_WHITE = 250
_LEAST = 1e-3
# Where the nose of a face that looks into the camera lies between the line of its eyes and that of its mouth.
_NOSE_PLACE = 0.57


@dataclass(frozen=True, slots=True)
class View:
    """How a face is seen.

    Attributes:
        size_px: longer side of its box, in pixels of the frame.
        sharpness: standard deviation of the Laplacian of the grey face over that of the grey face, at 96 x 96 pixels.
        yaw: turn to the side: distance of the nose from the middle line of eyes and mouth, in distances of the eyes.
        pitch: turn up or down: distance of the nose from its place between eyes and mouth, as a share of theirs.
        roll_degrees: lean of the head, 0 to 180. Turns are 0 where there are no landmarks.
        brightness: mean grey of the face, 0 to 255.
        contrast: standard deviation of the grey face.
        glare: share of its pixels that are white.
    """

    size_px: float
    sharpness: float
    yaw: float
    pitch: float
    roll_degrees: float
    brightness: float
    contrast: float
    glare: float

    @property
    def quality(self) -> float:
        """The quality of the view, above 0 and up to 1."""
        return 1 / (1 + sum(cost.at(getattr(self, cost.name)) for cost in COSTS))


@dataclass(frozen=True, slots=True)
class Cost:
    """What one property of a view adds to the error, in errors on well seen faces.

    Attributes:
        name: of the attribute of `View`.
        knot: where the cost begins.
        below: whether it is below the knot that it costs something; else it is above.
        octaves: whether the cost grows with the logarithm, by doublings; else with the difference.
        each: the cost of a doubling or of a unit.
    """

    name: str
    knot: float
    below: bool
    octaves: bool
    each: float

    def at(self, value: float) -> float:
        """The cost at a value."""
        return self.each * self.distance(value)

    def distance(self, value: float) -> float:
        """How far a value is beyond the knot, 0 where it is not."""
        scale: Callable[[float], float] = math.log2 if self.octaves else float
        far = scale(max(value, _LEAST)) - scale(self.knot)
        return max(0.0, -far if self.below else far)


COSTS = (
    Cost("size_px", 48, below=True, octaves=True, each=0.08),
    Cost("sharpness", 0.12, below=True, octaves=True, each=0.34),
    Cost("sharpness", 0.3, below=True, octaves=True, each=0.31),
    Cost("yaw", 0.2, below=False, octaves=False, each=1.2),
    Cost("pitch", 0.04, below=False, octaves=False, each=0.07),
    Cost("roll_degrees", 5, below=False, octaves=False, each=0.034),
    Cost("brightness", 60, below=True, octaves=True, each=0.08),
    Cost("brightness", 210, below=False, octaves=True, each=0.62),
    Cost("contrast", 25, below=True, octaves=True, each=0.31),
    Cost("glare", 0.1, below=False, octaves=False, each=0.32),
    Cost("glare", 0.4, below=False, octaves=False, each=1.3),
)


def view_of(crop: Image, spec: CropSpec, detection: Detection) -> View:
    """Tells how a face is seen.

    Args:
        crop: uint8 RGB ``[size, size, 3]``, cut as ``spec`` says.
        spec: of kind ``box`` or ``landmarks``.
        detection: the face in its frame.
    """
    side = crop.shape[0]
    cut = max(0, round(side * spec.margin / (1 + 2 * spec.margin)))
    grey = cv2.cvtColor(crop[cut : side - cut, cut : side - cut], cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    contrast = float(grey.std())
    detail = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    return View(
        max(detection.box[2:]), detail / max(contrast, 1.0), *_turn(detection), float(grey.mean()), contrast,
        float((grey >= _WHITE).mean()),
    )  # fmt: skip


def _turn(detection: Detection) -> tuple[float, float, float]:
    """Yaw, pitch and roll, see `View`; 0 without landmarks."""
    if detection.landmarks is None:
        return 0.0, 0.0, 0.0
    right_eye, left_eye, nose, right_mouth, left_mouth = (complex(x, y) for x, y in detection.landmarks)
    eyes, mouth, across = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2, left_eye - right_eye
    if abs(across) < _LEAST:  # both eyes in one place: seen from the side
        return 1.0, 0.0, 0.0
    to_nose, to_mouth = (nose - eyes) / across, (mouth - eyes) / across
    yaw = min(1.0, abs(to_nose.real - to_mouth.real / 2))
    pitch = min(1.0, abs(to_nose.imag / to_mouth.imag - _NOSE_PLACE)) if abs(to_mouth.imag) > _LEAST else 1.0
    return yaw, pitch, abs(math.degrees(math.atan2(across.imag, across.real)))
