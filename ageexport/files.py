"""The files of an export: a model is written with its card and its proof, or not at all."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ageexport import evidence, export, graph, original
from ageexport.card import card
from ageexport.errors import OutputError, ParityError, UsageError
from ageexport.export import ProvedModel
from ageexport.ladder import PRECISIONS, Bounds
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain._files import replacing


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model file that was written.

    Attributes:
        path: of the file; its card (``.md``) and its proof (``.parity.json``) lie beside it.
        model: what was proved of it: ``precision``, ``ladder`` and ``latency``.
    """

    path: Path
    model: ProvedModel


@dataclass(frozen=True, slots=True, eq=False)
class ExportResult:
    """What an export wrote.

    Attributes:
        files: the model files, fp32 first.
        fp32: the fp32 form, whether it was written or not; the others are compared with it.
    """

    files: tuple[ModelFile, ...]
    fp32: ProvedModel


def export_model(
    checkpoint: str | Path, output: str | Path | None = None, *, precision: str | Sequence[str] = "fp32",
    data: str | None = None, name: str | None = None, opset: int = graph.OPSET,
    description: original.Description | None = None, trust_code: bool = False, bounds: Bounds | None = None,
) -> ExportResult:  # fmt: skip
    """Turns a checkpoint into model files, each proved on real faces to answer what the checkpoint answers.

    Args:
        checkpoint: a checkpoint of agetrain, or a bare ``state_dict`` of the original work.
        output: the model file; None for the checkpoint's name with ``.onnx``. Files of another precision than fp32 are
            named ``.int8.onnx`` and so on, unless they alone are asked for.
        precision: one or more of ``fp32``, ``int8`` and ``fp16``, or ``all``.
        data: faces for the proof: a data set as ``NAME=DIR``, or a folder with ``labels.csv``; None for ``parity.npz``
            beside the checkpoint.
        name: of the model; None for the output's name.
        opset: version of the standard operators.
        description: what a bare ``state_dict`` is; None for a checkpoint of agetrain.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.
        bounds: that the files must keep; None for those of `ageexport.ladder.Bounds`.

    Returns:
        The files that were written.

    Raises:
        UsageError: the arguments do not fit together.
        CheckpointError: the checkpoint cannot be used.
        EvidenceError: there are too few faces to prove it on.
        ParityError: a precision could not be proved; what was proved is written.
        OutputError: a file cannot be written.

    Example:
        With the path of a checkpoint in ``best`` and a folder of portraits with their ages in ``portraits``:

        >>> import ageexport
        >>> result = ageexport.export_model(best, "age.onnx", data=str(portraits))
        >>> [file.path.name for file in result.files]
        ['age.onnx']
        >>> result.fp32.ladder.failed
        ()
    """
    result, missed = export_files(
        Path(checkpoint), Path(output) if output is not None else None, precision=precision, data=data, name=name,
        opset=opset, description=description, trust_code=trust_code, bounds=bounds,
    )  # fmt: skip
    if missed is not None:
        raise missed
    return result


def export_files(
    path: Path, output: Path | None, *, precision: str | Sequence[str], data: str | None, name: str | None, opset: int,
    description: original.Description | None, trust_code: bool = False, bounds: Bounds | None = None,
) -> tuple[ExportResult, ParityError | None]:  # fmt: skip
    """Does what `export_model` does, and returns instead of raising why a precision could not be proved."""
    asked = [precision] if isinstance(precision, str) else precision
    precisions = list(dict.fromkeys(PRECISIONS if "all" in asked else asked))
    unknown = set(precisions) - set(PRECISIONS)
    if unknown or not precisions:
        raise UsageError(f"--precision {' '.join(sorted(unknown))}: use {', '.join(PRECISIONS)} or all")
    target = output or path.with_suffix(".onnx" if "fp32" in precisions else f".{precisions[0]}.onnx")
    if target.suffix != ".onnx" or target.resolve() == path.resolve():
        raise UsageError(f"-o {target}: the model's name must end in .onnx")
    checkpoint, sha256 = export.open_checkpoint(path, description or original.Description(), trust_code=trust_code)
    with export.workspace() as folder:
        proof = evidence.open_evidence(checkpoint, path, data, Path(folder, "pictures"))
        made, missed = export.proved_models(
            checkpoint, sha256, proof, precisions, name or (output or path).stem, Path(folder, "crops"), opset=opset,
            bounds=bounds,
        )  # fmt: skip
    # The fp32 file is written too where another precision missed its bound, but not to the name meant for that one.
    unasked = missed is not None and "fp32" not in precisions
    wanted = [m for m in made if m.precision != "fp32" or "fp32" in precisions or unasked]
    base = path.with_suffix(".onnx") if output is None else output
    paths = [_path_of(m, base, alone=len(precisions) == 1 and output is not None) for m in wanted]
    if unasked:
        paths[0] = _path_of_unasked(base, precisions)  # fp32 is the first
    write(wanted, made, paths)
    if missed is not None and unasked:
        missed = ParityError(f"{missed}; in fp32 it was proved, and that is {paths[0]}")
    files = tuple(ModelFile(file, model) for model, file in zip(wanted, paths, strict=True))
    return ExportResult(files, made[0]), missed


def _path_of(model: ProvedModel, base: Path, *, alone: bool) -> Path:
    if alone or model.precision == "fp32":
        return base
    return base.with_suffix(f".{model.precision}.onnx")


def _path_of_unasked(base: Path, precisions: Sequence[str]) -> Path:
    """Where an fp32 file goes that nobody asked for: ``age.fp32.onnx`` beside ``age.onnx`` or ``age.int8.onnx``."""
    stem = base.with_suffix("")
    named = stem.suffix.removeprefix(".") in precisions
    return (stem if named else base).with_suffix(".fp32.onnx")


def write(made: Sequence[ProvedModel], beside: Sequence[ProvedModel], paths: Sequence[Path]) -> None:
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
