"""Lists of labels as programs for tables write them: any of the usual encodings, delimiters and line ends."""

import codecs
import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agetrain.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".txt")
_DELIMITERS = ",;\t|"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_WORKBOOK = b"PK\x03\x04"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Table:
    """A list of labels.

    Attributes:
        path: of the list.
        columns: their names, in order.
        rows: for each line its number and its values by column; a value that is missing is empty.
        folder: that the names of files in it are relative to.
        pictures: the column that held the pictures themselves; None: it names files.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    folder: Path
    pictures: str | None = None


def read_table(path: Path) -> Table:
    """Reads a list of labels: CSV with commas, semicolons, tabs or bars, in UTF-8, UTF-16 or Windows-1252.

    The delimiter is the one that the first line holds most of. What is neither UTF-8 nor has a byte order mark is read
    as Windows-1252, which the log says.

    Raises:
        DatasetError: it is not there, no such list, or has no column names.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: not there; a list with the columns file and age is needed") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; name a list that is there") from error
    if data.startswith((_WORKBOOK, _OLD_WORKBOOK)):
        raise DatasetError(f"{path}: a workbook, not a list; save it from the table program as CSV (UTF-8)")
    text = _decoded(data, path)
    if "\0" in text:
        raise DatasetError(f"{path}: holds zero bytes and is no list; save it as CSV (UTF-8)")
    if text[:4].lower() == "sep=":  # a first line by which Excel is told the delimiter
        text = text.partition("\n")[2]
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    rows: list[tuple[int, Mapping[str, str]]] = []
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        columns = tuple((name or "").strip() for name in reader.fieldnames or ())
        reader.fieldnames = columns
        for row in reader:
            known = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
            if any(known.values()):
                rows.append((reader.line_num, known))
    except csv.Error as error:
        raise DatasetError(f"{path}: line {len(rows) + 2}: not a list ({error}); save it as CSV (UTF-8)") from error
    if not columns or not any(columns):
        raise DatasetError(f"{path}: has no column names; its first line must name them, as file,age")
    repeated = next((name for name in columns if name and columns.count(name) > 1), None)
    if repeated is not None:
        raise DatasetError(f"{path}: has two columns {repeated!r}; rename or remove one of them")
    return Table(path, columns, tuple(rows), path.parent)


def _decoded(data: bytes, path: Path) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise DatasetError(f"{path}: cannot be read as {encoding} ({error}); save it as UTF-8") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        log.warning("%s: not UTF-8; read as Windows-1252", path)
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: neither UTF-8 nor Windows-1252 ({error}); save it as UTF-8") from error
