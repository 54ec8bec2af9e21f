"""Ages from face crops: one ONNX session over batches."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ageinfer.engine import fastest
from ageinfer.engine.modelfile import (
    PRECISIONS,
    ModelMetadata,
    check_age_model,
    model_files,
    read_model,
    stated_metadata,
)
from ageinfer.engine.sessions import open_session, provider_of
from ageinfer.errors import ModelError, UsageError
from ageinfer.types import Age, Image

# What a thread of a CPU is given at once, in pixels of crops: what the layers of more faces hand on leaves its cache.
# In one piece, 20 faces took 1.1 to 1.3 times as long (one thread, AMD EPYC, age-small and age-accurate).
_CPU_PIXELS = 1 << 16

log = logging.getLogger(__name__)


class AgeEstimator:
    """An age model, checked and opened.

    A model that comes with the package in several precisions is opened in the one that is the fastest here: see
    `ageinfer.engine.fastest`.

    Args:
        model: path of a file written by ageexport, or name of a model that comes with the package; None for the default
            one.
        precision: ``auto``, or the one that it must have: ``fp32``, ``fp16``, ``int8`` or ``mixed``.
        provider, threads: see `ageinfer.engine.sessions.open_session`.

    Attributes:
        metadata: what the file says of itself; ``metadata.crop`` is the crop that `estimate` must be given.
        times_as_fast: as the same model in other precisions, by precision, measured on this machine; empty where there
            was nothing to choose.

    Raises:
        ModelError: the file is missing, broken, changed, or not an age model of this project.
        UsageError: the model is not there in that precision.
        MissingDependencyError: the provider asked for by name cannot be used here.

    Example:
        >>> import numpy as np
        >>> estimator = AgeEstimator()
        >>> size = estimator.metadata.crop.size
        >>> [age] = estimator.estimate(np.full((1, size, size, 3), 128, np.uint8))
        >>> 0 <= age.age_years <= 100
        True
    """

    metadata: ModelMetadata
    times_as_fast: dict[str, float]

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        precision: str = "auto",
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise UsageError(f"unknown precision {precision!r}: use one of auto, {', '.join(PRECISIONS)}")
        network, self.times_as_fast = _open(model_files(model), precision, provider, threads)
        self.metadata, self._session = network.metadata, network.session
        self._at_once: int | None = None  # faces; None: all
        if self.provider == "cpu":
            self._at_once = max(1, _CPU_PIXELS * self.threads // self.metadata.crop.size**2)

    @property
    def threads(self) -> int:
        """Threads that the network may use."""
        return int(self._session.get_session_options().intra_op_num_threads)

    @property
    def provider(self) -> str:
        """The execution provider that the network really runs on."""
        return provider_of(self._session)

    def estimate(self, crops: Image) -> list[Age]:
        """Estimates the age of each crop, on a GPU all in one batch, on a CPU in batches that fit its cache.

        Args:
            crops: uint8 ``[n, size, size, 3]``, RGB, cut by `ageinfer.crop.cut.crop_face` with ``metadata.crop``.

        Returns:
            n ages, in the order of the crops.

        Raises:
            ValueError: the crops have another shape or type.
        """
        size = self.metadata.crop.size
        if crops.dtype != np.uint8 or crops.shape[1:] != (size, size, 3):
            raise ValueError(f"crops must be uint8 [n, {size}, {size}, 3], not {crops.dtype} {list(crops.shape)}")
        if len(crops) == 0:
            return []
        step = self._at_once or len(crops)
        found: list[Age] = []
        for start in range(0, len(crops), step):
            ages, stds = self._session.run(["age", "age_std"], {"face": crops[start : start + step]})
            found += [Age(age, std) for age, std in zip(ages.tolist(), stds.tolist(), strict=True)]
        return found


@dataclass(frozen=True, slots=True)
class _Network:
    metadata: ModelMetadata
    session: ort.InferenceSession

    @classmethod
    def open(cls, path: Path, provider: str, threads: int | None) -> "_Network":
        data = read_model(path)
        metadata = check_age_model(data, path)
        session = open_session(data, str(path), provider, threads)
        size = metadata.crop.size
        inputs = [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()]
        outputs = {o.name for o in session.get_outputs()}
        if inputs != [("face", "tensor(uint8)", [size, size, 3])] or not {"age", "age_std"} <= outputs:
            raise ModelError(f"{path}: takes {inputs}, gives {sorted(outputs)}, which is not what its metadata say")
        return cls(metadata, session)

    def trial(self) -> Callable[[], object]:
        size = self.metadata.crop.size
        faces = np.random.default_rng(0).integers(0, 256, (fastest.BATCH, size, size, 3), np.uint8)
        return partial(self.session.run, ["age", "age_std"], {"face": faces})


def _open(
    paths: Sequence[Path], precision: str, provider: str, threads: int | None
) -> tuple[_Network, dict[str, float]]:
    """Opens one of the files of a model, and says how many times as fast as the others it is if that decided."""
    if len(paths) == 1:
        network = _Network.open(paths[0], provider, threads)
        _check_precision(precision, [network.metadata.precision], paths[0])
        return network, {}
    files: dict[str, tuple[Path, str]] = {}
    for path in paths:
        stated = stated_metadata(path)
        files.setdefault(stated.precision, (path, stated.graph_sha256))
    _check_precision(precision, list(files), paths[0])
    if len(files) == 1:
        [precision] = files
    if precision != "auto":
        return _Network.open(files[precision][0], provider, threads), {}
    return _open_fastest(files, provider, threads)


def _open_fastest(
    files: Mapping[str, tuple[Path, str]], provider: str, threads: int | None
) -> tuple[_Network, dict[str, float]]:
    """The same for files by precision, each with the SHA-256 of its graph: all are opened if it must be measured."""
    circumstances = fastest.Circumstances.here({name: graph for name, (_, graph) in files.items()}, provider, threads)
    ms = fastest.recall(circumstances)
    if ms is not None:
        path, _ = files[fastest.winner(ms)]
        return _Network.open(path, provider, threads), fastest.times_as_fast(ms)
    networks = {name: _Network.open(path, provider, threads) for name, (path, _) in files.items()}
    ms = fastest.measure({name: network.trial() for name, network in networks.items()})
    log.info("measured here, %d faces: %s", fastest.BATCH, ", ".join(f"{name} {t:.2f} ms" for name, t in ms.items()))
    fastest.remember(circumstances, ms)
    return networks[fastest.winner(ms)], fastest.times_as_fast(ms)


def _check_precision(wanted: str, there: Sequence[str], path: Path) -> None:
    if wanted not in ("auto", *there):
        raise UsageError(
            f"{path}: is there in {' and '.join(there)}, not in {wanted}; leave --precision out, or use "
            f"--precision {there[0]}"
        )
