"""The last level of a proof: the same file and the same pictures in a browser and on another processor."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """What other runtimes need, each of which is left out where it is missing.

    Attributes:
        onnxruntime_web: folder of the npm package, for the browser; None: it is looked for, see
            `ageexport.web.building.runtime_folder`.
        arm64: folder of an arm64 Python with what `ageinfer` needs, for the emulated processors; None: there is none.
        seconds: for which an engine of the browser and an emulated processor is given pictures.
    """

    onnxruntime_web: Path | None = None
    arm64: Path | None = None
    seconds: float = 30.0
