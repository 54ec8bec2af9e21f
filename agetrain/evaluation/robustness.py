"""The robustness sweep: how the error grows when the same pictures get worse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ageinfer.types import Image
from agetrain.crops.labelled_face import labelled_face
from agetrain.datasets import Sample
from agetrain.evaluation.answers import answers_of

if TYPE_CHECKING:
    from agetrain.evaluation.models import Model


@dataclass(frozen=True, slots=True)
class Change:
    """One way in which pictures get worse.

    Attributes:
        kind: of the sweep that it belongs to.
        value: how far, in the unit of the kind.
        vary: changes a BGR picture; None for a change of the crop.
    """

    kind: str
    value: float
    vary: Callable[[Image], Image] | None = None


def changes(detector: Any) -> list[Change]:
    """Returns all changes of the sweep, mildest first.

    Args:
        detector: of ageinfer, which tells how large a face is before the picture is reduced.
    """
    from ageinfer.images import cv2

    def blur(sigma: float) -> Callable[[Image], Image]:
        return lambda image: cv2.GaussianBlur(image, (0, 0), sigma)

    def jpeg(quality: int) -> Callable[[Image], Image]:
        def coded(image: Image) -> Image:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

        return coded

    def scale(factor: float) -> Callable[[Image], Image]:
        return lambda image: cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)

    def face(side_px: float) -> Callable[[Image], Image]:
        def reduced(image: Image) -> Image:
            found = labelled_face(detector, image)
            factor = 1.0 if found is None else side_px / max(found.box[2:])
            return scale(factor)(image) if factor < 1 else image  # nothing is gained by enlarging

        return reduced

    def turn(degrees: float) -> Callable[[Image], Image]:
        def turned(image: Image) -> Image:
            height, width = image.shape[:2]
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
            result: Image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
            return result

        return turned

    def light(factor: float) -> Callable[[Image], Image]:
        return lambda image: np.clip(image * factor, 0, 255).astype(np.uint8)

    return [
        *(Change("margin, times the model's side", factor) for factor in (0.8, 0.9, 1.1, 1.2)),
        *(Change("blur, sigma in px", sigma, blur(sigma)) for sigma in (1, 2, 3)),
        *(Change("JPEG quality", quality, jpeg(quality)) for quality in (50, 25, 10)),
        *(Change("size, times the picture", factor, scale(factor)) for factor in (0.5, 0.35, 0.25)),
        *(Change("face, longer side in px at most", side, face(side)) for side in (80, 40, 24)),
        *(Change("turn, degrees", degrees, turn(degrees)) for degrees in (-30, -15, 15, 30)),
        *(Change("light, times", factor, light(factor)) for factor in (0.25, 0.5, 1.5)),
    ]


def sweep(
    model: "Model", samples: Sequence[Sample], detector: Any, label: str, pictures: int, *,
    landmarks: bool = True, box_margin: float = 0.0, seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Measures MAE and detection rate under each change; the first row is without any.

    Args:
        model: to be asked.
        samples: of which a seeded choice is used, the same for every change.
        detector: of ageinfer.
        label: ``real`` or ``apparent``.
        pictures: how many to use.
        landmarks: whether crops may use them.
        box_margin: as in `agetrain.evaluation.answers.answers_of`.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(samples))[:pictures]
    chosen = [samples[i] for i in sorted(order.tolist())]
    rows = []
    for change in [Change("none", 0), *changes(detector)]:
        asked = model
        if change.kind.startswith("margin"):
            if model.crop.kind == "resize":
                continue
            margin = ((1 + 2 * model.crop.margin) * change.value - 1) / 2
            try:
                asked = replace(model, crop=replace(model.crop, margin=margin))
            except ValueError:  # there is no crop of such a margin
                continue
        answers = answers_of(
            asked, chosen, detector, label, vary=change.vary, landmarks=landmarks, box_margin=box_margin,
            title=f"{change.kind} {change.value:g}",
        )  # fmt: skip
        rows.append(
            {
                "change": change.kind, "value": change.value, "n": len(chosen),
                "mae": round(float(np.abs(answers.errors).mean()), 4),
                "bias": round(float(answers.errors.mean()), 4),
                "detection_rate_percent": round(100 * float(answers.found.mean()), 2),
            }
        )  # fmt: skip
    return rows
