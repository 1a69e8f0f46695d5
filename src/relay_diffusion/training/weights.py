"""What the weights of a recipe take on each device, told from the shapes of its networks alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import part_folder
from relay_diffusion.models.low_rank import pays
from relay_diffusion.models.registry import resolve
from relay_diffusion.training.low_rank import LowRank
from relay_diffusion.training.networks import (
    Networks,
    build_text_encoder,
    build_unet,
    build_vae,
)
from relay_diffusion.training.reading import CaptionProbe
from relay_diffusion.training.recipe import (
    AutoencoderRecipe,
    BaseRecipe,
    DenoisingRecipe,
    Recipe,
    TextRecipe,
    UpscalingRecipe,
)
from relay_diffusion.training.redrawing import redraw_bytes
from relay_diffusion.training.rounds import DistillRecipe

STATE_BYTES = 5 * 4
"""Of a weight that learns: itself, its gradient, two moments and its average, in float32."""


@dataclass(frozen=True)
class Weights:
    """Of a recipe's networks.

    Attributes:
        learning: how many numbers learn.
        fixed_bytes: of those that stay as they are, in the precision that they are kept in, in
            networks that each device has whole; and of the sums of weights and what is learned of
            low rank, which a pass makes.
        shared_bytes: the same in networks that are shared out as what learns is.
        shared_halves: of these, what is in half precision: several processes shard weights of one
            precision only, and keep it in float32.
        whole_gradients: whether each device sums gradients of its own, whole, over the parts of a
            batch (``optimizer.accumulate``).
    """

    learning: int
    fixed_bytes: int
    shared_bytes: int = 0
    shared_halves: int = 0
    whole_gradients: bool = False

    def bytes_per_device(self, num_devices: int) -> float:
        """With all that a run keeps of them, in float32 for what learns."""
        shared = self.learning * STATE_BYTES + self.shared_bytes
        shared += self.shared_halves if num_devices > 1 else 0
        extra = 4 * self.learning * (num_devices - 1) if self.whole_gradients else 0
        return (shared + extra) / num_devices + self.fixed_bytes


def trained_modules(recipe: Recipe, networks: Networks) -> dict[str, nn.Module]:
    """Those that the objective has the loop train."""
    trained: dict[str, nn.Module]
    if isinstance(recipe, AutoencoderRecipe):
        vae = networks.vae
        return {"decoder": vae.decoder} if recipe.objective.decoder_only else {"vae": vae}
    if isinstance(recipe, TextRecipe):
        trained = {"text_encoder": networks.text_encoder}
        if recipe.objective.reading:
            with torch.device("meta"):
                world = World.by_name(recipe.data.world)
                trained["probe"] = CaptionProbe(networks.text_encoder.config.d_model, world)
        return trained
    trained = {"unet": networks.unet}
    if isinstance(recipe, BaseRecipe) and not recipe.lora:
        trained["text_encoder"] = networks.text_encoder
    return trained


def count_weights(recipe: Recipe, networks: Networks) -> Weights:
    """Of a recipe's networks, which need no weights for it. What will not learn no longer asks for
    gradients."""
    trained = trained_modules(recipe, networks)
    shared = dict(trained)
    if isinstance(recipe, DenoisingRecipe) and "text_encoder" not in trained:
        networks.text_encoder.requires_grad_(False)
        shared["text_encoder"] = networks.text_encoder
    in_shared = set()
    for name, module in shared.items():
        if recipe.optimizer.scales.get(name) == 0:
            module.requires_grad_(False)
        in_shared |= {id(parameter) for parameter in module.parameters()}
    learning = fixed_bytes = shared_bytes = shared_halves = 0
    modules = [*networks.modules().values(), *trained.values()]
    every = {id(parameter): parameter for module in modules for parameter in module.parameters()}
    for key, parameter in every.items():
        num_bytes = parameter.numel() * parameter.element_size()
        if key not in in_shared:
            parameter.requires_grad_(False)
            fixed_bytes += num_bytes
        elif parameter.requires_grad:
            learning += parameter.numel()
        else:
            shared_bytes += num_bytes
            shared_halves += num_bytes if parameter.element_size() == 2 else 0
    if isinstance(recipe, UpscalingRecipe) and recipe.objective.redraw:
        fixed_bytes += redraw_bytes(recipe.objective.redraw, recipe.run.dtype == "bfloat16")
    parts = [part for module in trained.values() for part in module.modules()]
    sums = [part for part in parts if isinstance(part, LowRank)]
    fixed_bytes += sum(4 * len(part.up) * part.down.shape[1] for part in sums)
    whole_gradients = recipe.optimizer.accumulate > 1
    return Weights(learning, fixed_bytes, shared_bytes, shared_halves, whole_gradients)


def distilling_networks(recipe: DistillRecipe) -> dict[str, nn.Module]:
    """Of a distillation, under ``torch.device("meta")``: those of the teacher's cascade, and the
    student, which is its network told the guidance scale; where a round matches, the critic, too,
    which is another.

    Raises: RelayError if the teacher cannot be read.
    """
    settings = recipe.objective
    folder = resolve(settings.teacher)
    stage = str(part_folder(folder, f"{settings.stage}_unet"))
    with torch.device("meta"):
        teacher = build_unet(stage, 0, 0, "objective.teacher")
        width = teacher.config.time_cond_proj_dim or settings.guidance_width
        learns = {**teacher.config, "time_cond_proj_dim": width}
        networks = {
            "vae": build_vae(str(part_folder(folder, "vae"))),
            "text_encoder": build_text_encoder(str(part_folder(folder, "text_encoder")), 0),
            "teacher": teacher,
            "student": UNet2DConditionModel.from_config(learns),
        }
        if any(one.matches for one in settings.rounds):
            networks["critic"] = UNet2DConditionModel.from_config(learns)
        return networks


def count_distilled(recipe: DistillRecipe, networks: Mapping[str, nn.Module]) -> Weights:
    """Of :func:`distilling_networks`; with ``rank``, the own weights of those that learn stay as
    they are and two matrices for each learn, where these are smaller."""
    rank, half = recipe.objective.rank, recipe.run.dtype == "bfloat16"
    of = {name for name, _ in networks["teacher"].named_parameters()}
    learning = shared_bytes = 0
    learners = [networks[name] for name in ("student", "critic") if name in networks]
    for name, parameter in chain.from_iterable(n.named_parameters() for n in learners):
        if rank and name in of and name.endswith(".weight") and pays(parameter, rank):
            learning += rank * (len(parameter) + parameter[0].numel())
            shared_bytes += 4 * parameter.numel()
        else:
            learning += parameter.numel()
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    shared_bytes += 4 * sizes["text_encoder"]
    fixed_bytes = 4 * sizes["vae"] + (2 if half else 4) * sizes["teacher"]
    if recipe.objective.redraw:
        fixed_bytes += redraw_bytes(recipe.objective.redraw, half)
    whole_gradients = recipe.optimizer.accumulate > 1
    return Weights(learning, fixed_bytes, shared_bytes, whole_gradients=whole_gradients)


_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_of(device: torch.device) -> int:
    """Bytes that the device has in all; of a machine's, those that its container may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return physical


def insist_on_memory(weights: Weights, num_devices: int, device: torch.device) -> None:
    """Raises: RelayError if not even weights and optimiser fit on the device."""
    available, least = memory_of(device), weights.bytes_per_device(num_devices)
    if least > available:
        raise RelayError(
            f"the weights, gradients, optimiser and average of this recipe take "
            f"{least / 2**30:.3g} GiB on each of {num_devices} devices, and {device} has "
            f"{available / 2**30:.3g}: share them out over more processes (torchrun), "
            "or train an adapter of them (docs/lora.md)"
        )
