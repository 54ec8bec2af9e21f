"""Model files: where they lie, what an age model says of itself, and whether it is what it says.

An age model is one ONNX file. Under the metadata key ``ageinfer`` it carries JSON with all that is needed to use it,
a SHA-256 over its graph and one over that JSON, so that a changed weight or crop margin is noticed before it gives one
age. The hashes guard against accidents; whoever changes a file on purpose can write them anew.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

from ageinfer.crop.spec import CropSpec
from ageinfer.engine import protobuf
from ageinfer.engine.graph import check_graph
from ageinfer.engine.operating import OperatingPoint
from ageinfer.errors import ModelError

METADATA_KEY = "ageinfer"
METADATA_SCHEMA = 2
PRECISIONS = ("fp32", "fp16", "int8", "mixed")
DEFAULT_MODEL = "age-small.onnx"
_SEAL = "metadata_sha256"
_GRAPH_FIELD, _METADATA_FIELD = 7, 14
_LABELS = ("real", "apparent")
_DECODES = ("linear", "expectation")
_STD_KINDS = ("constant", "distribution")
_LONGEST_NAME = 255  # as that of a file; every record has it
_LARGEST_BYTES = 1 << 30  # VGG16, the largest network of agetrain, has half of it
_LARGEST_METADATA = 1 << 20  # characters; those of the shipped models have 6,000
_MOST_PROPERTIES = 1000
_MOST_POINTS = 100
_HIGHEST_AGE = 1000.0


def packaged_folders() -> tuple[Path, ...]:
    """Where the models are that come with the package: in a wheel beside its code, in a checkout one folder up."""
    here = Path(__file__).parents[1]
    return tuple(folder for folder in (here / "models", here.parent / "models") if folder.is_dir())


def packaged_model(name: str) -> Path:
    """The path of a model that comes with the package.

    Raises:
        ModelError: it is not there.
    """
    found = _packaged(name)
    if found is None:
        raise ModelError(f"{name}: the model that belongs to this package is missing; install ageinfer again")
    return found


def _packaged(name: str) -> Path | None:
    return next((folder / name for folder in packaged_folders() if (folder / name).is_file()), None)


def model_files(model: str | Path | None = None) -> list[Path]:
    """The files among which an age model can be chosen.

    Args:
        model: path of a file; or a name without a folder, with or without ``.onnx``, of a model that comes with the
            package; None for the default one.

    Returns:
        That file alone; or the packaged one and, after it, the same model in other precisions.

    Raises:
        ModelError: there is neither a file nor a packaged model of that name.
    """
    if model is None:
        return in_every_precision(packaged_model(DEFAULT_MODEL))
    path, name = Path(model), os.fspath(model)
    if path.name != name or path.is_file():
        return [path]
    packaged = _packaged(name if name.endswith(".onnx") else f"{name}.onnx")
    if packaged is None:
        shipped = ", ".join(shipped_names()) or "the path of a file: none is shipped"
        raise ModelError(
            f"{model}: neither a model file nor the name of a shipped age model; check it, or use {shipped}"
        )
    return in_every_precision(packaged)


def in_every_precision(path: Path) -> list[Path]:
    """A packaged model ``X.onnx`` and those of ``X.int8.onnx``, ``X.fp32.onnx`` and so on that are beside it."""
    beside = (path.with_suffix(f".{precision}.onnx") for precision in PRECISIONS)
    return [path, *(other for other in beside if other.is_file())]


def shipped_names() -> list[str]:
    """The age models that come with the package, by name; the same in another precision has no name of its own."""
    files = [path for folder in packaged_folders() for path in sorted(folder.glob("*.onnx"))]
    others = {other for path in files for other in in_every_precision(path)[1:]}
    return [path.stem for path in files if path not in others and _is_age_model(path)]


def _is_age_model(path: Path) -> bool:
    try:
        stated_metadata(path)
    except ModelError:
        return False
    return True


def read_model(path: str | Path) -> bytes:
    """Reads a model file whole.

    Raises:
        ModelError: it is not there, not a file, empty or not readable.
    """
    with _opened(path) as file:
        data = file.read(_LARGEST_BYTES + 1)
    if not data:
        raise ModelError(f"{path}: the model file is empty; fetch or export it again")
    return data


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    try:
        about = os.stat(path)  # noqa: PTH116, Path raises for names that are too long
        if not stat.S_ISREG(about.st_mode):  # a pipe would wait for ever, and a device would never end
            raise ModelError(f"{path}: not a file; give a model file written by ageexport")
        if about.st_size > _LARGEST_BYTES:
            raise ModelError(f"{path}: {about.st_size >> 20} MB, more than any model has; give another file")
        with Path(path).open("rb") as file:
            yield file
    except (FileNotFoundError, ValueError) as error:  # a null character: no file has such a name
        if isinstance(error, ValueError) and "null" not in str(error):
            raise
        raise ModelError(f"{path}: no such model file; without this option the one that is shipped is used") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model: {error.strerror}") from error


def graph_sha256(model: bytes) -> str:
    """SHA-256 over the serialised graph of an ONNX file: nodes and every initialiser, metadata left out.

    Raises:
        ValueError: the bytes are not an ONNX file with one graph.
    """
    graphs = list(islice(protobuf.descend(model, _GRAPH_FIELD), 2))
    if len(graphs) != 1:
        raise ValueError("no graph in it")
    return hashlib.sha256(memoryview(model)[graphs[0].start : graphs[0].end]).hexdigest()


def metadata_properties(model: protobuf.Buffer) -> dict[str, str]:
    """The ``metadata_props`` of an ONNX file.

    Raises:
        ValueError: the bytes are not an ONNX file, or have more than 1,000 such properties.
    """
    properties = {}
    for number, entry in enumerate(protobuf.descend(model, _METADATA_FIELD)):
        if number == _MOST_PROPERTIES:
            raise ValueError(f"more than {_MOST_PROPERTIES:,} entries of metadata")
        pair = {
            f.number: bytes(model[f.start : f.end]).decode() for f in protobuf.fields(model, entry.start, entry.end)
        }
        properties[pair.get(1, "")] = pair.get(2, "")
    return properties


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What an age model file says of itself.

    Attributes:
        name: of the model.
        crop: the face crop that it was trained on and must be given.
        label: ``real`` or ``apparent`` age.
        age_range: lowest and highest age that it can answer, in years.
        decode: how the graph turns its last layer into years: ``linear`` or ``expectation``.
        age_std_kind: ``distribution`` if the deviation differs from face to face, ``constant`` if not.
        precision: ``fp32``, ``fp16``, ``int8``, or ``mixed``: quantised in part only.
        graph_sha256: of the graph, see the function of that name.
        export: how the file was made: opset, versions, and for int8 how it was calibrated.
        training: backbone, head, data sets with their licences, checkpoint hash, versions, commit.
        metrics: measured figures, each with data set, part and number of pictures.
        operating_points: for each age that may be asked about, from which estimate on it may be said to be reached.
    """

    name: str
    crop: CropSpec
    label: str
    age_range: tuple[float, float]
    decode: str
    age_std_kind: str
    graph_sha256: str
    precision: str = "fp32"
    export: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    operating_points: tuple[OperatingPoint, ...] = ()

    def to_json(self) -> str:
        """The value of the metadata key ``ageinfer``."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values |= {"crop": self.crop.to_dict(), "age_range": list(self.age_range), "schema": METADATA_SCHEMA}
        del values["operating_points"]
        if self.operating_points:
            values["operating_points"] = [point.to_dict() for point in self.operating_points]
        return sealed_json(values)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Reads what `to_json` wrote, and believes nothing of it.

        Raises:
            ValueError: it is not that, or of another schema version.
        """
        try:
            return cls._from_values(json.loads(text))
        except RecursionError:  # of the reader, or of the writer that the hash needs
            raise ValueError("its metadata are nested too deeply") from None

    @classmethod
    def _from_values(cls, values: Any) -> "ModelMetadata":
        if not isinstance(values, dict) or values.get("schema") != METADATA_SCHEMA:
            found = values.get("schema") if isinstance(values, dict) else None
            raise ValueError(f"its metadata have schema version {found!r}, this release reads {METADATA_SCHEMA}")
        missing = {*cls.__slots__, _SEAL} - {"operating_points"} - set(values)
        if missing:
            raise ValueError(f"its metadata lack {', '.join(sorted(missing))}")
        if values.pop(_SEAL) != seal_of(values):
            raise ValueError("its metadata were changed after the export")
        for key, allowed in (
            ("label", _LABELS), ("decode", _DECODES), ("age_std_kind", _STD_KINDS), ("precision", PRECISIONS),
        ):  # fmt: skip
            if values[key] not in allowed:
                raise ValueError(f"its metadata say {key} {values[key]!r}, which is none of {', '.join(allowed)}")
        for key, kind in (("name", str), ("graph_sha256", str), ("training", dict), ("metrics", list),
                          ("export", dict)):  # fmt: skip
            if not isinstance(values[key], kind):
                raise ValueError(f"its metadata say {key} {str(values[key])[:40]!r}, which is of the wrong kind")
        if len(values["name"]) > _LONGEST_NAME:
            raise ValueError(f"its metadata say name {values['name'][:40]!r}..., which is too long")
        ages = values["age_range"]
        if not (isinstance(ages, list) and len(ages) == 2 and all(type(a) in (int, float) for a in ages)):
            raise ValueError(f"its metadata say age_range {str(ages)[:40]}, which is not two numbers")
        if not 0 <= ages[0] < ages[1] < _HIGHEST_AGE:  # a NaN fails too
            raise ValueError(f"its metadata say age_range {str(ages)[:40]}, which are no ages")
        if not isinstance(values["crop"], dict):
            raise ValueError("its metadata hold no crop specification")
        values |= {"crop": CropSpec.from_dict(values["crop"]), "age_range": (float(ages[0]), float(ages[1]))}
        points = values.get("operating_points", [])
        if not isinstance(points, list) or len(points) > _MOST_POINTS:
            raise ValueError(f"its metadata have operating points {str(points)[:40]}, which are none")
        values["operating_points"] = tuple(map(OperatingPoint.from_dict, points))
        return cls(**{name: values[name] for name in cls.__slots__})


def sealed_json(values: dict[str, Any]) -> str:
    """Metadata as JSON, with their own SHA-256 among them."""
    return json.dumps({**values, _SEAL: seal_of(values)}, sort_keys=True)


def seal_of(values: dict[str, Any]) -> str:
    """SHA-256 over metadata, in the one way in which they can be written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def check_age_model(model: bytes, path: str | Path) -> ModelMetadata:
    """Decides whether the bytes of a file are an age model that this runtime may use.

    Args:
        model: the bytes of the file.
        path: how messages call it.

    Raises:
        ModelError: they are not ONNX, carry no metadata of this project or of another version, or the graph is
            not the one that was exported, or one that `check_graph` refuses.
    """
    try:
        properties = metadata_properties(model)
        actual_hash = graph_sha256(model)
    except ValueError as error:
        raise ModelError(f"{path}: not an ONNX model ({error}); give a file written by ageexport") from error
    metadata = _read_metadata(properties, path)
    if metadata.graph_sha256 != actual_hash:
        raise ModelError(
            f"{path}: its graph or weights were changed after the export (SHA-256 {actual_hash[:12]}, "
            f"expected {metadata.graph_sha256[:12]}); fetch or export it again"
        )
    try:
        check_graph(model)
    except ValueError as error:
        raise ModelError(f"{path}: {error}; give a file written by ageexport") from error
    return metadata


def stated_metadata(path: Path) -> ModelMetadata:
    """What an age model file says of itself; whether its graph is the one it speaks of is left open.

    The file is mapped, not read: of several only one is going to be used, and the metadata lie behind the weights.

    Raises:
        ModelError: it cannot be read, is not ONNX, or carries no metadata of this project or of another version.
    """
    try:
        with _opened(path) as file, mmap(file.fileno(), 0, access=ACCESS_READ) as model:
            properties = metadata_properties(model)
    except ValueError as error:
        raise ModelError(f"{path}: not an ONNX model ({error}); give a file written by ageexport") from error
    return _read_metadata(properties, path)


def _read_metadata(properties: dict[str, str], path: str | Path) -> ModelMetadata:
    if METADATA_KEY not in properties:
        raise ModelError(
            f"{path}: an ONNX model, but it does not say how to crop faces for it and what it answers; "
            "give a file written by ageexport"
        )
    try:
        if len(properties[METADATA_KEY]) > _LARGEST_METADATA:
            raise ValueError(f"its metadata have more than {_LARGEST_METADATA:,} characters")
        return ModelMetadata.from_json(properties[METADATA_KEY])
    except ValueError as error:
        raise ModelError(f"{path}: {error}; export it again with this release") from error
