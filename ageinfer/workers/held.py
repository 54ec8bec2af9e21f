"""Keeps messages that are not due yet: in memory, and beyond a few megabytes in a temporary file without a name."""

import tempfile
from typing import IO, NamedTuple

from ageinfer.errors import OutputError
from ageinfer.types import Image

_MOST_BYTES = 16 << 20  # in memory


class Kept(NamedTuple):
    """A message: its bytes, or where they lie in the file; and the image that belongs to it, uint8 BGR."""

    data: bytes | tuple[int, int]
    image: Image | None = None


class Held:
    """Keeps messages until they are due.

    Attributes:
        image_bytes: of the images that are kept.
    """

    def __init__(self) -> None:
        self.image_bytes = 0
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._in_file = self._end = 0  # messages, and bytes

    def keep(self, data: bytes, image: Image | None = None) -> Kept:
        """Keeps a message.

        Raises:
            OutputError: the temporary file cannot be written.
        """
        self.image_bytes += 0 if image is None else image.nbytes
        if self._bytes + len(data) <= _MOST_BYTES:
            self._bytes += len(data)
            return Kept(data, image)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, it is closed with this object
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()}: results that are not due yet cannot be kept: {error.strerror}; make room, "
                "set TMPDIR, or use --workers 1"
            ) from error
        place = (self._end, len(data))
        self._in_file, self._end = self._in_file + 1, self._end + len(data)
        return Kept(place, image)

    def take(self, kept: Kept) -> bytes:
        """The bytes of a message, which is not kept any longer."""
        self.image_bytes -= 0 if kept.image is None else kept.image.nbytes
        if isinstance(kept.data, bytes):
            self._bytes -= len(kept.data)
            return kept.data
        return b"" if self._file is None else self._read(self._file, *kept.data)

    def _read(self, file: IO[bytes], start: int, count: int) -> bytes:
        file.seek(start)
        data = b""
        while len(data) < count:
            data += file.read(count - len(data))
        self._in_file -= 1
        if not self._in_file:
            self._end = 0
            file.truncate(0)
        return data

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
