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
from ageexport.graph import DeployedNet, output_names
from ageinfer.cropspec import CropSpec
from ageinfer.errors import ModelError
from ageinfer.estimate import AgeEstimator
from ageinfer.faces import central_face
from ageinfer.pipeline import Pipeline
from ageinfer.providers import open_session
from ageinfer.sources import read_picture
from ageinfer.types import Image
from agetrain.cache import prepare
from agetrain.datasets import Sample
from agetrain.errors import DatasetError

# Years. Two correct fp32 implementations differ by rounding alone, up to 1.5e-4 for the shipped models.
TOLERANCE_YEARS = 1e-3
BATCH_SIZES = (1, 2, 7)
PNG_SIGNATURE = b"\x89PNG"


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared, and how far apart it was.

    Attributes:
        origin: of the pictures.
        pictures, faces: how many were looked at, and how many held a face.
        tensor_max_years: largest difference between PyTorch and ONNX Runtime on the same face pixels, in age,
            deviation and probabilities alike.
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
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ParityError(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        path.write_bytes(model)
        try:
            pipeline = Pipeline.default(path, provider="cpu")
        except ModelError as error:
            raise ParityError(f"the runtime refuses the exported file: {error}") from error
        return _compare(model, pipeline, values, evidence, Path(folder))


def _compare(model: bytes, pipeline: Pipeline, values: dict[str, Any], evidence: Evidence, folder: Path) -> Parity:
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
        network = DeployedNet.of_checkpoint(values)
        batches = [network(torch.from_numpy(crops[i : i + 64])) for i in range(0, len(crops), 64)]
    expected = [torch.cat(outputs).numpy() for outputs in zip(*batches, strict=True)]
    actual = _outputs(model, output_names(values["head"]), crops)
    ages = {size: _ages(pipeline.estimator, crops, size) for size in (*BATCH_SIZES, 64)}
    parity = Parity(
        origin=evidence.origin,
        pictures=len(evidence.pictures),
        faces=len(crops),
        tensor_max_years=max(map(_largest, actual, expected)),
        batch_max_years=max(_largest(ages[size], ages[1]) for size in ages),
        image_max_years=_largest(np.array(deployed), expected[0]),
    )
    for rung in ("tensor", "batch", "image"):
        difference = getattr(parity, f"{rung}_max_years")
        if not difference <= TOLERANCE_YEARS:  # a NaN must fail too
            raise ParityError(
                f"{rung} parity: the exported model is up to {difference:.3g} years away from the checkpoint, "
                f"{TOLERANCE_YEARS:g} are allowed; nothing was written"
            )
    return parity


def _outputs(model: bytes, names: list[str], crops: Image) -> list[np.ndarray]:
    """Everything that the file gives for these crops, the probabilities too, which the runtime does not use."""
    session = open_session(model, "the exported file", "cpu")
    missing = set(names) - {output.name for output in session.get_outputs()}
    if missing:
        raise ParityError(f"the exported file has no output {min(missing)}")
    batches = [session.run(names, {"face": crops[i : i + 64]}) for i in range(0, len(crops), 64)]
    return [np.concatenate(outputs) for outputs in zip(*batches, strict=True)]


def _ages(estimator: AgeEstimator, crops: Image, batch_size: int) -> np.ndarray:
    return np.array(
        [a.age_years for i in range(0, len(crops), batch_size) for a in estimator.estimate(crops[i : i + batch_size])]
    )


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())
