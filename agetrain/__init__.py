"""Trains age networks on real data: data sets, recipes, the training loop, metrics and checkpoints.

`Data` is labelled pictures, anybody's own or of a data set that agetrain knows; `fit` trains on them, `evaluate_model`
measures a checkpoint or a model file, `calibrate_model` makes its deviation mean what it says, `Checkpoint` reads and
writes
``best.pth``.

Names are loaded when they are first used, so that ``import agetrain`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agetrain.data import Data
    from agetrain.evaluation.aev_document import aev_schema
    from agetrain.evaluation.calibrating import calibrate_model
    from agetrain.evaluation.evaluated import Report, evaluate_model
    from agetrain.evaluation.records import Setup
    from agetrain.network.checkpoint import Checkpoint
    from agetrain.recipe import Augmentation, Recipe
    from agetrain.run_config import RunConfig
    from agetrain.training.callbacks import EpochEnd
    from agetrain.training.finish import TrainingResult
    from agetrain.training.fitting import fit

_HOMES = {
    "Augmentation": "recipe",
    "Checkpoint": "network.checkpoint",
    "Data": "data",
    "EpochEnd": "training.callbacks",
    "Recipe": "recipe",
    "Report": "evaluation.evaluated",
    "RunConfig": "run_config",
    "Setup": "evaluation.records",
    "TrainingResult": "training.finish",
    "aev_schema": "evaluation.aev_document",
    "calibrate_model": "evaluation.calibrating",
    "evaluate_model": "evaluation.evaluated",
    "fit": "training.fitting",
}

__all__ = [
    "Augmentation",
    "Checkpoint",
    "Data",
    "EpochEnd",
    "Recipe",
    "Report",
    "RunConfig",
    "Setup",
    "TrainingResult",
    "aev_schema",
    "calibrate_model",
    "evaluate_model",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agetrain' has no attribute {name!r}")
    return getattr(import_module(f"agetrain.{_HOMES[name]}"), name)
