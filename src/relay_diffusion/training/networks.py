"""Builds the networks that a recipe names: from a table of arguments, or from a folder."""

from __future__ import annotations

import copy
import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL, ModelMixin, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save
from torch import nn

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.fitting import shapes_of, unlike
from relay_diffusion.models.low_rank import is_difference, open_unet
from relay_diffusion.models.stored import check_stored, described
from relay_diffusion.training import distributed
from relay_diffusion.training.low_rank import plain
from relay_diffusion.training.recipe import Model, Run

AUTOENCODERS: dict[str, Any] = {
    "AutoencoderDC": AutoencoderDC,
    "AutoencoderKL": AutoencoderKL,
}
SIZE_WIDTH = 32
"""Sinusoids for each of the six numbers of the size conditioning, where a recipe says nothing."""


@dataclass(frozen=True)
class Networks:
    """What a recipe names; each objective has those that it needs.

    Typed ``Any``: to a type checker the classes of diffusers and transformers are not modules.
    """

    vae: Any = None
    text_encoder: Any = None
    unet: Any = None
    tokenizer: Any = None

    def modules(self) -> dict[str, nn.Module]:
        named = {"vae": self.vae, "text_encoder": self.text_encoder, "unet": self.unet}
        return {name: module for name, module in named.items() if module is not None}


NEEDS = {"autoencoder": {"vae"}, "text": {"text_encoder"}}
"""Networks of the objectives that do without some."""


def build_networks(
    model: Model, objective: str, tokenizer: Any = None, widen: bool = True
) -> Networks:
    """The networks of that objective, float32 on the CPU, with the weights of ``init_from``.

    Under ``torch.device("meta")`` they have shapes and no weights, and none are read.

    Args:
        widen: have a UNet that is opened for "concat", and reads its own latents only, read the
            low-resolution ones as well.
    Raises: RelayError on an unknown class or argument, a folder that does not fit, or networks that
        do not belong together.
    """
    needs = NEEDS.get(objective, {"vae", "text_encoder", "unet"})
    vae = text_encoder = unet = None
    if "vae" in needs:
        vae = build_vae(model.vae)
    if "text_encoder" in needs:
        vocabulary = 0 if tokenizer is None else len(tokenizer)
        text_encoder = build_text_encoder(model.text_encoder, vocabulary)
    if vae is not None and text_encoder is not None:
        channels, width = int(vae.config.latent_channels), text_encoder.config.d_model
        beside = objective == "concat"
        unet = build_unet(model.unet, channels, width, reads_beside=beside)
        if beside and widen and unet.config.in_channels == channels:
            _widen(unet)
        _insist_on_match(unet, 2 * channels if beside else channels, channels, width)
    networks = Networks(vae, text_encoder, unet, tokenizer)
    modules = networks.modules()
    for name, path in model.init_from.items():
        if name not in modules:
            raise RelayError(f"model.init_from.{name}: allowed are {', '.join(modules)}")
        if not _on_meta():
            load_weights(modules[name], path, f"model.init_from.{name}")
    return networks


def build_vae(spec: str | Mapping[str, Any]) -> Any:
    """An autoencoder, from its folder or its table."""
    if isinstance(spec, str):
        cls = _vae_class(_read_config(spec, "model.vae").get("_class_name"), f"{spec}/config.json")
        return _open(cls, spec, "model.vae")
    arguments = dict(spec)
    cls = _vae_class(arguments.pop("class", None), "model.vae.class")
    if cls is AutoencoderKL:
        # Where pixels go, 8 times smaller: the block types follow from the widths.
        levels = len(arguments.get("block_out_channels", (64,)))
        arguments.setdefault("down_block_types", ("DownEncoderBlock2D",) * levels)
        arguments.setdefault("up_block_types", ("UpDecoderBlock2D",) * levels)
    return _construct(cls, arguments, "model.vae")


def build_text_encoder(spec: str | Mapping[str, Any], vocab_size: int) -> Any:
    """A T5 encoder; the size of its vocabulary is the tokenizer's where the table is silent."""
    # Not above: training of networks without text does without transformers.
    from transformers import T5Config, T5EncoderModel

    if isinstance(spec, str):
        return _without_dropout(_open(T5EncoderModel, spec, "model.text_encoder"))
    arguments = {"vocab_size": vocab_size, "dropout_rate": 0.0, **spec}
    config = _construct(T5Config, arguments, "model.text_encoder")
    return _attending_nearby(T5EncoderModel(config))


NEARBY = (-1, 1, -2, 2, -3)
"""Positions, counted from a word, that a head each of a fresh text encoder begins at."""


def _attending_nearby(text_encoder: Any) -> Any:
    """Have a head each begin with most of its attention on one of the positions ``NEARBY``.

    All that tells T5 the order of words are numbers added to its logits by distance. They start
    near 0 and matter from some units on, and AdamW moves a number by the rate at most: for
    thousands of steps an encoder that starts from nothing would know a bag of words (docs/log.md,
    2026-11-27)."""
    if _on_meta():
        return text_encoder
    table = text_encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    ahead = text_encoder.config.relative_attention_num_buckets // 2
    with torch.no_grad():
        for head, offset in zip(range(table.shape[1]), NEARBY, strict=False):
            if abs(offset) < ahead // 2:  # from there on a number is of several distances
                table[abs(offset) + (ahead if offset > 0 else 0), head] += 5.0
    return text_encoder


def _without_dropout(text_encoder: Any) -> Any:
    """Dropout, which T5's configuration asks for, would make a sample's loss depend on what else
    is in the batch, and embeddings other than those in use. The configuration stays as it is."""
    for part in text_encoder.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0
    return text_encoder


def build_unet(
    spec: str | Mapping[str, Any],
    latent_channels: int,
    text_width: int,
    where: str = "model.unet",
    reads_beside: bool = False,
) -> Any:
    """A UNet conditioned on text and on the six numbers of the size (docs/math.md, The released
    networks); whatever follows from those may be left out of the table. ``where`` in the recipe it
    is named, for errors. One from a table reads other latents beside its own if it
    ``reads_beside``."""
    if isinstance(spec, str):
        return _open(UNet2DConditionModel, spec, where)
    arguments: dict[str, Any] = {
        "in_channels": latent_channels * (2 if reads_beside else 1),
        "out_channels": latent_channels,
        "cross_attention_dim": text_width,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_WIDTH,
        "use_linear_projection": True,
        **spec,
    }
    width = 6 * arguments["addition_time_embed_dim"]
    arguments.setdefault("projection_class_embeddings_input_dim", width)
    return _construct(UNet2DConditionModel, arguments, "model.unet")


def _insist_on_match(unet: Any, read: int, latent_channels: int, text_width: int) -> None:
    """Raises: RelayError unless the UNet takes what the other networks give."""
    config = unet.config
    has = (config.in_channels, config.out_channels, config.cross_attention_dim)
    if has != (read, latent_channels, text_width):
        raise RelayError(
            f"model.unet reads {has[0]} channels, gives {has[1]} and takes text of width {has[2]}; "
            f"with this autoencoder, text encoder and objective it must be {read}, "
            f"{latent_channels} and {text_width}: they do not belong together"
        )


def _widen(unet: Any) -> None:
    """Have a UNet read twice as many channels. The kernels of the further ones start as zeros, so
    that it begins as what it was (as InstructPix2Pix does, arXiv:2211.09800, section 3.2)."""
    narrow = unet.conv_in
    channels = narrow.in_channels
    wide = nn.Conv2d(2 * channels, narrow.out_channels, narrow.kernel_size, padding=narrow.padding)
    with torch.no_grad():
        wide.weight.zero_()[:, :channels] = narrow.weight
    wide.bias = narrow.bias
    unet.conv_in = wide
    unet.register_to_config(in_channels=2 * channels)


def place(module: nn.Module, run: Run, device: torch.device, sharded: bool = False) -> None:
    """Put a network on the device of the run, in the memory format that it asks for, with the
    attention that is fastest there.

    Args: sharded: whether several processes share it out (``distributed.shard``), which takes it
        to their devices block by block: none has to have room for all of it.
    """
    if not sharded or distributed.world_size() == 1:
        module.to(device)
    if run.channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(module, UNet2DConditionModel) and device.type == "cpu":
        # On two cores a step at 16x16 latents takes 0.61 s with plain matrix products and 0.69 s
        # with the fused kernel, whose backward pass is slow there.
        module.set_attn_processor(AttnProcessor())


def load_tokenizer(path: str) -> Any:
    """A tokenizer from its folder."""
    from transformers import PreTrainedTokenizerFast

    if not (Path(path) / "tokenizer.json").is_file():
        raise RelayError(f"model.tokenizer: there is no {path}/tokenizer.json")
    return PreTrainedTokenizerFast.from_pretrained(path)


def load_weights(module: nn.Module, path: str, where: str) -> None:
    """Start ``module`` from the weights in a folder, stored in whatever precision.

    Raises: RelayError naming the tensors that are missing, left over or of another shape.
    """
    stored = _open(type(module), path, where).state_dict()
    problems = unlike(shapes_of(stored), shapes_of(module.state_dict()))
    if problems:
        raise RelayError(f"{where}: the weights in {path} do not fit the network; {problems}")
    module.load_state_dict(stored)


def save_half(module: Any, folder: Path) -> None:
    """Write ``module`` in half precision, in the layout of its library; every process has to call
    it, and the main one writes."""
    state = plain(distributed.whole_state(module))
    if not distributed.is_main():
        return
    folder.mkdir()
    weights = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in state.items()
    }
    if not isinstance(module, ModelMixin):  # of transformers
        weights.pop("encoder.embed_tokens.weight", None)  # the same tensor as shared.weight
        config = copy.deepcopy(module.config)
        config.architectures, config.dtype = ["T5EncoderModel"], "float16"
        config.save_pretrained(folder)
        file = folder / "model.safetensors"
    else:
        module.save_config(folder)
        file = folder / "diffusion_pytorch_model.safetensors"
    # Through Python's own writing, whose errors say what is wrong with the disk.
    file.write_bytes(save(weights, metadata={"format": "pt"}))


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _vae_class(name: Any, where: str) -> Any:
    if name not in AUTOENCODERS:
        raise RelayError(f"{where} is {name!r}, allowed are {', '.join(AUTOENCODERS)}")
    return AUTOENCODERS[name]


def _construct(cls: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> Any:
    known = [name for name in inspect.signature(cls).parameters if name not in ("self", "kwargs")]
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise RelayError(f"{where}.{name} is no argument of {cls.__name__}, nearest: {near[0]}")
    try:
        return cls(**arguments)
    except (AssertionError, TypeError, ValueError, NotImplementedError) as error:
        raise RelayError(f"{where}: {cls.__name__} refuses its arguments: {error}") from error


def _on_meta() -> bool:
    return torch.get_default_device().type == "meta"


def _read_config(path: str, where: str) -> dict[str, Any]:
    file = Path(path) / "config.json"
    if not path or not file.is_file():
        what = f"there is no {file}" if path else "is not given"
        raise RelayError(f"{where}: {what}; give a table of arguments, or a folder with weights")
    config: dict[str, Any] = json.loads(file.read_text())
    return config


def _open(cls: Any, path: str, where: str) -> Any:
    config = _read_config(path, where)
    try:
        blank = described(cls, config, Path(path) / "config.json")
        if _on_meta():
            return blank
        if cls is UNet2DConditionModel and is_difference(Path(path)):
            return open_unet(Path(path), torch.float32)
        if any(Path(path).glob("*.safetensors")):
            check_stored(Path(path), blank)
    except RelayError as error:
        raise RelayError(f"{where}: {error}") from error
    try:
        return cls.from_pretrained(path).float()
    except (OSError, RuntimeError, ValueError) as error:
        first = first_line(error)
        raise RelayError(f"{where}: {path} cannot be opened as {cls.__name__}: {first}") from error
