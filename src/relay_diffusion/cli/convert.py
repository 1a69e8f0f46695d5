"""``relay convert``: the released CogView3 checkpoints as a cascade folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    base: Annotated[Path, typer.Option(help="UNet of the base stage: .pt file or its folder.")],
    relay: Annotated[Path, typer.Option(help="UNet of the relay stage: .pt file or its folder.")],
    vae: Annotated[Path, typer.Option(help="SDXL's autoencoder, a single file.")],
    text_encoder: Annotated[Path, typer.Option(help="Folder of T5 v1.1 XXL.")],
    out: Annotated[Path, typer.Option(help="Folder to be made.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Its folder; by default that of the text encoder.")
    ] = None,
    base_steps: Annotated[
        int | None,
        typer.Option(help="By default 50; if distilled, N of Nstep in its path, else 4."),
    ] = None,
    relay_steps: Annotated[
        int | None,
        typer.Option(help="By default 10; if distilled, N of Nstep in its path, else 1."),
    ] = None,
    relay_start: Annotated[
        int | None, typer.Option(help="Start level of the relay; by default 500, if distilled 200.")
    ] = None,
    guidance: Annotated[float, typer.Option(help="Default of relay generate.")] = 7.5,
    base_size: Annotated[int, typer.Option(help="Side of the base stage's square, pixels.")] = 512,
    head_dim: Annotated[int, typer.Option(help="Channels of an attention head.")] = 64,
) -> None:
    """Turn the released CogView3 checkpoints into a cascade folder."""
    from relay_diffusion.models.convert import convert_cascade
    from relay_diffusion.models.quiet import quiet_libraries

    quiet_libraries()
    index = convert_cascade(
        base,
        relay,
        vae,
        text_encoder,
        out,
        tokenizer=tokenizer,
        head_dim=head_dim,
        base_size=base_size,
        base_steps=base_steps,
        relay_steps=relay_steps,
        relay_start=relay_start,
        guidance_scale=guidance,
    )
    typer.echo(
        f"{out}: base stage {index['base_size']}x{index['base_size']} in "
        f"{index['num_inference_steps']} steps, relay in {index['num_relay_steps']} from level "
        f"{index['relay_start'][0]}"
    )
