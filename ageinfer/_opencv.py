"""The one place where OpenCV is imported, because the import itself fails where system libraries are missing."""

from ageinfer.errors import MissingDependencyError

_DEBIAN_PACKAGES = {
    "libGL.so": "libgl1",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
    "libxcb": "libxcb1",
    "libX11": "libx11-6",
    "libSM": "libsm6",
    "libXext": "libxext6",
}


def explain_import_error(error: ImportError) -> str:
    """What is missing for ``import cv2``, and how to get it."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
        return "OpenCV is not installed: pip install opencv-python"
    package = next((deb for lib, deb in _DEBIAN_PACKAGES.items() if lib in str(error)), "libgl1 libglib2.0-0")
    return f"OpenCV cannot be loaded ({error}); on Debian or Ubuntu: apt-get install {package}"


try:
    import cv2
except ImportError as import_error:
    raise MissingDependencyError(explain_import_error(import_error)) from import_error

__all__ = ["cv2"]
