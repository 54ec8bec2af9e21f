"""Reads the structure of a JPEG: its size, its scans, and the signs of damage that show without decoding it.

libjpeg decodes whatever comes, and says what was wrong on standard error alone, where nobody can ask for it. Damage
shows by itself in other ways, each of which costs little:

- Marks stand where none may stand, or marks of restart are missing.
- A long run of zeros stands for blocks that no picture has. (This is what a lost sector of a disk leaves.)
- The data end too early: a decoder that is given them without their end mark waits for more.
- From the damage on, the blocks stand at other places and have another brightness. So there is an edge along the
  border of a row of blocks, which is looked at more closely.
"""

import re
from dataclasses import dataclass
from operator import add

import numpy as np

from ageinfer.images import cv2
from ageinfer.types import Image

_MARK = re.compile(rb"\xff[^\0\xff]")  # what is no pixel data; 0xFF may be repeated before it
_START, _END, _SCAN, _TABLES, _RESTARTS, _EXIF = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xE1
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {_TABLES, 0xC8, 0xCC})
_READ = _FRAMES | {_TABLES, _RESTARTS, _EXIF}
_BASELINE = frozenset({0xC0, 0xC1})
# What may stand between scans: tables, a number of lines, intervals of restart, comments and data of programs.
_BETWEEN = frozenset({_TABLES, 0xCC, 0xDB, 0xDC, _RESTARTS, 0xFE, _SCAN, *range(0xE0, 0xF0)})
# More zero bytes than the longest block of zero bits has, whose 63 values would all be -1.
_ZEROS = bytes(64)


@dataclass(slots=True)
class Jpeg:
    """What a JPEG says of itself.

    Attributes:
        width, height: in pixels, as they are stored.
        exif: the block of EXIF data; empty where there is none.
        scan: where the data of the first scan begin.
        end: where the end mark stands; -1: there is none, so it is cut off.
        sequential: all data are one scan of Huffman codes.
        plain: they are so, and without restarts.
        broken: it is damaged for certain. (Where this is False, it may be damaged all the same.)
    """

    width: int = 0
    height: int = 0
    exif: bytes = b""
    scan: int = -1
    end: int = -1
    sequential: bool = False
    plain: bool = False
    broken: bool = False
    _frame: bytes = b""  # the content of the header that says the size
    _coding: int = 0
    _tables: bytes = b""  # of Huffman codes
    _restart_every: int = 0  # MCUs; 0: never

    @classmethod
    def parse(cls, data: bytes) -> "Jpeg":
        """Reads the structure of a file that begins as a JPEG does."""
        jpeg, at = cls(), 2
        while at + 4 <= len(data) and data[at] == 0xFF:
            mark = data[at + 1]
            if mark == 0xFF:  # padding
                at += 1
                continue
            begin, at = at + 4, at + 2 + (data[at + 2] << 8 | data[at + 3])
            if mark in _READ:
                jpeg._segment(mark, data[begin:at])
            elif mark == _SCAN:
                jpeg.scan = at
                jpeg._scans(data, data[begin:at])
                break
        return jpeg

    def cleaned(self, data: bytes) -> bytes:
        """The file itself; a plain one without the marks that stand where none may, at which decoders give up."""
        if not self.plain:
            return data
        return data[: self.scan] + _MARK.sub(b"\xff\0", data[self.scan : self.end]) + b"\xff\xd9"

    def _segment(self, mark: int, content: bytes) -> None:
        if mark == _TABLES:
            self._tables += content
        elif mark in _FRAMES and len(content) > 5:
            if len(content) < 6 + 3 * content[5]:  # it lacks some of its colours
                self.broken = True
            else:
                self._coding, self._frame = mark, content
            self.height, self.width = content[1] << 8 | content[2], content[3] << 8 | content[4]
        elif mark == _RESTARTS:
            self._restart_every = int.from_bytes(content[:2], "big")
        elif mark == _EXIF and not self.exif and content.startswith(b"Exif\0\0"):
            self.exif = content

    def _scans(self, data: bytes, header: bytes) -> None:
        """Follows the marks from the first scan, which has this header, to the end mark."""
        at, restarts, scans = self.scan, 0, 1
        while found := _MARK.search(data, at):
            at = found.end()
            mark = data[at - 1]
            if mark == _END:
                self.end = at - 2
                break
            if 0xD0 <= mark < _START:
                self.broken |= not self._restart_every or mark & 7 != restarts & 7
                restarts += 1
            elif mark not in _BETWEEN:
                self.broken = True
            else:
                begin, at = at + 2, at + int.from_bytes(data[at : at + 2], "big")
                self._segment(mark, data[begin:at])
                if mark == _SCAN:
                    restarts, scans = 0, scans + 1
                elif data[at : at + 1] != b"\xff":
                    self.broken = True
        if self.end < 0 and (end := data.find(b"\xff\xd9", self.scan)) >= 0:
            self.end, self.broken = end, True  # a mark that led beyond it was none
        if self._coding in _BASELINE and header[:1] == self._frame[5:6]:
            self.sequential, self.plain = True, not self._restart_every
            self.broken |= scans > 1 or restarts < self._needed_restarts()  # the first scan has everything
            if data.find(_ZEROS, self.scan, max(self.end, self.scan)) >= 0:
                self.broken |= not self._may_be_zeros(header)

    def _needed_restarts(self) -> int:
        if not self._restart_every:
            return 0
        factors = self._frame[7::3] if self._frame[5] > 1 else b"\x11"
        across, down = 8 * max(factor >> 4 for factor in factors), 8 * max(factor & 15 for factor in factors)
        blocks = -(-self.width // max(across, 8)) * -(-self.height // max(down, 8))
        return -(-blocks // self._restart_every) - 1

    def _may_be_zeros(self, header: bytes) -> bool:
        """Whether blocks without any detail are zero bits, by the tables that the scan with this header uses."""
        shortest, tables = {}, self._tables
        while len(tables) > 17:
            shortest[tables[0]] = tables[17]  # what the shortest code means; 0: the rest of the block is zero
            tables = tables[17 + sum(tables[1:17]) :]
        return not any(shortest.get(0x10 | used & 15, 0) for used in header[2 : 2 + 2 * header[0] : 2])


def largest_break(stored: Image) -> float:
    """How much the strongest edge along the borders of rows of blocks exceeds the mean of such edges.

    Args:
        stored: uint8 BGR ``[height, width, 3]``, as the file has it: not turned.

    Returns:
        About 1.5 for a picture, and more than 2.5 for 1 of 20 pictures and for nearly every damaged one. 0: there are
        too few rows.
    """
    rows = (stored.shape[0] - 6) // 8
    if rows < 3:
        return 0.0
    # Of every row of blocks the last two lines, and of the next one the first two; so many columns are enough.
    lines = np.ascontiguousarray(stored[6 : 6 + 8 * rows, :: max(1, stored.shape[1] // 32), 1]).reshape(rows, -1)
    n = lines.shape[1] // 8
    steps = cv2.absdiff(lines[:, n : 4 * n], lines[:, : 3 * n])
    excess = cv2.subtract(steps[:, n : 2 * n], cv2.max(steps[:, :n], steps[:, 2 * n :]))
    edges = cv2.reduce(excess, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel().tolist()
    # Damage begins within one row, and goes on in the next one.
    return max(map(add, edges, edges[1:])) / (2 * sum(edges) / rows + n)
