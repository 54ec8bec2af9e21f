"""Where a model file is run beside the CPU of this machine, and what comes out there."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ageexport.elsewhere import Places, arm64, browser
from ageexport.elsewhere.answers import Answers, answers_of
from ageexport.elsewhere.comparing import Comparison
from ageexport.ladder import Bounds, Rung
from ageinfer.pipeline import Pipeline

_MOST_PICTURES = 400
_READ_BY_BROWSERS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def rungs(model: bytes, pipeline: Pipeline, paths: Sequence[Path], bounds: Bounds, places: Places) -> list[Rung]:
    """Compares a model file in other runtimes with the runtime here, on the same picture files.

    Args:
        model: its bytes.
        pipeline: the runtime with it.
        paths: the pictures; those are taken that browsers read, too, and of more than 400, as many, chosen by a seed.
        bounds: to be kept.
        places: where else it is run.

    Raises:
        SourceError: a picture cannot be read.
    """
    readable = [path for path in paths if path.suffix.lower() in _READ_BY_BROWSERS]
    order = np.random.default_rng(0).permutation(len(readable))[:_MOST_PICTURES].tolist()
    chosen = [readable[i] for i in order]

    @cache
    def here() -> Answers:
        return answers_of(pipeline, chosen)

    comparison = Comparison(model, pipeline.estimator.metadata.precision, chosen, here, bounds, places.seconds)
    if not chosen:
        return [comparison.not_measured("browser and arm64", "there is no JPEG, PNG, WebP or BMP file")]
    return [*browser.rungs(comparison, places.onnxruntime_web), *arm64.rungs(comparison, places.arm64)]
