"""How far the answers of one model may lie apart on two machines, for `ageexport.ladder.Bounds`, too."""

from dataclasses import dataclass

BOX_PX = 0.1
AGE_YEARS = 0.05
# In other precisions than fp32, where processors round differently.
REDUCED_AGE_YEARS, REDUCED_MEAN_YEARS = 1.0, 0.2


@dataclass(frozen=True, slots=True)
class Agreement:
    """The bounds for two sets of answers.

    Attributes:
        box_px: largest difference of a box, in pixels.
        age_years, mean_years: largest and mean difference of ages, in years.
    """

    box_px: float
    age_years: float
    mean_years: float

    @classmethod
    def of(cls, *precisions: str) -> "Agreement":
        """The bounds for models in these precisions."""
        if set(precisions) == {"fp32"}:
            return cls(BOX_PX, AGE_YEARS, AGE_YEARS)
        return cls(BOX_PX, REDUCED_AGE_YEARS, REDUCED_MEAN_YEARS)
