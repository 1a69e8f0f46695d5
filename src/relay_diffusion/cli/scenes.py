"""``relay scenes``: build the sprite atlas, and look at the world."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from relay_diffusion.errors import RelayError

DEFAULT_ATLAS = Path("runs/atlas.tar")


def scenes(
    build_atlas: Annotated[
        bool, typer.Option("--build-atlas", help="Rasterise the drawings into the atlas file.")
    ] = False,
    drawings: Annotated[
        Path | None,
        typer.Option(help="Folder of the npm package @iconify-json/noto, or of SVG files."),
    ] = None,
    atlas: Annotated[Path, typer.Option(help="The atlas file.")] = DEFAULT_ATLAS,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of scenes with captions (PNG).")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Write pictures of one subject with .txt captions into this folder."),
    ] = None,
    subject: Annotated[str, typer.Option(help="Of --pictures.")] = "dragon",
    style: Annotated[str, typer.Option(help="Of --pictures.")] = "watercolour",
    world: Annotated[
        Literal["full", "small"], typer.Option(help="Which world, of the sheet.")
    ] = "full",
    split: Annotated[
        Literal["train", "held-out"], typer.Option(help="Which side of the split, of the sheet.")
    ] = "train",
    num: Annotated[int, typer.Option(min=1, help="Pictures on the sheet, in the folder.")] = 32,
    columns: Annotated[int, typer.Option(min=1, help="Pictures in a row.")] = 8,
    size: Annotated[int, typer.Option(min=16, help="Pixels a side.")] = 256,
    seed: Annotated[int, typer.Option(help="The pictures are a function of it.")] = 0,
) -> None:
    """Build the sprite atlas (--build-atlas), look at generated scenes (--sheet), or write some of
    one subject to train on (--pictures)."""
    from relay_diffusion.data.scenes.atlas import Atlas
    from relay_diffusion.data.scenes.atlas import build_atlas as build
    from relay_diffusion.data.scenes.folder import write_folder
    from relay_diffusion.data.scenes.sheet import contact_sheet
    from relay_diffusion.data.scenes.stream import SceneStream
    from relay_diffusion.data.scenes.world import World
    from relay_diffusion.data.view import View

    if not build_atlas and sheet is None and pictures is None:
        raise RelayError(
            "nothing to do: give --build-atlas --drawings FOLDER, --sheet FILE.png, or "
            "--pictures FOLDER"
        )
    if build_atlas:
        if drawings is None:
            raise RelayError(
                "--build-atlas needs --drawings FOLDER: 'npm pack @iconify-json/noto@1.2.9', "
                "unpack it, and name the folder that holds icons.json"
            )
        subjects = World.full().subjects
        with _writing_to(atlas):
            num_bytes = build(drawings, atlas, subjects)
        typer.echo(f"{atlas}: {len(subjects)} drawings, {num_bytes / 1e6:.1f} MB")
    if sheet is not None:
        chosen = World.by_name(world)
        stream = SceneStream(
            chosen, Atlas.load(atlas, chosen.subjects), [View(size)], seed=seed, split=split
        )
        batch = stream.batch(0, num)
        picture = contact_sheet(batch.x, batch.captions, columns)
        with _writing_to(sheet):
            sheet.parent.mkdir(parents=True, exist_ok=True)
            try:
                picture.save(sheet)
            except ValueError as error:  # its suffix is no picture's
                raise RelayError(f"{sheet} cannot be written: {error}; name a .png") from error
        typer.echo(str(sheet))
    if pictures is not None:
        with _writing_to(pictures):
            write_folder(pictures, atlas, subject, style, num, size, seed)
        typer.echo(f"{pictures}: {num} pictures of {subject}, {style}")


@contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    """Raise RelayError for what cannot be written there."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RelayError(f"{path} cannot be written: {reason}; give another place") from error
