"""The age of one track: when it is estimated again, and one steady age from the estimates of single frames."""

from collections import deque

import numpy as np

from ageinfer.types import Age

# The memory is a histogram over ages, so that it costs the same after a second and after a day.
_BIN_YEARS, _OLDEST_YEARS = 0.25, 125.0
_PLACES = np.arange(round(_OLDEST_YEARS / _BIN_YEARS))
_CENTRES = (_PLACES + 0.5) * _BIN_YEARS
# A frame's weight is halved after so long.
_HALF_LIFE_S = 20.0
# Values further from the median than this many robust standard deviations (1.4826 times the median absolute
# deviation) are left out of the mean; at least so many years count as near.
_OUTLIER_DEVIATIONS, _LEAST_SPREAD_YEARS = 2.0, 1.0
_MAD_TO_STD = 1.4826
# Until then the shown age follows the mean; afterwards it stays for as long as the mean stays within this share of the
# model's own standard deviation, which is far below what the model can tell.
_SETTLING_S, _DEAD_BAND = 2.0, 0.35
# Ages of the last second that lie further from the shown one than this many standard deviations of the model, all of
# them together, are another person's.
_RECENT_S, _RECENT_LEAST_S, _RECENT_LEAST_COUNT, _CHANGE = 1.0, 0.7, 4, 1.25
_RUNNING = 0.1  # share of a new estimate in a running mean
_TIME_ROUNDING_S = 1e-3  # of the times of frames, so that 0.2 s at 25 frames a second are five of them


class AgeHistogram:
    """Estimates of one face, of which a few may lie far from all others, as grimaces and turned heads do."""

    def __init__(self) -> None:
        self._weights = np.zeros(len(_CENTRES))

    def add(self, age_years: float, weight: float) -> None:
        """Takes an estimate; years beyond 0 to 125 count as the nearest of them."""
        place = int(min(max(age_years, 0.0), _OLDEST_YEARS - _BIN_YEARS) / _BIN_YEARS)
        self._weights[place] += weight

    def fade(self, factor: float) -> None:
        """Lets all estimates so far count less."""
        self._weights *= factor

    def mean_and_variance(self) -> tuple[float, float]:
        """Of the estimates that are near the weighted median; in years, and in years squared.

        Near are two robust standard deviations (1.4826 times the median absolute deviation), at least two years.
        """
        median = _median_place(self._weights)
        # The weights by their distance from the median, in bins: sorted without sorting.
        spread = _median_place(np.bincount(np.abs(_PLACES - median), self._weights)) * _BIN_YEARS * _MAD_TO_STD
        reach = int(_OUTLIER_DEVIATIONS * max(spread, _LEAST_SPREAD_YEARS) / _BIN_YEARS)
        near = slice(max(0, median - reach), median + reach + 1)
        weights = self._weights[near]
        mean = float(weights @ _CENTRES[near] / weights.sum())
        return mean, float(weights @ (_CENTRES[near] - mean) ** 2 / weights.sum())


class AgeFusion:
    """The age of one track.

    A frame counts by the inverse of the standard deviation that the model gives it (of the variance would favour the
    young: models are less certain of old faces), and the less the longer ago it is. The mean is
    taken robustly: without what lies far from the weighted median, as grimaces and turned heads do. The errors of the
    frames of one track are not independent, so a long track does not make the age exact: the result settles within
    the first two seconds and then moves only when the mean has left it by a third of the model's standard deviation.
    Where a whole second of frames contradicts it, another person has taken the place, and it begins anew.

    Example:
        >>> fusion = AgeFusion()
        >>> [round(fusion.add(Age(age, 5.0), i / 25), 1) for i, age in enumerate([30, 31, 90, 30, 32])]
        [30.1, 30.6, 30.6, 30.5, 30.9]
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._histogram = AgeHistogram()
        self._recent: deque[tuple[float, Age]] = deque()
        self._began_s: float | None = None
        self._last_s = 0.0
        self._variance = 0.0  # running mean of the model's own
        self._quality: float | None = None  # likewise, of the views
        self._shown = 0.0

    def add(self, age: Age, time_s: float) -> float:
        """Takes the estimate of the next frame.

        Args:
            age: of that frame.
            time_s: of that frame, in seconds; never less than before.

        Returns:
            The age of the track so far, in years.
        """
        self._recent.append((time_s, age))
        while time_s - self._recent[0][0] > _RECENT_S:
            self._recent.popleft()
        if self._is_another(time_s):
            recent = list(self._recent)
            self._begin()
            for earlier_s, earlier in recent[:-1]:
                self._take(earlier, earlier_s)
            self._recent.extend(recent)
        self._take(age, time_s)
        mean, _ = self._histogram.mean_and_variance()
        band = _DEAD_BAND * self._variance**0.5 if self.settled(time_s) else 0.0
        self._shown = min(max(self._shown, mean - band), mean + band)
        return self._shown

    def settled(self, time_s: float) -> bool:
        """Whether the age has stopped following every frame: two seconds after it began, or began anew."""
        return self._began_s is not None and time_s - self._began_s >= _SETTLING_S

    @property
    def age(self) -> Age:
        """The age of the track so far: what `add` returned last, with the deviation and quality of its estimates.

        The deviation is that of one estimate: those of one face err alike.
        """
        return Age(self._shown, self._variance**0.5, self._quality)

    def _take(self, age: Age, time_s: float) -> None:
        variance = max(age.std_years, 0.5) ** 2
        if self._began_s is None:
            self._began_s, self._last_s, self._variance = time_s, time_s, variance
            self._quality = age.quality
        self._variance += _RUNNING * (variance - self._variance)
        if age.quality is not None and self._quality is not None:
            self._quality += _RUNNING * (age.quality - self._quality)
        self._histogram.fade(0.5 ** ((time_s - self._last_s) / _HALF_LIFE_S))
        self._last_s = time_s
        self._histogram.add(age.age_years, variance**-0.5)

    def _is_another(self, time_s: float) -> bool:
        if not self.settled(time_s):
            return False
        if len(self._recent) < _RECENT_LEAST_COUNT or time_s - self._recent[0][0] < _RECENT_LEAST_S:
            return False
        limit = _CHANGE * self._variance**0.5
        distances = [age.age_years - self._shown for _, age in self._recent]
        return min(distances) > limit or max(distances) < -limit


class TrackAge:
    """The age of one face: its newest estimate, and the one over its track.

    This is the one place that decides whether a face is estimated again.

    Attributes:
        newest: of the last frame in which it was estimated, None before the first.
        estimated_s: time of that frame in seconds.
    """

    def __init__(self) -> None:
        self.newest: Age | None = None
        self.estimated_s = 0.0
        self._fusion = AgeFusion()

    def due(self, time_s: float, interval_s: float, asked_s: float | None = None) -> bool:
        """Tells whether the face is to be estimated in a frame.

        An age that has not settled is estimated in every frame. An age that has settled gains nothing from 25 estimates
        a second, and is estimated once in an interval.

        Args:
            time_s: of the frame, in seconds.
            interval_s: between two estimates of a face whose age has settled, in seconds.
            asked_s: time of a frame before this one whose estimate is still being made; None: there is none.
        """
        if self.newest is None or not self._fusion.settled(time_s):
            return True
        last_s = self.estimated_s if asked_s is None else asked_s
        return time_s - last_s > interval_s - _TIME_ROUNDING_S

    def take(self, age: Age, time_s: float) -> None:
        """Takes the estimate of a frame, whose time in seconds is later than all before."""
        self.newest, self.estimated_s = age, time_s
        self._fusion.add(age, time_s)

    @property
    def steady(self) -> Age:
        """The age over the track so far, see `AgeFusion.age`."""
        return self._fusion.age


def _median_place(weights: np.ndarray) -> int:
    """The first place at which half of the weight is reached."""
    sums = weights.cumsum()
    return int(sums.searchsorted(sums[-1] / 2))
