"""``relay evaluate``: measure a cascade on the scenes suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def evaluate(
    model: Annotated[str, typer.Option(help="Registered name, folder or hub id.")] = "starter",
    world: Annotated[
        Literal["full", "small"], typer.Option(help="World whose held-out scenes are asked for.")
    ] = "small",
    judge: Annotated[
        Path | None,
        typer.Option(help="Folder of a judge. (default: the packaged one of the world)"),
    ] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Prompts of the suite.")] = 200,
    num: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the first picture.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures made at once.")] = 8,
    steps: Annotated[int | None, typer.Option(help="Base steps.")] = None,
    relay_steps: Annotated[int | None, typer.Option(help="Relay steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    solver: Annotated[str | None, typer.Option(help="euler or multistep.")] = None,
    eta: Annotated[float, typer.Option(help="Fresh noise per step, 0 to 1.")] = 0.0,
    out: Annotated[Path, typer.Option(help="Folder for scores and pictures.")] = Path("evaluation"),
) -> None:
    """Make pictures of held-out scenes and have the judge read them."""
    from rich.progress import Progress

    from relay_diffusion.data.scenes.world import World
    from relay_diffusion.evaluation.judge import Judge
    from relay_diffusion.evaluation.judge.judge import packaged
    from relay_diffusion.evaluation.run import Settings
    from relay_diffusion.evaluation.run import evaluate as run
    from relay_diffusion.evaluation.suites import scenes_suite
    from relay_diffusion.pipelines.cascade import RelayPipeline

    reader = Judge.from_pretrained(judge or packaged(world))
    pipe = RelayPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": steps,
        "num_relay_steps": relay_steps,
        "guidance_scale": guidance,
        "solver": solver,
        "eta": eta,
    }
    settings = Settings(size, num, seed, batch_size, options)
    with Progress() as bar:
        task = bar.add_task("pictures", total=num_prompts * num)
        run(
            pipe,
            reader,
            scenes_suite(World.by_name(world), num_prompts),
            settings,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    typer.echo((out / "scores.md").read_text())
    typer.echo(str(out / "grid.png"))
