"""The verification of a model file: exported again, compared bit by bit, and proved once more."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ageexport import evidence, export, graph, original, parity, precision
from ageexport.elsewhere import Places
from ageexport.errors import ParityError
from ageexport.gate_file import read_gates
from ageexport.ladder import Bounds
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, check_age_model, read_model
from ageinfer.errors import ModelError
from agetrain.data import Data
from agetrain.datasets.own import Reading
from agetrain.network.checkpoint import Checkpoint

# What is computed from calibration faces (scales, zero points, quantised biases, the last layer, fitted to what
# quantisation leaves) depends on rounding in the float network, which differs a little from processor to processor;
# weights do not.
_CALIBRATED_SHARE = 0.01

log = logging.getLogger("ageexport")


def verify(
    file: Path, path: Path, data: str | Path | Data | None, said: original.Description, *,
    reading: Reading | None = None, trust_code: bool = False, places: Places | None = None,
    gate: str | Path | None = None,
) -> str:  # fmt: skip
    """Compares a model file with a checkpoint.

    Args:
        file: the model file.
        path: the checkpoint that it is said to be made from.
        data: pictures to prove it on, see `ageexport.evidence.open_evidence`; a quantised file needs those that it was
            calibrated with.
        said: what a bare ``state_dict`` is.
        reading: how own data is read.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.
        places: where else the file is run.
        gate: a TOML file of bounds on the figures of groups of people, see `ageexport.gate.Gate`; None for none.

    Returns:
        What was found, in words.

    Raises:
        UsageError: the gate file is wrong.
        ParityError: it is not what the checkpoint gives, or does not keep the gates.
        ExportError: it cannot be compared.
    """
    gates = read_gates(Path(gate)) if gate is not None else None
    try:
        model = read_model(file)
        metadata = check_age_model(model, file)
    except ModelError as error:
        raise ParityError(f"L0: the runtime refuses it: {error}") from error
    checkpoint, sha256 = export.open_checkpoint(path, said, trust_code=trust_code)
    if metadata.training.get("checkpoint_sha256") != sha256:
        raise ParityError(
            f"{file}: made from another checkpoint (SHA-256 {str(metadata.training.get('checkpoint_sha256'))[:16]}), "
            f"{path} has {sha256[:16]}"
        )
    with export.workspace() as folder:
        pictures, crops = Path(folder, "pictures"), Path(folder, "crops")
        proof = evidence.open_evidence(checkpoint, path, data, pictures, reading)
        if gates:
            gates.check(proof.samples, proof.origin)
        checkpoint = export.completed(checkpoint, proof, crops)
        given = onnx.load_from_string(model)
        fp32 = graph.convert(checkpoint, _opset(file, given))
        again = _again(fp32, metadata, checkpoint, proof, crops)
        sealed = graph.sealed(again.model, checkpoint, metadata.name, sha256, again.precision, again.made)
        _same_facts(file, given, onnx.load_from_string(sealed))
        _same_graph(file, given, again.model, metadata)
        truth = parity.reference(checkpoint, proof, crops)
        beside = None if metadata.precision == "fp32" else graph.sealed(fp32, checkpoint, metadata.name, sha256)
        # What a file saves depends on the machine, and is no matter of whether it is the right one.
        bounds = replace(Bounds(), int8_time=math.inf)
        ladder = parity.prove(model, metadata.precision, truth, beside, bounds, places, gates)
    for told in (*ladder.rungs, *(ladder.gate.verdicts if ladder.gate else ())):
        log.info("%s", told)
    export.require(ladder)
    export.require_gate(ladder)
    return (
        f"{file}: verified: what {path} gives when it is exported again, and proved on {ladder.faces} faces "
        f"({ladder.origin}){f'; {ladder.gate}' if ladder.gate else ''}"
    )


def _opset(file: Path, model: onnx.ModelProto) -> int:
    found: int = next((o.version for o in model.opset_import if o.domain == ""), 0)
    if found not in graph.OPSETS:
        raise ParityError(f"{file}: opset {found}, which ageexport does not write")
    return found


def _same_facts(file: Path, given: onnx.ModelProto, again: onnx.ModelProto) -> None:
    """Compares all that a file says of itself with what it would say if it were exported now.

    Raises:
        ParityError: something differs.
    """
    said, expected = _facts(given), _facts(again)
    for key in (*expected, *said):  # what is missing, and what is there beyond it
        if said.get(key) != expected.get(key):
            place = ".".join(key).removeprefix(f"{METADATA_KEY}.")
            raise ParityError(
                f"{file}: says {place} {said.get(key, 'nothing')[:80]}, the checkpoint gives "
                f"{expected.get(key, 'nothing')[:80]}"
            )


def _facts(model: onnx.ModelProto) -> dict[tuple[str, ...], str]:
    """Every single thing that a file says, by its place in the metadata, but versions and its hashes.

    The runtime compares the hashes with the file itself. In a quantised file they may rightly differ from those of one
    made elsewhere, see `_CALIBRATED_SHARE`.
    """
    properties: dict[str, Any] = {p.key: p.value for p in model.metadata_props}
    metadata = json.loads(properties[METADATA_KEY])
    for key in ("graph_sha256", "metadata_sha256"):
        del metadata[key]
    metadata.pop("operating_points", None)  # are measured after the export, see `ageexport.points`
    for key in graph.versions():
        metadata["export"].pop(key, None)
    properties[METADATA_KEY] = metadata
    keys = sorted(p.key for p in model.metadata_props)  # one of them twice would say two things
    return {**_leaves(properties), ("metadata_props",): json.dumps(keys)}


def _leaves(value: Any, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The values inside of dictionaries and lists as JSON, which tells 1 from true and takes a NaN for itself."""
    if isinstance(value, dict | list) and value:
        inner = value.items() if isinstance(value, dict) else ((str(i), v) for i, v in enumerate(value))
        return {leaf: text for key, v in inner for leaf, text in _leaves(v, (*place, key)).items()}
    return {place: json.dumps(value)}


def _again(
    fp32: onnx.ModelProto, metadata: ModelMetadata, checkpoint: Checkpoint, proof: evidence.Evidence, folder: Path
) -> precision.Reduced:
    """The graph of the file's precision, made anew."""
    bare = graph.without_metadata(fp32)
    if metadata.precision == "fp32":
        return precision.Reduced(bare, "fp32", {})
    if metadata.precision == "fp16":
        return precision.fp16(bare)
    faces = export.calibration_faces(checkpoint, proof, folder)
    made = metadata.export
    if precision.faces_sha256(faces) != made.get("calibration_sha256"):
        raise ParityError(
            f"the faces at hand are not the {made.get('calibration_faces')} that the file was calibrated on, so it "
            "cannot be made again; give the same --data, or the parity.npz of the run"
        )
    return precision.int8_again(bare, faces, made.get("ranges", ""), tuple(made.get("kept_in_float", ())))


def _same_graph(file: Path, given: onnx.ModelProto, again: onnx.ModelProto, metadata: ModelMetadata) -> None:
    """Compares node by node and constant by constant, and what is round them.

    Raises:
        ParityError: something differs.
    """
    expected_round = _round(again)
    for what, found in _round(given).items():
        if found != expected_round[what]:
            raise ParityError(f"{file}: other {what} than the checkpoint gives")
    if [_kind(n) for n in given.graph.node] != [_kind(n) for n in again.graph.node]:
        now, then = graph.versions(), metadata.export
        other = ", ".join(f"{k} {then[k]}, here {now[k]}" for k in now if k in then and then[k] != now[k])
        raise ParityError(f"{file}: another graph than the checkpoint gives ({other or 'the versions are the same'})")
    mine = {t.name: numpy_helper.to_array(t) for t in given.graph.initializer}
    theirs = {t.name: numpy_helper.to_array(t) for t in again.graph.initializer}
    if set(mine) != set(theirs):
        raise ParityError(f"{file}: other constants than the checkpoint gives: {min(set(mine) ^ set(theirs))}")
    quantised = metadata.precision in ("int8", "mixed")
    fitted = graph.last_layer(given).input[1:3]
    for name, array in mine.items():
        expected = theirs[name]
        if array.dtype != expected.dtype or array.shape != expected.shape:
            raise ParityError(f"{file}: {name} is {array.dtype} {array.shape}, not {expected.dtype} {expected.shape}")
        weights = array.dtype == np.int8 or (array.dtype == np.float32 and array.size > 1 and name not in fitted)
        if weights or not quantised:
            equal = array == expected
        else:
            equal = _as_calibrated(array.astype(np.float64), expected.astype(np.float64), array.dtype == np.float32)
        if not equal.all():
            raise ParityError(
                f"{file}: {name}: {int((~equal).sum())} of {equal.size} values are not what the checkpoint gives; it "
                "was changed after the export"
            )


def _round(model: onnx.ModelProto) -> dict[str, list[bytes]]:
    """All of a model but nodes, constants and metadata.

    The version of ONNX's own format is left out: it follows the version of the package.
    """
    rest = graph.without_metadata(model)
    rest.ClearField("ir_version")
    rest.graph.ClearField("node")
    rest.graph.ClearField("initializer")
    parts = {
        "inputs": rest.graph.input, "outputs": rest.graph.output, "operator sets": rest.opset_import,
        "functions or descriptions": [rest],
    }  # fmt: skip
    return {what: [part.SerializeToString(deterministic=True) for part in of_one] for what, of_one in parts.items()}


def _as_calibrated(array: np.ndarray, expected: np.ndarray, fractions: bool) -> np.ndarray:
    """Where values from a calibration are equal but for rounding; whole numbers may also be one apart."""
    if fractions:
        return np.abs(array - expected) <= _CALIBRATED_SHARE * np.abs(expected).max()
    return np.abs(array - expected) <= _CALIBRATED_SHARE * np.abs(expected) + 1


def _kind(node: onnx.NodeProto) -> tuple[Any, ...]:
    attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
    return node.op_type, node.domain, tuple(node.input), tuple(node.output), tuple(attributes)
