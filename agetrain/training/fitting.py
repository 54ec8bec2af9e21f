"""Training from Python: one call, on anybody's own faces or on a data set that agetrain knows."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from agetrain import experiments
from agetrain.data import Data
from agetrain.errors import UsageError
from agetrain.network.weights import recipe_of_start
from agetrain.recipe import Augmentation, Recipe
from agetrain.run_config import RunConfig
from agetrain.training.callbacks import Augment, Callback
from agetrain.training.finish import TrainingResult
from agetrain.training.run import train_run


def fit(
    data: Data | str | Path | Sequence[Data | str | Path], recipe: Recipe | str = "best", *, label: str | None = None,
    out: str | Path | None = None, cache: str | Path = "cache", weights: str | Path | None = None,
    teachers: Iterable[str | Path] = (), augment: Augment | None = None, callbacks: Iterable[Callback] = (),
    resume: bool = False, overwrite: bool = False, device: str | None = None, wandb: str = "disabled",
    trust_code: bool = False, **changes: Any,
) -> TrainingResult:  # fmt: skip
    """Trains an age network and writes its checkpoint, its figures and a report into a folder.

    It needs no ``if __name__ == "__main__"`` and works in a notebook. Under ``torchrun`` the processes share the run;
    each returns the same result.

    Args:
        data: to learn from: `Data`, or what names a data set (``NAME``, ``NAME=DIR``, the path of own data);
            or several.
        recipe: how to train: a `Recipe`, or the name of an experiment (``best``, ``A8``).
        label: ``real`` or ``apparent`` age; None for what the data has.
        out: folder for the results; None for ``runs/NAME-LABEL-EXPERIMENT``.
        cache: folder of the face crops, which are made once.
        weights: starting weights, see `RunConfig`. A checkpoint brings its network and its crop with it, unless these
            are among ``changes`` or ``recipe`` is a `Recipe`.
        teachers: what to learn from beside the labels, see `RunConfig`.
        augment: changes each batch after the augmentation of the recipe. It is given float32 ``[n, 3, side, side]``,
            RGB, 0 to 255, on the training device, and returns the like.
        callbacks: are called with an `EpochEnd` after each epoch; one that returns True ends the run there.
        resume: go on with the interrupted run in ``out``.
        overwrite: replace the run that is in ``out``.
        device: ``cpu``, ``cuda``, ...; None for CUDA where there is one.
        wandb: ``auto``, ``online``, ``offline`` or ``disabled``.
        trust_code: whether code of your own may be run, for a backbone ``FILE.py:FUNCTION``.
        **changes: fields of `Recipe` that differ, as ``epochs=10, backbone="torchvision:mobilenet_v3_large"``.

    Returns:
        The finished run: ``.best`` (its checkpoint), ``.path`` (of that), ``.history``, ``.metrics``, ``.plot()``.

    Raises:
        UsageError: the arguments do not fit together, or the folder holds an earlier run or one that goes on.
        DatasetError: the data cannot be read, or too many of its pictures cannot be used.
        WeightsError: there are no starting weights.
        DivergedError: the loss is no longer a number; the best epoch before that is kept.
        OutputError: a result cannot be written.

    Example:
        With a folder of faces and a list of their ages in ``faces``, and weights of a mobilenet_v2 in ``weights``:

        >>> import agetrain
        >>> data = agetrain.Data.from_folder(faces).split(valid=0.25, cache=cache)
        >>> run = agetrain.fit(
        ...     data, epochs=1, size=64, batch_size=4, selection_share=0.25, weights=weights, out=out, cache=cache
        ... )
        >>> run.path.name, len(run.history), run.finished
        ('best.pth', 1, True)
        >>> [(figures["part"], figures["n"]) for figures in run.metrics]
        [('selection', 4), ('valid', 6)]
    """
    sets: Sequence[Data | str | Path] = [data] if isinstance(data, Data | str | Path) else list(data)
    texts = tuple(each if isinstance(each, Data) else str(each) for each in sets)
    experiment = experiments.experiment(recipe, []).id if isinstance(recipe, str) else None
    base = experiments.EXPERIMENTS[experiment].recipe if experiment else recipe
    assert isinstance(base, Recipe)  # noqa: S101, a recipe is one or has a name
    config = RunConfig(
        datasets=texts, label=label, experiment=experiment or "best",
        recipe=recipe_of_start(_changed(base, changes), weights, changes) if experiment else _changed(base, changes),
        out=Path(out) if out is not None else None, cache=Path(cache),
        weights=Path(weights) if weights is not None else None, teachers=tuple(map(Path, teachers)), resume=resume,
        overwrite=overwrite, device=device, wandb=wandb, trust_code=trust_code,
    )  # fmt: skip
    return train_run(config, augment=augment, callbacks=callbacks)


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    names = [field.name for field in fields(Recipe)]
    for name in changes:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise UsageError(
                f"fit has no argument {name}, and a recipe no such field{f'; is it {near[0]}?' if near else ''}"
            )
    if isinstance(changes.get("augmentation"), str):
        changes = {**changes, "augmentation": Augmentation.named(changes["augmentation"])}
    if isinstance(changes.get("repeats"), int | float):
        changes = {**changes, "repeats": (float(changes["repeats"]),)}
    return replace(recipe, **changes)
