"""Processes that share a training run, as ``torchrun`` starts them; usually there is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from agetrain.errors import UsageError

# The first process alone crops the pictures, and measures at the end of each epoch, while the others wait for it. For a
# large data set that takes hours; torch would give up after 10 minutes (CUDA) or 30.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that share the run.

    Attributes:
        rank: its number, from 0; process 0 writes all files.
        world: how many there are.
        device: that it computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def agreed(self, value: Any) -> Any:
        """Returns the first process's value in all processes; the others wait for it."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Adds values up over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values


@contextmanager
def joined(device: str | None) -> Iterator[Processes]:
    """Joins the processes that ``torchrun`` started, or is one alone.

    Args:
        device: of ``--device``; None for CUDA where there is one. A plain ``cuda`` is this process's own.

    Raises:
        UsageError: there is no such device.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if world > 1 and name == "cuda":
        name = f"cuda:{local}"
    try:
        # A plain cuda becomes the one that its tensors lie on: not everything in torch takes a device without number.
        chosen = torch.zeros(1, device=name).device
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
            torch.backends.cudnn.benchmark = True  # all batches have one shape: its fastest way is sought once
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch says an absent CUDA by assertion
        raise UsageError(f"--device {device}: {str(error).splitlines()[0]}; use cpu, or cuda") from error
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), world, chosen)
    finally:
        dist.destroy_process_group()
