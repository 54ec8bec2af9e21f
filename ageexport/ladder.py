"""The proof of a model file: checks, each with its figure and the bound that it had to stay within."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ageexport.gate import Judgement

from ageinfer.proving import agreement

PRECISIONS = ("fp32", "int8", "fp16")
LAST_LEVEL = "L5"  # in other runtimes
Status = Literal["passed", "failed", "reported", "not judged", "not measured"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds that a model file must stay within, in years unless their name says otherwise.

    Attributes:
        tensor: largest difference between two fp32 implementations on the same pixels. Rounding alone gives up to
            1.5e-4 for the shipped models.
        mae: between the MAE of the checkpoint and that of the file through the deployed path.
        fp16_mae: between the MAE of the fp16 and of the fp32 file.
        int8_mae, int8_decade_mae: between the MAE of a quantised and of the fp32 file, over all faces and in every
            decade of age that has ``fewest_in_decade`` of them.
        chance: how many standard errors the difference of the MAEs of a quantised and of the fp32 file may have in any
            case: with few faces, chance gives more than ``int8_mae``, which is meant for a thousand.
        int8_mae_of_few: to which ``chance`` may widen the bound at most.
        int8_time: largest share of the fp32 file's time that a quantised file may take to be worth a file.
        int8_small_time: the same for a quantised file of at most ``int8_small`` of the fp32 file's size, which is worth
            a file for that. The time depends on the machine: where ``int8_time`` is infinite, it is only reported.
        int8_small: see there.
        tf32: largest difference to fp32 on CUDA when it may multiply in TF32.
        fewest_faces: that a proof needs.
        fewest_labelled: pictures with a label that a comparison of errors needs; with fewer, fp32 is not judged by it.
        fewest_in_decade: faces that a decade needs to be judged.
        fewest_equal_pixels_percent: of the pack's pictures, those whose crop must be what training saw, byte for byte.
            Other processors may round a box to the other quarter of a pixel now and then; another resizing filter
            changes every crop.
        box_px: between the box of a face in another runtime and here, in pixels.
        crop_percent: of the values of its crop, those that are within one level of those here.
        elsewhere: between its age in another runtime and here, in fp32.
        reduced_elsewhere, reduced_elsewhere_mean: the same in another precision, where processors round differently,
            for each face and on average.
    """

    tensor: float = 1e-3
    mae: float = 0.005
    fp16_mae: float = 0.01
    int8_mae: float = 0.05
    int8_decade_mae: float = 0.2
    chance: float = 2.0
    int8_mae_of_few: float = 0.25
    int8_time: float = 0.8
    int8_small_time: float = 0.95
    int8_small: float = 0.5
    tf32: float = 0.02
    fewest_faces: int = 20
    fewest_labelled: int = 50
    fewest_in_decade: int = 50
    fewest_equal_pixels_percent: float = 95.0
    box_px: float = agreement.BOX_PX
    crop_percent: float = 99.9
    elsewhere: float = agreement.AGE_YEARS
    reduced_elsewhere: float = agreement.REDUCED_AGE_YEARS
    reduced_elsewhere_mean: float = agreement.REDUCED_MEAN_YEARS


@dataclass(frozen=True, slots=True)
class Rung:
    """One check of a proof.

    Attributes:
        level: ``L0`` to `LAST_LEVEL`.
        what: was compared, in words.
        figure: what came out; None where nothing was measured.
        bound: that it had to stay within; None where it is only reported.
        unit: of both.
        n: pictures, faces or files that it was measured on.
        status: ``passed``, ``failed``, ``reported`` (has no bound), ``not judged`` (too few faces) or ``not measured``
            (what it needs is not on this machine).
        provider: that the file was run on.
        note: why it was not measured, or what failed.
    """

    level: str
    what: str
    figure: float | None
    bound: float | None
    unit: str
    n: int
    status: Status
    provider: str = "cpu"
    note: str = ""

    @classmethod
    def at_most(cls, level: str, what: str, figure: float, bound: float, n: int, **more: Any) -> "Rung":
        """Makes a check of a difference in years against its largest allowed value; NaN fails."""
        status: Status = "passed" if figure <= bound else "failed"
        return cls(level, what, float(figure), bound, "years", n, status, **more)

    def __str__(self) -> str:
        figure = "-" if self.figure is None else f"{self.figure:.3g}"
        bound = "" if self.bound is None else f" (bound {self.bound:g})"
        note = f": {self.note}" if self.note else ""
        measured = f"{figure}{bound} {self.unit}, n {self.n}, {self.provider}"
        return f"{self.level} {self.what}: {measured}: {self.status}{note}"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The proof of one model file: all checks, from the lowest level to the highest.

    Attributes:
        precision: of the file.
        origin: of the pictures.
        pictures, faces: how many were looked at, and how many held a face.
        machine: processor and versions that it was proved with.
        rungs: from the lowest to the highest.
        figures: of the file on these pictures through the deployed path, see `agetrain.evaluation.figures.evaluate`.
        gate: what the gates say of the file; None without any.
    """

    precision: str
    origin: str
    pictures: int
    faces: int
    machine: dict[str, str]
    rungs: tuple[Rung, ...]
    figures: dict[str, Any]
    gate: "Judgement | None" = None

    @property
    def failed(self) -> tuple[Rung, ...]:
        """The checks that failed; empty when the file is proved."""
        return tuple(rung for rung in self.rungs if rung.status == "failed")

    @property
    def keeps_gate(self) -> bool:
        """Whether no group of people is beyond the bounds of a gate."""
        return self.gate is None or not self.gate.failed

    def figure(self, level: str, beginning: str) -> float | None:
        """Returns the figure of the first check of a level whose words begin so."""
        return next(r.figure for r in self.rungs if r.level == level and r.what.startswith(beginning))

    def to_dict(self) -> dict[str, Any]:
        """Returns the proof as JSON values."""
        return {**asdict(self), "rungs": [asdict(rung) for rung in self.rungs]}
