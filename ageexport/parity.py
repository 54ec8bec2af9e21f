"""The proof: the model file answers on real faces what the checkpoint answers, through the path that is deployed."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from ageexport.errors import EvidenceError, ParityError
from ageexport.evidence import FEWEST_FACES, Evidence
from ageexport.graph import DeployedNet
from ageinfer.cropspec import CropSpec
from ageinfer.detect import YuNet
from ageinfer.errors import ModelError
from ageinfer.estimate import AgeEstimator
from ageinfer.faces import central_face
from ageinfer.pipeline import Pipeline
from ageinfer.sources import read_picture
from ageinfer.types import Image
from agetrain import checkpoint
from agetrain.cache import prepare
from agetrain.datasets import Sample
from agetrain.errors import DatasetError

# Years. Two correct fp32 implementations differ by rounding alone, measured at 1e-5 to 1e-4.
TOLERANCE_YEARS = 1e-3
BATCH_SIZES = (1, 2, 7)
PNG_SIGNATURE = b"\x89PNG"


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared, and how far apart it was.

    Attributes:
        origin: of the pictures.
        pictures, faces: how many were looked at, and how many held a face.
        tensor_max_years: largest difference between PyTorch and ONNX Runtime on the same face pixels.
        batch_max_years: largest difference between a face alone and in a batch, all in ONNX Runtime.
        image_max_years: largest difference between the checkpoint on training's pixels and the runtime's own path
            from the picture's file.
        tolerance_years: what each of them had to stay within.
    """

    origin: str
    pictures: int
    faces: int
    tensor_max_years: float
    batch_max_years: float
    image_max_years: float
    tolerance_years: float = TOLERANCE_YEARS

    @property
    def largest_years(self) -> float:
        """The largest of the differences."""
        return max(self.tensor_max_years, self.batch_max_years, self.image_max_years)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def prove(model: bytes, values: dict[str, Any], evidence: Evidence) -> Parity:
    """Compares a model file with its checkpoint on real pictures.

    Args:
        model: bytes of the ONNX file.
        values: the checkpoint, see `agetrain.checkpoint.load`.
        evidence: the pictures.

    Raises:
        EvidenceError: too few of the pictures hold a face.
        ParityError: the file is not valid, or a difference is larger than `TOLERANCE_YEARS`.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ParityError(f"the exported graph is not valid ONNX: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        path.write_bytes(model)
        try:
            pipeline = Pipeline(YuNet(provider="cpu"), AgeEstimator(path, provider="cpu"))
        except ModelError as error:
            raise ParityError(f"the runtime refuses the exported file: {error}") from error
        return _compare(pipeline, values, evidence, Path(folder))


def _compare(pipeline: Pipeline, values: dict[str, Any], evidence: Evidence, folder: Path) -> Parity:
    samples = []
    for i, picture in enumerate(evidence.pictures):
        path = folder / f"{i:06d}{'.png' if picture.startswith(PNG_SIGNATURE) else '.jpg'}"
        path.write_bytes(picture)
        samples.append(Sample(path, age_years=0))
    try:
        cache = prepare(samples, CropSpec.from_dict(values["crop"]), folder / "cache", "faces to prove on")
    except DatasetError as error:
        raise EvidenceError(str(error)) from error
    crops = cache.crops[np.flatnonzero(cache.found)]
    deployed = []
    for sample, found in zip(samples, cache.found, strict=True):
        result = pipeline(read_picture(sample.path))
        central = central_face([face.detection.box for face in result.faces], result.size)
        if (central is not None) != found:
            raise ParityError(f"{sample.path.name}: training and the runtime disagree on whether there is a face")
        if central is not None:
            deployed.append(result.faces[central].age.age_years)
    if len(crops) < FEWEST_FACES:
        raise EvidenceError(
            f"{evidence.origin}: a face in {len(crops)} of {len(evidence.pictures)} pictures, a proof needs "
            f"{FEWEST_FACES}; give a folder of portraits with --data"
        )
    with torch.inference_mode():
        network = DeployedNet(checkpoint.rebuild(values)).eval()
        expected = np.concatenate(
            [network(torch.from_numpy(crops[i : i + 64]))[0].numpy() for i in range(0, len(crops), 64)]
        )
    ages = {size: _ages(pipeline.estimator, crops, size) for size in (*BATCH_SIZES, 64)}
    parity = Parity(
        origin=evidence.origin,
        pictures=len(evidence.pictures),
        faces=len(crops),
        tensor_max_years=_largest(ages[64], expected),
        batch_max_years=max(_largest(ages[size], ages[1]) for size in ages),
        image_max_years=_largest(np.array(deployed), expected),
    )
    for rung in ("tensor", "batch", "image"):
        difference = getattr(parity, f"{rung}_max_years")
        if not difference <= TOLERANCE_YEARS:  # a NaN must fail too
            raise ParityError(
                f"{rung} parity: the exported model is up to {difference:.3g} years away from the checkpoint, "
                f"{TOLERANCE_YEARS:g} are allowed; nothing was written"
            )
    return parity


def _ages(estimator: AgeEstimator, crops: Image, batch_size: int) -> np.ndarray:
    return np.array(
        [a.age_years for i in range(0, len(crops), batch_size) for a in estimator.estimate(crops[i : i + batch_size])]
    )


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())
