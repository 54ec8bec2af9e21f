"""The fourteen runs of the original work and the corrected recipe ``best``, as data.

"Segons la IA, quina edat aparentes?" (UAB, 2023): facial age regression on APPA-REAL, AFAD and CACD. A row says how a
run really trained, its mistakes included, each by a field of `Recipe`, and what was published of it.
"""

from dataclasses import dataclass, replace
from typing import Any

from agetrain.errors import UsageError
from agetrain.recipe import Augmentation, Recipe

FLAWS = {
    1: "the original AFAD validation list holds four ages only (30, 32, 37, 39): its error says little about AFAD",
    2: "labels are stored with an offset (AFAD 15, CACD 14 years): the network itself answers too young",
    3: "the augmentation was never applied: an epoch shows the same pictures three times",
    4: "identities of the original CACD test list are in its train list as well",
    5: "trained on face crops, tried on whole pictures",
    6: "pictures are not normalised although the network comes from ImageNet",
    7: "no test part, no constant baseline, one seed; the epoch is chosen on the part that is reported",
}


@dataclass(frozen=True, slots=True)
class Published:
    """What the original work reported of a run.

    Attributes:
        train, valid: losses in the unit of the run's loss (years for L1, years squared for MSE); None: not reported.
        approximate: read off a plot.
        note: of the epoch, where it was not the best one.
    """

    train: float | None
    valid: float | None
    approximate: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One row of the table.

    Attributes:
        id: short name, as for ``--experiment``.
        title: as in the original tracker.
        dataset: that it was run on; empty for ``best``, which is for any.
        recipe: how it trains.
        published: what was reported; None for ``best``.
        flaws: which of `FLAWS` touch it.
        assumed: fields that the original work did not record.
        note: what else is to be known of it.
        centred: on pictures that were cut to their faces by ``python -m agetrain.prepare --centre dlib`` first.
    """

    id: str
    title: str
    dataset: str
    recipe: Recipe
    published: Published | None = None
    flaws: tuple[int, ...] = ()
    assumed: tuple[str, ...] = ()
    note: str = ""
    centred: bool = False


_ORIGINAL = Recipe(
    backbone="resnet34", head="linear", dropout=0, frozen_batchnorm="train", crop="resize", size=128, margin=0,
    resize_to=128, augmentation=Augmentation.named("none"), loss="l1", optimiser="adam", lr=1e-3, weight_decay=0,
    schedule="constant", warmup_epochs=0, clip_norm=0, batch_size=32, drop_last=False, ema_decay=0,
    start_at_mean=False, ignore_bad=False, select_on="valid", auxiliary_weight=0, teacher_weight=0, precision="fp32",
)  # fmt: skip
_RANDOM_CROP = replace(_ORIGINAL.augmentation, random_crop=True)
# AFAD and CACD: Resize((128, 128)), RandomCrop(120) or CenterCrop(120), ToTensor, labels as their CSVs store them.
_OF_CSV = replace(
    _ORIGINAL, size=120, keep_aspect=False, augmentation=_RANDOM_CROP, normalise=False, labels="stored", batch_size=128
)
_AFAD_FC = replace(_OF_CSV, frozen_children=-1, loss="mse")
_CACD = replace(_OF_CSV, lr=5e-4, batch_size=256, epochs=15)


def _appa(**changes: Any) -> Recipe:
    return replace(_ORIGINAL, **changes)


def _repeated(**changes: Any) -> Recipe:
    return replace(_ORIGINAL, repeats=(3.0,), **changes)


_ROWS = (
    Experiment("A1", "finetun", "appa-real", _appa(loss="mse", epochs=15), Published(33.811, 158.182), (7,)),
    Experiment(
        "A2", "fe", "appa-real", _appa(loss="mse", epochs=15, frozen_children=-1), Published(186.519, 187.334), (7,)
    ),
    Experiment(
        "A3", "fe_augmentation", "appa-real", _repeated(loss="mse", epochs=15, frozen_children=-1),
        Published(171.616, 188.892, note="epoch 12"), (3, 7),
    ),
    Experiment(
        "A4", "finetun_aug_0.0001", "appa-real", _repeated(loss="mse", epochs=13, lr=1e-4), Published(2.67, 83.278),
        (3, 7),
    ),
    Experiment(
        "A5", "mix8_L1_Resnet34", "appa-real", _repeated(epochs=13, frozen_children=8), Published(10.2, 10.7, True),
        (3, 7),
    ),
    Experiment(
        "A6", "mix7_L1_Resnet34", "appa-real", _repeated(epochs=7, frozen_children=7), Published(2.4, 7.9, True),
        (3, 7),
    ),
    Experiment(
        "A7", "mix_L1_MobileNet", "appa-real",
        _repeated(epochs=15, backbone="mobilenet_v2", frozen_children=14, dropout=0.2), Published(6.1, 9.7, True),
        (3, 7), ("frozen_children", "lr", "repeats", "dropout"),
        "which part was frozen was not recorded; here the first 14 of 19 blocks",
    ),
    Experiment(
        "A8", "definitiu", "appa-real", _repeated(epochs=20, frozen_children=7), Published(1.0, 7.863), (3, 5, 7)
    ),
    Experiment(
        "F0", "first feature extraction", "afad", replace(_AFAD_FC, lr=5e-4, epochs=8), Published(None, None),
        (1, 2, 6, 7), ("lr", "epochs"), '"the train loss stagnates"',
    ),
    Experiment(
        "F1", "fe amb lr0.0005 i stepLR", "afad",
        replace(_AFAD_FC, lr=5e-4, epochs=8, schedule="step", step_epochs=5, step_factor=0.1),
        Published(27.1, 86.9, True), (1, 2, 6, 7),
    ),
    Experiment(
        "F2", "fe amb lr0.0001 dropout i vgg16", "afad",
        replace(_AFAD_FC, lr=1e-4, epochs=6, backbone="vgg16", dropout=0.5), Published(26.6, 87.7, True), (1, 2, 6, 7),
    ),
    Experiment(
        "F3", "L1loss-fe-dropout", "afad", replace(_AFAD_FC, loss="l1", epochs=15, dropout=0.5), Published(4.07, 9.5),
        (1, 2, 6, 7),
    ),
    Experiment("C1", "finetun-0.0005", "cacd", _CACD, Published(4.05, 5.54), (2, 4, 5, 6, 7)),
    Experiment(
        "C2", "finetuning_prep", "cacd", _CACD, Published(3.8, 5.2, True), (2, 4, 6, 7),
        note="on pictures centred first: python -m agetrain.prepare cacd --centre dlib", centred=True,
    ),
    Experiment("best", "the corrected recipe, for any data set", "", Recipe()),
)  # fmt: skip
EXPERIMENTS = {row.id: row for row in _ROWS}
FINAL = {"appa-real": "A8", "afad": "F3", "cacd": "C1"}


def experiment(name: str | None, datasets: list[str]) -> Experiment:
    """Returns the experiment of an id, or without one the final experiment of the data set.

    Several data sets together, and those that the original work did not have, are trained by ``best``.

    Raises:
        UsageError: there is no such experiment.
    """
    if name is None:
        return EXPERIMENTS[FINAL.get(datasets[0], "best") if len(datasets) == 1 else "best"]
    for row in _ROWS:
        if row.id.lower() == name.lower():
            return row
    raise UsageError(f"--experiment {name}: use one of {', '.join(EXPERIMENTS)}")


def table() -> str:
    """Returns all experiments for a terminal, one a line, with its id first."""
    lines = []
    for row in _ROWS:
        r, p = row.recipe, row.published
        trained = {0: "all", -1: "head"}.get(r.frozen_children, f"from child {r.frozen_children} on")
        unit = "y" if r.loss != "mse" else "y2"
        figures = "published: none"
        if p is not None and p.valid is not None:
            about = "~" if p.approximate else ""
            figures = f"published: train {about}{p.train:g}, valid {about}{p.valid:g} {unit}"
        elif p is None:
            figures = "see docs/results/reproduction.md"
        told = "; ".join(note for note in (p.note if p else "", row.note) if note)
        figures += f" ({told})" if told else ""
        repeats = f" x{r.repeats[0]:g}" if r.repeats != (1.0,) else ""
        lines.append(
            f"{row.id:<5}{row.dataset or 'any':<10} {r.backbone:<13}{trained:<17}{r.loss:<13}lr {r.lr:<7g}"
            f"batch {r.batch_size:<4} epochs {r.epochs:<3}{repeats:<4}{figures}"
        )
    return "\n".join(lines)
