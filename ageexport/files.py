"""The files of an export: a model is written with its card and its proof, or not at all."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ageexport import evidence, export, graph, original
from ageexport.card import card, rung_rows, with_points
from ageexport.elsewhere import Places
from ageexport.errors import OutputError, ParityError, UsageError
from ageexport.export import ProvedModel
from ageexport.gate_file import read_gates
from ageexport.ladder import LAST_LEVEL, PRECISIONS, Bounds, Rung
from ageinfer.engine.modelfile import METADATA_KEY, ModelMetadata, metadata_properties
from agetrain._files import file_sha256, replacing
from agetrain.data import Data
from agetrain.datasets.own import Reading


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
    data: str | Path | Data | None = None, name: str | None = None, opset: int = graph.OPSET, overwrite: bool = False,
    description: original.Description | None = None, reading: Reading | None = None, trust_code: bool = False,
    bounds: Bounds | None = None, places: Places | None = None, gate: str | Path | None = None,
) -> ExportResult:  # fmt: skip
    """Turns a checkpoint into model files, each proved on real faces to answer what the checkpoint answers.

    Args:
        checkpoint: a checkpoint of agetrain, or one that was made elsewhere.
        output: the model file; None for the checkpoint's name with ``.onnx``. Files of another precision than fp32 are
            named ``.int8.onnx`` and ``.fp16.onnx``, unless they alone are asked for and the file is named here.
        precision: one or more of ``fp32``, ``int8`` and ``fp16``, or ``all``.
        data: faces for the proof: what names a data set (see `agetrain.datasets.opening.open_dataset`), or
            `agetrain.Data`; None for ``parity.npz`` beside the checkpoint.
        name: of the model; None for the output's name.
        opset: version of the standard operators.
        overwrite: whether files that are there are replaced.
        description: what a checkpoint is that was made elsewhere; None for a checkpoint of agetrain.
        reading: how own data is read.
        trust_code: whether the user's own code may be run, for a backbone that is made by it.
        bounds: that the files must keep; None for those of `ageexport.ladder.Bounds`.
        places: where else the files are run; None: in a browser, where what it needs is found.
        gate: a TOML file of bounds on the figures of groups of people, see `ageexport.gate.Gate`; None for none.

    Returns:
        The files that were written.

    Raises:
        UsageError: the arguments do not fit together, the gate file is wrong, or a file is there already.
        CheckpointError: the checkpoint cannot be used.
        EvidenceError: there are too few faces to prove it on.
        ParityError: a precision could not be proved, or does not keep the gates; others that were asked for are
            written.
        OutputError: a file cannot be written; none is replaced then.

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
        opset=opset, overwrite=overwrite, description=description, reading=reading, trust_code=trust_code,
        bounds=bounds, places=places, gate=gate,
    )  # fmt: skip
    if missed is not None:
        raise missed
    return result


def export_files(
    path: Path, output: Path | None, *, precision: str | Sequence[str], data: str | Path | Data | None,
    name: str | None, opset: int, overwrite: bool, description: original.Description | None,
    reading: Reading | None = None, trust_code: bool = False, bounds: Bounds | None = None,
    places: Places | None = None, gate: str | Path | None = None,
) -> tuple[ExportResult, ParityError | None]:  # fmt: skip
    """Does what `export_model` does, and returns why a precision could not be proved where another is written."""
    asked = [precision] if isinstance(precision, str) else precision
    precisions = [p for p in PRECISIONS if p in asked or "all" in asked]
    unknown = set(asked) - {*PRECISIONS, "all"}
    if unknown or not precisions:
        raise UsageError(f"--precision {' '.join(sorted(unknown))}: use {', '.join(PRECISIONS)} or all")
    models = _model_files(path, output, precisions)
    _check_places(models.values(), path, overwrite)
    gates = read_gates(Path(gate)) if gate is not None else None
    checkpoint, sha256 = export.open_checkpoint(path, description or original.Description(), trust_code=trust_code)
    with export.workspace() as folder:
        proof = evidence.open_evidence(checkpoint, path, data, Path(folder, "pictures"), reading)
        if gates:
            gates.check(proof.samples, proof.origin)
        proved, missed = export.proved_models(
            checkpoint, sha256, proof, precisions, name or (output or path).stem, Path(folder, "crops"), opset=opset,
            bounds=bounds, places=places, gates=gates,
        )  # fmt: skip
    files = tuple(ModelFile(models[p], proved[p]) for p in precisions if p in proved and proved[p].ladder.keeps_gate)
    if missed is not None:
        told = ", ".join(str(file.path) for file in files)
        missed = ParityError(f"{missed}; " + (f"written: {told}" if files else "nothing was written"))
        if not files:
            raise missed
    _check_places(models.values(), path, overwrite)  # minutes have passed
    write(files, tuple(proved.values()))
    return ExportResult(files, proved["fp32"]), missed


def _model_files(path: Path, output: Path | None, precisions: Sequence[str]) -> dict[str, Path]:
    """The model file of each precision; nothing that is found out later changes its name."""
    base = path.with_suffix(".onnx") if output is None else output
    if base.suffix != ".onnx":
        raise UsageError(f"-o {base}: the model's name must end in .onnx")
    if output is not None and len(precisions) == 1:
        return {precisions[0]: output}
    return {p: base if p == "fp32" else base.with_suffix(f".{p}.onnx") for p in precisions}


def _beside(model: Path) -> tuple[Path, Path]:
    """The card and the proof of a model file."""
    return model.with_suffix(".md"), model.with_suffix(".parity.json")


def _check_places(models: Iterable[Path], path: Path, overwrite: bool) -> None:
    """Refuses to replace the checkpoint, a folder, or any file that nobody said may be replaced.

    Raises:
        UsageError: the checkpoint lies there, or a file, and ``overwrite`` is not said.
        OutputError: a folder lies there.
    """
    places = [place for model in models for place in (model, *_beside(model))]
    if any(place.resolve() == path.resolve() for place in places):
        raise UsageError(f"{path}: the checkpoint would be overwritten; choose another name with -o")
    if folders := [place for place in places if place.is_dir()]:
        raise OutputError(f"{folders[0]}: a folder; choose another name with -o")
    taken = [str(place) for place in places if os.path.lexists(place)]
    if taken and not overwrite:
        raise UsageError(
            f"{', '.join(taken)}: there already, and nothing was done; --overwrite replaces, -o names another place"
        )


def write(files: Sequence[ModelFile], beside: Sequence[ProvedModel]) -> None:
    """Writes model files, each with its card and its ``.parity.json``.

    All of them are written completely under other names, and only then moved into place, each model after what belongs
    to it. If one cannot be written, none is replaced, and nothing is left over.

    Args:
        files: to be written.
        beside: made in the same run, whose latencies the cards give as well.

    Raises:
        OutputError: a file cannot be written.
    """
    latencies = [(m.precision, len(m.data), m.latency) for m in beside]
    contents: dict[Path, bytes] = {}
    for file in files:
        model, (card_file, proof_file) = file.model, _beside(file.path)
        metadata = ModelMetadata.from_json(metadata_properties(model.data)[METADATA_KEY])
        sha256 = hashlib.sha256(model.data).hexdigest()
        measured = {**model.ladder.to_dict(), "latency": model.latency.to_dict()}
        record = {"file": file.path.name, "sha256": sha256, **measured}
        contents[card_file] = card(metadata, model.ladder, latencies, len(model.data), sha256).encode()
        contents[proof_file] = (json.dumps(record, indent=2) + "\n").encode()
        contents[file.path] = model.data
    _write_together(contents)


def note_rungs(model: Path, rungs: Sequence[Rung]) -> None:
    """Puts checks in other runtimes into the card and the proof beside a model file, in the place of earlier ones.

    Args:
        model: the file.
        rungs: of the highest level.

    Raises:
        UsageError: there are no card and proof beside it, or they belong to another file.
        OutputError: they cannot be written.
    """
    card_file, proof_file = _beside(model)
    try:
        text, record = card_file.read_text(encoding="utf-8"), json.loads(proof_file.read_text(encoding="utf-8"))
        earlier = [rung for rung in record["rungs"] if rung["level"] != LAST_LEVEL]
        same = record["sha256"] == file_sha256(model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{model}: {card_file.name} and {proof_file.name} are not beside it; export it again"
        ) from error
    if not same:
        raise UsageError(f"{proof_file}: belongs to another file than {model}; export it again")
    record["rungs"] = [*earlier, *map(asdict, rungs)]
    lines = [line for line in text.split("\n") if not line.startswith(f"| {LAST_LEVEL} |")]
    end = max(i for i, line in enumerate(lines) if line.startswith("| L")) + 1
    lines[end:end] = rung_rows(rungs).split("\n")
    _write_together({
        card_file: "\n".join(lines).encode(), proof_file: (json.dumps(record, indent=2) + "\n").encode(),
    })  # fmt: skip


def rewrite(path: Path, before: bytes, after: bytes) -> None:
    """Replaces a model file by one with the same graph, and the hashes and operating points in what lies beside it.

    Args:
        path: of the file. Its card and proof are left out where they are not there.
        before: what is in it.
        after: what will be.

    Raises:
        UsageError: card or proof belong to another file.
        OutputError: a file cannot be written; none is replaced then.
    """
    card_file, proof_file = _beside(path)
    old, new = (hashlib.sha256(data).hexdigest() for data in (before, after))
    contents: dict[Path, bytes] = {}
    for file in (card_file, proof_file):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            if old not in text:
                raise UsageError(f"{file}: belongs to another file than {path}; export it again")
            contents[file] = text.replace(old, new).encode()
    if card_file in contents:
        metadata = ModelMetadata.from_json(metadata_properties(after)[METADATA_KEY])
        contents[card_file] = with_points(contents[card_file].decode(), metadata).encode()
    _write_together({**contents, path: after})


def _write_together(contents: dict[Path, bytes]) -> None:
    path = Path()
    try:
        with ExitStack() as staged:  # which is left, and so moves, in the reverse order
            for path, data in reversed(contents.items()):
                staged.enter_context(replacing(path)).write_bytes(data)
    except OSError as error:
        place = error.filename2 or path  # of a move, its target
        raise OutputError(
            f"{place}: cannot be written: {error.strerror}; make room, or choose another place with -o"
        ) from error
