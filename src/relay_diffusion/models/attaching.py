"""LoRA and DoRA adapters as parts of a network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.fitting import unlike
from relay_diffusion.models.lora import Adapter, import_peft


def check_adapter(unet: Any, part: str, adapter: Adapter, adapter_name: str) -> None:
    """Raise RelayError if what an adapter has for ``part`` cannot be put into its UNet: one of that
    name is there, others are fused, or tensors have no place in it, which are named."""
    import_peft()
    insist_on_unfused(unet, part)
    if adapter_name in getattr(unet, "peft_config", {}):
        raise RelayError(
            f"{part} has an adapter named {adapter_name!r} already: give this one another "
            "adapter_name"
        )
    if is_dora(adapter, part):
        insist_on_weights(unet, f"{adapter.path}, a DoRA,")
    _check_fit(unet, part, adapter)


def _check_fit(unet: Any, part: str, adapter: Adapter) -> None:
    layers: dict[str, nn.Module] = dict(unet.named_modules())
    origin = f", which was trained on {adapter.cascade}," if adapter.cascade else ""
    refusal = f"{adapter.path}{origin} does not fit the {part} of this cascade"
    held: dict[str, dict[str, Tensor]] = {}
    for key, tensor in adapter.tensors[part].items():
        name, _, kind = key.removesuffix(".weight").rpartition(".lora_")
        held.setdefault(name or key, {})[kind] = tensor
    dora = is_dora(adapter, part)
    found: dict[str, Sequence[int]] = {}
    wanted: dict[str, Sequence[int]] = {}
    for name, kinds in held.items():
        shape = _shape_of_weight(layers.get(name))
        if shape is None:
            raise RelayError(f"{refusal}, which has no {name}")
        if kinds.keys() != ({"A", "B", "magnitude_vector"} if dora else {"A", "B"}):
            raise RelayError(f"{refusal}: {name} has {', '.join(sorted(kinds))} in it")
        num_out, *others = shape
        rank = len(kinds["A"])
        shapes = {"A": (rank, *others), "B": (num_out, rank, *[1] * len(others[1:]))}
        found |= {f"{name}.lora_{kind}": kinds[kind].shape for kind in shapes}
        wanted |= {f"{name}.lora_{kind}": shape for kind, shape in shapes.items()}
        if dora and kinds["magnitude_vector"].numel() != num_out:
            raise RelayError(f"{refusal}: {name} has {num_out} outputs, its magnitudes are others")
    problems = unlike(found, wanted)
    if problems:
        raise RelayError(f"{refusal}; {problems}")


def _shape_of_weight(layer: nn.Module | None) -> tuple[int, ...] | None:
    """Of a layer, or of the one that peft wraps; None if it has no weight."""
    own = getattr(layer, "base_layer", layer)
    if isinstance(own, nn.Linear):  # whose weight has another shape where it is quantised
        return own.out_features, own.in_features
    weight = getattr(own, "weight", None)
    return None if weight is None else tuple(weight.shape)


@torch.no_grad()
def attach_adapter(
    unet: Any, part: str, adapter: Adapter, scale: float, adapter_name: str, pipe: Any = None
) -> None:
    """Put what an adapter has for ``part``, checked by :func:`check_adapter`, into its UNet, beside
    those that are there already.

    The weights that act are W + scale (W' - W), W' being those that were trained, whether LoRA or
    DoRA. Several LoRAs add up; a DoRA acts on the output of those before it. Those that act go on
    as they do. Scale 0 attaches nothing.

    Args:
        pipe: that the UNet belongs to, where it may be offloaded.
    Raises: RelayError if the libraries cannot.
    """
    if scale == 0:
        return
    dora, before = is_dora(adapter, part), active_adapters(unet)
    tensors = dict(sorted(adapter.tensors[part].items()))
    if not dora:  # scaled without W, which is not there in a network that is offloaded in pieces
        tensors = {
            name: scale * tensor.float() if ".lora_B." in name else tensor
            for name, tensor in tensors.items()
        }
    try:
        with warnings.catch_warnings():  # peft's, of a second adapter
            warnings.simplefilter("ignore", UserWarning)
            unet.load_lora_adapter(
                tensors,
                prefix=None,
                adapter_name=adapter_name,
                metadata=adapter.configs.get(part) or None,
                _pipeline=pipe,
            )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = first_line(error)
        raise RelayError(f"{adapter.path} cannot be put into {part}: {first}") from error
    for module in unet.modules():
        if dora and adapter_name in getattr(module, "lora_magnitude_vector", {}):
            _scale(module, adapter_name, scale)
    unet.set_adapter([*before, adapter_name])


def detach_adapter(unet: Any, adapter_name: str) -> None:
    """Take an adapter out, if it is there; with the last one goes what peft wraps layers in."""
    if adapter_name in getattr(unet, "peft_config", {}):
        others = [name for name in active_adapters(unet) if name != adapter_name]
        unet.set_adapter(others)  # peft would choose another where none is left
        unet.delete_adapters(adapter_name)
    if not getattr(unet, "peft_config", None):
        unet.unload_lora()


def active_adapters(unet: Any) -> list[str]:
    """Names of those that act, in the order in which they do."""
    if not getattr(unet, "peft_config", None):
        return []
    active: str | list[str] = unet.active_adapters()
    return [active] if isinstance(active, str) else list(active)


def has_adapter_layers(unet: Any) -> bool:
    """Whether peft wraps layers of the network, if only for adapters that are gone."""
    return any(hasattr(module, "base_layer") for module in unet.modules())


def is_fused(unet: Any) -> bool:
    """Whether adapters have been added to the weights, and can be taken off again."""
    return any(getattr(module, "merged_adapters", None) for module in unet.modules())


def insist_on_unfused(unet: Any, part: str) -> None:
    """Raise RelayError where adapters are fused: peft would let no other act beside them, and take
    off another difference than it has added."""
    if is_fused(unet):
        raise RelayError(f"adapters are fused into the {part}: call unfuse_lora() first")


def insist_on_weights(unet: Any, what: str) -> None:
    """Raise RelayError where a network's weights are out of reach, for ``what`` needs them."""
    if any(parameter.is_meta for parameter in unet.parameters()):
        raise RelayError(
            f"{what} needs the weights of a network, and these are offloaded piece by piece: use "
            "enable_model_cpu_offload instead"
        )


def is_dora(adapter: Adapter, part: str) -> bool:
    """Whether what an adapter has for ``part`` is a DoRA."""
    has_magnitudes = any(".lora_magnitude_vector" in name for name in adapter.tensors[part])
    return bool(adapter.configs.get(part, {}).get("use_dora", has_magnitudes))


def _scale(layer: Any, adapter_name: str, scale: float) -> None:
    """Make W' of a layer's DoRA W + scale (W' - W).

    DoRA (arXiv:2402.09353): W' = f (W + s B A) with f = m / ||W + s B A|| by output, so
    W + scale (W' - W) = g (W + (scale f / g) s B A) with g = 1 + scale (f - 1).
    """
    if scale == 1:
        return
    dequantised = import_peft().utils.integrations.dequantize_module_weight
    weight, up = dequantised(layer.get_base_layer()), layer.lora_B[adapter_name].weight
    dora = layer.lora_magnitude_vector[adapter_name]

    def norm() -> Tensor:
        length: Tensor = dora.get_weight_norm(weight, layer.get_delta_weight(adapter_name), 1.0)
        return length

    f = dora.weight / norm()
    g = 1 + scale * (f - 1)
    up.mul_((scale * f / g).reshape(-1, *[1] * (up.ndim - 1)))
    dora.weight.copy_(g * norm())
