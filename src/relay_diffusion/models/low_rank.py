"""A network stored as its difference from another: W' = W + B A, of low rank, as a LoRA has it.

A student of distillation is its teacher, a little changed, and a relay stage is the base stage,
taught the next size. Beside that network they need not be stored whole: matrices of a few columns
give back what was learned, in a fraction of the space, and are added to its weights when they are
opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.files import put
from relay_diffusion.models.checkpoint import read_safetensors
from relay_diffusion.models.fitting import shapes_of, unlike
from relay_diffusion.models.folder import part_folder, read_index, read_json, related
from relay_diffusion.models.hashes import LOW_RANK_FILE, network_hash, weight_files
from relay_diffusion.models.lora import UNETS
from relay_diffusion.models.registry import INDEX

_DOWN, _UP = ".lora_A", ".lora_B"
_BASE, _RELAY = UNETS


def pays(weight: Tensor, rank: int) -> bool:
    """Whether two matrices of that rank are smaller than the weight: never for a vector."""
    if weight.ndim < 2:
        return False
    rows, columns = len(weight), weight[0].numel()
    return rank * (rows + columns) < rows * columns


def factors(difference: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The product of two matrices that is nearest to a difference of weights (Eckart-Young).

        B A = U_r S_r V_r^T,   B = U_r sqrt(S_r),   A = sqrt(S_r) V_r^T

    Args: difference: (out, in) or of a convolution, (out, in, height, width).
    Returns: A, (rank, in * height * width), and B, (out, rank); float32.
    """
    u, s, v = torch.linalg.svd(difference.float().flatten(1), full_matrices=False)
    root = s[:rank].sqrt()
    return (root[:, None] * v[:rank]).contiguous(), (u[:, :rank] * root).contiguous()


def low_rank_difference(
    weights: Mapping[str, Tensor], of: Mapping[str, Tensor], rank: int
) -> dict[str, Tensor]:
    """What turns the weights ``of`` into ``weights``, or nearly so.

    Returns: for a weight named N, N.lora_A and N.lora_B of :func:`factors` where both networks
    have one of that shape and it pays, the weight itself, N, elsewhere. Half precision.
    """
    difference: dict[str, Tensor] = {}
    for name, weight in weights.items():
        own = of.get(name)
        if own is None or own.shape != weight.shape or not pays(weight, rank):
            difference[name] = weight
        elif not torch.equal(weight, own):
            down, up = factors(weight.float() - own.float(), rank)
            difference |= {f"{name}{_DOWN}": down, f"{name}{_UP}": up}
    return {name: tensor.to("cpu", torch.float16) for name, tensor in difference.items()}


def with_difference(
    of: Mapping[str, Tensor],
    difference: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """The weights ``of`` plus a :func:`low_rank_difference`, added in float32.

    Raises: KeyError if it is from a network with other names.
    """
    weights = {name: tensor.to(dtype) for name, tensor in of.items()}
    for name, tensor in difference.items():
        plain = name.removesuffix(_DOWN)
        if plain != name:
            added = difference[f"{plain}{_UP}"].float() @ tensor.float()
            weights[plain] = (of[plain].float() + added.view_as(of[plain])).to(dtype)
        elif not name.endswith(_UP):
            weights[name] = tensor.to(dtype)
    return weights


def write_low_rank(folder: Path, unet: Any, of: Path, rank: int) -> float:
    """Write ``unet`` as its difference from the network in ``of``.

    Args:
        folder: with its config.json.
        of: folder in the layout of diffusers.
        rank: of the matrices, at least 1.
    Returns: the share of the difference that is kept, of its squared length, where it was cut.
    Raises: RelayError if ``of`` holds no network, OSError if the file cannot be written.
    """
    if rank < 1:
        raise RelayError(f"rank {rank}, must be at least 1")
    weights, own = unet.state_dict(), whole_weights(of)
    difference = low_rank_difference(weights, own, rank)
    kept = with_difference(own, difference)
    cut = [name.removesuffix(_DOWN) for name in difference if name.endswith(_DOWN)]
    lost = sum(float((weights[name].float() - kept[name]).square().sum()) for name in cut)
    whole = sum(float((weights[name].float() - own[name].float()).square().sum()) for name in cut)
    with put(folder / LOW_RANK_FILE) as new:
        new.write_bytes(save(difference, {"format": "pt", "of": network_hash(of)}))
    return 1 - lost / whole if whole else 1.0


def open_low_rank(folder: Path, of: Path, dtype: torch.dtype) -> Any:
    """The network that :func:`write_low_rank` wrote to ``folder``.

    Raises: RelayError if it is damaged, or the network in ``of`` is another than it differs from.
    """
    config = read_json(folder.parent, folder / "config.json")
    weights = _added(folder, of, dtype)
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
    problems = unlike(shapes_of(weights), shapes_of(unet.state_dict()))
    if problems:
        raise RelayError(
            f"{folder / LOW_RANK_FILE} does not fit the config.json beside it; {problems}"
        )
    unet.load_state_dict(weights, assign=True)
    return unet.eval()


def _added(folder: Path, of: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of :func:`open_low_rank`."""
    file = folder / LOW_RANK_FILE
    difference, metadata = read_safetensors(file)
    made_from = metadata.get("of", "")
    found = network_hash(of)
    if made_from != found:
        raise RelayError(
            f"{folder} is the difference from a network {made_from[:12] or 'that it does not name'}"
            f", and {of} is {found[:12]}: train from that one, or bring back the other"
        )
    try:
        return with_difference(whole_weights(of), difference, dtype)
    except (KeyError, RuntimeError) as error:
        raise RelayError(f"{file} does not fit the network in {of}: {error}") from error


def is_difference(folder: Path) -> bool:
    """Whether a network is stored as a difference only: not if it was saved anew, and whole."""
    return [file.name for file in weight_files(folder)] == [LOW_RANK_FILE]


def origin(folder: Path) -> Path:
    """Of a network that a cascade stores as a difference, the folder of the one that it differs
    from: its like in the cascade that this one ``shares``, or a relay stage's own base stage.

    Raises: RelayError if there is neither, or that cascade cannot be found.
    """
    cascade, part = folder.absolute().parent, folder.absolute().name
    if not (cascade / INDEX).is_file():
        raise RelayError(
            f"{folder} is stored as its difference from another network, which the cascade around "
            f"it would name, and there is no {cascade / INDEX}: give the folder in its cascade"
        )
    shares = read_index(cascade).get("shares")
    of = part_folder(related(cascade, shares), part) if shares else cascade / _BASE
    if (not shares and part != _RELAY) or of == cascade / part:
        raise RelayError(f"{cascade} does not say which cascade its {part} differs from")
    return of


def differences(folder: Path) -> dict[str, Path]:
    """The UNets that the cascade in ``folder`` stores as differences, and the folder of the network
    that each differs from. Raises: RelayError as :func:`origin`."""
    return {part: origin(folder / part) for part in UNETS if is_difference(folder / part)}


def open_unet(folder: Path, dtype: torch.dtype) -> Any:
    """The UNet of a cascade, however it is stored there.

    Raises: RelayError as :func:`open_low_rank`, OSError as diffusers does for one without weights.
    """
    if is_difference(folder):
        return open_low_rank(folder, origin(folder), dtype)
    return UNet2DConditionModel.from_pretrained(folder, dtype=dtype)


def whole_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a network in the layout of diffusers, as they are stored; in float32, those of
    one that is itself a difference.

    Raises: RelayError if it has none, or :func:`origin`.
    """
    if is_difference(folder):
        return _added(folder, origin(folder), torch.float32)
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        weights |= load_file(file)
    if not weights:
        raise RelayError(f"{folder} holds no .safetensors with the weights of a network")
    return weights
