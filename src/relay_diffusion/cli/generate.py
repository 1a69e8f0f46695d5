"""``relay generate``: pictures from prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from relay_diffusion import __version__
from relay_diffusion.cli.adapters import LoraOption, open_adapters, used
from relay_diffusion.cli.making import make_pictures
from relay_diffusion.cli.seeds import LAST_SEED, first_seed
from relay_diffusion.cli.starting import open_image
from relay_diffusion.cli.texts import expanded_for, read_prompts
from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.sizes import parse_size

OF_THE_MODEL = (
    "num_inference_steps",
    "num_relay_steps",
    "guidance_scale",
    "relay_guidance_scale",
    "solver",
    "eta",
)
"""Parameters of a picture that another model has its own of."""


def generate(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="What to draw; several, or - for standard input.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A name of relay models, a folder, or a hub id. (default: starter)"),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="The model's distilled sibling, of a few steps.")
    ] = False,
    size: Annotated[
        str | None, typer.Option(help="SIDE or WIDTHxHEIGHT. (default: twice the base stage)")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=LAST_SEED, help="Of the first picture, then +1. (default: random)"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of the base stage. (default: the cascade's own)")
    ] = None,
    relay_steps: Annotated[
        int | None, typer.Option(help="Of each relay stage. (default: the cascade's own)")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="How closely to follow the prompt, in the base stage, and in relay stages where "
            "they have no scale of their own; 1 is unguided. (default: the cascade's own)"
        ),
    ] = None,
    relay_guidance: Annotated[
        float | None,
        typer.Option(
            help="The same of relay stages. (default: the cascade's own, else that of --guidance)"
        ),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to stay away from.")] = None,
    solver: Annotated[
        str | None, typer.Option(help="euler or multistep. (default: the cascade's own)")
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="Fresh noise per step, 0 to 1. (default: 0)")
    ] = None,
    expand: Annotated[
        bool | None,
        typer.Option(
            "--expand/--no-expand",
            help="Rewrite prompts into the long form that the model was trained on.",
            show_default=False,
        ),
    ] = None,
    expander: Annotated[
        str | None,
        typer.Option(help="scenes, openai or transformers; expands. (default: the model's own)"),
    ] = None,
    expander_model: Annotated[
        str | None, typer.Option(help="Name, folder or hub id of the language model.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Start from this picture, cut to the size, with noise on it."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of --image may change, above 0 to 1. (default: 0.6)"),
    ] = None,
    lora: LoraOption = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Make this picture again; other options change it."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="A prompt per line; - is standard input.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="bfloat16, float16, float32. (default: bfloat16 on a GPU that computes in it, "
            "float16 on an older one, float32 on the CPU)"
        ),
    ] = None,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One network at a time, pictures in tiles.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("pictures"),
) -> None:
    """Make pictures from prompts, each with its parameters inside."""
    from relay_diffusion.models.folder import fast_sibling, is_distilled
    from relay_diffusion.models.registry import same_cascade
    from relay_diffusion.pipelines.metadata import Parameters, read_parameters
    from relay_diffusion.pipelines.outputs import PictureFolder

    before = read_parameters(from_) if from_ else None
    typed = read_prompts(prompt or [], prompts)
    wanted = typed or ([before.prompt] if before else [])
    # A picture made again is made of the text that it was made of, not of a new one.
    keep = before and not typed and expand is not False and not expander
    again = before.expanded_prompt if before and keep else None
    if expander_model and not (expander or expand):
        raise RelayError("--expander-model goes with --expander, or with --expand")
    if expander and expand is False:
        raise RelayError("--no-expand and --expander: leave one of them out")
    if not wanted:
        raise RelayError('no prompt: relay generate "a red fox", or --prompts FILE')
    if not all(text.strip() for text in wanted):
        raise RelayError("a prompt is empty: say what the picture should show")
    width, height = parse_size(size) if size else (None, None)
    adapters = open_adapters(lora, before.adapters if before else ())
    start = open_image(image, before.image if before else None)
    if strength is not None and start is None:
        raise RelayError("--strength goes with --image")
    folder = PictureFolder(out)
    if fast and not (model is None and before and is_distilled(before.model)):
        model = fast_sibling(model or (before.model if before else "starter"))
    # None is left open: the parameters of --from fill it, then the defaults of the cascade.
    its_own = OF_THE_MODEL if before and model and not same_cascade(model, before.model) else ()
    given: dict[str, Any] = {
        "model": model,
        "width": width,
        "height": height,
        "seed": seed,
        "negative_prompt": negative,
        "num_inference_steps": steps,
        "num_relay_steps": relay_steps,
        "guidance_scale": guidance,
        "relay_guidance_scale": relay_guidance,
        "solver": solver,
        "eta": eta,
        "strength": strength,
        "dtype": dtype,
        "low_memory": low_memory or None,
    }
    for name, value in given.items():
        if value is None and before is not None and name not in its_own:
            given[name] = getattr(before, name)
    first = first_seed(given["seed"], num, f"--num {num}")

    from relay_diffusion.pipelines.devices import pick_device, pick_dtype
    from relay_diffusion.pipelines.grid import columns_for
    from relay_diffusion.pipelines.outline import outline
    from relay_diffusion.pipelines.settings import STRENGTH, check_strength, resolve_settings

    where = pick_device(device)
    precision = pick_dtype(given["dtype"] or "auto", where)
    named = given["model"] or "starter"
    # Sizes, numbers and strengths are checked before a language model is asked or weights are
    # opened.
    cascade = outline(named)
    height, width = cascade.stages_for(given["height"], given["width"])[-1]
    if (
        before
        and not its_own
        and guidance is not None
        and relay_guidance is None
        and before.guidance_scale
        == before.relay_guidance_scale
        != cascade.config.relay_guidance_scale
    ):
        given["relay_guidance_scale"] = guidance  # it followed the base stage, and does so again
    sampling = resolve_settings(
        cascade.config,
        cascade.distilled,
        num_inference_steps=given["num_inference_steps"],
        num_relay_steps=given["num_relay_steps"],
        guidance_scale=given["guidance_scale"],
        relay_guidance_scale=given["relay_guidance_scale"],
        solver=given["solver"],
        eta=given["eta"] or 0.0,
    )
    share = STRENGTH if given["strength"] is None else given["strength"]
    check_strength(share)
    pairs = [(text, first + index) for text in wanted for index in range(num)]
    if expander or (expand and again is None):
        expanded = expanded_for(pairs, named, expander or True, expander_model, str(where))
    else:
        expanded = [again] * len(pairs)
    negative_prompt = given["negative_prompt"]
    pictures = [
        Parameters(
            prompt=text,
            negative_prompt=None if len(cascade.distilled) == 2 else negative_prompt,
            model=named,
            seed=own_seed,
            width=width,
            height=height,
            num_inference_steps=sampling.num_inference_steps,
            num_relay_steps=sampling.num_relay_steps,
            guidance_scale=sampling.guidance_scale,
            solver=sampling.solver,
            eta=sampling.eta,
            dtype=str(precision).removeprefix("torch."),
            low_memory=bool(given["low_memory"]),
            version=__version__,
            expanded_prompt=long,
            adapters=used(adapters),
            image=start[1] if start else None,
            strength=share if start else None,
            relay_guidance_scale=sampling.relay_guidance_scale,
        )
        for (text, own_seed), long in zip(pairs, expanded, strict=True)
    ]
    make_pictures(
        pictures,
        negative_prompt,
        start[0] if start else None,
        adapters,
        where,
        folder,
        columns_for(len(wanted), num),
    )
