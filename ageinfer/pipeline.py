"""From a picture to faces with ages: detect, crop, estimate."""

from pathlib import Path

import numpy as np

from ageinfer.detect import FaceDetector, WholePicture, open_detector
from ageinfer.estimate import AgeEstimator
from ageinfer.faces import crop_faces
from ageinfer.types import Face, Frame, FrameResult, Image


class Pipeline:
    """Finds the faces of a frame and estimates the age of each, all faces in one batch.

    Args:
        detector: finds the faces.
        estimator: estimates their ages; its metadata say how faces are cropped.

    Example:
        >>> import numpy as np
        >>> pipeline = Pipeline.default()
        >>> pipeline(np.zeros((120, 160, 3), np.uint8)).faces
        ()
    """

    def __init__(self, detector: FaceDetector, estimator: AgeEstimator) -> None:
        self.detector = detector
        self.estimator = estimator

    @classmethod
    def default(
        cls,
        model: str | Path | None = None,
        detector: str = "yunet",
        *,
        provider: str = "auto",
        threads: int | None = None,
    ) -> "Pipeline":
        """Opens a detector by name and an age model by path; without arguments, those that are shipped.

        A model that was trained on whole pictures (crop kind ``resize``) gets `ageinfer.detect.WholePicture` instead of
        the detector that was named.

        Raises:
            AgeInferError: one of them cannot be opened; the message says why.
        """
        estimator = AgeEstimator(model, provider=provider, threads=threads)
        if estimator.metadata.crop.kind == "resize":
            return cls(WholePicture(), estimator)
        options = {"provider": provider, "threads": threads} if detector == "yunet" else {}
        return cls(open_detector(detector, **options), estimator)

    def __call__(self, frame: Frame | Image) -> FrameResult:
        """Processes one frame.

        Args:
            frame: a `Frame`, or its picture alone: uint8 BGR ``[height, width, 3]``.

        Raises:
            ValueError: the picture has another type or shape.
        """
        if not isinstance(frame, Frame):
            frame = Frame(source="", index=0, time_s=None, image=frame)
        image = frame.image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"a frame must be a uint8 BGR array [height, width, 3], not {found}")
        detections = self.detector.detect(image)
        crop = self.estimator.metadata.crop
        crops = crop_faces(image, [d.box for d in detections], crop, [d.landmarks for d in detections])
        ages = self.estimator.estimate(crops)
        faces = tuple(Face(detection, age) for detection, age in zip(detections, ages, strict=True))
        height, width = image.shape[:2]
        return FrameResult(frame.source, frame.index, frame.time_s, (width, height), faces)
