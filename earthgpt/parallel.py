"""One model trained by several processes: torch's own sharding (FSDP2), put on from outside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: number ``rank`` of ``count``, on ``device``."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    @property
    def beside(self) -> int:
        """How many of them, this one included, run on this machine (``torchrun`` says so)."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", 1))

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def gather(self, counted: Counter) -> Counter:
        """What all processes counted together."""
        if self.count == 1:
            return counted
        found = [None] * self.count
        distributed.all_gather_object(found, counted)
        return sum(found, Counter())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def own_group(self) -> distributed.ProcessGroup | None:
        """The same processes with messages of their own, through the processors; None for one process."""
        return distributed.new_group(backend="gloo") if self.count > 1 else None

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first process does what follows, and then the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among those that ``torchrun`` started, or alone."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    if count == 1:
        yield Ranks(0, 1, torch.device("cuda" if cuda else "cpu"))
        return
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        yield Ranks(distributed.get_rank(), count, device)
    finally:
        distributed.destroy_process_group()


def shard(model: nn.Module, ranks: Ranks) -> None:
    """Divides the parameters over all processes, by the layers that transformers says must stay together.

    A layer is whole in a process only while it works. Frozen encoders stay whole in each: a process may then leave them
    out where it has no new image. Does nothing for one process.
    """
    if ranks.count == 1:
        return
    encoder = getattr(model, "vision_encoder", None)
    stays = encoder is not None and not any(parameter.requires_grad for parameter in encoder.parameters())
    whole_here = set(encoder.modules()) if stays else set()
    ignored = set(encoder.parameters()) if stays else set()
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    kinds = {kind for module in model.modules() for kind in getattr(module, "_no_split_modules", None) or ()}
    for module in reversed(list(model.modules())):  # what lies within comes first
        if type(module).__name__ in kinds and module not in whole_here:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=ignored)
    for name in ("find", "scene"):  # that are asked without a forward pass
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor that may be divided over the processes, whole in each."""
    return value.full_tensor() if isinstance(value, DTensor) else value
