"""``relay assemble``: a cascade folder from what training wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def assemble(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    base: Annotated[Path, typer.Option(help="Export folder of the base stage's run.")],
    relay: Annotated[Path, typer.Option(help="Export folder of the relay stage's run.")],
    autoencoder: Annotated[
        Path | None, typer.Option(help="Export folder of the autoencoder's run.")
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(help="Cascade that has the rest: a name, or a folder, also as seen from OUT."),
    ] = None,
    rank: Annotated[
        int,
        typer.Option(
            min=0,
            help="Store the UNets as differences of this rank from those of --shares; without it, "
            "the relay stage as its difference from the base stage.",
        ),
    ] = 0,
    world: Annotated[
        Literal["full", "small"] | None,
        typer.Option(help="World it was trained on: what it knows, and how prompts are expanded."),
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Model card to put in as README.md.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A default of the cascade: --set guidance_scale=3."),
    ] = None,
) -> None:
    """Make a cascade of the exports of three training runs, or of two distillations and the cascade
    that they were distilled from, with which it then shares the rest."""

    from relay_diffusion.config import apply_overrides, arguments_for
    from relay_diffusion.data.scenes.words import words_of
    from relay_diffusion.data.scenes.world import World
    from relay_diffusion.errors import RelayError
    from relay_diffusion.models.folder import (
        RELAY_NOTE,
        STAGE_NOTE,
        part_folder,
        read_index,
        read_json,
        read_note,
        related,
        seen_from,
    )
    from relay_diffusion.models.quiet import quiet_libraries
    from relay_diffusion.pipelines.assemble import assemble as build
    from relay_diffusion.pipelines.assemble import distilled_defaults
    from relay_diffusion.pipelines.components import CascadeComponents, cascade_settings

    quiet_libraries()
    try:
        model_card = card.read_text(encoding="utf-8") if card else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"--card {card} cannot be read as a model card: {error}") from error
    config = apply_overrides({}, set_ or ())
    allowed = [name for name in cascade_settings() if name != "shares"]
    unknown = [name for name in config if name not in allowed]
    if unknown:
        raise RelayError(f"--set {unknown[0]}: a cascade has {', '.join(allowed)}")
    config = arguments_for(CascadeComponents.__init__, config)
    exports = [("--base", base, "base_unet"), ("--relay", relay, "relay_unet")]
    if autoencoder is not None:
        exports.append(("--autoencoder", autoencoder, "vae"))
    for option, folder, part in exports:
        if not (folder / part).is_dir():
            lacks = f"holds no {part}" if folder.is_dir() else "is no folder"
            raise RelayError(
                f"{option} {folder} {lacks}: give the export folder of a run of relay train, such "
                "as runs/NAME/export"
            )
    if world is not None:
        config.setdefault("known_words", sorted(words_of(World.by_name(world))))
        config = {"world": world, "expander": "scenes", **config}
    trained = read_note(relay, RELAY_NOTE)
    told = read_note(base, STAGE_NOTE)
    for name in ("base_size", "max_tokens"):
        if name in told:
            trained.setdefault(name, told[name])
    config = {**trained, **config}
    # Students come without, and share it.
    own: dict[str, Any] = {
        part: base / part for part in ("text_encoder", "tokenizer") if (base / part).is_dir()
    }
    if shares is None:
        if autoencoder is None:
            raise RelayError("--autoencoder is missing: give its run's export folder, or --shares")
        scheduler = read_json(base, base / "scheduler" / "scheduler_config.json")
    else:
        shares = seen_from(out, shares)
        lender = related(out, shares)
        kept = read_index(lender)
        wanted = {**kept, **config}
        scales = wanted.get("guidance_scale", 7.5), wanted.get("relay_guidance_scale")
        config = {name: kept[name] for name in allowed if name in kept} | {
            **distilled_defaults(base, relay, *scales),
            "fast_sibling": None,
            **config,
        }
        scheduler = read_json(lender, part_folder(lender, "scheduler") / "scheduler_config.json")
    if autoencoder is not None:
        own["vae"] = autoencoder / "vae"
    if "relay_start" in trained and max(config["relay_start"]) > max(trained["relay_start"]):
        typer.echo(
            f"relay_start is {config['relay_start']}, and this relay was trained from "
            f"{trained['relay_start']}: it has seen no more noise than that",
            err=True,
        )
    build(
        out,
        **own,
        base_unet=base / "base_unet",
        relay_unet=relay / "relay_unet",
        shares=shares,
        rank=rank,
        prediction_type=scheduler["prediction_type"],
        model_card=model_card,
        **config,
    )
    num_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {num_bytes / 1e6:.1f} MB")
