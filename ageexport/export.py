"""From a checkpoint to proved model files."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ageexport import graph, original, parity, precision, worth
from ageexport.card import with_terms
from ageexport.elsewhere import Places
from ageexport.errors import CheckpointError, EvidenceError, ExportError, ParityError, RungError, WorthError
from ageexport.evidence import Evidence
from ageexport.gate_file import GateFile
from ageexport.ladder import Bounds, Ladder
from ageexport.latency import Latency, time_model
from ageexport.parity import Reference
from ageinfer.types import Image
from agetrain._files import file_sha256
from agetrain.network.checkpoint import Checkpoint, read

FEWEST_CALIBRATION_FACES = 20

log = logging.getLogger("ageexport")


@dataclass(frozen=True, slots=True)
class ProvedModel:
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


def open_checkpoint(path: Path, said: original.Description, *, trust_code: bool = False) -> tuple[Checkpoint, str]:
    """Reads a checkpoint of agetrain, or one that was made elsewhere.

    Args:
        path: its file.
        said: what it is, if it was made elsewhere.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.

    Returns:
        The checkpoint, and the SHA-256 of the file.

    Raises:
        CheckpointError: it cannot be read, or is not what was said.
        UsageError: too little was said of one that was made elsewhere.
    """
    values = read(path)
    if not str(values.get("format")).startswith("agetrain"):
        return original.checkpoint_of(values, path, said), file_sha256(path)
    checkpoint = Checkpoint.from_values(values, path, trust_code=trust_code)
    checkpoint.network()  # weights that do not fit are noticed before any picture is opened
    if not said.empty:
        raise CheckpointError(f"{path}: a checkpoint of agetrain says itself what it is; leave those options out")
    if "train_median" not in checkpoint.training:
        raise CheckpointError(f"{path}: does not say its training median; train again")
    data = [with_terms(entry) for entry in checkpoint.training["data"]]
    return replace(checkpoint, training={**checkpoint.training, "data": data}), file_sha256(path)


def completed(checkpoint: Checkpoint, proof: Evidence, folder: Path, bounds: Bounds | None = None) -> Checkpoint:
    """Adds to a checkpoint that was made elsewhere what it does not know, from the pictures of the proof.

    The median age of the calibration pictures (or of all, without those) stands for the training median, and the spread
    of its errors on the pictures of the proof for its deviation.
    """
    if "train_median" in checkpoint.training:
        return checkpoint
    ages = [s.age_years for s in proof.calibration or proof.samples]
    checkpoint = replace(checkpoint, training={**checkpoint.training, "train_median": float(np.median(ages))})
    if checkpoint.age_std_kind == "constant":
        truth = parity.reference(checkpoint, proof, folder, bounds)
        chosen = (truth.labelled & truth.crops.found)[truth.crops.found]
        errors = (truth.outputs[0] - truth.crops.ages[truth.crops.found])[chosen]
        std = checkpoint.weights["residual_std"].clone().fill_(float(errors.std()))
        checkpoint = replace(checkpoint, weights={**checkpoint.weights, "residual_std": std})
    return checkpoint


def proved_models(
    checkpoint: Checkpoint, checkpoint_sha256: str, proof: Evidence, precisions: Sequence[str], name: str, folder: Path,
    *, opset: int = graph.OPSET, bounds: Bounds | None = None, places: Places | None = None,
    gates: GateFile | None = None,
) -> tuple[dict[str, ProvedModel], ParityError | None]:  # fmt: skip
    """Converts a checkpoint and proves the result; nothing is written.

    Args:
        checkpoint: to be exported.
        checkpoint_sha256: of its file.
        proof: the pictures.
        precisions: some of ``fp32``, ``int8`` and ``fp16``.
        name: of the model.
        folder: for crops.
        opset: see `ageexport.graph.convert`.
        bounds: that the files must keep; None for those of `Bounds`.
        places: where else the files are run.
        gates: that the figures of groups must keep, in each precision by itself.

    Returns:
        What was proved, by the precision that was asked for, fp32 always and first, even where it does not keep the
        gates; and why one that was asked for is not to be written.

    Raises:
        ParityError: the fp32 file failed.
        EvidenceError: there are too few pictures.
        ExportError: the network cannot be converted.
    """
    checkpoint = completed(checkpoint, proof, folder, bounds)
    truth = parity.reference(checkpoint, proof, folder, bounds)
    model = graph.convert(checkpoint, opset)
    sealed = graph.sealed(model, checkpoint, name, checkpoint_sha256)
    fp32 = _proved(sealed, "fp32", truth, None, bounds, places, gates)
    for unjudged in fp32.ladder.gate.unjudged if fp32.ladder.gate else ():
        log.warning("gate %s: nobody is judged by it: each group has too few pictures", unjudged)

    def reduced(form: precision.Reduced) -> ProvedModel:
        data = graph.sealed(form.model, checkpoint, name, checkpoint_sha256, form.precision, form.made)
        found = _proved(data, form.precision, truth, fp32.data, bounds, places, gates)
        require_gate(found.ladder)
        return found

    made = {"fp32": fp32}
    missed: list[str] = []
    for wanted in precisions:
        bare = graph.without_metadata(model)
        try:
            if wanted == "fp32":
                require_gate(fp32.ladder)
            elif wanted == "fp16":
                made[wanted] = reduced(precision.fp16(bare))
            else:
                made[wanted] = _first_proved(bare, calibration_faces(checkpoint, proof, folder), reduced)
        except RungError as error:
            missed.append(str(error))
        except (ParityError, ExportError) as error:
            missed.append(f"{wanted}: {checkpoint.backbone} cannot be had in it: {error}")
    return made, ParityError("; ".join(missed)) if missed else None


def _first_proved(model: Any, faces: Image, reduced: Callable[[precision.Reduced], ProvedModel]) -> ProvedModel:
    """The first of the quantised forms that is proved."""
    failure = None
    for attempt in precision.int8_attempts(model, faces):
        try:
            return reduced(attempt)
        except RungError as error:
            log.info("%s", error)
            failure = failure or error
            if isinstance(error, WorthError) and attempt.made["kept_in_float"]:
                raise  # with more of it in float, it would save even less
    raise failure or ParityError("int8: nothing can be quantised")


def calibration_faces(checkpoint: Checkpoint, proof: Evidence, folder: Path) -> Image:
    """Crops the faces that int8 is calibrated on.

    Raises:
        EvidenceError: there are too few.
    """
    if not proof.calibration:
        raise EvidenceError(
            f"{proof.origin}: no pictures to calibrate int8 on apart from those of the proof; give a data set, mark "
            "some as calibration in labels.csv (column part), or export fp32 alone"
        )
    crops = parity.crop(proof.calibration, checkpoint, folder)
    found = np.flatnonzero(crops.found)
    if len(found) < FEWEST_CALIBRATION_FACES:
        raise EvidenceError(
            f"{proof.origin}: {len(found)} faces to calibrate int8 on, {FEWEST_CALIBRATION_FACES} are needed; give more"
        )
    return crops.crops[found]


def _proved(
    data: bytes, name: str, truth: Reference, fp32: bytes | None, bounds: Bounds | None, places: Places | None,
    gates: GateFile | None,
) -> ProvedModel:  # fmt: skip
    ladder = parity.prove(data, name, truth, fp32, bounds, places, gates)
    for told in (*ladder.rungs, *(ladder.gate.verdicts if ladder.gate else ())):
        log.info("%s %s", name, told)
    require(ladder)
    return ProvedModel(data, name, ladder, time_model(data, truth.faces))


def require(ladder: Ladder) -> None:
    """Raises where a check of the proof failed.

    Raises:
        WorthError: a quantised file saves too little, and nothing else is wrong.
        RungError: a rung failed; the message gives every one that did.
    """
    if text := worth.refused(ladder):
        raise WorthError(text)
    if ladder.failed:
        failed = "; ".join(str(rung) for rung in ladder.failed)
        end = "; nothing was written" if ladder.precision == "fp32" else ""
        raise RungError(
            f"{ladder.precision}: the exported model does not answer what the checkpoint does: {failed}{end}"
        )


def require_gate(ladder: Ladder) -> None:
    """Raises where a group of people is beyond the bounds of a gate.

    Raises:
        RungError: the message gives every group and figure that is.
    """
    if ladder.gate and ladder.gate.failed:
        failed = "; ".join(map(str, ladder.gate.failed))
        raise RungError(
            f"{ladder.precision}: beyond the bounds of {ladder.gate.file}: {failed}; train with more faces of these "
            "people, or widen the bounds"
        )


def workspace() -> tempfile.TemporaryDirectory[str]:
    """Makes a folder for pictures and crops that is removed when it is left."""
    return tempfile.TemporaryDirectory(prefix="ageexport-")
