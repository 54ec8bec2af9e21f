"""From a checkpoint to proved model files with their cards."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ageexport import evidence, graph, original, parity, precision
from ageexport.card import card
from ageexport.errors import CheckpointError, EvidenceError, OutputError, ParityError, RungError
from ageexport.evidence import Evidence
from ageexport.ladder import Bounds, Ladder
from ageexport.latency import Latency, time_model
from ageexport.parity import Reference
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from ageinfer.types import Image
from agetrain import errors as agetrain_errors
from agetrain._files import file_sha256, replacing
from agetrain.network import checkpoint

FEWEST_CALIBRATION_FACES = 20

log = logging.getLogger("ageexport")


@dataclass(frozen=True, slots=True)
class Made:
    """A proved model file that is not written yet.

    Attributes:
        data: its bytes.
        precision: ``fp32``, ``int8``, ``mixed`` or ``fp16``.
        ladder: of its proof.
        latency: one face on one CPU thread.
    """

    data: bytes
    precision: str
    ladder: Ladder
    latency: Latency


def open_checkpoint(path: Path, said: original.Description) -> tuple[dict[str, Any], str]:
    """Reads a checkpoint of agetrain, or a bare ``state_dict`` of the original work.

    Args:
        path: its file.
        said: what it is, if it is the latter.

    Returns:
        The values of a checkpoint, and the SHA-256 of the file.

    Raises:
        CheckpointError: it cannot be read, or is not what was said.
        UsageError: too little was said of a bare ``state_dict``.
    """
    try:
        values = checkpoint.read(path)
        if original.is_bare(values):
            return original.values_of(values, path, said), file_sha256(path)
        values = checkpoint.load(path)
        checkpoint.rebuild(values)  # weights that do not fit are noticed before any picture is opened
    except agetrain_errors.CheckpointError as error:
        raise CheckpointError(str(error)) from error
    if not said.empty:
        raise CheckpointError(f"{path}: a checkpoint of agetrain says itself what it is; leave those options out")
    if "train_median" not in values["training"]:
        raise CheckpointError(f"{path}: does not say its training median; train again")
    return values, file_sha256(path)


def completed(
    values: dict[str, Any], proof: Evidence, folder: Path, bounds: Bounds | None = None
) -> dict[str, Any]:  # fmt: skip
    """Adds to a bare ``state_dict`` what it does not know, from the pictures of the proof.

    The median age of the calibration pictures (or of all, without those) stands for the training median, and the spread
    of its errors on the pictures of the proof for its deviation.
    """
    if "train_median" in values["training"]:
        return values
    ages = [s.age_years for s in proof.calibration or proof.samples]
    values = {**values, "training": {**values["training"], "train_median": float(np.median(ages))}}
    if values["age_std_kind"] == "constant":
        truth = parity.reference(values, proof, folder, bounds)
        errors = truth.outputs[0] - truth.crops.ages[truth.crops.found]
        std = values["weights"]["residual_std"].clone().fill_(float(errors.std()))
        values["weights"] = {**values["weights"], "residual_std": std}
    return values


def export(
    values: dict[str, Any], checkpoint_sha256: str, proof: Evidence, precisions: Sequence[str], name: str, folder: Path,
    *, opset: int = graph.OPSET, bounds: Bounds | None = None,
) -> tuple[list[Made], ParityError | None]:  # fmt: skip
    """Converts and proves; nothing is written.

    Args:
        values: the checkpoint.
        checkpoint_sha256: of its file.
        proof: the pictures.
        precisions: some of ``fp32``, ``int8`` and ``fp16``.
        name: of the model.
        folder: for crops.
        opset: see `ageexport.graph.convert`.
        bounds: to be kept.

    Returns:
        What was proved, fp32 first, whether it was asked for or not, and why another precision could not be.

    Raises:
        ParityError: the fp32 file failed.
        EvidenceError: there are too few pictures.
        ExportError: the network cannot be converted.
    """
    values = completed(values, proof, folder, bounds)
    truth = parity.reference(values, proof, folder, bounds)
    model = graph.convert(values, opset)
    fp32 = _proved(graph.sealed(model, values, name, checkpoint_sha256), "fp32", truth, None, bounds)
    made = [fp32]
    missed: ParityError | None = None
    for wanted in [p for p in precisions if p != "fp32"]:
        bare = graph.without_metadata(model)
        try:
            if wanted == "fp16":
                made.append(_reduced(precision.fp16(bare), values, name, checkpoint_sha256, truth, fp32, bounds))
            else:
                made.append(_int8(bare, values, name, checkpoint_sha256, truth, fp32, folder, bounds))
        except ParityError as error:
            missed = missed or error
    return made, missed


def _int8(
    model: Any, values: dict[str, Any], name: str, checkpoint_sha256: str, truth: Reference, fp32: Made, folder: Path,
    bounds: Bounds | None,
) -> Made:  # fmt: skip
    """The first of the quantised forms that is proved."""
    faces = calibration_faces(values, truth.evidence, folder)
    failure = None
    for attempt in precision.int8_attempts(model, faces):
        try:
            return _reduced(attempt, values, name, checkpoint_sha256, truth, fp32, bounds)
        except RungError as error:
            log.info("%s", error)
            failure = failure or error
    raise failure or ParityError("int8: nothing can be quantised")


def calibration_faces(values: dict[str, Any], proof: Evidence, folder: Path) -> Image:
    """Crops of the faces that int8 is calibrated on.

    Raises:
        EvidenceError: there are too few.
    """
    if not proof.calibration:
        raise EvidenceError(
            f"{proof.origin}: no pictures to calibrate int8 on apart from those of the proof; give a data set, mark "
            f"some as calibration in {evidence.LABELS_FILE} (column part), or export fp32 alone"
        )
    crops = parity.crop(proof.calibration, values, folder)
    found = np.flatnonzero(crops.found)
    if len(found) < FEWEST_CALIBRATION_FACES:
        raise EvidenceError(
            f"{proof.origin}: {len(found)} faces to calibrate int8 on, {FEWEST_CALIBRATION_FACES} are needed; give more"
        )
    return crops.crops[found]


def _reduced(
    reduced: precision.Reduced, values: dict[str, Any], name: str, checkpoint_sha256: str, truth: Reference, fp32: Made,
    bounds: Bounds | None,
) -> Made:  # fmt: skip
    data = graph.sealed(reduced.model, values, name, checkpoint_sha256, reduced.precision, reduced.made)
    return _proved(data, reduced.precision, truth, fp32.data, bounds)


def _proved(data: bytes, name: str, truth: Reference, fp32: bytes | None, bounds: Bounds | None) -> Made:
    ladder = parity.prove(data, name, truth, fp32, bounds)
    for rung in ladder.rungs:
        log.info("%s %s", name, rung)
    require(ladder)
    return Made(data, name, ladder, time_model(data, truth.faces))


def require(ladder: Ladder) -> None:
    """Lets a proved file pass.

    Raises:
        RungError: a rung failed; the message gives every one that did.
    """
    if ladder.failed:
        failed = "; ".join(str(rung) for rung in ladder.failed)
        end = "; nothing was written" if ladder.precision == "fp32" else ""
        raise RungError(
            f"{ladder.precision}: the exported model does not answer what the checkpoint does: {failed}{end}"
        )


def write(made: Sequence[Made], beside: Sequence[Made], paths: Sequence[Path]) -> None:
    """Writes model files, each with its card and its ``.parity.json``; the model last, so that it is never alone.

    Args:
        made: to be written.
        beside: made in the same run, whose latencies the cards give as well.
        paths: of the model files.

    Raises:
        OutputError: a file cannot be written.
    """
    latencies = [(m.precision, len(m.data), m.latency) for m in beside]
    for model, path in zip(made, paths, strict=True):
        metadata = ModelMetadata.from_json(metadata_properties(model.data)[METADATA_KEY])
        sha256 = hashlib.sha256(model.data).hexdigest()
        text = card(metadata, model.ladder, latencies, len(model.data), sha256)
        record = {"file": path.name, "sha256": sha256, **model.ladder.to_dict(), "latency": model.latency.to_dict()}
        _write(path.with_suffix(".md"), text.encode())
        _write(path.with_suffix(".parity.json"), (json.dumps(record, indent=2) + "\n").encode())
        _write(path, model.data)


def _write(path: Path, data: bytes) -> None:
    try:
        with replacing(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place with -o") from error


def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder for pictures and crops, removed when it is left."""
    return tempfile.TemporaryDirectory(prefix="ageexport-")
