"""``relay evaluate``: models x suites x seeds, measured by machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from relay_diffusion.cli.scenes import DEFAULT_ATLAS
from relay_diffusion.errors import RelayError


def evaluate(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL[@steps=8,...]",
            help="Registered name, folder or hub id; several. (default: starter)",
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PEER[:CLASS]",
            help="Through diffusers: sdxl, lcm-sdxl, stable-cascade, cogview3-plus, or a folder.",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUITE",
            help="scenes, tasks, free, drawbench, parti, geneval, dpg, coco2014, coco2017, or a "
            "file of prompts; several. (default: scenes)",
        ),
    ] = None,
    world: Annotated[
        Literal["full", "small"], typer.Option(help="World of the suites scenes and tasks.")
    ] = "small",
    judge: Annotated[
        Path | None,
        typer.Option(help="Folder of a judge. (default: the packaged one of the world)"),
    ] = None,
    num_prompts: Annotated[
        int | None,
        typer.Option(min=1, help="Of each suite. (default: all; of scenes and tasks 200)"),
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    size: Annotated[
        str | None,
        typer.Option(help="SIDE or WIDTHxHEIGHT of models, not of peers. (default: their own)"),
    ] = None,
    # All the other pictures have larger seeds, and torch takes none above 2**64.
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the first picture.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures made at once.")] = 8,
    steps: Annotated[int | None, typer.Option(help="Base steps of models.")] = None,
    relay_steps: Annotated[int | None, typer.Option(help="Relay steps of models.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale of base stages.")] = None,
    relay_guidance: Annotated[
        float | None,
        typer.Option(help="Of relay stages. (default: their own, else that of --guidance)"),
    ] = None,
    solver: Annotated[str | None, typer.Option(help="euler or multistep.")] = None,
    eta: Annotated[float | None, typer.Option(help="Fresh noise per step, 0 to 1.")] = None,
    expand: Annotated[
        bool, typer.Option("--expand", help="Models get expanded prompts, as in the paper.")
    ] = False,
    expander: Annotated[
        str | None,
        typer.Option(help="scenes, openai or transformers; expands. (default: each model's own)"),
    ] = None,
    expander_model: Annotated[
        str | None, typer.Option(help="Name, folder or hub id of the language model.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="CLIPScore with this model: a folder or hub id.")
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COMMAND", help="Score with a command; several."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="SUITE=FOLDER", help="True pictures of a suite, named by id."),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="inception-2015-12-05.pt, for distances to references.")
    ] = None,
    atlas: Annotated[
        Path | None,
        typer.Option(help=f"Drawings of the world. (default: {DEFAULT_ATLAS}, if it is there)"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16, float16, float32. (default: each model's own)")
    ] = None,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One network at a time, pictures in tiles.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the run; a second run goes on in it.")] = (
        Path("evaluation")
    ),
) -> None:
    """Make pictures of every prompt with every model, and measure them."""
    from relay_diffusion.data.scenes.world import World
    from relay_diffusion.evaluation.entries import Entry
    from relay_diffusion.evaluation.report.tables import ALIGNMENT, DISTANCES
    from relay_diffusion.evaluation.scorers.command import Scorer
    from relay_diffusion.evaluation.suites import open_suite
    from relay_diffusion.evaluation.suites.public import with_references

    if expander_model and not (expander or expand):
        raise RelayError("--expander-model goes with --expander, or with --expand")
    options = {
        "steps": steps,
        "relay_steps": relay_steps,
        "guidance": guidance,
        "relay_guidance": relay_guidance,
        "solver": solver,
        "eta": eta,
        "size": size,
        "expand": expander or expand or None,
        "expander_model": expander_model,
    }
    models = model or ([] if peer else ["starter"])
    entries = [Entry.parse(text, defaults=options) for text in models]
    entries += [Entry.parse(text, is_peer=True) for text in peer or []]
    scorers = [Scorer.parse(text) for text in scorer or []]
    Scorer.check_names([one.name for one in scorers], {"clip", *ALIGNMENT, *DISTANCES})
    references = dict(_pair(text) for text in reference or [])
    the_world = World.by_name(world)
    suites = []
    for name in suite or ["scenes"]:
        opened = open_suite(name, the_world, num_prompts)
        if opened.name in references:
            opened = with_references(opened, references.pop(opened.name))
        suites.append(opened)
    if references:
        raise RelayError(f"--reference names {next(iter(references))!r}, which is no --suite here")

    from rich.progress import Progress

    from relay_diffusion.data.scenes.atlas import Atlas
    from relay_diffusion.evaluation.instruments import Instruments
    from relay_diffusion.evaluation.judge.judge import Judge, packaged
    from relay_diffusion.evaluation.metrics.clip import ClipScorer
    from relay_diffusion.evaluation.metrics.features import InceptionFeatures
    from relay_diffusion.evaluation.painters import Where
    from relay_diffusion.evaluation.run import Settings, Watch
    from relay_diffusion.evaluation.run import evaluate as run
    from relay_diffusion.pipelines.devices import pick_device, pick_dtype

    on = pick_device(device)
    where = Where(on, pick_dtype(dtype, on) if dtype else None, low_memory)
    judged = any(prompt.asked is not None for one in suites for prompt in one.prompts)
    drawn = any(one.scene_at is not None for one in suites)
    drawings = atlas or (DEFAULT_ATLAS if DEFAULT_ATLAS.is_file() else None)
    if drawn and drawings is None:
        typer.echo(
            f"no drawings at {DEFAULT_ATLAS}: no distances to true scenes (relay scenes "
            "--build-atlas makes them, --atlas names another file)",
            err=True,
        )
    tools = Instruments(
        on,
        judge=Judge.from_pretrained(judge or packaged(world)) if judged else None,
        atlas=Atlas.load(drawings, the_world.subjects) if drawn and drawings else None,
        inception=InceptionFeatures.from_file(inception) if inception else None,
        clip=ClipScorer.from_pretrained(clip) if clip else None,
        scorers=scorers,
    )
    with Progress() as bar:
        tasks = {}

        def progress(label: str, suite_name: str, done: int, total: int) -> None:
            name = f"{label}, {suite_name}"
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        watch = Watch(lambda line: typer.echo(line, err=True), progress)
        run(entries, suites, Settings(num, seed, batch_size), out, tools, where, watch)
    typer.echo((out / "scores.md").read_text(encoding="utf-8"))
    for name in ("report.html", "grid.png"):
        typer.echo(str(out / name))


def _pair(text: str) -> tuple[str, Path]:
    name, found, folder = text.partition("=")
    if not found or not name or not folder:
        raise RelayError(f"--reference {text!r}; give SUITE=FOLDER, as in coco2014=val2014")
    return name, Path(folder)
