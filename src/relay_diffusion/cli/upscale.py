"""``relay upscale``: any picture, larger and finer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from relay_diffusion import __version__
from relay_diffusion.cli.adapters import LoraOption, open_adapters, used
from relay_diffusion.cli.seeds import LAST_SEED, first_seed
from relay_diffusion.errors import RelayError
from relay_diffusion.files import sha256_of


def upscale(
    images: Annotated[list[Path], typer.Argument(help="Pictures, whatever made them.")],
    prompt: Annotated[
        str | None,
        typer.Option(help="What they show. (default: the prompt in each, if relay made it)"),
    ] = None,
    times: Annotated[int, typer.Option(min=1, max=8, help="Doublings.")] = 1,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Start level, above 1 to 1000: how much may change. (default: the cascade's own)"
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name of relay models, a folder, or a hub id.")
    ] = "starter",
    fast: Annotated[
        bool, typer.Option("--fast", help="The model's distilled sibling, of a few steps.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=LAST_SEED, help="Of the first picture, then +1. (default: random)"),
    ] = None,
    relay_steps: Annotated[
        int | None, typer.Option(help="Of each doubling. (default: the cascade's own)")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="How closely to follow the prompt; 1 is unguided. (default: the cascade's own)"
        ),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to stay away from.")] = None,
    solver: Annotated[
        str | None, typer.Option(help="euler or multistep. (default: the cascade's own)")
    ] = None,
    eta: Annotated[float, typer.Option(help="Fresh noise per step, 0 to 1.")] = 0.0,
    lora: LoraOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="auto, bfloat16, float16, float32; auto is as in relay generate."),
    ] = "auto",
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One network at a time, pictures in tiles.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("pictures"),
) -> None:
    """Make pictures larger and finer."""
    from relay_diffusion.models.folder import fast_sibling
    from relay_diffusion.pipelines.metadata import Upscaling, UsedImage, read_record, save_picture
    from relay_diffusion.pipelines.outputs import PictureFolder
    from relay_diffusion.pipelines.pictures import check_pixels, open_picture
    from relay_diffusion.pipelines.prompting import NEGATIVE_ALONE

    if fast:
        model = fast_sibling(model)
    for path in images:  # all of them, before anything is opened
        picture = open_picture(path)
        check_pixels(picture.height << times, picture.width << times)
    records = [read_record(path) for path in images]
    read = [(prompt_of(record) if prompt is None else prompt) or None for record in records]
    if negative and not all(read):
        raise RelayError(NEGATIVE_ALONE)
    first = first_seed(seed, len(images), f"{len(images)} pictures")
    adapters = open_adapters(lora)
    for adapter, _ in adapters:
        if "relay_unet" not in adapter.tensors:
            raise RelayError(
                f"--lora {adapter.path} is for the base stage, which has no part in upscaling: "
                "leave it out"
            )
    folder = PictureFolder(out)

    import torch

    from relay_diffusion.pipelines.devices import pick_device, pick_dtype
    from relay_diffusion.pipelines.opening import open_cascade, open_with_texts
    from relay_diffusion.pipelines.outline import outline
    from relay_diffusion.pipelines.settings import resolve_settings

    where = pick_device(device)
    texts = list(dict.fromkeys(text for text in read if text))
    cascade = outline(model, frozenset(() if texts else ("text_encoder", "tokenizer")))
    sampling = resolve_settings(
        cascade.config,
        cascade.distilled,
        num_relay_steps=relay_steps,
        relay_guidance_scale=guidance,
        solver=solver,
        eta=eta,
        relay_start=strength,
    )
    mendable = "relay" not in cascade.distilled and min(sampling.relay_start) > 60
    if cascade.config.world and strength is None and None in records and mendable:
        typer.echo(
            f"{model} was trained on drawings of one world; of other pictures, --strength 60 or so "
            "keeps more",
            err=True,
        )
    how = (model, where, pick_dtype(dtype, where), low_memory, adapters)
    embeds: dict[str | None, Any] = {None: (None, None)}
    if texts:
        pipe, encoded = open_with_texts(texts, negative, *how)
        embeds |= zip(texts, encoded, strict=True)
    else:
        pipe = open_cascade(*how, text_encoder=None, tokenizer=None)
    for index, (source, text) in enumerate(zip(images, read, strict=True)):
        text_embeds, negative_embeds = embeds[text]
        larger = pipe.upscale(
            open_picture(source),
            prompt_embeds=text_embeds,
            negative_prompt_embeds=negative_embeds,
            num_relay_steps=sampling.num_relay_steps,
            strength=strength,
            times=times,
            guidance_scale=sampling.relay_guidance_scale,
            solver=sampling.solver,
            eta=sampling.eta,
            generator=[torch.Generator().manual_seed(first + index)],
        ).images[0]
        made = Upscaling(
            upscaled=UsedImage(source.name, sha256_of(source)),
            prompt=text,
            negative_prompt=negative if "relay" not in cascade.distilled else None,
            times=times,
            strength=strength or list(sampling.relay_start),
            model=model,
            seed=first + index,
            width=larger.width,
            height=larger.height,
            num_relay_steps=sampling.num_relay_steps,
            guidance_scale=sampling.relay_guidance_scale,
            solver=sampling.solver,
            eta=sampling.eta,
            dtype=str(pipe.relay_unet.dtype).removeprefix("torch."),
            low_memory=low_memory,
            version=__version__,
            adapters=used(adapters),
        )
        with folder.next(source.stem, f"x{2**times} seed {made.seed}") as path:
            save_picture(larger, path, asdict(made), made.to_text())
        typer.echo(path)


def prompt_of(record: Mapping[str, Any] | None) -> str | None:
    """What a picture that ``relay`` made was made of, by its record; None of another one."""
    record = record or {}
    return record.get("expanded_prompt") or record.get("prompt")
