"""The line that tells a person at a terminal how far a run is."""

import sys
import time

from ageinfer.console import draw

_EVERY_S = 0.25


class ProgressLine:
    """Frames so far, frames a second and the time that is left, on standard error while it is a terminal.

    Args:
        total: how many frames there will be, or None where that is not known.
        quiet: never shows anything.
        count_faces: whether it says how many faces there were.
        what: is counted.
    """

    def __init__(
        self, total: int | None, *, quiet: bool, count_faces: bool = True, what: str = "frames"
    ) -> None:  # fmt: skip
        self.frames = 0
        self.faces = 0
        self._total = total
        self._count_faces = count_faces
        self._what = what
        self._shown = not quiet and sys.stderr.isatty()
        self._began = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def step(self, faces: int, frames: int = 1) -> None:
        """One more frame is done, or so many at once."""
        self.frames += frames
        self.faces += faces
        now = time.monotonic()
        if self._shown and now - self._last >= _EVERY_S:
            self._last = now
            draw(f"\r\033[K{self.text()}")

    def text(self) -> str:
        """The line, for example ``[#######.............] 35 % 120/342 frames, 41 a second, 0:05 left``."""
        rate = self.frames / max(self.seconds, 1e-6)
        pace = f"{rate:.0f} a second" if rate >= 10 else f"{rate:.1f} a second"
        if not self._total or self.frames > self._total:
            faces = f"{self.faces} faces, " if self._count_faces else ""
            return f"{self.frames} {self._what}, {faces}{pace}"
        share = self.frames / self._total
        bar = "#" * int(20 * share)
        left = round((self._total - self.frames) / max(rate, 1e-6))
        clock = f"{left // 60}:{left % 60:02d}" if left < 3600 else f"{left // 3600}:{left % 3600 // 60:02d}:00"
        return f"[{bar:.<20}] {share:.0%} {self.frames}/{self._total} {self._what}, {pace}, {clock} left"

    def clear(self) -> None:
        """Takes the line away."""
        if self._shown:
            draw("\r\033[K")
