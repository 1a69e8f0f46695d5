"""What a run will need: operations, memory, time. Nothing is allocated, no data is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relay_diffusion.models.autoencoder import encode
from relay_diffusion.models.denoiser import whole_text
from relay_diffusion.training.activations import checkpoint_activations
from relay_diffusion.training.learning import learns
from relay_diffusion.training.low_rank import LowRank
from relay_diffusion.training.networks import Networks
from relay_diffusion.training.recipe import BaseRecipe, DenoisingRecipe, Recipe, UpscalingRecipe
from relay_diffusion.training.throughput import training_flops
from relay_diffusion.training.weights import Weights, count_weights, trained_modules


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


def estimate(recipe: DenoisingRecipe, networks: Networks) -> Estimate:
    """Measured on ``networks`` without weights (``torch.device("meta")``), which it uses up."""
    weights = count_weights(recipe, networks)
    _in_precision_of_passes(recipe, networks)
    with torch.device("meta"):
        inputs = _inputs(recipe, networks)
        forward = lambda: _denoise(networks, inputs)  # noqa: E731
        passes = training_flops(forward, trained_modules(recipe, networks))
        encoding = training_flops(lambda: encode(networks.vae, inputs["x"]), {})
    pictures = 1 if isinstance(recipe, BaseRecipe) else 2  # with the low-resolution one
    if recipe.data.source == "prepared":
        pictures = 0
    per_sample = passes + pictures * encoding / recipe.data.reuse
    return Estimate(
        flops=per_sample * recipe.data.batch_size,
        weights=weights,
        activations=activation_bytes(recipe, networks, fused=True),
    )


def activation_bytes(recipe: DenoisingRecipe, networks: Networks, fused: bool) -> int:
    """Of one sample between its forward and its backward pass, measured as :func:`estimate` is,
    after :func:`count_weights`.

    Counted in the precision of the passes; normalisations keep some of theirs in float32, and
    buffers of the library come on top.

    Args: fused: attention as GPUs have it, in one kernel that keeps no weights of attention.
    """
    _in_precision_of_passes(recipe, networks)
    if recipe.run.activation_checkpointing:
        checkpoint_activations({"unet": networks.unet})
    with torch.device("meta"):
        inputs = _inputs(recipe, networks)
        with torch.no_grad():
            fixed = None if learns(networks.text_encoder) else _context(networks, inputs)
        with _fused_attention() if fused else contextlib.nullcontext():
            return _activation_bytes(lambda: _denoise(networks, inputs, fixed), networks.unet)


def _fused_attention() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(F, "scaled_dot_product_attention", _FusedAttention.of)


class _FusedAttention(torch.autograd.Function):
    """In the place of attention without weights, which keeps what no fused kernel does: a number
    for each pair of positions."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
        out: Tensor = cls.apply(q, k, v)
        return out


def _in_precision_of_passes(recipe: Recipe, networks: Networks) -> None:
    if recipe.run.dtype == "bfloat16":
        for module in networks.modules().values():
            nn.Module.to(module, torch.bfloat16)  # diffusers' own warns of nothing


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


def _context(networks: Networks, inputs: dict[str, Tensor]) -> Tensor:
    context: Tensor = networks.text_encoder(inputs["input_ids"])[0]
    return context


def _denoise(
    networks: Networks, inputs: dict[str, Tensor], context: Tensor | None = None
) -> Tensor:
    unet = networks.unet
    context = _context(networks, inputs) if context is None else context
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
    # By their storage: a linear layer keeps its weight transposed, another tensor of the same.
    weights: dict[int, Tensor] = {p.untyped_storage()._cdata: p for p in unet.parameters()}

    def sum_of_low_rank(_: Any, __: Any, weight: Tensor) -> None:
        weights[weight.untyped_storage()._cdata] = weight

    def keep(x: Tensor) -> Tensor:
        nonlocal kept
        storage = x.untyped_storage()._cdata
        if storage not in weights and storage not in seen:
            seen[storage] = x  # held, so that its number is not given twice
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
        if isinstance(part, LowRank):  # which count_weights has counted
            part.register_forward_hook(sum_of_low_rank)
        if getattr(part, "gradient_checkpointing", False):
            part._gradient_checkpointing_func = block  # type: ignore[assignment]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        forward()
    return kept + largest


def describe(recipe: Recipe, weights: Weights, needs: Estimate | None = None) -> list[str]:
    """Lines for the user: memory and time on one GPU and on more; without an estimate, the memory
    of the weights."""
    lines = []
    if needs:
        redrawn = isinstance(recipe, UpscalingRecipe) and recipe.objective.redraw
        rest = "; redrawing comes on top" if redrawn else ""
        lines.append(f"# {needs.flops / 1e12:,.4g} TFLOP a step, forward and backward{rest}")
    assumed, peak = 0.4, 989e12
    if needs and _on_cpu(recipe):
        cores = recipe.run.num_threads or torch.get_num_threads()
        seconds = needs.flops / (_CPU_FLOPS * cores)
        lines.append(
            f"# on {cores} CPU cores: about {seconds:,.2g} s a step, {_time(seconds, recipe)} in "
            f"all, at {_CPU_FLOPS / 1e12:g} TFLOP/s a core, what an AMD EPYC made in bfloat16"
        )
    for num_devices in (1, 8, 16, 64):
        replicas = recipe.run.replicas
        if recipe.data.batch_size % (num_devices * recipe.optimizer.accumulate):
            continue
        if num_devices % replicas:
            continue
        devices = f"# {num_devices:2} device{'s' if num_devices > 1 else ' '}"
        if not needs:
            memory = weights.bytes_per_device(num_devices // replicas) / 2**30
            lines.append(
                f"{devices}: {memory:,.3g} GiB on each for weights, gradients, optimiser and "
                "average; activations come on top"
            )
            continue
        samples = recipe.data.batch_size / num_devices / recipe.optimizer.accumulate
        memory = needs.bytes_per_device(num_devices // replicas, samples) / 2**30
        seconds = needs.flops / (assumed * peak * num_devices)
        lines.append(
            f"{devices}: about {memory:,.3g} GiB "
            f"on each, {samples:g} samples at a time; {seconds:,.3g} s a step and "
            f"{_time(seconds, recipe)} in all "
            f"at {assumed:.0%} of an H100's {peak / 1e12:.0f} TFLOP/s"
        )
    return lines


_CPU_FLOPS = 9e10
"""Of a core: between those of the starter's base stage and of its relay, encoding included, by
their log.jsonl (commits bcd25be, bf6ba42)."""


def _on_cpu(recipe: Recipe) -> bool:
    device = recipe.run.device
    return device == "cpu" or (device == "auto" and not torch.cuda.is_available())


def _time(seconds_per_step: float, recipe: Recipe) -> str:
    hours = seconds_per_step * recipe.run.steps / 3600
    if hours >= 24:
        return f"{hours / 24:,.1f} days"
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.2g} min"
