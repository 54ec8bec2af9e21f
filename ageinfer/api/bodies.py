"""Takes the pictures out of a request while it arrives, and counts what is held of all requests."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ageinfer.api.limits import Limits
from ageinfer.api.problems import RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# The bytes decide what a picture is. curl says the last one where it is told nothing else.
_ANYTHING = (b"", b"application/octet-stream", b"application/x-www-form-urlencoded")
_HELP = "send a picture as the body, or several as files of a form (multipart/form-data)"
_SILENT = logging.Logger("a parser whose errors are answered", logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it was sent.

    Attributes:
        name: of the file in its form; empty where the picture is the body.
        data: the bytes of the file.
    """

    name: str
    data: bytes


@dataclass(slots=True)
class Room:
    """The room for bodies of all requests. Only the event loop uses it.

    Attributes:
        most: bytes that may be held.
        held: bytes that are held.
    """

    most: int
    held: int = 0


class Body:
    """The body of a request, which holds its room inside a ``with`` block.

    Args:
        request: whose body it is.
        limits: what it may take.
        room: for all bodies.
    """

    def __init__(self, request: Request, limits: Limits, room: Room) -> None:
        self._request, self._limits, self._room = request, limits, room
        self._held = 0

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._room.held -= self._held

    async def uploads(self) -> list[Upload]:
        """Reads the pictures, in the order in which they are sent.

        Raises:
            RequestError: there is none, there are too many or too many bytes, or the form is malformed.
            ClientDisconnect: the client has gone.
        """
        headers = self._request.headers
        media_type, options = parse_options_header(headers.get("content-type", ""))
        if headers.get("content-encoding", "identity") != "identity":
            raise RequestError(415, "Bodies are read as they are; send it without Content-Encoding.")
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limits.most_bytes:
            raise self._too_large()
        if media_type == b"multipart/form-data":
            form = _Form(options.get(b"boundary", b""), self._limits.most_pictures)
            async for chunk in self._chunks():
                form.write(chunk)
            return form.finished()
        if media_type not in _ANYTHING and not media_type.startswith(b"image/"):
            raise RequestError(415, f"A body of this Content-Type is not read; {_HELP}.")
        data = b"".join([chunk async for chunk in self._chunks()])
        if not data:
            raise RequestError(400, f"There is no picture in this request; {_HELP}.")
        return [Upload("", data)]

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.stream():
            if self._held + len(chunk) > self._limits.most_bytes:  # whatever was announced
                raise self._too_large()
            if self._room.held + len(chunk) > self._room.most:
                raise RequestError(429, "Too many bytes of other requests wait; try again later.", retry_s=1)
            self._held += len(chunk)
            self._room.held += len(chunk)
            yield chunk

    def _too_large(self) -> RequestError:
        most = self._limits.most_bytes
        detail = f"A request may have {most:,} bytes; send fewer or smaller pictures at once."
        return RequestError(413, detail, closes=True)


class _Form:
    """The files of a form, which is parsed while it arrives."""

    def __init__(self, boundary: bytes, most_pictures: int) -> None:
        self._most_pictures = most_pictures
        self._uploads: list[Upload] = []
        self._name: bytes = b""
        self._headers: dict[bytes, bytes] = {}
        self._header = b""
        self._parts: list[bytes] = []
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_begin": self._begin_header,
            "on_header_field": self._add_to_header,
            "on_header_value": self._add_to_value,
            "on_headers_finished": self._take_name,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            raise _malformed("its boundary is too long") from None
        if not boundary:
            raise _malformed("its Content-Type has no boundary")
        self._parser.logger = _SILENT

    def write(self, chunk: bytes) -> None:
        """Parses what has come.

        Raises:
            RequestError: it is malformed, or has too many files.
        """
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _malformed("a boundary or a header of a part is broken") from None

    def finished(self) -> list[Upload]:
        """The files.

        Raises:
            RequestError: the form has no end, or no file.
        """
        if not self._ended:
            raise _malformed("it ends before its last boundary")
        if not self._uploads:
            raise RequestError(400, f"There is no picture in this form; {_HELP}.")
        return self._uploads

    def _begin(self) -> None:
        self._headers.clear()
        self._parts.clear()
        self._header = b""

    def _begin_header(self) -> None:
        self._header = b""

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].lower()

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._header] = self._headers.get(self._header, b"") + data[start:end]

    def _take_name(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        if b"filename" not in options:
            field = options.get(b"name", b"").decode(errors="replace")
            raise RequestError(400, f"The field {field!r} of the form is no file; send pictures as files.")
        self._name = options[b"filename"]

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._parts.append(data[start:end])

    def _end(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        if not (self._name or data):  # a field for files in which none was chosen
            return
        if len(self._uploads) == self._most_pictures:
            raise RequestError(
                413, f"A request may have {self._most_pictures} pictures; send the others in another one."
            )
        self._uploads.append(Upload(self._name.decode(errors="replace"), data))

    def _end_all(self) -> None:
        self._ended = True


def _malformed(why: str) -> RequestError:
    return RequestError(400, f"The form is malformed: {why}; let a library or curl -F make it.")
