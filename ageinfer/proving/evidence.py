"""Makes evidence, seals it, and reads it again."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ageinfer.engine.modelfile import seal_of
from ageinfer.errors import SourceError
from ageinfer.pipeline import Pipeline
from ageinfer.proving.answers import Answer, answers_of, measured_speed
from ageinfer.proving.counting import figures
from ageinfer.proving.labels import read_labels
from ageinfer.sinks.base import cannot_write, create_beside, prepare_place

SCHEMA = 1
SEAL = "evidence_sha256"
NAME = "evidence"
_TIMED_PICTURES = 100  # their times are steady by then

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where evidence was made.

    Attributes:
        system, architecture: as ``Linux`` and ``x86_64``.
        processor: its name, as far as the system tells.
        instructions: of those that decide how fast 8 bits are, the ones that it has.
        cores_usable, cores: that this process may use, and that there are.
        memory_mb: that this process may use, in megabytes; None where the system does not tell.
        versions: of ageinfer, Python and the packages that compute.
    """

    system: str
    architecture: str
    processor: str
    instructions: tuple[str, ...]
    cores_usable: float
    cores: int
    memory_mb: int | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Used:
    """What evidence is made with.

    Attributes:
        pipeline: finds faces and ages.
        model: file of the age model.
        detector: file of the detector's network; None where it has none.
        open_ms: how long it took to open both, in milliseconds.
        machine: where it runs.
        memory_mb: tells the largest resident memory of this process so far, in megabytes; None where nobody knows.
    """

    pipeline: Pipeline
    model: Path
    detector: Path | None
    open_ms: float
    machine: Machine
    memory_mb: Callable[[], float | None]


def prove(
    used: Used, folder: Path, names: Sequence[str], step: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Looks at pictures of a folder and tells what the model does there.

    Of each picture only its answer is kept, about 1 kB.

    Args:
        used: model, detector and machine.
        folder: of the pictures, with ``labels.csv`` where their ages are known.
        names: of the pictures, see `picture_names`.
        step: is told of each picture how many faces it has.

    Returns:
        The evidence as JSON values, sealed; ``ageinfer/schemas/evidence.json`` describes it.

    Raises:
        SourceError: there is no picture that can be read, or the labels are broken.
    """
    labels = read_labels(folder, names)
    answers = list(answers_of(used.pipeline, folder, names, step))
    readable = [answer.file for answer in answers if answer.outcome in ("face", "no face")]
    if not readable:
        raise SourceError(f"{folder}: none of its {len(names)} pictures can be read; copy them again")
    speed = measured_speed(used.pipeline, folder, readable[:_TIMED_PICTURES])
    memory_mb = used.memory_mb()
    estimator, detector = used.pipeline.estimator, used.pipeline.detector.identifier
    metadata = estimator.metadata
    model = _file(used.model)
    return sealed({
        "schema": SCHEMA,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": metadata.name, "precision": metadata.precision, **model, "graph_sha256": metadata.graph_sha256,
            "provider": estimator.provider, "threads": estimator.threads,
        },
        "detector": {"name": detector, **(_file(used.detector) if used.detector else _NO_FILE)},
        "looking": {
            "max_side_px": used.pipeline.looking.max_side, "least_face_px": used.pipeline.looking.least_face_px,
        },
        "machine": asdict(used.machine) | {"instructions": list(used.machine.instructions)},
        "pictures": {
            "count": len(answers), "sha256": pictures_sha256(answers), "labels_sha256": labels.sha256,
            "labelled": len(labels.of),
        },
        **figures(answers, labels, metadata, detector),
        "speed": speed | {
            "open_ms": round(used.open_ms, 1), "memory_mb": None if memory_mb is None else round(memory_mb, 1),
        },
        "stored": _stored(used.model, model["sha256"]),
        "answers": [answer.to_dict() for answer in answers],
    })  # fmt: skip


_NO_FILE: dict[str, Any] = {"file": None, "sha256": None, "bytes": None}


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {
            "file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
            "bytes": os.fstat(stream.fileno()).st_size,
        }  # fmt: skip


def pictures_sha256(answers: Iterable[Answer]) -> str:
    """One SHA-256 over the names and the SHA-256 of all pictures, in their order."""
    digest = hashlib.sha256()
    for answer in answers:
        digest.update(json.dumps([answer.file, answer.sha256]).encode() + b"\n")
    return digest.hexdigest()


def _stored(model: Path, sha256: str) -> dict[str, Any] | None:
    """The figures of the proof that lies beside a model; it has no answers to single pictures."""
    path = model.with_suffix(".parity.json")
    try:
        proof = json.loads(path.read_text(encoding="utf-8"))
        found = proof["figures"]
        return {
            "file": path.name, "of_this_file": proof["sha256"] == sha256, "origin": str(proof["origin"]),
            "processor": str(proof["machine"]["processor"]),
            "pictures": int(proof["pictures"]), "mae_years": round(float(found["mae_found"]), 4),
            "no_face_percent": round(100 - float(found["detection_rate_percent"]), 3),
        }  # fmt: skip
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: cannot be used (%s); it is left out", path, error)
        return None


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence with the SHA-256 over itself. It guards against accidents: whoever changes it can seal it anew."""
    return {**values, SEAL: seal_of(dict(values))}


def as_json(evidence: Mapping[str, Any]) -> str:
    """Evidence as JSON, with an answer a line."""
    rest = {key: value for key, value in evidence.items() if key != "answers"}
    answers = ",\n    ".join(json.dumps(answer) for answer in evidence["answers"])
    return f'{json.dumps(rest, indent=2)[:-2]},\n  "answers": [\n    {answers}\n  ]\n}}\n'


def read_evidence(path: Path) -> dict[str, Any]:
    """Reads evidence whose seal is whole.

    Raises:
        SourceError: it cannot be read, is none, of another release, or was changed since it was made.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; name an {NAME}.json of ageinfer prove") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not evidence ({error}); name an {NAME}.json of ageinfer prove") from error
    if not isinstance(values, dict) or SEAL not in values:
        raise SourceError(f"{path}: not evidence; name an {NAME}.json of ageinfer prove")
    if values.get("schema") != SCHEMA:
        raise SourceError(f"{path}: has schema version {values.get('schema')!r}, this release reads {SCHEMA}")
    if values.pop(SEAL) != seal_of(values):
        raise SourceError(f"{path}: was changed after it was made; make it again with ageinfer prove")
    return values


def write_evidence(folder: Path, contents: Mapping[str, str]) -> list[Path]:
    """Writes files whole, and moves them into place only when all of them are there.

    Args:
        folder: is made where it does not exist.
        contents: by the names of the files.

    Returns:
        The paths of the files.

    Raises:
        OutputError: one cannot be written; none is replaced then.
    """
    places = [prepare_place(folder / name) for name in contents]
    with ExitStack() as until_the_end:
        unfinished: list[Path] = []
        for place, text in zip(places, contents.values(), strict=True):
            try:
                with create_beside(place) as file:
                    unfinished.append(Path(os.fsdecode(file.name)))
                    until_the_end.callback(_remove, unfinished[-1])
                    file.write(text.encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise cannot_write(place, error) from error
        for written, place in zip(unfinished, places, strict=True):
            try:
                written.replace(place)
            except OSError as error:
                raise cannot_write(place, error) from error
    return places


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
