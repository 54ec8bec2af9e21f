"""Shows annotated frames in a window on the desktop."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ageinfer.errors import MissingDependencyError, OutputError
from ageinfer.images import cv2
from ageinfer.sinks.base import Sink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks.pictures import write_picture
from ageinfer.sinks.playback import Playback
from ageinfer.types import Image

_QUIT = {ord("q"), ord("Q"), 27}
_PAUSE = {ord(" "), ord("p"), ord("P")}
_SAVE = {ord("s"), ord("S")}
_REPEAT = {ord("r"), ord("R")}
_NO_KEY = -1
# How long keys are waited for, in milliseconds: with the next frame coming, and without.
_BRIEFLY_MS, _PAUSED_MS = 1, 30
# The window opens within these sizes, in pixels, and can be made any size afterwards.
_LEAST_SIDE, _LARGEST_WIDTH, _LARGEST_HEIGHT = 320, 1280, 720

log = logging.getLogger(__name__)


class WindowSink(Sink):
    """Shows annotated frames in a window on the desktop.

    The keys are ``q`` or Escape to end the run, space or ``p`` to pause it and to go on, ``r`` to see a recording from
    its beginning, and ``s`` to save the shown picture as ``ageinfer-YYYYmmdd-HHMMSS-FRAME.png``. Closing the window
    ends the run, too.

    Args:
        folder: the folder for saved pictures.
        playback: of a recording; None: there is nothing to be seen again.
        hold_pictures: whether a picture stays until space or ``p`` is pressed. Frames of videos and cameras never stay.
        should_end: is called while a picture is held; the run ends if it returns true, for example after Ctrl-C.

    Raises:
        MissingDependencyError: there is no display.
    """

    _NAME = "ageinfer"

    def __init__(
        self,
        folder: Path = Path(),
        *,
        playback: Playback | None = None,
        hold_pictures: bool = False,
        should_end: Callable[[], bool] = lambda: False,
    ) -> None:
        if not display_works():
            raise MissingDependencyError(
                "there is no display for a window; leave --window out and use --output, --jsonl or --csv"
            )
        self._folder = folder
        self._playback = playback or Playback(whole=True)
        self._hold_pictures = hold_pictures
        self._should_end = should_end
        self._opened = False
        self._keys_shown = ""
        self.stays = playback is not None
        self._shown: AnnotatedFrame | None = None

    def write(self, annotated: AnnotatedFrame) -> None:
        """Shows the next frame and returns when the run goes on or a person ends it."""
        if self.stop_requested:
            return
        self._open(annotated.image)
        self._shown = annotated
        cv2.imshow(self._NAME, annotated.image)
        if self._hold_pictures and annotated.frame.time_s is None:
            self._playback.paused = True
        self._attend(_BRIEFLY_MS)
        while self._playback.paused and not self.stop_requested:
            if self._should_end():
                self.stop_requested = True
                return
            self._attend(_PAUSED_MS)

    def idle(self) -> None:
        if self._opened and not self.stop_requested:
            self._attend(_BRIEFLY_MS)

    def close(self) -> None:
        if self._opened:
            with suppress(cv2.error):  # the person has closed it already
                cv2.destroyWindow(self._NAME)

    def _attend(self, wait_ms: int) -> None:
        """Does what the next key says, and shows in the title which keys there are."""
        keys = self._keys()
        if keys != self._keys_shown:  # else a note of what was saved stays
            self._title(keys)
            self._keys_shown = keys
        pressed = cv2.waitKey(wait_ms)
        key = _NO_KEY if pressed == _NO_KEY else pressed & 0xFF  # the higher bits hold shift, lock and the like
        if key in _QUIT or self._is_closed():
            self.stop_requested = True
        elif key in _SAVE:
            self._save()
        elif key in _PAUSE:
            self._playback.toggle()
        elif key in _REPEAT:
            self._playback.repeat()

    def _keys(self) -> str:
        again = ", r: again" if self._playback.repeatable else ""
        if self._playback.ended:
            return f"at its end - q: quit{again}, s: save"
        if self._playback.paused:
            return f"paused - q: quit, space: go on{again}, s: save"
        return f"q: quit, space: pause{again}, s: save"

    def _open(self, image: Image) -> None:
        if self._opened:
            return
        cv2.namedWindow(self._NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(self._NAME, *first_size(image.shape[1], image.shape[0]))
        self._opened = True

    def _is_closed(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(self._NAME, cv2.WND_PROP_VISIBLE) < 1)
        except cv2.error:  # with Qt, once the last window is closed
            return True

    def _title(self, text: str) -> None:
        cv2.setWindowTitle(self._NAME, f"ageinfer - {text}")

    def _save(self) -> None:
        if self._shown is None:
            return
        path = self._folder / f"ageinfer-{time.strftime('%Y%m%d-%H%M%S')}-{self._shown.frame.index}.png"
        try:
            write_picture(path, self._shown.image)
        except OutputError as error:  # the run may have other outputs, so it goes on
            log.warning("%s", error)
            self._title(f"{path.name} could not be saved")
            return
        log.info("%s: saved", path)
        self._title(f"saved {path.name}")


def first_size(width: int, height: int) -> tuple[int, int]:
    """Returns the first width and height of the window in pixels, in the ratio of the first frame.

    The window fits into 1280 x 720 pixels, and small frames are enlarged to 320 pixels.

    Example:
        >>> first_size(3840, 2160)
        (1280, 720)
    """
    scale = min(_LARGEST_WIDTH / width, _LARGEST_HEIGHT / height, max(1.0, _LEAST_SIDE / max(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def display_works() -> bool:
    """Tells whether a window can be opened on this machine.

    OpenCV ends the whole process if there is no display, so another process tries it.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    trial = "import cv2; cv2.namedWindow('trial'); cv2.destroyAllWindows()"
    try:
        return subprocess.run([sys.executable, "-c", trial], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
