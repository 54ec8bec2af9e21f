"""Measuring a model from Python: one call, and a report that can be printed, drawn and compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agetrain._files import write_json, write_text
from agetrain.data import Data
from agetrain.evaluation import report
from agetrain.evaluation.comparing import Difference, differences
from agetrain.evaluation.models import open_model
from agetrain.evaluation.records import Evaluation, Setup, check_datasets, evaluate_part
from agetrain.evaluation.rows import Row, write_rows


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What was measured of one model, on one part of one or several data sets.

    Attributes:
        evaluations: one for each data set.
    """

    evaluations: tuple[Evaluation, ...]

    @property
    def records(self) -> list[dict[str, Any]]:
        """All figures of each data set, as JSON values."""
        return [evaluation.record for evaluation in self.evaluations]

    @property
    def rows(self) -> list[Row]:
        """A row for each picture, of all data sets."""
        return [row for evaluation in self.evaluations for row in evaluation.rows]

    def table(self) -> str:
        """Returns the figures as a Markdown table, a line for each data set."""
        return "\n".join(report.table(self.records))

    def markdown(self) -> str:
        """Returns everything that was measured as Markdown."""
        return report.markdown(self.records)

    def plot(self) -> Any:
        """Draws answers over labels, the cumulative score and the errors by age; returns matplotlib's figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        return report.figure(self.records, [evaluation.answers for evaluation in self.evaluations])

    def compare(self, other: "Report", *, resamples: int = 2000) -> list[Difference]:
        """Compares with another model on the same pictures, see `agetrain.evaluation.comparing.differences`.

        Raises:
            UsageError: the two have no picture in common.
        """
        return differences(self.rows, other.rows, resamples=resamples)

    def save(self, folder: str | Path) -> None:
        """Writes ``evaluation.json``, ``.md``, ``.png`` and ``rows.csv`` into a folder.

        Raises:
            OutputError: it cannot be written.
        """
        folder = Path(folder)
        write_json(folder / "evaluation.json", {"evaluations": self.records})
        write_text(folder / "evaluation.md", self.markdown())
        report.draw(folder / "evaluation.png", self.records, [e.answers for e in self.evaluations])
        write_rows(folder / "rows.csv", self.rows)

    def __repr__(self) -> str:
        return "\n".join(report.line(record) for record in self.records)


def evaluate_model(
    model: str | Path, data: str | Path | Data | Sequence[str | Path | Data], setup: Setup | None = None, *,
    part: str | None = None, device: str = "cpu", trust_code: bool = False,
) -> Report:  # fmt: skip
    """Measures an age model on labelled pictures: picture file in, detector and crop included.

    Args:
        model: a checkpoint (``best.pth``) or a model file (``*.onnx``).
        data: `Data`, or what names a data set (``NAME``, ``NAME=DIR``, the path of own data), or several of these.
        setup: which part, which label, which detector; None for the defaults of `Setup`.
        part: short for ``Setup(part=...)``.
        device: that a checkpoint computes on.
        trust_code: whether code of your own may be run, for a checkpoint whose backbone is made by it.

    Returns:
        The report. Each of its ``records`` has ``mae``, ``rmse``, ``bias`` and ``mae_interval_95`` in years,
        ``cs5_percent``, figures by age and attribute, and what was measured on what. Where ages are only known as
        intervals, their figures stand apart under ``intervals``.

    Raises:
        UsageError: the data and the setup do not fit together.
        DatasetError: the data cannot be read, or too many of its pictures cannot be used.
        CheckpointError: the checkpoint cannot be used.
        ageinfer.errors.ModelError: the runtime refuses the model file.

    Example:
        With a folder in the layout of APPA-REAL in ``folder``:

        >>> import agetrain
        >>> report = agetrain.evaluate_model("models/age-small.onnx", agetrain.Data.known("appa-real", folder))
        >>> [record] = report.records
        >>> record["dataset"], record["part"], record["n"], record["detection_rate_percent"]
        ('appa-real', 'valid', 8, 100.0)
        >>> record["mae_interval_95"][0] < record["mae"] < record["mae_interval_95"][1]
        True
        >>> len(report.rows), report.rows[0].found
        (8, True)
    """
    chosen = setup or Setup(part=part)
    sets: Sequence[str | Path | Data] = [data] if isinstance(data, str | Path | Data) else list(data)
    check_datasets(sets, chosen)
    path = Path(model)
    opened = open_model(path, device, trust_code=trust_code)
    return Report(tuple(evaluate_part(opened, path, each, chosen) for each in sets))
