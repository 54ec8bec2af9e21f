"""The document ``aev.json``: its schema, and what makes it stand by itself."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from typing import Any

from agetrain.evaluation import aev
from agetrain.evaluation.records import Evaluation

VERSION = 1
Record = Mapping[str, Any]
_ABOUT = (
    "model", "model_sha256", "dataset", "part", "label", "split", "split_sha256", "detector", "seen_in_training",
)  # fmt: skip


def aev_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of ``aev.json``, with descriptions and units.

    Example:
        >>> aev_schema()["required"]
        ['version', 'date', 'versions', 'aev', 'films']
    """
    return json.loads(resources.files("agetrain").joinpath("schemas", "aev.json").read_text(encoding="utf-8"))


def record_of(evaluation: Evaluation, *, resamples: int = 1000) -> dict[str, Any]:
    """Computes the record of one evaluation: what was measured on what, and the figures of `aev.report`.

    Args:
        evaluation: with at least one picture whose age is exact.
        resamples: of the bootstrap, where a person has several pictures.
    """
    about = {key: evaluation.record[key] for key in _ABOUT}
    return about | aev.report(evaluation.rows, resamples=resamples)


def document(records: Sequence[Record], films: Sequence[Record] = ()) -> dict[str, Any]:
    """Puts the whole document together, as JSON values.

    Args:
        records: of `record_of`.
        films: of `agetrain.evaluation.film_steadiness.measure`, one for each model.
    """
    return {
        "version": VERSION, "date": date.today().isoformat(), "versions": versions(),
        "aev": list(records), "films": list(films),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Returns the versions of what computes the figures; that of torch where it was loaded, as for a checkpoint."""
    import cv2
    import numpy as np
    import onnxruntime

    import ageinfer

    torch = sys.modules.get("torch")
    return {
        "ageinfer": ageinfer.__version__, "python": platform.python_version(), "numpy": np.__version__,
        "opencv": cv2.__version__, "onnxruntime": onnxruntime.__version__,
        **({} if torch is None else {"torch": str(torch.__version__)}),
    }  # fmt: skip
