"""The processes of a run: those that ``torchrun`` started, or this one alone.

One process is the case of world size one, not another path: every function here then gives back
what it was given.
"""

from __future__ import annotations

import atexit
import errno
import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from relay_diffusion.errors import RelayError
from relay_diffusion.training.blocks import blocks_of


def join(device: torch.device) -> None:
    """Make this process one of the group that torchrun started, if it started any, until it ends:
    processes find each other only once, however many runs they make together."""
    global _beside
    if "WORLD_SIZE" not in os.environ:
        return
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    if dist.is_initialized():
        return
    # Flags and checkpoints go through the CPU, so that a GPU does not wait for them.
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    _beside = dist.new_group(backend="gloo")
    atexit.register(dist.destroy_process_group)


_beside: dist.ProcessGroup | None = None


def beside() -> dist.ProcessGroup | None:
    """The same processes once more, for what talks from another thread while they train."""
    return _beside


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Of one process only: the one that writes."""
    return rank() == 0


def speaks() -> bool:
    """Whether this process tells what all know, as torchrun has numbered it: also before it has
    joined the others."""
    return os.environ.get("RANK", "0") == "0"


def local_rank() -> int:
    """Among the processes of this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def share(batch_size: int) -> range:
    """Rows of the global batch that are this process's."""
    size = batch_size // world_size()
    return range(rank() * size, (rank() + 1) * size)


def insist_on_shares(batch_size: int) -> None:
    """Raises: RelayError if the batch cannot be shared out evenly."""
    if batch_size % world_size():
        raise RelayError(
            f"data.batch_size is {batch_size}, must be a multiple of the {world_size()} processes"
        )


def num_shares(replicas: int) -> int:
    """Of how many processes each has a part of the weights, of which there are so many copies.

    Raises: RelayError if the processes cannot be shared out evenly.
    """
    if world_size() % replicas:
        raise RelayError(
            f"run.replicas is {replicas}, which does not divide the {world_size()} processes: "
            "give 1, or the number of machines"
        )
    return world_size() // replicas


def summed(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes, in its place."""
    if dist.is_initialized():
        dist.all_reduce(x)
    return x


def of_main(x: Tensor) -> Tensor:
    """The ``x`` of the main process, in the place of everybody's own of the same shape."""
    if dist.is_initialized():
        dist.broadcast(x, 0)
    return x


def any_of(flag: bool) -> bool:
    """Whether it is true in one of the processes, so that all take the same turn."""
    if not dist.is_initialized():
        return flag
    on_cpu = torch.tensor(int(flag))
    dist.all_reduce(on_cpu, dist.ReduceOp.MAX)
    return bool(on_cpu)


class FailedElsewhere(OSError):
    """What another process could not do."""


def failure(error: BaseException | None = None) -> BaseException | None:
    """What went wrong in one of the processes, so that all take the same turn: there its own
    ``error``, in the others a :class:`FailedElsewhere` with its number; None if all is well. All
    have to ask."""
    if not dist.is_initialized():
        return error
    number = 0 if error is None else getattr(error, "errno", None) or errno.EIO
    highest = torch.tensor(number)
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    number = int(highest)
    if error is None and number:
        return FailedElsewhere(number, os.strerror(number))
    return error


def insist_on_no_failure() -> None:
    """Raises: FailedElsewhere if another process has told ``failure`` of one. All have to ask."""
    error = failure()
    if error is not None:
        raise error


def gathered(x: Tensor) -> Tensor:
    """The ``x`` of all processes, of one shape, one after the other along the first dimension."""
    if not dist.is_initialized():
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def insist_on_one(what: str) -> None:
    """Raises: RelayError if there are several processes, for what needs the whole batch."""
    if world_size() > 1:
        raise RelayError(f"{what} trains in one process: run it without torchrun")


def whole(x: Tensor) -> Tensor:
    """A tensor of which each process has a part, as one; all of them have to ask."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of ``module``, whole, on the CPU, in the main process; in the others nothing, but
    all of them have to ask.

    Raises: FailedElsewhere, in the others, if the main one has no use for it any more, because it
        could not write the one before (``failure``).
    """
    insist_on_no_failure()
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        tensor = whole(tensor)
        if is_main():
            state[name] = tensor.detach().cpu()
    return state


def shard(
    modules: Mapping[str, nn.Module],
    device: torch.device,
    bfloat16: bool,
    frozen: Collection[str] = (),
    replicas: int = 1,
) -> None:
    """Leave to each process its part of the weights, in place (FSDP2): they are gathered block by
    block as they are needed, in bfloat16 for the passes if asked, and gradients are summed in
    float32. Does nothing for one process.

    Args:
        frozen: names of modules without a backward pass, at whose end what belongs to no block
            would be freed: of these it is at the end of the forward pass.
        replicas: groups of processes, following each other in rank, each of which shares out all of
            the weights among its own: gathering stays inside of a machine, and only sums of
            gradients, of the share of each process, go between them (hybrid sharding,
            arXiv:2304.11277).
    """
    if world_size() == 1:
        return
    shares = num_shares(replicas)
    if replicas == 1:
        mesh = dist.init_device_mesh(device.type, (shares,))
    else:
        names = ("replicate", "shard")
        mesh = dist.init_device_mesh(device.type, (replicas, shares), mesh_dim_names=names)
    # Inputs are cast by autocast where an operation wants it: training indices must not be rounded.
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for name, module in modules.items():
        _contiguous(module)
        for block in blocks_of(module):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        frees = True if name in frozen else None
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=frees)
        for method in ("encode", "decode"):  # of autoencoders, which are not called as a whole
            if hasattr(module, method):
                register_fsdp_forward_method(module, method)


def _contiguous(module: nn.Module) -> None:
    """FSDP shards contiguous weights only. Where kernels were in channels_last, ``forward`` gets
    its inputs in that format, which convolutions hand on as well."""
    found = False
    for parameter in module.parameters():
        if not parameter.is_contiguous():
            found |= parameter.is_contiguous(memory_format=torch.channels_last)
            parameter.data = parameter.data.contiguous()

    def in_channels_last(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = inputs
        return (x.contiguous(memory_format=torch.channels_last), *rest)

    if found:
        module.register_forward_pre_hook(in_channels_last)


def sum_gradients(modules: Mapping[str, nn.Module], now: bool) -> None:
    """Whether the next backward passes share out sums of the gradients over the processes; if not,
    each keeps those of its own samples, whole, for a later pass to add to."""
    for module in modules.values():
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(now)


def forget_gathered(modules: Mapping[str, nn.Module]) -> None:
    """Free what the last pass has left gathered, because the weights behind it change otherwise
    than by an optimiser after a backward pass."""
    for module in modules.values():
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()
