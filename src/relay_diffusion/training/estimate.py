"""What a run will need: operations, memory, time. Nothing is allocated, no data is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import whole_text
from relay_diffusion.training.activations import checkpoint_activations
from relay_diffusion.training.networks import Networks
from relay_diffusion.training.recipe import BaseRecipe, DenoisingRecipe, Recipe
from relay_diffusion.training.throughput import training_flops

STATE_BYTES = 5 * 4
"""Of a weight that learns: itself, its gradient, two moments and its average, in float32."""


@dataclass(frozen=True)
class Weights:
    """Of a stage's networks: how many numbers learn, and the bytes of those that stay as they are,
    in the precision that they are kept in."""

    learning: int
    fixed_bytes: int

    def bytes_per_device(self, num_devices: int) -> float:
        """With all that a run keeps of them; float32 for what learns, which is shared out over
        ``num_devices``. What does not learn is counted whole on each."""
        return self.learning * STATE_BYTES / num_devices + self.fixed_bytes


@dataclass(frozen=True)
class Estimate:
    """Of a stage's run.

    Attributes:
        flops: of one step, encoding included, all processes together.
        activations: bytes of one sample between its forward and its backward pass.
    """

    flops: float
    weights: Weights
    activations: int

    def bytes_per_device(self, num_devices: int, samples: float) -> float:
        """At most so much is held at once on each of ``num_devices``, ``samples`` at a time."""
        return self.weights.bytes_per_device(num_devices) + self.activations * samples


def count_weights(recipe: Recipe, networks: Networks) -> Weights | None:
    """Of a recipe's networks, which need no weights for it; None if it trains no stage. What will
    not learn no longer asks for gradients."""
    if not isinstance(recipe, DenoisingRecipe):
        return None
    trained = _trained(recipe, networks)
    learning = fixed_bytes = 0
    for name, module in networks.modules().items():
        if name not in trained or recipe.optimizer.scales.get(name) == 0:
            module.requires_grad_(False)
        for parameter in module.parameters():
            if parameter.requires_grad:
                learning += parameter.numel()
            else:
                fixed_bytes += parameter.numel() * parameter.element_size()
    return Weights(learning, fixed_bytes)


def _trained(recipe: DenoisingRecipe, networks: Networks) -> dict[str, nn.Module]:
    trained: dict[str, nn.Module] = {"unet": networks.unet}
    if isinstance(recipe, BaseRecipe) and not recipe.lora:
        trained["text_encoder"] = networks.text_encoder
    return trained


def estimate(recipe: Recipe, networks: Networks) -> Estimate | None:
    """Measured on ``networks`` without weights (``torch.device("meta")``), which it uses up; None
    for an objective that is no stage of a cascade.

    Activations are counted in the precision of the passes; normalisations keep some of theirs in
    float32, and buffers of the library come on top.
    """
    weights = count_weights(recipe, networks)
    if weights is None:
        return None
    assert isinstance(recipe, DenoisingRecipe)
    trained = _trained(recipe, networks)
    if recipe.run.dtype == "bfloat16":
        for module in networks.modules().values():
            nn.Module.to(module, torch.bfloat16)  # diffusers' own warns of nothing

    with torch.device("meta"):
        inputs = _inputs(recipe, networks)
        context = lambda: networks.text_encoder(inputs["input_ids"])[0]  # noqa: E731
        denoise = lambda c: _denoise(networks.unet, inputs, c)  # noqa: E731
        with torch.no_grad():
            fixed_context = context()
        passes = training_flops(lambda: denoise(context()), trained)
        encoding = training_flops(lambda: networks.vae.encode(inputs["x"]), {})
        pictures = 1 if isinstance(recipe, BaseRecipe) else 2  # with the low-resolution one
        if recipe.run.activation_checkpointing:
            checkpoint_activations({"unet": networks.unet})
        learns_text = any(p.requires_grad for p in networks.text_encoder.parameters())
        activations = _activation_bytes(
            lambda: denoise(context() if learns_text else fixed_context), networks.unet
        )
    per_sample = passes + pictures * encoding / recipe.data.reuse
    return Estimate(
        flops=per_sample * recipe.data.batch_size,
        weights=weights,
        activations=activations,
    )


def _inputs(recipe: Recipe, networks: Networks) -> dict[str, Tensor]:
    """One sample of the largest view."""
    dtype = networks.unet.dtype
    side = max(view.side for view in recipe.data.views)
    return {
        "x": torch.empty(1, 3, side, side, dtype=dtype),
        "z": torch.empty(1, networks.unet.config.in_channels, side // 8, side // 8, dtype=dtype),
        "t": torch.empty(1, dtype=torch.int64),
        "input_ids": torch.empty(1, recipe.model.max_tokens, dtype=torch.int64),
        "time_ids": torch.empty(1, 6),
    }


def _denoise(unet: Any, inputs: dict[str, Tensor], context: Tensor) -> Tensor:
    size = {"text_embeds": whole_text(unet, context), "time_ids": inputs["time_ids"]}
    output: Tensor = unet(
        inputs["z"],
        inputs["t"],
        encoder_hidden_states=context,
        added_cond_kwargs=size,
        return_dict=False,
    )[0]
    return output


def _activation_bytes(forward: Callable[[], Tensor], unet: nn.Module) -> int:
    """Bytes that autograd keeps of a forward pass, weights not counted. With activation
    checkpointing these are the inputs of the blocks, and once the inside of the largest."""
    seen: dict[int, Tensor] = {}
    kept, largest = 0, 0
    weights = {id(p) for p in unet.parameters()}

    def keep(x: Tensor) -> Tensor:
        nonlocal kept
        if id(x) not in weights and x.untyped_storage()._cdata not in seen:
            seen[x.untyped_storage()._cdata] = x  # held, so that its number is not given twice
            kept += x.untyped_storage().nbytes()
        return x

    def block(module: Any, *arguments: Any) -> Any:
        nonlocal kept, largest
        for value in arguments:
            if isinstance(value, Tensor):
                keep(value)
        outside = kept
        result = module(*arguments)
        largest, kept = max(largest, kept - outside), outside
        return result

    for part in unet.modules():
        if getattr(part, "gradient_checkpointing", False):
            part._gradient_checkpointing_func = block  # type: ignore[assignment]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        forward()
    return kept + largest


def describe(recipe: Recipe, needs: Estimate) -> list[str]:
    """Lines for the user: memory and time on one GPU and on more."""
    lines = [f"# {needs.flops / 1e12:,.4g} TFLOP a step, forward and backward"]
    assumed, peak = 0.4, 989e12
    for num_devices in (1, 8, 64):
        if recipe.data.batch_size % (num_devices * recipe.optimizer.accumulate):
            continue
        samples = recipe.data.batch_size / num_devices / recipe.optimizer.accumulate
        memory = needs.bytes_per_device(num_devices, samples) / 2**30
        seconds = needs.flops / (assumed * peak * num_devices)
        days = seconds * recipe.run.steps / 86400
        time = f"{days:,.1f} days" if days >= 1 else f"{days * 24:,.1f} h"
        lines.append(
            f"# {num_devices:2} device{'s' if num_devices > 1 else ' '}: about {memory:,.3g} GiB "
            f"on each, {samples:g} samples at a time; {seconds:,.3g} s a step and {time} in all "
            f"at {assumed:.0%} of an H100's {peak / 1e12:.0f} TFLOP/s"
        )
    return lines


def insist_on_memory(weights: Weights, num_devices: int, device: torch.device) -> None:
    """Raises: RelayError if not even weights and optimiser fit on the device."""
    if device.type == "cuda":
        available = torch.cuda.get_device_properties(device).total_memory
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    least = weights.bytes_per_device(num_devices)
    if least > available:
        raise RelayError(
            f"the weights, gradients, optimiser and average of this recipe take "
            f"{least / 2**30:.3g} GiB on each of {num_devices} devices, and {device} has "
            f"{available / 2**30:.3g}: share them out over more processes (torchrun), "
            "or train an adapter of them (docs/lora.md)"
        )
