"""Measures for two seconds how fast one worker is, so that a plan can say how long an archive will take."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ageinfer.archive.items import Item
from ageinfer.archive.looker import Looker
from ageinfer.archive.plan import Plan, Shard
from ageinfer.pipeline import Pipeline

_SECONDS = 2.0
_SHARDS = 8  # of which some items are tried: neighbours are alike
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Rate:
    """What one worker has done in a trial.

    Attributes:
        items: pictures that it looked at.
        bytes: of them.
        seconds: that it took.
    """

    items: int
    bytes: int
    seconds: float

    def seconds_for(self, pictures: int) -> float:
        """How long one worker takes for so many pictures; NaN where nothing was measured."""
        return pictures * self.seconds / self.items if self.items else float("nan")


def trial(plan: Plan, left: Sequence[Shard], pipeline: Pipeline) -> Rate:
    """Looks at some pictures of an archive, chosen by a seed, for about two seconds.

    Films and tar files are not tried: one alone may take minutes.

    Args:
        plan: of the archive.
        left: shards of it, among which pictures are chosen.
        pipeline: looks at them.

    Raises:
        StoreError: an object store does not answer.
    """
    chosen = random.Random(0)  # noqa: S311 - no secret
    shards = [shard for shard in left if shard.pictures]
    items: list[Item] = []
    for shard in chosen.sample(shards, min(_SHARDS, len(shards))):
        items += [item for item in plan.items(shard.number) if item.kind == "picture" and item.size > 0]
    chosen.shuffle(items)
    if items:
        Looker(pipeline, 0).look_at(items[:1])  # the first one is slow
    began, done = time.monotonic(), 0
    while done < len(items) and time.monotonic() - began < _SECONDS:
        Looker(pipeline, 0).look_at(items[done : done + _AT_ONCE])
        done = min(len(items), done + _AT_ONCE)
    return Rate(done, sum(item.size for item in items[:done]), time.monotonic() - began)
