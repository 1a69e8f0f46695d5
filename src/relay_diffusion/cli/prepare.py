"""``relay prepare``: check pictures, encode them once, keep the result for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def prepare(
    pictures: Annotated[
        str,
        typer.Argument(help="A folder of pictures, *.tar, *.parquet, or a folder of datasets."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards; one that was begun goes on.")],
    model: Annotated[
        str, typer.Option(help="Cascade that encodes: a name of relay models, or a folder.")
    ] = "starter",
    size: Annotated[
        int | None,
        typer.Option(min=8, help="Side of the square whose area is kept. (default: the model's)"),
    ] = None,
    crop: Annotated[
        int, typer.Option(min=0, help="Keep a square window of this side; 0 keeps all.")
    ] = 0,
    multiple: Annotated[
        int, typer.Option(min=0, help="Of the sides of buckets; 0 is an eighth of the size.")
    ] = 0,
    max_aspect: Annotated[float, typer.Option(help="Of the buckets; 1 is squares only.")] = 2.0,
    caption: Annotated[
        list[str] | None,
        typer.Option(help="A caption field to keep, may be repeated. (default: all texts)"),
    ] = None,
    link: Annotated[str, typer.Option(help="Field with the address of the picture.")] = "url",
    min_size: Annotated[
        int, typer.Option(min=0, help="Leave out pictures with a shorter side; 0 enlarges them.")
    ] = 0,
    aspect_limit: Annotated[
        float, typer.Option(help="Leave out pictures longer than so many times their short side.")
    ] = 3.0,
    blocked_words: Annotated[
        Path | None,
        typer.Option(help="File of words or phrases, one a line, that captions must not have."),
    ] = None,
    blocked_links: Annotated[
        Path | None,
        typer.Option(help="File of domains, one a line, that pictures must not come from."),
    ] = None,
    duplicate_distance: Annotated[
        int,
        typer.Option(help="Bits of 64 in which hashes of duplicates may differ; -1 keeps them."),
    ] = 2,
    low_resolution: Annotated[
        bool, typer.Option(help="Keep what the relay needs too; the base does without.")
    ] = True,
    embeddings: Annotated[
        bool, typer.Option(help="Keep text embeddings too, for a text encoder that stays fixed.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of the text encoder.")
    ] = "float32",
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures read for a shard.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures encoded together.")] = 16,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0 is one for each core, or GPU to encode.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    cluster: Annotated[
        str, typer.Option(help="Address of a Ray cluster, or auto. (default: this machine)")
    ] = "",
) -> None:
    """Check pictures, encode them and their captions once, and keep that for training.

    Run again, the same command goes on where a stopped one was. docs/data.md says what is checked,
    what is kept, and how a recipe trains on it.
    """
    from relay_diffusion.data.prepare.blocklists import Blocklists
    from relay_diffusion.data.prepare.cascade import cascade_folder
    from relay_diffusion.data.prepare.manifest import LEFT_OUT
    from relay_diffusion.data.prepare.pool import RayPool
    from relay_diffusion.data.prepare.run import Job, counted
    from relay_diffusion.data.prepare.run import prepare as run
    from relay_diffusion.data.prepare.settings import Settings

    folder, base_size = cascade_folder(model)
    settings = Settings(
        size=size or base_size,
        crop=crop,
        multiple=multiple,
        max_aspect=max_aspect,
        captions=tuple(sorted(set(caption or ()))),
        link=link,
        min_size=min_size,
        aspect_limit=aspect_limit,
        duplicate_distance=duplicate_distance,
        low_resolution=low_resolution,
        embeddings=embeddings,
        dtype=dtype,
        shard_size=shard_size,
        batch_size=batch_size,
    )
    blocklists = Blocklists(blocked_words, blocked_links)
    place = str(Path(pictures).expanduser().absolute())
    job = Job(place, out.absolute(), folder.absolute(), model, settings, blocklists, device)
    with RayPool(workers, cluster) as pool:
        manifest = run(job, pool)
    size_gb = sum(shard.num_bytes for shard in manifest.shards) / 1e9
    typer.echo(
        f"{out}: {manifest.num} of {manifest.pictures.num} pictures in {len(manifest.shards)} "
        f"shards, {size_gb:.2f} GB"
    )
    left = sum(manifest.left_out.values())
    if left:
        reasons = counted(manifest.left_out)
        typer.echo(f"left out {left}: {reasons}; listed in {out / LEFT_OUT}")
    for name, coverage in manifest.captions.items():
        if coverage.unknown or coverage.cut:
            typer.echo(
                f"{name}, as {model} reads it: {coverage}, at {manifest.encoders.max_tokens} tokens"
            )
