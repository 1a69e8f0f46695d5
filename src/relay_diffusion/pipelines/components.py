"""What a cascade is made of: opening its parts, and the sizes that they make."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import AutoencoderDC, AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from relay_diffusion.config import arguments_for
from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.folder import MAX_TOKENS, RELAY_BLUR, RELAY_START, read_index
from relay_diffusion.models.folder import fast_sibling as fast_sibling_of
from relay_diffusion.models.guidance import has_guidance
from relay_diffusion.models.hub import HUB_SETTINGS, downloading
from relay_diffusion.models.registry import INDEX, resolve
from relay_diffusion.models.stored import check_weights
from relay_diffusion.pipelines.devices import Precision, dtypes_of_parts, pick_device
from relay_diffusion.pipelines.encoding import PromptEncoding
from relay_diffusion.pipelines.folder import check_cascade_folder
from relay_diffusion.pipelines.lending import lent_parts, parts_of_differences
from relay_diffusion.pipelines.pictures import check_pixels
from relay_diffusion.pipelines.settings import check_number
from relay_diffusion.pipelines.sizes import Size, stages_for


class CascadeComponents(PromptEncoding):
    """The parts and the configuration that ``RelayPipeline`` samples with."""

    model_cpu_offload_seq = "text_encoder->base_unet->relay_unet->vae"
    _optional_components: ClassVar = ["text_encoder", "tokenizer", "vae", "base_unet", "relay_unet"]

    def __init__(
        self,
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        vae: AutoencoderKL | AutoencoderDC,
        base_unet: UNet2DConditionModel,
        relay_unet: UNet2DConditionModel,
        scheduler: Any,
        base_size: int = 512,
        num_inference_steps: int = 50,
        num_relay_steps: int = 10,
        relay_start: list | tuple = (RELAY_START,),
        guidance_scale: float = 7.5,
        relay_guidance_scale: float | None = None,
        guidance_range: list | None = None,
        relay_guidance_range: list | None = None,
        trained_base_steps: int | list[int] | None = None,
        trained_relay_steps: int | list[int] | None = None,
        max_tokens: int = MAX_TOKENS,
        solver: str = "euler",
        fast_sibling: str | None = None,
        shares: str | None = None,
        known_words: list[str] | None = None,
        expander: str | None = None,
        world: str | None = None,
        relay_blur: str = RELAY_BLUR,
    ) -> None:
        """
        Args:
            base_size: side of the base stage's square, in pixels.
            num_inference_steps, num_relay_steps, guidance_scale, solver: defaults of a call.
            relay_start: start level T_r of each doubling, training indices; the last repeats.
            relay_guidance_scale: default of the relay stages; None: the base stage's scale.
            guidance_range: lowest and highest scale that embedded guidance was distilled for.
            relay_guidance_range: that of the relay network; None: the same.
            trained_base_steps, trained_relay_steps: steps that the networks were distilled for.
            max_tokens: L, the length that prompts are padded or cut to.
            fast_sibling: the distilled cascade that was made of this one: a name, or a folder as
                seen from this one's.
            shares: the cascade, named in the same way, that has the parts which the folder lacks.
            known_words: words seen in training; None: the tokenizer's, if it knows whole words.
            expander: name of the cascade's own prompt expander, see ``prompts.open_expander``.
            world: name of the scene world it was trained on, None if on other pictures.
            relay_blur: blur schedule that the relay network was trained with, see
                ``diffusion.relay_tau``.
        """
        super().__init__()
        self.register_modules(
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            vae=vae,
            base_unet=base_unet,
            relay_unet=relay_unet,
            scheduler=scheduler,
        )
        self.register_to_config(
            base_size=base_size,
            num_inference_steps=num_inference_steps,
            num_relay_steps=num_relay_steps,
            relay_start=list(relay_start),
            guidance_scale=guidance_scale,
            relay_guidance_scale=relay_guidance_scale,
            guidance_range=guidance_range,
            relay_guidance_range=relay_guidance_range,
            trained_base_steps=trained_base_steps,
            trained_relay_steps=trained_relay_steps,
            max_tokens=max_tokens,
            solver=solver,
            fast_sibling=fast_sibling,
            shares=shares,
            known_words=known_words,
            expander=expander,
            world=world,
            relay_blur=relay_blur,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path = "starter",
        dtype: Precision = None,
        torch_dtype: Precision = None,
        fast: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Open a cascade: a registered name, a folder, or a hub id.

        Args:
            fast: its distilled sibling, which takes a few steps.
            dtype: of the UNets and the text encoder, or its name; None or "auto": float32, as in
                diffusers, or with a ``device_map`` what ``pick_dtype`` takes there. The VAE is
                opened in float32 (that of SDXL overflows in float16) unless a table names its
                dtype: ``{"default": ..., "vae": torch.float16}``.
            torch_dtype: what diffusers used to call it.
            kwargs: as ``DiffusionPipeline.from_pretrained`` takes them. Those for loading and
                downloading hold for shared parts too, except that ``revision`` is of the cascade
                that is named. A part given as None is not opened (``text_encoder=None`` where
                prompts come as ``prompt_embeds``).
        Raises: RelayError for a folder that is no cascade, naming the file or tensors at fault,
            and for what is no dtype.
        """
        dtypes = dtypes_of_parts(
            dtype if dtype is not None else torch_dtype, kwargs.get("device_map")
        )
        revision = kwargs.pop("revision", None)
        with downloading(**{name: kwargs.pop(name) for name in HUB_SETTINGS if name in kwargs}):
            name = pretrained_model_name_or_path
            name = fast_sibling_of(name, revision) if fast else name
            return cls._open(resolve(name, revision), dtypes, kwargs)

    @classmethod
    def _open(cls, folder: Path, dtypes: dict[str, torch.dtype], kwargs: Mapping[str, Any]) -> Self:
        """As ``from_pretrained``, from a folder that need not hold all parts itself."""
        check_cascade_folder(folder, without=frozenset(kwargs))
        settings_of(folder)
        given = {**kwargs, **lent_parts(cls.from_pretrained, folder, dtypes, kwargs)}
        given |= parts_of_differences(folder, dtypes, given)
        check_weights(folder, without=frozenset(given))
        try:
            return super().from_pretrained(str(folder), dtype=dtypes, **given)
        except (OSError, RuntimeError, ValueError) as error:
            first = first_line(error)
            raise RelayError(f"{folder} cannot be opened: {first}") from error

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Another pipeline of the same parts and defaults, as diffusers makes it, whose float32
        where no ``dtype`` is named would change the parts of both: here they stay as they are.

        Args: kwargs: parts and settings that shall be others.
        """
        known = inspect.signature(cls.__init__).parameters
        if not isinstance(pipeline, CascadeComponents) or kwargs.keys() - known.keys():
            return super().from_pipe(pipeline, **kwargs)
        settings = {name: pipeline.config[name] for name in cascade_settings()}
        made = cls(**{**pipeline.components, **settings, **kwargs})
        made.register_to_config(_name_or_path=pipeline.name_or_path)
        return made

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """As diffusers does. Raises: RelayError for another format than safetensors."""
        if not safe_serialization:
            raise RelayError(
                "safe_serialization=False writes a cascade that cannot be opened: weights are read "
                "from .safetensors only, leave it out"
            )
        super().save_pretrained(save_directory, True, *args, **kwargs)

    def stages_for(self, height: int | None = None, width: int | None = None) -> list[Size]:
        """(height, width) of every stage for a picture, smallest first; see ``sizes.stages_for``.

        Raises: RelayError naming the nearest sizes, where the stages cannot make this one.
        """
        height = 2 * self.config.base_size if height is None else height
        width = 2 * self.config.base_size if width is None else width
        check_number("height", height, Integral)
        check_number("width", width, Integral)
        check_pixels(height, width)
        return stages_for(height, width, self.config.base_size, self.size_multiple)

    def enable_low_memory(self, device: str | torch.device | None = None) -> None:
        """Trade time for memory: one network at a time on the accelerator, the VAE in tiles and one
        picture at a time. The tiles change the picture a little.

        Args:
            device: the accelerator; None: the machine's, if it has one.
        """
        if self.vae is not None:
            self.vae.enable_tiling()
            self.vae.enable_slicing()
        device = pick_device() if device is None else torch.device(device)
        if device.type != "cpu":
            self.enable_model_cpu_offload(device=device)

    @property
    def size_multiple(self) -> int:
        """What the sides of the base stage, in pixels, must divide by."""
        base = self.vae_factor if self.base_unet is None else self.unet_multiple(self.base_unet)
        return max(base, self.upscale_multiple)

    @property
    def upscale_multiple(self) -> int:
        """What the sides of a picture to be doubled must divide by."""
        if self.relay_unet is None:
            return 1
        return max(1, self.unet_multiple(self.relay_unet) // 2)

    def unet_multiple(self, unet: UNet2DConditionModel) -> int:
        """Pixels per cell of a network's deepest level, along one side."""
        return self.vae_factor << (len(unet.config.block_out_channels) - 1)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent, along one side."""
        if self.vae is None:
            raise RelayError("this cascade was opened without its vae: it can make no pictures")
        config = self.vae.config
        widths = getattr(config, "encoder_block_out_channels", None) or config.block_out_channels
        return int(2 ** (len(widths) - 1))

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def distilled(self) -> list[str]:
        """The stages, "base" and "relay", whose network has guidance embedded, rather than
        classifier-free."""
        unets = {"base": self.base_unet, "relay": self.relay_unet}
        return [stage for stage, unet in unets.items() if has_guidance(unet)]


def cascade_settings() -> list[str]:
    """Names of what a cascade's ``model_index.json`` may say beside its parts."""
    parameters = inspect.signature(CascadeComponents.__init__).parameters.values()
    return [one.name for one in parameters if one.default is not inspect.Parameter.empty]


def settings_of(folder: Path) -> dict[str, Any]:
    """What the ``model_index.json`` of a cascade says beside its parts.

    Raises: RelayError for a setting of another type than ``CascadeComponents.__init__`` takes.
    """
    index = read_index(folder)
    given = {name: index[name] for name in cascade_settings() if name in index}
    try:
        return arguments_for(CascadeComponents.__init__, given)
    except RelayError as error:
        raise RelayError(f"{folder / INDEX}: {error}") from error
