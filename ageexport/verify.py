"""Whether a model file is what its checkpoint gives: exported again, compared bit by bit, and proved once more."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ageexport import evidence, export, graph, original, parity, precision
from ageexport.errors import ParityError
from ageinfer.errors import ModelError
from ageinfer.modelfile import ModelMetadata, check_age_model, read_model

# What is computed from calibration faces (scales, zero points, quantised biases, the corrected bias of the last layer)
# depends on rounding in the float network, which differs a little from processor to processor; weights do not.
_CALIBRATED_SHARE = 0.01

log = logging.getLogger("ageexport")


def verify(file: Path, checkpoint: Path, data: str | None, said: original.Description) -> str:
    """Compares a model file with a checkpoint.

    Args:
        file: the model file.
        checkpoint: that it is said to be made from.
        data: pictures to prove it on, see `ageexport.evidence.open_evidence`; a quantised file needs those that it was
            calibrated with.
        said: what a bare ``state_dict`` is.

    Returns:
        What was found, in words.

    Raises:
        ParityError: it is not what the checkpoint gives.
        AgeExportError: it cannot be compared.
    """
    try:
        model = read_model(file)
        metadata = check_age_model(model, file)
    except ModelError as error:
        raise ParityError(f"L0: the runtime refuses it: {error}") from error
    values, sha256 = export.open_checkpoint(checkpoint, said)
    if metadata.training.get("checkpoint_sha256") != sha256:
        raise ParityError(
            f"{file}: made from another checkpoint (SHA-256 {str(metadata.training.get('checkpoint_sha256'))[:16]}), "
            f"{checkpoint} has {sha256[:16]}"
        )
    with export.workspace() as folder:
        pictures, crops = Path(folder, "pictures"), Path(folder, "crops")
        proof = evidence.open_evidence(values, checkpoint, data, pictures)
        values = export.completed(values, proof, crops)
        _same_facts(file, metadata, values)
        fp32 = graph.convert(values, metadata.export["opset"])
        again = _again(fp32, metadata, values, proof, crops)
        _same_graph(file, onnx.load_from_string(model), again, metadata)
        truth = parity.reference(values, proof, crops)
        beside = None if metadata.precision == "fp32" else graph.sealed(fp32, values, metadata.name, sha256)
        ladder = parity.prove(model, metadata.precision, truth, beside)
    for rung in ladder.rungs:
        log.info("%s", rung)
    export.require(ladder)
    return (
        f"{file}: verified: what {checkpoint} gives when it is exported again, and proved on {ladder.faces} faces "
        f"({ladder.origin})"
    )


def _same_facts(file: Path, metadata: ModelMetadata, values: dict[str, Any]) -> None:
    for key, expected in (
        ("crop", values["crop"]), ("label", values["label"]), ("age_range", list(values["age_range"])),
        ("decode", values["decode"]), ("age_std_kind", values["age_std_kind"]),
    ):  # fmt: skip
        found = getattr(metadata, key)
        found = found.to_dict() if key == "crop" else list(found) if key == "age_range" else found
        if found != expected:
            raise ParityError(f"{file}: says {key} {found}, the checkpoint {expected}")


def _again(
    fp32: onnx.ModelProto, metadata: ModelMetadata, values: dict[str, Any], proof: evidence.Evidence, folder: Path
) -> onnx.ModelProto:
    """The graph of the file's precision, made anew."""
    bare = graph.without_metadata(fp32)
    if metadata.precision == "fp32":
        return bare
    if metadata.precision == "fp16":
        return precision.fp16(bare).model
    faces = export.calibration_faces(values, proof, folder)
    made = metadata.export
    if precision.faces_sha256(faces) != made["calibration_sha256"]:
        raise ParityError(
            f"the faces at hand are not the {made['calibration_faces']} that the file was calibrated on, so it cannot "
            "be made again; give the same --data, or the parity.npz of the run"
        )
    return precision.int8_again(bare, faces, made["ranges"], tuple(made["kept_in_float"])).model


def _same_graph(file: Path, given: onnx.ModelProto, again: onnx.ModelProto, metadata: ModelMetadata) -> None:
    """Compares node by node and constant by constant.

    Raises:
        ParityError: something differs.
    """
    if [_kind(n) for n in given.graph.node] != [_kind(n) for n in again.graph.node]:
        now, then = graph.versions(), metadata.export
        other = ", ".join(f"{k} {then[k]}, here {now[k]}" for k in now if k in then and then[k] != now[k])
        raise ParityError(f"{file}: another graph than the checkpoint gives ({other or 'the versions are the same'})")
    mine = {t.name: numpy_helper.to_array(t) for t in given.graph.initializer}
    theirs = {t.name: numpy_helper.to_array(t) for t in again.graph.initializer}
    if set(mine) != set(theirs):
        raise ParityError(f"{file}: other constants than the checkpoint gives: {min(set(mine) ^ set(theirs))}")
    quantised = metadata.precision in ("int8", "mixed")
    corrected = precision.last_layer(given).input[2]
    for name, array in mine.items():
        expected = theirs[name]
        if array.dtype != expected.dtype or array.shape != expected.shape:
            raise ParityError(f"{file}: {name} is {array.dtype} {array.shape}, not {expected.dtype} {expected.shape}")
        weights = array.dtype == np.int8 or (array.dtype == np.float32 and array.size > 1 and name != corrected)
        if weights or not quantised:
            equal = array == expected
        else:
            equal = _as_calibrated(array.astype(np.float64), expected.astype(np.float64), array.dtype == np.float32)
        if not equal.all():
            raise ParityError(
                f"{file}: {name}: {int((~equal).sum())} of {equal.size} values are not what the checkpoint gives; it "
                "was changed after the export"
            )


def _as_calibrated(array: np.ndarray, expected: np.ndarray, fractions: bool) -> np.ndarray:
    """Where values from a calibration are equal but for rounding; whole numbers may also be one apart."""
    if fractions:
        return np.abs(array - expected) <= _CALIBRATED_SHARE * np.abs(expected).max()
    return np.abs(array - expected) <= _CALIBRATED_SHARE * np.abs(expected) + 1


def _kind(node: onnx.NodeProto) -> tuple[Any, ...]:
    attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
    return node.op_type, node.domain, tuple(node.input), tuple(node.output), tuple(attributes)
