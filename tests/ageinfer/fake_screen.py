"""A stand-in for the desktop: the window functions of OpenCV, and a person who presses keys."""

import cv2

from ageinfer.sinks import window


class Screen:
    """Stands in for the window functions of OpenCV: a person who presses keys, one each time they are asked for."""

    def __init__(self, monkeypatch, keys):
        self.keys = list(keys)
        self.shown, self.titles, self.waits = [], [], []
        self.is_open = self.gone = False
        self.size = None
        for name in ("namedWindow", "resizeWindow", "setWindowTitle", "imshow", "waitKey", "getWindowProperty"):
            monkeypatch.setattr(cv2, name, getattr(self, name))
        monkeypatch.setattr(cv2, "destroyWindow", self.destroyWindow)
        monkeypatch.setattr(window, "display_works", lambda: True)

    def namedWindow(self, _, flags):  # noqa: N802
        assert not self.is_open
        assert flags & cv2.WINDOW_NORMAL == cv2.WINDOW_NORMAL
        assert not flags & (cv2.WINDOW_AUTOSIZE | cv2.WINDOW_FREERATIO)
        self.is_open = True

    def resizeWindow(self, _, width, height):  # noqa: N802
        self.size = (width, height)

    def setWindowTitle(self, _, title):  # noqa: N802
        self.titles.append(title)

    def imshow(self, _, image):
        assert self.is_open
        self.shown.append(image.copy())

    def waitKey(self, delay):  # noqa: N802
        self.waits.append(delay)
        assert len(self.waits) < 100, "nobody would press a key any more"
        key = self.keys.pop(0) if self.keys else -1
        if key in ("close", "close the last"):
            self.is_open = False
            self.gone = key == "close the last"
            return -1
        return ord(key) if isinstance(key, str) else key

    def getWindowProperty(self, *_):  # noqa: N802
        if self.gone:
            raise cv2.error("no window")
        return float(self.is_open)

    def destroyWindow(self, _):  # noqa: N802
        if not self.is_open:
            raise cv2.error("no such window")
        self.is_open = False
