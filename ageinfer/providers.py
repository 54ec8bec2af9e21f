"""ONNX Runtime sessions on a chosen execution provider, without its noise and without silent fall-backs."""

import ctypes
import logging
import os
import sys
from collections.abc import Sequence

import onnxruntime as ort

from ageinfer.errors import MissingDependencyError, ModelError, UsageError

PROVIDERS = ("auto", "cpu", "cuda")
_ORT_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3

log = logging.getLogger(__name__)


def default_threads() -> int:
    """Threads that one network may use: every core this process may run on, but no more than 4.

    The networks are small; beyond a few threads the cost of joining them is larger than the gain.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 4)


def open_session(model: bytes, name: str, provider: str = "auto", threads: int | None = None) -> ort.InferenceSession:
    """Opens a session on the provider that was asked for, or on the best one that really works.

    Args:
        model: the bytes of an ONNX file.
        name: how messages call the model.
        provider: ``cpu``, ``cuda``, or ``auto``: CUDA where a session on it can be made, else the CPU.
        threads: intra-op threads; None for `default_threads`.

    Returns:
        A session; ``session.get_providers()[0]`` is what it really runs on.

    Raises:
        UsageError: there is no provider of that name.
        MissingDependencyError: the provider asked for by name cannot be used here.
        ModelError: ONNX Runtime cannot read the model.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}: use one of {', '.join(PROVIDERS)}")
    if provider != "cpu":
        problem = _cuda_problem()
        if problem is None:
            session = _create(model, name, ["cuda", "cpu"], threads)
            if session.get_providers()[0] == _ORT_NAMES["cuda"]:
                return session
            problem = "ONNX Runtime could not start it (are CUDA and cuDNN of the right version installed?)"
        if provider == "cuda":
            raise MissingDependencyError(
                f"provider cuda cannot be used: {problem}; install 'ageinfer[cuda]' or use --provider cpu"
            )
        log.debug("provider auto: no CUDA, %s", problem)
    return _create(model, name, ["cpu"], threads)


def provider_of(session: ort.InferenceSession) -> str:
    """The short name (``cpu``, ``cuda``) of the provider that a session really runs on."""
    active = session.get_providers()[0]
    return next((short for short, long in _ORT_NAMES.items() if long == active), active)


def _create(model: bytes, name: str, providers: Sequence[str], threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return ort.InferenceSession(model, options, providers=[_ORT_NAMES[p] for p in providers])
    except Exception as error:  # ONNX Runtime raises a private class per status code, all derived from Exception
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(f"{name}: ONNX Runtime cannot load it: {first_line}; is the file complete?") from error


def _cuda_problem() -> str | None:
    """Why CUDA cannot be tried, or None. Asked first because a failed attempt writes errors to stderr."""
    if _ORT_NAMES["cuda"] not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA"
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return f"no NVIDIA driver ({library} does not load)"
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds CUDA and cuDNN installed as Python packages
    return None
