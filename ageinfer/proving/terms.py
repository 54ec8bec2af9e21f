"""The terms of age verification, which ``python -m agetrain.evaluate --report aev`` shares."""

import math
from statistics import NormalDist

LEGAL_YEARS = 18
CUTOFFS_YEARS = (18, 21, 25, 28, 30)
MINORS_YEARS = (13, 17)
ADULTS_YEARS = (18, 30)
_Z = NormalDist().inv_cdf(0.975)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n independent people (Wilson, 1927).

    Example:
        >>> [round(end, 4) for end in wilson(0, 10)]
        [0.0, 0.2775]
    """
    z2 = _Z**2
    middle, half = share + z2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))
