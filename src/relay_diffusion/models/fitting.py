"""Tensors of a file into a network, all of them and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from relay_diffusion.errors import RelayError

SHOWN = 6


def fit(
    network: nn.Module, tensors: Mapping[str, Any], names: Mapping[str, str], file: Path
) -> None:
    """Put ``tensors`` into ``network`` as they are: no copy is made and no dtype changed.

    Args:
        network: on the meta device.
        tensors: of the file, by their names there.
        names: name in the file of each tensor of the network.
        file: for messages.
    Raises: RelayError that names the tensors that are missing, left over, of another shape than
        the network's, or no floating-point tensors.
    """
    own = network.state_dict()
    missing = [names[key] for key in own if names[key] not in tensors]
    left_over = sorted(tensors.keys() - {names[key] for key in own})
    misfits = []
    for key, expected in own.items():
        if names[key] not in tensors:
            continue
        found = tensors[names[key]]
        if isinstance(found, Tensor) and found.is_floating_point():
            if found.shape != expected.shape:
                misfits.append(misfit(names[key], found.shape, expected.shape))
        else:
            kind = f"{found.dtype} tensor" if isinstance(found, Tensor) else type(found).__name__
            misfits.append(f"{names[key]} is a {kind}")
    problems = listed(missing, left_over, misfits)
    if problems:
        raise RelayError(f"{file} does not fit the network that its sizes describe; {problems}")
    network.load_state_dict(_separate({key: tensors[names[key]] for key in own}), assign=True)
    network.eval()


def unlike(found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> str:
    """The tensors that were ``found``, name to shape, against those ``wanted``, in one line; empty
    if they are the same."""
    misfits = [
        misfit(name, found[name], shape)
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    missing = [name for name in wanted if name not in found]
    return listed(missing, sorted(found.keys() - wanted.keys()), misfits)


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name to shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def misfit(name: str, found: Sequence[int], wanted: Sequence[int]) -> str:
    """A tensor of another shape than the network's, for :func:`listed`."""
    return f"{name} {_shape(found)} where {_shape(wanted)} is wanted"


def listed(missing: Sequence[str], left_over: Sequence[str], misfits: Sequence[str]) -> str:
    """The tensors that do not fit, the first of each kind, in one line; empty if all do."""
    kinds = (("missing", missing), ("left over", left_over), ("misfit", misfits))
    return "; ".join(f"{kind}: {_some(which)}" for kind, which in kinds if which)


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory, as safetensors wants; most are already."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensors[name] = tensor.contiguous()
        if tensors[name].data_ptr() in seen:
            tensors[name] = tensor.clone()
        seen.add(tensors[name].data_ptr())
    return tensors


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "a number"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
