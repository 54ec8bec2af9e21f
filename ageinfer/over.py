"""Whether somebody has reached an age: over, under, or better referred to a person who looks at a document.

It verifies nobody's age. An answer is given only where the model file says how often such an answer was wrong, and for
faces that are seen as well as those on which that was measured; everybody else is referred.
"""

from ageinfer.engine.modelfile import ModelMetadata
from ageinfer.engine.operating import OperatingPoint
from ageinfer.errors import UsageError
from ageinfer.types import Age, Over

_OLDEST_YEARS = 120


class AgeCheck:
    """Answers whether somebody has reached an age.

    Args:
        years: that are asked about, 1 to 120.
        metadata: of the age model.
        detector: identifier of what finds the faces.

    Attributes:
        years: as given.
        point: of the model file; None where it says nothing of this age that holds for this model and detector.
        why: nobody gets an answer; empty where there is a point that held.

    Raises:
        UsageError: the age is out of range.

    Example:
        >>> check = AgeCheck(18, metadata, "yunet")  # doctest: +SKIP
        >>> check.of(Age(41.0, 5.0, quality=0.9)).answer  # doctest: +SKIP
        'over'
    """

    def __init__(self, years: int, metadata: ModelMetadata, detector: str) -> None:
        if not 1 <= years <= _OLDEST_YEARS:
            raise UsageError(f"--over {years}: use whole years, 1 to {_OLDEST_YEARS}")
        self.years = years
        self.point, self.why = _point(years, metadata, detector)

    def of(self, age: Age | None) -> Over:
        """Answers for one age; None, where nothing is known of it, is referred."""
        chance = None if age is None else age.at_least(self.years)
        if age is None or self.point is None or self.why:
            return _refer(self.years, chance, self.why or "no age")
        point = self.point
        if point.least_quality is not None and (age.quality is None or age.quality < point.least_quality):
            return _refer(self.years, chance, "quality")
        if age.age_years >= point.over_from_years:
            return Over(self.years, chance, "over") if point.over_held else _refer(self.years, chance, "not held")
        if age.age_years < point.under_below_years:
            return Over(self.years, chance, "under") if point.under_held else _refer(self.years, chance, "not held")
        return _refer(self.years, chance, "between")

    @property
    def in_words(self) -> str:
        """What the answers rest on, or why there is none, in one line."""
        point = self.point
        if point is None:
            return (
                f"--over {self.years}: the model file has no operating point for this age and detector, so everybody "
                "is referred; python -m ageexport.points measures one"
            )
        of = "{}-{} years".format(*point.below_years)
        measured = f"of people of {of}, {point.false_positive} were answered over"
        if self.why:
            return (
                f"--over {self.years}: everybody is referred, because the operating point does not keep the "
                f"{point.stated_percent:g} % that it states: {measured}"
            )
        answers = [f"over from {point.over_from_years:.1f} estimated years"] if point.over_held else []
        answers += [f"under below {point.under_below_years:.1f}"] if point.under_held else []
        return f"--over {self.years}: {', '.join(answers)}, else referred; {measured}. This verifies nobody's age"


def _point(years: int, metadata: ModelMetadata, detector: str) -> tuple[OperatingPoint | None, str]:
    point = next((point for point in metadata.operating_points if point.years == years), None)
    if point is None or point.graph_sha256 != metadata.graph_sha256 or point.detector != detector:
        return None, "no evidence"
    return point, "" if point.over_held or point.under_held else "not held"


def _refer(years: int, chance: float | None, why: str) -> Over:
    return Over(years, chance, "refer", why)
