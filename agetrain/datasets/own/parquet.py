"""Tables in Parquet, with the pictures inside as Hugging Face's data sets have them, or with their paths."""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agetrain._progress import progress
from agetrain.datasets.own.columns import part_of
from agetrain.datasets.own.tables import Table
from agetrain.errors import DatasetError, MissingDependencyError

SUFFIX = ".parquet"
_BATCH_ROWS = 64
_SUFFIXES = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"GIF8", ".gif"), (b"BM", ".bmp"))

log = logging.getLogger(__name__)


def parquet_files(place: Path) -> list[Path]:
    """Returns the Parquet files that a path means: itself, or those in a folder and in its folder ``data``."""
    if place.is_file():
        return [place] if place.suffix == SUFFIX else []
    return sorted([*place.glob(f"*{SUFFIX}"), *place.glob(f"data/*{SUFFIX}")])


def read_parquet(files: list[Path], cache: Path) -> Table:
    """Reads Parquet files of one table; pictures inside are unpacked into a folder of the cache, once.

    A column ``image`` (or another of its form) may hold the encoded picture, as ``{bytes, path}`` or as plain bytes.
    Its place in the table is taken by the path of the unpacked file. Numbers that stand for names of classes, which
    Hugging Face describes beside the table, become these names. Where the files of a table are called ``train-...``,
    ``validation-...`` or ``test-...``, that is a column ``part``.

    Args:
        files: of the table, in order.
        cache: folder of all caches.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        DatasetError: one of the files cannot be read, or the pictures cannot be written.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"{files[0]}: Parquet is read with pyarrow: pip install 'ageinfer[train]'"
        ) from error
    opened = []
    for file in files:
        try:
            opened.append(parquet.ParquetFile(file))
        except (OSError, arrow.ArrowException) as error:
            raise DatasetError(f"{file}: cannot be read as Parquet ({_line(error)}); fetch it again") from error
    schema = opened[0].schema_arrow
    pictures = next((f.name for f in schema if _holds_pictures(arrow, f.type)), None)
    columns = tuple(schema.names)
    parts = {file: part_of(re.split(r"[-_.]", file.name)[0]) for file in files}
    told_parts = "part" if any(parts.values()) and not {"part", "split"} & set(columns) else None
    classes = _class_names(schema.metadata or {})
    folder = files[0].parent
    written: Mapping[int, str] = {}
    try:
        if pictures:
            folder = _unpacked(cache, files)
            if not folder.is_dir():
                _unpack(folder, _rows(opened, [pictures]), pictures, sum(file.metadata.num_rows for file in opened))
            written = {int(path.name.partition("-")[0].partition(".")[0]): path.name for path in folder.iterdir()}
        rows = []
        for number, (i, values) in enumerate(_rows(opened, [name for name in columns if name != pictures])):
            row = {name: _text(value, classes.get(name)) for name, value in values.items()}
            if pictures:
                row[pictures] = written.get(number, "")
            if told_parts:
                row[told_parts] = parts[files[i]] or ""
            rows.append((number + 1, row))
    except (OSError, arrow.ArrowException) as error:
        raise DatasetError(f"{files[0]}: cannot be unpacked into {folder} ({_line(error)}); free some space") from error
    return Table(files[0], (*columns, *((told_parts,) if told_parts else ())), tuple(rows), folder, pictures)


def _rows(opened: list[Any], columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, file in enumerate(opened):
        if not columns:
            yield from ((i, {}) for _ in range(file.metadata.num_rows))
            continue
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            yield from ((i, values) for values in batch.to_pylist())


def _unpack(folder: Path, rows: Iterator[tuple[int, dict[str, Any]]], column: str, total: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for number, (_, values) in enumerate(progress(rows, "unpacking pictures", "img", total)):
            _write_picture(values[column], number, unfinished)
        unfinished.chmod(0o755)  # a cache may be shared
        if not folder.is_dir():  # else another run was faster, with the same result
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _holds_pictures(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names behind numbers, by column, as Hugging Face's ``ClassLabel`` describes them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: [str(n) for n in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError):
        return {}


def _text(value: Any, names: list[str] | None) -> str:
    if value is None or value != value:  # a NaN
        return ""
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, list):
        return "-".join(map(str, value))
    return str(value)


def _write_picture(value: Any, number: int, folder: Path) -> None:
    """Writes a picture under its number and its name; nothing where there is none."""
    data = value.get("bytes") if isinstance(value, dict) else value
    told = value.get("path") if isinstance(value, dict) else None
    if not data:
        return
    suffix = next((suffix for start, suffix in _SUFFIXES if data.startswith(start)), ".jpg")
    stem = re.sub(r"[^\w.-]", "_", Path(str(told or "")).stem)[:60]
    (folder / f"{number:07d}{'-' if stem else ''}{stem}{suffix}").write_bytes(data)


def _unpacked(cache: Path, files: list[Path]) -> Path:
    """The folder of the pictures of these files, by their sizes and times."""
    facts = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return cache / f"pictures-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
