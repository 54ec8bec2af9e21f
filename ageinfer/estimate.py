"""Ages from face crops: one ONNX session over a batch."""

import logging
from pathlib import Path

import numpy as np

from ageinfer.errors import ModelError
from ageinfer.modelfile import DEFAULT_MODEL, ModelMetadata, check_age_model, packaged_model, read_model
from ageinfer.providers import open_session, provider_of
from ageinfer.types import Age, Image

log = logging.getLogger(__name__)


class AgeEstimator:
    """An age model, checked and opened.

    Args:
        model: path of a file written by ageexport; None for the one that comes with the package.
        provider, threads: see `ageinfer.providers.open_session`.

    Attributes:
        metadata: what the file says of itself; ``metadata.crop`` is the crop that `estimate` must be given.

    Raises:
        ModelError: the file is missing, broken, changed, or not an age model of this project.
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

    def __init__(self, model: str | Path | None = None, *, provider: str = "auto", threads: int | None = None) -> None:
        path = packaged_model(DEFAULT_MODEL) if model is None else Path(model)
        data = read_model(path)
        self.metadata = check_age_model(data, path)
        self._session = open_session(data, str(path), provider, threads)
        size = self.metadata.crop.size
        inputs = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        outputs = {o.name for o in self._session.get_outputs()}
        if inputs != [("face", "tensor(uint8)", [size, size, 3])] or not {"age", "age_std"} <= outputs:
            raise ModelError(f"{path}: takes {inputs}, gives {sorted(outputs)}, which is not what its metadata say")

    @property
    def threads(self) -> int:
        """Threads that the network may use."""
        return int(self._session.get_session_options().intra_op_num_threads)

    @property
    def provider(self) -> str:
        """The execution provider that the network really runs on."""
        return provider_of(self._session)

    def estimate(self, crops: Image) -> list[Age]:
        """Estimates the age of each crop.

        Args:
            crops: uint8 ``[n, size, size, 3]``, RGB, cut by `ageinfer.faces.crop_face` with ``metadata.crop``.

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
        ages, stds = self._session.run(["age", "age_std"], {"face": crops})
        return [Age(age, std) for age, std in zip(ages.tolist(), stds.tolist(), strict=True)]
