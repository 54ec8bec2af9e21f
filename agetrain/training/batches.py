"""The batches of the training loop: made ahead of the device, and shared by processes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from agetrain.crops.cache import CropCache, JoinedCrops, join
from agetrain.crops.training_set import TrainingSet
from agetrain.errors import DatasetError, UsageError
from agetrain.recipe import AGE_BALANCES, Recipe
from agetrain.training import augment
from agetrain.training.teachers import Teacher

_AHEAD = 4
_PIECE = 4096  # crops that go to a GPU at once
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Batch:
    """One process's share of a training batch, on its device.

    Attributes:
        draws: of the augmentation.
        share: of the whole batch's faces, times the number of processes: 1 where all have equally many.
        wide: uint8 ``[n, w, w, 3]``, RGB.
        ages, stds, others, other_stds: float32 ``[n]``, as the network is to learn them; NaN where unknown.
        teacher_ages, teacher_stds: likewise a teacher's answers to the pictures; None without one.
        taught: what teaching networks say of these faces as they are shown, float32 ``[n, 101]``; None: there are none.
        weights: how much a label of each age from 0 to 100 counts, float32 ``[101]``; None: all alike.
        lows, highs: float32 ``[n]``, ends of the intervals where no more is known of an age, NaN where it is exact;
            None:
            all are exact.
    """

    draws: augment.Draws
    share: float
    wide: Tensor
    ages: Tensor
    stds: Tensor
    others: Tensor
    other_stds: Tensor
    teacher_ages: Tensor | None = None
    teacher_stds: Tensor | None = None
    taught: Tensor | None = None
    weights: Tensor | None = None
    lows: Tensor | None = None
    highs: Tensor | None = None

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The ends of the intervals; None where all ages are exact."""
        return None if self.lows is None or self.highs is None else (self.lows, self.highs)


class Batches:
    """Shuffles the faces of each epoch and hands out batches, made by a thread while the device computes.

    Order and augmentation depend on seed and epoch alone, so that a resumed run goes on as if it had never stopped, and
    on nothing that differs between processes.

    Args:
        data: its ``learn`` part is used.
        recipe: for batch size, repeats, seed and augmentation.
        device: where batches are put.
        teacher: or None.
        rank, world: this process, and how many share each batch.

    Raises:
        DatasetError: there are fewer than 2 faces, or not one repeat for each data set.
        UsageError: labels are to be doubted without a teacher.

    Attributes:
        teacher: whose predictions are learned.
        crops: of all data sets.
        faces: how many.
        steps: of an epoch.
        taught: faces that the teacher knows.
        doubted: of each data set, labels that are not learned because the teacher contradicts them.
    """

    def __init__(
        self, data: TrainingSet, recipe: Recipe, device: torch.device, teacher: Teacher | None = None,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        if recipe.doubt_beyond and teacher is None:
            raise UsageError(f"--doubt-beyond {recipe.doubt_beyond:g}: needs the predictions of a --teacher; give them")
        self.crops = join(data.learn)
        self.teacher = teacher
        self._recipe, self._device, self._rank, self._world = recipe, device, rank, world
        repeats = recipe.repeats * len(data.learn) if len(recipe.repeats) == 1 else recipe.repeats
        if len(repeats) != len(data.learn):
            raise DatasetError(f"--repeats has {len(repeats)} numbers for {len(data.learn)} data sets")
        starts = np.cumsum([0, *(len(cache) for cache in data.learn)])
        self._weights = balance_weights(self.crops, data.groups, recipe.balance)
        self._usable = [
            (np.flatnonzero(cache.found) + start, r)
            for cache, start, r in zip(data.learn, starts, repeats, strict=False)
        ]
        self.faces = sum(len(usable) for usable, _ in self._usable)
        shown = sum(round(r * len(usable)) for usable, r in self._usable)
        if shown < 2:
            raise DatasetError(f"only {self.faces} pictures to learn from hold a face; look at them")
        whole, rest = divmod(shown, recipe.batch_size)
        # A last batch of one face has no statistics to normalise by, and each process needs a face.
        self.steps = max(1, whole + (not recipe.drop_last and rest >= max(2, world)))
        offset = data.label_offset if recipe.labels == "stored" else 0.0
        taught = teacher.lookup(self.crops.digests) if teacher else (np.full(len(self.crops), np.nan, np.float32),) * 2
        c = self.crops
        # A comparison with the NaN of a face that the teacher did not see is false: nothing is doubted without it.
        nearest = np.where(c.exact, c.ages, np.clip(taught[0], c.lows, c.highs))
        doubted = (np.abs(nearest - taught[0]) > recipe.doubt_beyond * taught[1]) & c.found & (recipe.doubt_beyond > 0)
        self.doubted = tuple(int(doubted[a:b].sum()) for a, b in pairwise(starts))
        believed = np.where(doubted, np.float32(np.nan), c.ages)
        self._targets: dict[str, np.ndarray] = {
            "ages": believed - offset, "stds": c.stds, "others": c.others - offset, "other_stds": c.other_stds,
            **({"teacher_ages": taught[0] - offset, "teacher_stds": taught[1]} if teacher else {}),
            **({} if c.exact.all() else {"lows": c.lows - offset, "highs": c.highs - offset}),
        }  # fmt: skip
        self.taught = int(np.isfinite(taught[0][c.found]).sum())
        self._resident = _resident(self.crops.crops, device)

    def epoch(self, number: int, steps: int | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch, which is counted from 1; at most ``steps`` of them."""
        order = self._order(number)
        size = self._recipe.batch_size

        def make(step: int) -> tuple[list[Tensor], augment.Draws, float]:
            chosen = np.sort(order[step * size : (step + 1) * size])
            mine = slice(self._rank, None, self._world)
            seed = np.random.SeedSequence([self._recipe.seed, number, step]).generate_state(1, np.uint64)[0]
            random = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
            draws = augment.rows(augment.draw(len(chosen), self._recipe.augmentation, random), mine)
            local = chosen[mine]
            # Crops that are on the device already are picked out there, by their numbers.
            crops = self.crops.crops[local] if self._resident is None else local
            arrays = [crops, *(values[local] for values in self._targets.values())]
            tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
            if self._device.type == "cuda":
                tensors = [t.pin_memory() for t in tensors]
            return tensors, draws, len(local) * self._world / len(chosen)

        for tensors, draws, share in _ahead(range(min(self.steps, steps or self.steps)), make):
            crops, *labels = (t.to(self._device, non_blocking=True) for t in tensors)
            wide = crops if self._resident is None else self._resident[crops]
            yield Batch(draws, share, wide, **dict(zip(self._targets, labels, strict=True)))

    def _order(self, number: int) -> np.ndarray:
        random = np.random.default_rng([self._recipe.seed, number])
        shown = []
        for usable, repeats in self._usable:
            if self._weights is not None:
                shown.append(drawn(usable, self._weights[usable], round(repeats * len(usable)), random))
                continue
            whole = int(repeats)
            rest = round(repeats * len(usable)) - whole * len(usable)
            shown += [usable] * whole + [random.permutation(usable)[:rest]]
        return random.permutation(np.concatenate(shown))


def balance_weights(crops: CropCache, groups: Sequence[np.ndarray], balance: str) -> np.ndarray | None:
    """How often faces are shown, in proportion, float64 ``[n]``; None where all are shown alike.

    Args:
        crops: of all data sets.
        groups: of each data set, the values of the column that is balanced by.
        balance: of the recipe.

    Raises:
        UsageError: a pack does not hold the column.
    """
    if balance == "none":
        return None
    values = np.rint(crops.ages) if balance in AGE_BALANCES else np.concatenate(list(groups) or [np.array([], str)])
    if len(values) != len(crops):
        raise UsageError(f"--balance {balance}: the pack was made without this column; pack it again with --balance")
    _, which, counts = np.unique(values[crops.found], return_inverse=True, return_counts=True)
    weights = np.zeros(len(crops))
    weights[crops.found] = counts[which] ** (-0.5 if balance == "sqrt" else -1.0)
    return weights


def drawn(items: np.ndarray, weights: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draws so many of the items, each as often as its weight says, to a whole number up or down.

    Args:
        items: ``[n]``.
        weights: ``[n]``, above 0.
        count: of what is drawn.
        random: for the draw.
    """
    order = random.permutation(len(items))
    ends = np.cumsum(weights[order]) * (count / weights.sum())
    times = np.diff(np.floor(ends + random.random()), prepend=0.0).astype(int)
    times[-1] += count - times.sum()  # what rounding of the sum has left over
    return np.repeat(items[order], np.maximum(times, 0))[:count]


def _resident(crops: np.ndarray | JoinedCrops, device: torch.device) -> Tensor | None:
    """All crops on a GPU that has the room, so that no batch has to be carried there; None where they stay on disk."""
    arrays = crops.arrays if isinstance(crops, JoinedCrops) else [crops]
    if sum(array.nbytes for array in arrays) > _room(device):
        return None
    resident = torch.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), dtype=torch.uint8, device=device)
    start = 0
    for array in arrays:
        for low in range(0, len(array), _PIECE):
            piece = torch.from_numpy(np.array(array[low : low + _PIECE]))
            resident[start + low : start + low + len(piece)].copy_(piece)
        start += len(array)
    return resident


def _room(device: torch.device) -> int:
    """Bytes that crops may take of a device: a quarter of what a GPU has free; none of the memory of the computer."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else -1


def _ahead(items: Iterable[Item], make: Callable[[Item], Made]) -> Iterator[Made]:
    """What ``make`` gives for each item, in order; a thread works a few items ahead."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[Made]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(make, item))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
