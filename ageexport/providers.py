"""The highest level of the proof: the same file on other execution providers, where this machine has them."""

import importlib.util
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ageexport.ladder import Bounds, Rung, Status
from ageinfer.engine.sessions import open_session
from ageinfer.errors import MissingDependencyError
from ageinfer.types import Image

_BATCH = 64
# What decides how 8-bit products are summed, and so how fast and how exactly.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def rungs(model: bytes, precision: str, faces: Image, on_cpu: np.ndarray, bounds: Bounds) -> list[Rung]:
    """Compares every provider's ages with the CPU's.

    Args:
        model: the file.
        precision: of it.
        faces: uint8 ``[n, side, side, 3]``, RGB.
        on_cpu: its ages on the CPU.
        bounds: to be kept in fp32; lower precisions differ by rounding, which is reported.
    """
    return [*_cuda(model, precision, faces, on_cpu, bounds), _openvino(model, precision, faces, on_cpu, bounds)]


def _cuda(model: bytes, precision: str, faces: Image, on_cpu: np.ndarray, bounds: Bounds) -> list[Rung]:
    found = []
    for tf32, bound in ((False, bounds.tensor), (True, bounds.tf32)):
        what = f"CUDA and CPU, {'with' if tf32 else 'without'} TF32"
        try:
            open_session(model, "the exported file", "cuda")  # says in one line why there is none
        except MissingDependencyError as error:
            found.append(Rung("L4", what, None, bound, "years", 0, "not measured", "cuda", str(error)))
            continue
        options = {"use_tf32": str(int(tf32))}
        session = ort.InferenceSession(model, providers=[("CUDAExecutionProvider", options), "CPUExecutionProvider"])
        if session.get_providers()[0] != "CUDAExecutionProvider":  # it falls back to the CPU without an error
            note = f"ONNX Runtime does not start CUDA with {options}"
            found.append(Rung("L4", what, None, bound, "years", 0, "not measured", "cuda", note))
            continue
        batches = [session.run(["age"], {"face": faces[i : i + _BATCH]})[0] for i in range(0, len(faces), _BATCH)]
        found.append(_compared(what, np.concatenate(batches), on_cpu, precision, bound, "cuda"))
    return found


def _openvino(model: bytes, precision: str, faces: Image, on_cpu: np.ndarray, bounds: Bounds) -> Rung:
    what = "OpenVINO and ONNX Runtime"
    if importlib.util.find_spec("openvino") is None:
        reason = "the package openvino is not installed"
        return Rung("L4", what, None, bounds.tensor, "years", 0, "not measured", "openvino", reason)
    try:
        ages = openvino_ages(model, faces)
    except RuntimeError as error:  # the package has no exception of its own
        note = str(error).strip().splitlines()[-1][:200]
        return Rung("L4", what, None, bounds.tensor, "years", 0, "failed", "openvino", note)
    return _compared(what, ages, on_cpu, precision, bounds.tensor, "openvino")


def openvino_ages(model: bytes, faces: Image) -> np.ndarray:
    """Computes ages by the package ``openvino`` on the CPU, float32 ``[n]`` years.

    Args:
        model: the file.
        faces: uint8 ``[n, side, side, 3]``, RGB.
    """
    import openvino

    # Left alone, it computes in bf16 where the processor can, which is not what is compared.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", options)
    batches = [compiled({"face": faces[i : i + _BATCH]})["age"] for i in range(0, len(faces), _BATCH)]
    return np.concatenate(batches)


def _compared(
    what: str, ages: np.ndarray, on_cpu: np.ndarray, precision: str, bound: float, provider: str
) -> Rung:  # fmt: skip
    difference = float(np.abs(ages - on_cpu).max())
    if precision == "fp32":
        return Rung.at_most("L4", what, difference, bound, len(ages), provider=provider)
    mean = float(np.abs(ages - on_cpu).mean())
    note = f"at most {difference:.3g}"
    status: Status = "reported" if difference < np.inf else "failed"  # a NaN fails too
    return Rung("L4", f"{what}, mean difference", mean, None, "years", len(ages), status, provider, note)


def machine() -> dict[str, str]:
    """Returns the processor, its instructions that matter here, and versions."""
    import cv2

    facts = {"processor": platform.machine(), "instructions": ""}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                facts["processor"] = f"{value}, {platform.machine()}"
            elif key in ("flags", "Features"):
                facts["instructions"] = " ".join(i for i in _INSTRUCTIONS if i in value.split())
    facts |= {"onnxruntime": ort.__version__, "opencv": cv2.__version__, "torch": metadata.version("torch")}
    return facts
