"""Pictures of ``relay generate``, made and written one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from relay_diffusion.pipelines.metadata import Parameters
    from relay_diffusion.pipelines.opening import Scaled
    from relay_diffusion.pipelines.outputs import PictureFolder


def make_pictures(
    pictures: Sequence[Parameters],
    negative_prompt: str | None,
    start: Image.Image | None,
    adapters: Scaled,
    device: torch.device,
    folder: PictureFolder,
    columns: int,
) -> None:
    """Make pictures and write each as soon as it is there, at the end a grid of them, if they are
    several.

    Args:
        pictures: that differ in prompts and seeds alone.
        negative_prompt: theirs; they keep none that no network reads.
        start: what they start from, None: noise.
        columns: of the grid.
    """
    import torch

    from relay_diffusion.pipelines.grid import Grid
    from relay_diffusion.pipelines.metadata import save_picture
    from relay_diffusion.pipelines.opening import BARS, open_with_texts
    from relay_diffusion.pipelines.settings import STRENGTH

    alike, num = pictures[0], len(pictures)
    read = [one.expanded_prompt or one.prompt for one in pictures]
    pipe, texts = open_with_texts(
        [text for text, _ in groupby(read)],
        negative_prompt,
        alike.model,
        device=device,
        dtype=getattr(torch, alike.dtype),
        low_memory=alike.low_memory,
        adapters=adapters,
    )
    grid = Grid(num, columns, (alike.width, alike.height))
    # One at a time: in a batch, rounding would make a picture depend on its neighbours, and --from
    # could not make it again bit for bit.
    for index, one in enumerate(pictures):
        if index == 0 or read[index] != read[index - 1]:
            embeds, negative_embeds = next(texts)
            if one.expanded_prompt:
                typer.echo(f"expanded: {one.expanded_prompt}", err=True)
        if num > 1:
            pipe.set_progress_bar_config(**BARS, postfix=f"picture {index + 1} of {num}")
        picture = pipe(
            prompt_embeds=embeds,
            negative_prompt_embeds=negative_embeds,
            height=one.height,
            width=one.width,
            num_inference_steps=one.num_inference_steps,
            num_relay_steps=one.num_relay_steps,
            guidance_scale=one.guidance_scale,
            relay_guidance_scale=one.relay_guidance_scale,
            solver=one.solver,
            eta=one.eta,
            generator=[torch.Generator().manual_seed(one.seed)],
            image=start,
            strength=STRENGTH if one.strength is None else one.strength,
        ).images[0]
        with folder.next(one.prompt, f"seed {one.seed}") as path:
            save_picture(picture, path, asdict(one), one.to_text())
        typer.echo(path)
        grid.add(picture)
    if num > 1:
        with folder.next(f"grid of {num}") as path:
            save_picture(grid.image, path, {"grid": num}, f"Grid of {num}")
        typer.echo(path)
