"""``relay upscale``: any picture, larger and finer."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relay_diffusion import __version__
from relay_diffusion.cli.adapters import LoraOption, open_adapters, used
from relay_diffusion.cli.generate import LAST_SEED
from relay_diffusion.errors import RelayError


def upscale(
    image: Annotated[Path, typer.Argument(help="The picture, whatever made it.")],
    prompt: Annotated[
        str | None,
        typer.Option(help="What it shows. (default: the prompt in the picture, if relay made it)"),
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
        int | None, typer.Option(min=0, max=LAST_SEED, help="(default: random)")
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
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("pictures"),
) -> None:
    """Make a picture larger and finer."""
    from relay_diffusion.models.folder import fast_sibling
    from relay_diffusion.pipelines.metadata import read_record, save_picture
    from relay_diffusion.pipelines.outputs import PictureFolder
    from relay_diffusion.pipelines.pictures import check_pixels, open_picture

    if fast:
        model = fast_sibling(model)
    picture = open_picture(image)
    check_pixels(picture.height << times, picture.width << times)
    if prompt is None:
        record = read_record(image) or {}
        prompt = record.get("expanded_prompt") or record.get("prompt")
    adapters = open_adapters(lora)
    folder = PictureFolder(out)

    import torch
    from torch import Tensor

    from relay_diffusion.pipelines.devices import pick_device, pick_dtype
    from relay_diffusion.pipelines.opening import open_cascade, open_with_texts
    from relay_diffusion.pipelines.outline import outline
    from relay_diffusion.pipelines.prompting import NEGATIVE_ALONE
    from relay_diffusion.pipelines.settings import resolve_settings

    where = pick_device(device)
    if negative and not prompt:
        raise RelayError(NEGATIVE_ALONE)
    cascade = outline(model)
    sampling = resolve_settings(
        cascade.config,
        cascade.distilled,
        num_relay_steps=relay_steps,
        relay_guidance_scale=guidance,
        solver=solver,
        eta=eta,
        relay_start=strength,
    )
    how = (model, where, pick_dtype(dtype, where), low_memory, adapters)
    embeds: Tensor | None
    negative_embeds: Tensor | None
    if prompt:
        pipe, texts = open_with_texts([prompt], negative, *how)
        embeds, negative_embeds = next(texts)
    else:
        pipe = open_cascade(*how, text_encoder=None, tokenizer=None)
        embeds, negative_embeds = None, None
    seed = secrets.randbelow(10**6) if seed is None else seed
    larger = pipe.upscale(
        picture,
        prompt_embeds=embeds,
        negative_prompt_embeds=negative_embeds,
        num_relay_steps=sampling.num_relay_steps,
        strength=strength,
        times=times,
        guidance_scale=sampling.relay_guidance_scale,
        solver=sampling.solver,
        eta=sampling.eta,
        generator=[torch.Generator().manual_seed(seed)],
    ).images[0]
    record = {
        "upscaled": image.name,
        "prompt": prompt,
        "negative_prompt": negative if "relay" not in cascade.distilled else None,
        "times": times,
        "strength": strength or list(sampling.relay_start),
        "model": model,
        "seed": seed,
        "num_relay_steps": sampling.num_relay_steps,
        "guidance_scale": sampling.relay_guidance_scale,
        "solver": sampling.solver,
        "eta": sampling.eta,
        "dtype": str(pipe.relay_unet.dtype).removeprefix("torch."),
        "low_memory": low_memory,
        "version": __version__,
        "adapters": [asdict(one) for one in used(adapters)],
    }
    told = {**record, "adapters": ", ".join(map(str, used(adapters))) or None}
    readable = ", ".join(f"{name}: {value}" for name, value in told.items() if value is not None)
    with folder.next(image.stem, f"x{2**times} seed {seed}") as path:
        save_picture(larger, path, record, readable)
    typer.echo(path)
