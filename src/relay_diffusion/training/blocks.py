"""The blocks that networks are made of: what is gathered, freed and compiled as one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from relay_diffusion.training.learning import learns

BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock", "T5Block", "ResBlock", "EfficientViTBlock")
"""Names of classes of diffusers and transformers."""

_SHAPES = 4096
"""Of blocks and their inputs, to be compiled for: PyTorch stops at 8, which is one network's."""


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks of a network, in the order in which it lists them."""
    return [part for part in module.modules() if type(part).__name__ in BLOCKS]


def compile_blocks(modules: Mapping[str, nn.Module], memory_budget: float = 1.0) -> None:
    """Have the blocks of those ``modules`` that learn, or a module that has none, compiled when
    they are first called: once for each shape, which blocks alike have in common.

    A whole network of the released size takes minutes to compile, and each bucket of a batch as
    long again; its blocks, of which it has fifteen kinds, take a fraction of that. They are
    compiled inside of what activation checkpointing and FSDP put around them.

    Args: memory_budget: of a block's activations, the share that is kept for the backward pass; the
        compiler has what is cheapest computed again.
    """
    torch._functorch.config.activation_memory_budget = memory_budget
    settings = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, _SHAPES)
    settings.accumulated_recompile_limit = max(settings.accumulated_recompile_limit, _SHAPES)
    for module in modules.values():
        if not learns(module):
            continue
        for part in blocks_of(module) or [module]:
            # Kernels of fixed shapes are the faster ones, and buckets are few.
            part.compile(dynamic=False)
