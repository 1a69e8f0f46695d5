"""``RelayPipeline``: text to base latents to picture, then a relay for every doubling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.in_progress import InProgress
from relay_diffusion.pipelines.lora import AdaptedComponents
from relay_diffusion.pipelines.noise import Generators, Latents, split_generators
from relay_diffusion.pipelines.pictures import (
    OutputType,
    check_output_type,
    check_pixels,
    cover,
    from_pixels,
    pad_to_multiple,
    to_pixels,
)
from relay_diffusion.pipelines.prompting import NEGATIVE_ALONE, as_list, check_copies, for_each
from relay_diffusion.pipelines.prompts import Expander
from relay_diffusion.pipelines.run import Run
from relay_diffusion.pipelines.settings import (
    STRENGTH,
    check_number,
    check_strength,
    resolve_settings,
)
from relay_diffusion.pipelines.watch import StepCallback, WatchOptions


@dataclass
class RelayPipelineOutput(BaseOutput):
    """What a call returns.

    Attributes:
        images: the pictures, in the form asked for.
        stages: those of every stage, smallest first; the last is ``images``.
        prompts: the text that each picture was made of, if prompts were expanded.
    """

    images: Any
    stages: list[Any]
    prompts: list[str] | None = None


class RelayPipeline(InProgress, AdaptedComponents):
    """Text to image by relay diffusion, as in CogView3 (arXiv:2403.05121).

    The base stage makes a small picture. For each doubling the picture is enlarged bilinearly,
    noised to the relay start, and diffusion goes on from there. A cascade folder has the diffusers
    layout; ``scheduler`` is read for its configuration only. docs/math.md has the equations.
    """

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        expand: bool | str | Expander | None = None,
        num_inference_steps: int | None = None,
        num_relay_steps: int | None = None,
        guidance_scale: float | None = None,
        relay_guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        solver: str | None = None,
        eta: float = 0.0,
        latents: Latents = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        image: Any = None,
        strength: float = STRENGTH,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> RelayPipelineOutput:
        """Make pictures of prompts.

        What is left None is the cascade's own default. Text embeddings, latents and arithmetic are
        float32; the networks run in their own dtype.

        Args:
            prompt: one, or several; an empty one is unconditional.
            height, width: in pixels; None is twice the base size. See ``stages_for``.
            negative_prompt: takes the place of the zeroed embedding in the unconditional half.
            expand: rewrite the prompts into the long form that the cascade was trained on, each
                picture's by the seed of its generator: True is the cascade's own expander, or its
                name ("scenes", "openai", "transformers"), or an ``Expander``.
            num_inference_steps, num_relay_steps: of the base stage, of each relay stage.
            guidance_scale, relay_guidance_scale: of the base stage, of each relay stage;
                numbers, for all pictures; classifier-free, off at 1 and below, or embedded in
                distilled networks. Where the cascade has no default for the relay, None there is
                the scale of the base stage.
            num_images_per_prompt: pictures of one prompt stand side by side in the result.
            generator: one per picture, or one that is split by drawing a seed for each.
            solver, eta: "euler" or "multistep"; fresh noise per step, 0 to 1.
            latents: unit normal noise (B, C, H / 8, W / 8) of the base stage, or a list with that
                of each stage, None where it is to be drawn.
            prompt_embeds, negative_prompt_embeds: (num prompts, L, D), in place of the prompts.
            image: start the base stage from this picture with noise on it (image to image), or
                from a list of them, one for each prompt or for each picture; the middle is cut to
                the shape asked for.
            strength: with ``image``, above 0 to 1: the share of base steps that is run.
            output_type: "pil", "np", "pt" (in [0, 1]) or "latent" (z_0 of each stage).
            return_dict: False returns the tuple (images, stages).
            callback_on_step_end: called as ``(pipe, step, t, kwargs)`` after each step, t being the
                training index; kwargs has "stage" (0 is the base) and what
                ``callback_on_step_end_tensor_inputs`` names: "latents", "denoised". It may return
                {"latents": ...}. ``pipe.num_timesteps`` is the stage's number of steps; setting
                ``pipe.guidance_scale`` holds for the rest of the stage, and ``pipe.interrupt =
                True`` ends the run after this step with the newest estimate of the clean picture,
                at the size of that stage.
        Raises: RelayError for arguments out of range, and if latents or pixels become NaN.
        """
        check_output_type(output_type)
        self.interrupt = False
        sizes = self.stages_for(height, width)
        settings = resolve_settings(
            self.config,
            self.distilled,
            num_inference_steps=num_inference_steps,
            num_relay_steps=num_relay_steps,
            guidance_scale=guidance_scale,
            relay_guidance_scale=relay_guidance_scale,
            solver=solver,
            eta=eta,
        )
        check_copies(num_images_per_prompt)
        check_strength(strength)
        watch = WatchOptions.of(callback_on_step_end, callback_on_step_end_tensor_inputs)
        x, copies = None, num_images_per_prompt
        if image is not None:
            x = cover(to_pixels(image), *sizes[0])
        expanded = None
        if expand and prompt is not None:
            prompts = for_each(as_list(prompt), num_images_per_prompt)
            generator = split_generators(generator, len(prompts))
            seeds = [own.initial_seed() for own in generator]
            prompt = expanded = self.expand_prompts(prompts, expand, seeds)
            negative_prompt = for_each(negative_prompt, num_images_per_prompt)
            negative_prompt_embeds = for_each(negative_prompt_embeds, num_images_per_prompt)
            num_images_per_prompt = 1
        text = self.encode_prompt(
            prompt, negative_prompt, num_images_per_prompt, prompt_embeds, negative_prompt_embeds
        )
        # Offloading sends away only the network before the next in model_cpu_offload_seq.
        self.maybe_free_model_hooks()
        run = Run.prepare(self, sizes, text, settings, latents, generator, watch)

        if x is not None and 1 < len(x) < len(text[0]) == len(x) * copies:
            x = for_each(x, copies)
        z = run.base(sizes[0], x, strength)
        self.maybe_free_model_hooks()  # the VAE would send away the relay stage's only
        stages = []
        for stage, size in enumerate(sizes[1:], start=1):
            if self.interrupt:
                break
            x = run.decode(z)
            stages.append(z if output_type == "latent" else from_pixels(x, output_type))
            z = run.relay(stage, size, x)
            self.maybe_free_model_hooks()
        stages.append(z if output_type == "latent" else from_pixels(run.decode(z), output_type))
        return self._output(stages, return_dict, expanded)

    @torch.no_grad()
    def upscale(
        self,
        image: Any,
        prompt: str | Sequence[str] | None = None,
        *,
        num_relay_steps: int | None = None,
        strength: float | None = None,
        times: int = 1,
        negative_prompt: str | Sequence[str] | None = None,
        guidance_scale: float | None = None,
        generator: Generators = None,
        solver: str | None = None,
        eta: float = 0.0,
        latents: Latents = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> RelayPipelineOutput:
        """Make any picture larger and finer by relay stages, whatever model made it.

        Args:
            image: a PIL image, an array or a tensor in [0, 1], see ``pictures.to_pixels``; of any
                size: it is padded at the bottom and right for the networks and the result cut
                back, but for ``output_type="latent"``, whose z_0 are of the padded picture.
            prompt: what the picture shows; None runs the networks without text.
            strength: start level T_r of the relay, a training index above 1 and up to 1000: how
                much may change; no share. None: the cascade's own for that size.
            times: doublings.
            guidance_scale: of the relay, None: the cascade's own default there.
            latents: unit normal noise (B, C, H / 8, W / 8) of the first doubling, or a list.
        The others, the result and the errors are those of a call.
        """
        check_output_type(output_type)
        self.interrupt = False
        check_number("times", times, Integral)
        if times < 1:
            raise RelayError(f"times {times}; it counts doublings, give 1 or more")
        x = to_pixels(image)
        height, width = x.shape[2:]
        check_pixels(height << times, width << times)
        x = pad_to_multiple(x, self.upscale_multiple).to(self._execution_device)
        sizes = [(x.shape[2] << stage, x.shape[3] << stage) for stage in range(1, times + 1)]
        settings = resolve_settings(
            self.config,
            self.distilled,
            num_relay_steps=num_relay_steps,
            relay_guidance_scale=guidance_scale,
            solver=solver,
            eta=eta,
            relay_start=strength,
        )
        watch = WatchOptions.of(callback_on_step_end, callback_on_step_end_tensor_inputs)
        if prompt is None and prompt_embeds is None:
            if negative_prompt or negative_prompt_embeds is not None:
                raise RelayError(NEGATIVE_ALONE)
            text = self.no_text(len(x))
        else:
            prompts = None if prompt is None else as_list(prompt, len(x), each="pictures")
            text = self.encode_prompt(
                prompts, negative_prompt, 1, prompt_embeds, negative_prompt_embeds
            )
            self.maybe_free_model_hooks()  # the VAE comes next, not the base stage's network
            if len(x) != len(text[0]):
                raise RelayError(
                    f"{len(text[0])} prompt_embeds for {len(x)} pictures; give as many"
                )
        run = Run.prepare(self, sizes, text, settings, latents, generator, watch, first=1)

        stages = []
        for stage, size in enumerate(sizes, start=1):
            z = run.relay(stage, size, x)
            x = run.decode(z)
            cut = x[:, :, : height << stage, : width << stage]
            stages.append(z if output_type == "latent" else from_pixels(cut, output_type))
            if self.interrupt:
                break
        return self._output(stages, return_dict)

    def _output(
        self, stages: list[Any], return_dict: bool, prompts: list[str] | None = None
    ) -> Any:
        self.maybe_free_model_hooks()
        output = RelayPipelineOutput(images=stages[-1], stages=stages, prompts=prompts)
        return output if return_dict else (output.images, output.stages)
