"""Ages from face crops: the age model, opened in one precision and asked in batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ageinfer.engine.batches import Batches
from ageinfer.engine.cores import usable_cores
from ageinfer.engine.modelfile import (
    PRECISIONS,
    ModelMetadata,
    check_age_model,
    model_files,
    read_model,
    stated_metadata,
)
from ageinfer.engine.sessions import GPU_PROVIDERS, Network, first_provider, interruptible, open_network
from ageinfer.errors import ModelError, UsageError
from ageinfer.types import Age, Image

# What a CPU is given at once, in pixels of crops: what the layers of more faces hand on leaves its cache.
# In one piece, 20 faces took 1.1 to 1.3 times as long (one thread, AMD EPYC, the shipped models of 2026-11-26).
# It does not grow with the threads: the last digits of an answer depend on what was asked together.
_CPU_PIXELS = 1 << 16
# So far outside of the range in the metadata an answer may lie: rounding errors of a mean over all ages; and of a
# network that gives years as they are, without limits, what it makes of very young and very old faces.
_SLACK_YEARS = {"expectation": 0.5, "linear": 20.0}
_GREY = 128


class AgeEstimator:
    """An age model, checked and opened.

    The same model gives the same answers on every machine: a model that is shipped in several precisions is opened in 8
    bits on a CPU and in 32 bits on a GPU, unless a precision is asked for.

    Args:
        model: path of a file written by ageexport, the bytes of such a file, or the name of a shipped model; None for
            the default model.
        precision: ``auto``, or the precision that the model must have: ``fp32``, ``fp16``, ``int8`` or ``mixed``.
        provider, threads: see `ageinfer.engine.sessions.open_session`.

    Attributes:
        metadata: what the file says of itself; ``metadata.crop`` is the crop that `estimate` must be given.
        network: that is asked.

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
    network: Network

    def __init__(
        self,
        model: str | Path | bytes | None = None,
        *,
        precision: str = "auto",
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise UsageError(f"unknown precision {precision!r}: use one of auto, {', '.join(PRECISIONS)}")
        if isinstance(model, bytes):
            data, path = model, Path("the model")
        else:
            path = chosen_file(model, precision, provider)
            data = read_model(path)
        self.metadata = check_age_model(data, path)
        _check_precision(precision, [self.metadata.precision], path)
        self._name = str(path)
        self.network = interruptible(lambda: open_network(data, self._name, provider, threads))
        self._check_network()
        self._at_once: int | None = None  # faces; None: all
        side_by_side = 1
        if self.provider == "cpu":
            self._at_once = max(1, _CPU_PIXELS // self.metadata.crop.size**2)
            side_by_side = max(1, int(usable_cores()) // self.threads)
        self._batches = Batches(self._answers, most_rows=self._at_once, side_by_side=side_by_side)
        size = self.metadata.crop.size
        interruptible(lambda: self.estimate(np.full((1, size, size, 3), _GREY, np.uint8)))  # on trial

    @property
    def identifier(self) -> str:
        """Name and precision of the model, as records have it: ``age-small@int8``."""
        return f"{self.metadata.name}@{self.metadata.precision}"

    @property
    def threads(self) -> int:
        """Threads that the network may use."""
        return self.network.threads

    @property
    def provider(self) -> str:
        """The execution provider that the network really runs on."""
        return self.network.provider

    def estimate(self, crops: Image) -> list[Age]:
        """Estimates the age of each crop, on a GPU all in one batch, on a CPU in batches that fit its cache.

        Several threads may call it; their crops then share batches.

        Args:
            crops: uint8 ``[n, size, size, 3]``, RGB, cut by `ageinfer.crop.cut.crop_face` with ``metadata.crop``.

        Returns:
            n ages, in the order of the crops.

        Raises:
            ValueError: the crops have another shape or type.
            ModelError: the model answers with anything but ages in the range that its metadata state.
        """
        size = self.metadata.crop.size
        if crops.dtype != np.uint8 or crops.shape[1:] != (size, size, 3):
            raise ValueError(f"crops must be uint8 [n, {size}, {size}, 3], not {crops.dtype} {list(crops.shape)}")
        return list(self._batches(crops)) if len(crops) else []

    def _answers(self, crops: Image) -> list[Age]:
        step = self._at_once or len(crops)
        found: list[Age] = []
        for start in range(0, len(crops), step):
            part = crops[start : start + step]
            ages, stds = self.network.run(["age", "age_std"], {"face": part})
            self._check_answers(len(part), ages, stds)
            found += [Age(age, std) for age, std in zip(ages.tolist(), stds.tolist(), strict=True)]
        return found

    def _check_answers(self, count: int, ages: np.ndarray, stds: np.ndarray) -> None:
        for name, values in (("age", ages), ("age_std", stds)):
            kind, shape = getattr(values, "dtype", type(values).__name__), list(getattr(values, "shape", ()))
            if kind != np.float32 or shape != [count]:
                raise ModelError(
                    f"{self._name}: answers with {name} {kind} {shape} for {count} face(s), not float32 [{count}]; "
                    "export it again"
                )
        lowest, highest = self.metadata.age_range
        slack = _SLACK_YEARS[self.metadata.decode]
        # A NaN is no age either.
        possible = (ages >= lowest - slack) & (ages <= highest + slack) & (stds >= 0) & (stds <= highest - lowest)
        if not possible.all():
            worst = int(possible.argmin())
            raise ModelError(
                f"{self._name}: answers with an age of {ages[worst]:g} years and a deviation of {stds[worst]:g}, its "
                f"metadata say {lowest:g} to {highest:g} years; export it again"
            )

    def _check_network(self) -> None:
        size = self.metadata.crop.size
        inputs = [(name, kind, shape[1:]) for name, kind, shape in self.network.inputs]
        outputs = set(self.network.outputs)
        if inputs != [("face", "tensor(uint8)", [size, size, 3])] or not {"age", "age_std"} <= outputs:
            raise ModelError(
                f"{self._name}: takes {inputs}, gives {sorted(outputs)}, which is not what its metadata say"
            )


def precisions_of(model: str | Path | None) -> dict[str, Path]:
    """The files of a model by their precision: of a shipped model perhaps several, the default one first.

    Raises:
        ModelError: there is no such model, or a file does not say its precision.
    """
    return _by_precision(model_files(model))


def _by_precision(paths: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        files.setdefault(stated_metadata(path).precision, path)
    return files


def chosen_file(model: str | Path | None, precision: str = "auto", provider: str = "auto") -> Path:
    """The file that is opened for a model: the one that was asked for, else 8 bits on a CPU and 32 bits on a GPU.

    Raises:
        ModelError: there is no such model.
        UsageError: it is not there in that precision.
    """
    paths = model_files(model)
    if len(paths) == 1:
        return paths[0]
    files = _by_precision(paths)
    _check_precision(precision, list(files), paths[0])
    if precision == "auto":
        precision = "fp32" if first_provider(provider) in GPU_PROVIDERS else "int8"
    return files.get(precision, paths[0])


def _check_precision(wanted: str, there: Sequence[str], path: Path) -> None:
    if wanted not in ("auto", *there):
        raise UsageError(
            f"{path}: is there in {' and '.join(there)}, not in {wanted}; leave --precision out, or use "
            f"--precision {there[0]}"
        )
