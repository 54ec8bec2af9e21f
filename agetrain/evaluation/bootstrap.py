"""Intervals of means by resampling people."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


class Bootstrap:
    """95 % intervals by resampling subjects, with all their pictures (Efron, 1979; percentile interval).

    Args:
        subjects: ``[n]``, of each picture.
        resamples: how many.
        seed: of the draws.
    """

    def __init__(self, subjects: npt.NDArray[np.str_], resamples: int, seed: int) -> None:
        names, self._subject = np.unique(subjects, return_inverse=True)
        self._count = len(names)
        self._resamples = resamples
        self._seed = seed

    def of_mean(self, values: Array, chosen: npt.NDArray[np.bool_] | None = None) -> list[float]:
        """Returns the lower and upper end for the mean of ``values`` (of the chosen pictures), to 4 decimals."""
        weight = np.ones(len(values)) if chosen is None else chosen.astype(float)
        sums = np.bincount(self._subject, values * weight, self._count)
        counts = np.bincount(self._subject, weight, self._count)
        present = np.flatnonzero(counts)
        sums, counts = sums[present], counts[present]
        random = np.random.default_rng(self._seed)
        means = []
        for _ in range(self._resamples):
            times = np.bincount(random.integers(0, len(present), len(present)), minlength=len(present))
            means.append((times * sums).sum() / (times * counts).sum())
        return [round(float(v), 4) for v in np.percentile(means, [2.5, 97.5])]
