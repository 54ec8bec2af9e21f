"""ONNX Runtime sessions on a chosen execution provider, without its noise and without silent fall-backs."""

import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import cache
from typing import Any, TypeVar

import onnxruntime as ort

from ageinfer.engine.cores import usable_cores
from ageinfer.errors import MissingDependencyError, ModelError, UsageError

PROVIDERS = ("auto", "cpu", "cuda", "tensorrt", "openvino", "coreml")
GPU_PROVIDERS = ("cuda", "tensorrt", "coreml")
# What ``auto`` tries before the CPU. Not TensorRT, which builds an engine for every new shape, many seconds each; not
# CoreML, which takes batches of any size only in part; not OpenVINO, which was 1.7 times slower than ONNX Runtime's own
# CPU code (both networks, one thread, AMD EPYC, onnxruntime-openvino 1.24): on Intel hardware, ask for it by name and
# compare with ``ageinfer bench``.
_BEST_FIRST = ("cuda",)
_ORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_REMEDIES = {
    "cuda": "install 'ageinfer[cuda]'",
    "tensorrt": "install 'ageinfer[cuda]' and TensorRT",
    "openvino": "replace the package onnxruntime by onnxruntime-openvino",
    "coreml": "it is part of onnxruntime on macOS",
}
# More only wait for each other, and thousands never come to an end.
_MOST_THREADS = 16
# One node, y = -x: the smallest model with which a provider can be tried.
_SMALLEST_MODEL = (
    b'\x08\x07:2\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_NOTHING = 4
_TICK_S = 0.5  # on Windows, Ctrl-C is only noticed between two waits

T = TypeVar("T")

log = logging.getLogger(__name__)


class Network:
    """A network that is opened in ONNX Runtime.

    Args:
        session: of ONNX Runtime.
        name: how messages call the network.

    Attributes:
        on_run: is called after every run with the shape of the first input and the seconds that the run took; None:
            nobody is told. It is for measuring, see ``ageinfer bench``.
    """

    def __init__(self, session: ort.InferenceSession, name: str = "the model") -> None:
        self.on_run: Callable[[tuple[int, ...], float], None] | None = None
        self._session = session
        self._name = name
        self._quiet = ort.RunOptions()
        self._quiet.log_severity_level = _NOTHING

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """Runs the network.

        Args:
            outputs: names of what is wanted; None for all outputs.
            inputs: arrays by name.

        Raises:
            ModelError: the network cannot be run, for example because a result needs more memory than there is.
        """
        began = time.perf_counter()
        try:
            values = self._session.run(outputs, inputs, self._quiet)
        except Exception as error:  # see `_create`
            raise ModelError(f"{self._name}: ONNX Runtime cannot run it: {_first_line(error)}") from error
        if self.on_run is not None:
            self.on_run(next(iter(inputs.values())).shape, time.perf_counter() - began)
        return values

    @property
    def inputs(self) -> list[tuple[str, str, list[int | str]]]:
        """Name, type (as ``tensor(uint8)``) and shape of each input; free extents are names."""
        return [(entry.name, entry.type, entry.shape) for entry in self._session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [entry.name for entry in self._session.get_outputs()]

    @property
    def provider(self) -> str:
        """The execution provider that the network really runs on, by its short name."""
        return provider_of(self._session)

    @property
    def threads(self) -> int:
        """Threads that the network may use."""
        return int(self._session.get_session_options().intra_op_num_threads)


def default_threads() -> int:
    """Threads that one network may use: half of the cores that this process may use, 1 to 4.

    On video the decoder, the detector and the age model work side by side. More threads for each would wait for each
    other, which ONNX Runtime does by spinning: two on two cores took twice the processor time for two thirds of the
    frames. The networks are small; beyond 4 threads the cost of joining them is larger than the gain.
    """
    return min(max(int(usable_cores()) // 2, 1), 4)


def first_provider(provider: str) -> str:
    """The provider that a network will run on: the one that was named, or the best one that works here."""
    if provider != "auto":
        return provider
    return next((candidate for candidate in _BEST_FIRST if problem_with(candidate) is None), "cpu")


def open_session(model: bytes, name: str, provider: str = "auto", threads: int | None = None) -> ort.InferenceSession:
    """Opens a session on the provider that was asked for, or on the best one that really works.

    Args:
        model: the bytes of an ONNX file.
        name: how messages call the model.
        provider: one of `PROVIDERS`; ``auto``: CUDA where a session on it can be made, else the CPU.
        threads: intra-op threads, 1 to 16 or to as many as there are cores; None for `default_threads`.

    Returns:
        A session; ``session.get_providers()[0]`` is what it really runs on.

    Raises:
        UsageError: there is no provider of that name, or the number of threads is out of range.
        MissingDependencyError: the provider asked for by name cannot be used here.
        ModelError: ONNX Runtime cannot read the model.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}: use one of {', '.join(PROVIDERS)}")
    most = max(_MOST_THREADS, int(usable_cores()))
    if threads is not None and not 1 <= threads <= most:
        raise UsageError(f"{threads} threads for a network: use 1 to {most}")
    for candidate in _BEST_FIRST if provider == "auto" else (provider,):
        if candidate == "cpu":
            break
        problem = problem_with(candidate)
        if problem is None:
            session = _create(model, name, [candidate, "cpu"], threads)
            if provider_of(session) == candidate:
                return session
            problem = "ONNX Runtime does not run this model on it"
        if candidate == provider:
            raise MissingDependencyError(
                f"provider {provider} cannot be used: {problem}; {_REMEDIES[provider]} or use --provider cpu"
            )
        log.debug("provider auto: no %s, %s", candidate, problem)
    return _create(model, name, ["cpu"], threads)


def open_network(model: bytes, name: str, provider: str = "auto", threads: int | None = None) -> Network:
    """Opens a network; arguments and errors are those of `open_session`."""
    return Network(open_session(model, name, provider, threads), name)


def provider_of(session: ort.InferenceSession) -> str:
    """The short name (``cpu``, ``cuda``) of the provider that a session really runs on."""
    active = session.get_providers()[0]
    return next((short for short, long in _ORT_NAMES.items() if long == active), active)


@cache
def problem_with(provider: str) -> str | None:
    """Why a provider cannot be used on this machine; None if it can.

    ONNX Runtime lists what it was built with, whether or not it works here, and falls back to the CPU with errors on
    standard error where it does not. So the libraries are looked for first, and then the smallest model is run.

    Args:
        provider: one of `PROVIDERS`.
    """
    if provider in ("auto", "cpu"):
        return None
    if _ORT_NAMES[provider] not in ort.get_available_providers():
        return f"this build of ONNX Runtime has no {_ORT_NAMES[provider].removesuffix('ExecutionProvider')}"
    if provider in ("cuda", "tensorrt"):
        library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        if not _loads(library):
            return f"no NVIDIA driver ({library} does not load)"
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # finds CUDA and cuDNN installed as Python packages
    if provider == "tensorrt" and not any(map(_loads, _nvinfer_names())):
        return f"no TensorRT ({_nvinfer_names()[0]} does not load)"
    try:
        session = _create(_SMALLEST_MODEL, "trial", [provider, "cpu"], 1)
    except ModelError as error:
        return f"ONNX Runtime cannot start it ({error})"
    if provider_of(session) != provider:
        return "ONNX Runtime could not start it (are its libraries of the right version installed?)"
    return None


def _create(model: bytes, name: str, providers: Sequence[str], threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = _NOTHING  # its errors are raised, not printed
    ort.set_default_logger_severity(_NOTHING)  # of what belongs to no session, as its memory
    try:
        # Its own way of going back to the CPU says so on standard output, where the records are.
        return ort.InferenceSession(model, options, providers=[_ORT_NAMES[p] for p in providers], enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a private class per status code, all derived from Exception
        if isinstance(error, ValueError | RuntimeError) and list(providers) != ["cpu"]:
            return _create(model, name, ["cpu"], threads)
        raise ModelError(f"{name}: ONNX Runtime cannot load it: {_first_line(error)}; is the file complete?") from error


def interruptible(call: Callable[[], T]) -> T:
    """Calls a function in another thread, so that Ctrl-C is heard while ONNX Runtime is busy.

    Python handles signals between two of its own steps in the main thread, of which there is none within a long call.
    """
    results: Future[T] = Future()

    def work() -> None:
        try:
            results.set_result(call())
        except BaseException as error:  # goes to the one who waits
            results.set_exception(error)

    threading.Thread(target=work, name="opening a model", daemon=True).start()
    while not wait([results], _TICK_S).done:
        pass
    return results.result()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _nvinfer_names() -> tuple[str, ...]:
    if sys.platform == "win32":
        return ("nvinfer_10.dll", "nvinfer.dll")
    return ("libnvinfer.so.10", "libnvinfer.so")
