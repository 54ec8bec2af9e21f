"""The proof of parity: on real pictures, a model file answers by the deployed path what its checkpoint answers."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import torch

from ageexport import providers
from ageexport.elsewhere import Places
from ageexport.elsewhere import places as elsewhere
from ageexport.elsewhere.answers import recorded
from ageexport.errors import EvidenceError, ParityError
from ageexport.evidence import Evidence
from ageexport.gate_file import GateFile
from ageexport.graph import output_names
from ageexport.ladder import Bounds, Ladder, Rung
from ageexport.worth import worth
from ageinfer.crop.cut import central_face
from ageinfer.engine.estimator import AgeEstimator
from ageinfer.engine.modelfile import METADATA_KEY, metadata_properties
from ageinfer.engine.sessions import open_session
from ageinfer.errors import ModelError
from ageinfer.pipeline import Pipeline
from ageinfer.types import Image
from agetrain.crops import cache
from agetrain.crops.parity_pack import pixels_digest
from agetrain.datasets import Sample
from agetrain.errors import DatasetError
from agetrain.evaluation import figures
from agetrain.network.checkpoint import Checkpoint

BATCH_SIZES = (1, 2, 7)
_BATCH = 64
_BATCHED_FACES = 28
_RESAMPLES = 500
SCHEMA_FILE = Path(__file__).with_name("metadata.schema.json")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The answers of the checkpoint by training's own preprocessing, against which every precision is compared.

    Attributes:
        checkpoint: that was exported.
        evidence: the pictures.
        crops: by training's preprocessing, of all pictures.
        outputs: of the checkpoint's own network in PyTorch for the faces that were found: age, deviation and, with a
            distribution head, probabilities.
    """

    checkpoint: Checkpoint
    evidence: Evidence
    crops: cache.CropCache
    outputs: tuple[np.ndarray, ...]

    @property
    def labelled(self) -> np.ndarray:
        """The pictures that errors are compared on, bool ``[n]``: those of exact ages, or else those of intervals.

        The two are never mixed.
        """
        exact = self.crops.exact
        return exact if exact.sum() >= Bounds().fewest_labelled or exact.sum() >= (~exact).sum() else ~exact

    @property
    def error_name(self) -> str:
        """What errors on these pictures are called."""
        return "MAE" if self.crops.exact[self.labelled].all() else "distance to the interval of ages"

    def errors(self, answers: np.ndarray) -> np.ndarray:
        """The sizes of the errors of answers to all pictures, ``[n]`` years; of an interval, the distance to it."""
        inside = np.clip(answers, self.crops.lows, self.crops.highs)
        return np.abs(answers - np.where(self.crops.exact, self.crops.ages, inside))

    @property
    def faces(self) -> Image:
        """The crops with a face: uint8 ``[n, side, side, 3]``, RGB."""
        return self.crops.crops[np.flatnonzero(self.crops.found)]


def reference(checkpoint: Checkpoint, evidence: Evidence, folder: Path, bounds: Bounds | None = None) -> Reference:
    """Computes the answers of the checkpoint to the pictures, by training's preprocessing and network.

    Args:
        checkpoint: to be asked.
        evidence: the pictures.
        folder: for the crops.
        bounds: say how many faces are needed.

    Raises:
        EvidenceError: a picture cannot be read, too few hold a face, or their ages are not known.
    """
    bounds = bounds or Bounds()
    crops = crop(evidence.samples, checkpoint, folder)
    found = int(crops.found.sum())
    if found < bounds.fewest_faces:
        raise EvidenceError(
            f"{evidence.origin}: a face in {found} of {len(crops)} pictures, a proof needs {bounds.fewest_faces}; give "
            "a data set or a folder of portraits with --data"
        )
    faces = crops.crops[np.flatnonzero(crops.found)]
    return Reference(checkpoint, evidence, crops, _of_checkpoint(checkpoint, faces))


@torch.inference_mode()
def _of_checkpoint(checkpoint: Checkpoint, faces: Image) -> tuple[np.ndarray, ...]:
    """What the checkpoint's own network answers, in the order of `ageexport.graph.output_names`.

    Not by `ageexport.graph.DeployedNet`: that is what is exported, and a fault in it would be in both.
    """
    network = checkpoint.network()
    batches = []
    for start in range(0, len(faces), _BATCH):
        raw = network(torch.from_numpy(faces[start : start + _BATCH]).permute(0, 3, 1, 2).float())
        age, std = network.decode(raw)
        outputs = [age + checkpoint.label_offset, std]
        if network.head_name == "distribution":
            outputs.append(network.probabilities(raw))
        batches.append(outputs)
    return tuple(torch.cat(each).numpy() for each in zip(*batches, strict=True))


def crop(samples: Sequence[Sample], checkpoint: Checkpoint, folder: Path) -> cache.CropCache:
    """Crops pictures as training does.

    Raises:
        EvidenceError: one cannot be read.
    """
    try:
        return cache.open_crops(samples, checkpoint.crop, folder, "faces to prove on")
    except DatasetError as error:
        raise EvidenceError(str(error)) from error


def prove(
    model: bytes, precision: str, truth: Reference, fp32: bytes | None = None, bounds: Bounds | None = None,
    places: Places | None = None, gates: GateFile | None = None,
) -> Ladder:  # fmt: skip
    """Runs all checks on a model file; those in other runtimes only where no other failed, because they take long.

    Args:
        model: its bytes.
        precision: that it has.
        truth: what its checkpoint answers.
        fp32: the file in fp32, proved before; needed for another precision, which is compared with that.
        bounds: to be kept.
        places: where else it is run.
        gates: that the figures of groups must keep.

    Returns:
        Every rung, also of a file that fails: see `Ladder.failed` and `Ladder.keeps_gate`.

    Raises:
        ParityError: it is no valid ONNX file, or the runtime refuses it, so that nothing can be compared.
    """
    bounds = bounds or Bounds()
    pipeline = _runtime(model)
    checks = _Checks(model, precision, truth, fp32, bounds, pipeline)
    rungs = [
        *checks.structure(),
        *checks.tensors(),
        *checks.images(),
        *checks.data(),
        *checks.precision_and_providers(),
    ]
    answers = checks.deployed_answers
    ladder = Ladder(
        precision=precision,
        origin=truth.evidence.origin,
        pictures=len(truth.crops),
        faces=len(truth.outputs[0]),
        machine=providers.machine(),
        rungs=tuple(rungs),
        figures=figures.evaluate(answers, resamples=_RESAMPLES),
        gate=gates.judge(answers, _RESAMPLES) if gates else None,
    )
    if ladder.failed or not ladder.keeps_gate:
        return ladder
    paths = [sample.path for sample in truth.evidence.samples]
    others = elsewhere.rungs(model, pipeline, paths, bounds, places or Places())
    return replace(ladder, rungs=(*ladder.rungs, *others))


def _runtime(model: bytes) -> Pipeline:
    """L0, as far as nothing else can be done without it: the checker, and the runtime's own checks."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ParityError(f"L0: the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        path.write_bytes(model)
        try:
            return Pipeline.default(path, provider="cpu")
        except ModelError as error:
            raise ParityError(f"L0: the runtime refuses the exported file: {error}") from error


class _Checks:
    """The checks of one file, one method for each level."""

    def __init__(
        self, model: bytes, precision: str, truth: Reference, fp32: bytes | None, bounds: Bounds, pipeline: Pipeline
    ) -> None:
        self.model, self.precision, self.truth, self.fp32, self.bounds = model, precision, truth, fp32, bounds
        self.pipeline = pipeline
        self.faces = truth.faces
        self.outputs = _outputs(model, output_names(truth.checkpoint.head), self.faces)
        self.n = len(self.faces)

    def structure(self) -> list[Rung]:
        """L0: what the file is and says."""
        text = metadata_properties(self.model)[METADATA_KEY]
        errors = [e.message for e in jsonschema.Draft202012Validator(_schema()).iter_errors(json.loads(text))]
        said = self.pipeline.estimator.metadata.precision
        estimator = self.pipeline.estimator
        some = self.faces[:_BATCHED_FACES]
        alone = _ages(estimator, some, 1)
        batched = _largest([_ages(estimator, some, size) for size in BATCH_SIZES[1:]], [alone] * len(BATCH_SIZES[1:]))
        domains = sorted({n.domain for n in onnx.load_from_string(self.model).graph.node} - {"", "ai.onnx"})
        metadata = Rung(
            "L0", "the file's metadata against the schema", float(len(errors)), 0, "errors", 1,
            "failed" if errors or said != self.precision else "passed", note="; ".join(errors)[:200],
        )  # fmt: skip
        operators = Rung(
            "L0", "operators outside of the standard", float(len(domains)), 0, "domains", 1,
            "failed" if domains else "passed", note=", ".join(domains),
        )  # fmt: skip
        return [metadata, operators, self._rounding("L0", "a face alone and in batches of 2 and 7", batched, len(some))]

    def _rounding(self, level: str, what: str, difference: float, n: int | None = None) -> Rung:
        """A difference that comes from the order of summation alone, and so is bounded in fp32.

        In lower precision such a difference moves an activation over an edge of rounding now and then, which may be
        a tenth of a year for a face: it is reported, and what counts is the MAE (L4).
        """
        n = n or self.n
        if self.precision == "fp32":
            return Rung.at_most(level, what, difference, self.bounds.tensor, n)
        return Rung(level, what, difference, None, "years", n, "reported" if difference < np.inf else "failed")

    def tensors(self) -> list[Rung]:
        """L1: the checkpoint's network in PyTorch against the file on the same pixels."""
        what = "PyTorch and ONNX Runtime on the same pixels, all outputs"
        return [self._rounding("L1", what, _largest(self.outputs, self.truth.outputs))]

    def images(self) -> list[Rung]:
        """L2: the same picture files through training's preprocessing and through the runtime."""
        found, equal, ages, stds = self.truth.crops.found, 0, [], []
        for i, sample in enumerate(self.truth.evidence.samples):
            result, crops = recorded(self.pipeline, sample.path)
            central = central_face([face.detection.box for face in result.faces], result.size)
            if (central is not None) != found[i]:
                raise ParityError(f"L2: {sample.path.name}: training and the runtime disagree whether there is a face")
            if central is None:
                continue
            expected = self.truth.crops.crops[np.array([i])][0]
            crop = crops[central]
            equal += crop.shape == expected.shape and bool((crop == expected).all())
            ages.append(result.faces[central].age.age_years)
            stds.append(result.faces[central].age.std_years)
        self.deployed = np.full(len(found), np.nan), np.full(len(found), np.nan)
        self.deployed[0][found], self.deployed[1][found] = ages, stds
        differing = self.n - equal
        pixels = Rung(
            "L2", "crops by training's preprocessing and by the runtime that differ in a pixel", float(differing), 0,
            "crops", self.n, "failed" if differing else "passed",
        )  # fmt: skip
        what = "ages and deviations by the runtime from the picture file, and "
        what += "by PyTorch on training's crops" if self.precision == "fp32" else "the file's on training's crops"
        known = self.truth.outputs if self.precision == "fp32" else self.outputs
        return [pixels, *self._as_trained(), self._rounding("L2", what, _largest([ages, stds], known[:2]))]

    def _as_trained(self) -> list[Rung]:
        """The crops made now against what training saw, which may have been another machine or version."""
        what = "crops that are, byte for byte, what the training run saw"
        least, known = self.bounds.fewest_equal_pixels_percent, self.truth.evidence.pixels
        if known is None:
            return [Rung("L2", what, None, least, "percent", 0, "not measured", note="only a parity pack knows them")]
        now = [pixels_digest(self.truth.crops, i) for i in range(len(known))]
        percent = 100 * float(np.mean([a == b for a, b in zip(now, known, strict=True)]))
        return [Rung("L2", what, percent, least, "percent", len(now), "passed" if percent >= least else "failed")]

    @property
    def deployed_answers(self) -> figures.Answers:
        """What the deployed path answers, beside the labels; a missed face counts with the training median."""
        samples, checkpoint = self.truth.evidence.samples, self.truth.checkpoint
        return figures.answers_from(samples, *self.deployed, checkpoint.label, checkpoint.training["train_median"])

    def data(self) -> list[Rung]:
        """L3: the MAE through the deployed path against the checkpoint's; a missed face counts in both."""
        truth, found = self.truth, self.truth.crops.found
        chosen, name = truth.labelled, truth.error_name
        median = self.truth.checkpoint.training["train_median"]
        of_checkpoint = np.where(found, 0, median)
        of_checkpoint[found] = self.truth.outputs[0]
        of_file = np.where(found, self.deployed[0], median)
        maes = [float(truth.errors(answers)[chosen].mean()) for answers in (of_checkpoint, of_file)]
        n = int(chosen.sum())
        difference, what = abs(maes[1] - maes[0]), f"{name} by the runtime and of the checkpoint"
        tail = float(np.percentile(np.abs(of_file - of_checkpoint)[found], 99.9))
        compared = Rung.at_most("L3", what, difference, self.bounds.mae, n)
        if self.precision != "fp32":
            compared = Rung("L3", what, difference, None, "years", n, "reported")
        elif n < self.bounds.fewest_labelled:
            compared = replace(compared, status="not judged", note=f"{self.bounds.fewest_labelled} labels are needed")
        return [
            compared,
            Rung("L3", f"{name} of the checkpoint", maes[0], None, "years", n, "reported"),
            Rung("L3", f"{name} by the runtime", maes[1], None, "years", n, "reported"),
            Rung("L3", "99.9th percentile of |file - checkpoint|", tail, None, "years", self.n, "reported"),
        ]

    def precision_and_providers(self) -> list[Rung]:
        """L4: other precisions against fp32 on the CPU, and every provider against the CPU."""
        rungs = []
        if self.precision != "fp32":
            if self.fp32 is None:
                raise ValueError("another precision is compared with the fp32 file")
            rungs += self._against_fp32(self.fp32)
        return rungs + providers.rungs(self.model, self.precision, self.faces, self.outputs[0], self.bounds)

    def _against_fp32(self, fp32: bytes) -> list[Rung]:
        truth, found = self.truth, self.truth.crops.found
        answers = np.full(len(found), np.nan)
        answers[found] = _outputs(fp32, ["age"], self.faces)[0]
        judged = found & truth.labelled
        labels, n = truth.crops.ages[judged], int(judged.sum())
        sizes, reference = truth.errors(self.deployed[0])[judged], truth.errors(answers)[judged]
        bound = self.bounds.fp16_mae if self.precision == "fp16" else self.bounds.int8_mae
        what = f"{truth.error_name} in {self.precision} and in fp32"
        note = ""
        if self.precision != "fp16":
            chance = self.bounds.chance * float((sizes - reference).std()) / max(1.0, n**0.5)
            widened = min(chance, self.bounds.int8_mae_of_few)
            if widened > bound:
                bound, note = round(widened, 4), "of so few faces, chance alone gives as much"
        difference = abs(float(sizes.mean() - reference.mean()))
        rungs = [Rung.at_most("L4", what, difference, bound, n, note=note)]
        if n < self.bounds.fewest_labelled:
            raise ParityError(
                f"{self.precision}: {truth.evidence.origin} has {n} faces with an age; comparing errors needs "
                f"{self.bounds.fewest_labelled}; give more pictures with --data, or export fp32 alone"
            )
        if self.precision == "fp16":
            return rungs
        rungs.append(worth(self.model, fp32, self.faces, self.bounds))
        decades = figures.decades(labels)
        for decade in sorted(set(decades.tolist()), key=lambda d: int(d.rstrip("+").partition("-")[0])):
            chosen = decades == decade
            n = int(chosen.sum())
            difference = abs(float(sizes[chosen].mean() - reference[chosen].mean()))
            of_decade = f"{what}, ages {decade}"
            rung = Rung.at_most("L4", of_decade, difference, self.bounds.int8_decade_mae, n)
            rungs.append(rung if n >= self.bounds.fewest_in_decade else replace(rung, status="not judged"))
        return rungs


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _outputs(model: bytes, names: list[str], faces: Image) -> list[np.ndarray]:
    """Everything that the file gives for these faces, the probabilities too, which the runtime does not use."""
    session = open_session(model, "the exported file", "cpu")
    missing = set(names) - {output.name for output in session.get_outputs()}
    if missing:
        raise ParityError(f"L0: the exported file has no output {min(missing)}")
    batches = [session.run(names, {"face": faces[i : i + _BATCH]}) for i in range(0, len(faces), _BATCH)]
    return [np.concatenate(outputs) for outputs in zip(*batches, strict=True)]


def _ages(estimator: AgeEstimator, faces: Image, batch_size: int) -> np.ndarray:
    return np.array(
        [a.age_years for i in range(0, len(faces), batch_size) for a in estimator.estimate(faces[i : i + batch_size])]
    )


def _largest(some: Sequence[Any], others: Sequence[Any]) -> float:
    """The largest difference between arrays and their counterparts; NaN if one is none, which fails every check."""
    # NumPy's maximum keeps a NaN; Python's own drops it behind a number.
    return float(np.max([np.abs(np.subtract(a, b)).max() for a, b in zip(some, others, strict=True)]))
