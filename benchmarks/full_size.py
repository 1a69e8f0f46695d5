"""Networks of the released sizes with random weights: pictures, and steps of training, on one GPU.

    python benchmarks/full_size.py [--only pictures|training] [--recipe full_relay ...]
        [--set run.compile=false ...]
    python benchmarks/full_size.py --tiny     # the same path with tiny networks, on a CPU too

Pictures: one at a time through ``RelayPipeline``, text encoder (T5-XXL) and autoencoder included,
from the prompt to the pixels, after a call of one step a stage. The run in 4 + 1 steps is that of
distilled networks, which have guidance embedded; the others evaluate every step twice. Beside them
a network of SDXL's size makes 1024x1024 in one stage, through diffusers' pipeline and in its
favour: its text embeddings are given, and its autoencoder runs in bfloat16.

Training: ten steps of ``recipes/full_*.toml``, after ten others, on random pictures that are
encoded once, as with prepared data; in place of the text encoder, whose embeddings would be
prepared too, stands one of a single small layer. A step has the samples that one of 64 devices has,
as many at a time as fit on this one (``optimizer.accumulate``), and its optimiser updates all
weights, of which one of 64 devices would have a share. MFU is a share of the GPU's dense bfloat16
peak (``training/throughput.py``). A signal has it write a checkpoint of gigabytes first, as any run
does: stop it with SIGKILL.

Tables in Markdown. Memory is that of tensors on a GPU, of the process on a CPU, in 10^9 bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from training_loop import Noise

from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.memory import forget_peak, peak_bytes
from relay_diffusion.models.quiet import quiet_libraries
from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.devices import pick_dtype
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.estimate import estimate
from relay_diffusion.training.networks import build_text_encoder, build_unet, build_vae
from relay_diffusion.training.recipe import read_recipe
from relay_diffusion.training.run import KEPT_COMPILED, run
from relay_diffusion.training.weights import memory_of

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = ("full_base_256", "full_base_512", "full_relay_1024", "full_relay")
PROMPT = "a red fox on a meadow"
SIZES = (1024, 2048)
GUIDED, DISTILLED = ((50, 10), (25, 5)), ((4, 1),)
GUIDANCE_WIDTH = 64
STEPS = 10
DEVICES = 64
ROOM = 0.85
"""Share of the memory that weights and activations may be estimated to take."""
SHRINK = 8
"""Of pictures, along a side, and of the number of samples, with --tiny."""
TINY = (
    "model.vae.block_out_channels=[32, 32, 32, 32]",
    "model.vae.layers_per_block=1",
    "model.text_encoder.d_model=32",
    "model.text_encoder.d_kv=8",
    "model.text_encoder.d_ff=32",
    "model.text_encoder.num_layers=1",
    "model.text_encoder.num_heads=2",
    "model.unet.block_out_channels=[64, 64, 64]",
    "model.unet.transformer_layers_per_block=[1, 1, 1]",
    "model.unet.attention_head_dim=[1, 1, 1]",
    "run.compile=false",
)
SDXL = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""Of its UNet, as published (arXiv:2307.01952): 2.57 billion parameters."""
SDXL_TINY = {
    "block_out_channels": [32, 64, 64],
    "transformer_layers_per_block": [1, 1, 1],
    "attention_head_dim": [1, 1, 1],
}
ONE_LAYER = {"d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1}


def pictures(model: Any, shrink: int, device: torch.device) -> None:
    """Print a row for each size and number of steps, of the networks of a recipe's ``model``."""
    print_row("picture", "steps", "seconds", "peak GB")
    print_row("---", "---", "---:", "---:")
    for runs, more in ((GUIDED, {}), (DISTILLED, {"time_cond_proj_dim": GUIDANCE_WIDTH})):
        pipe = cascade(model, more, 512 // shrink, device)
        for side in (size // shrink for size in SIZES):
            make = partial(pipe, PROMPT, side, side, output_type="pt")
            for base, relay in ((1, 1), *runs):
                call = partial(make, num_inference_steps=base, num_relay_steps=relay)
                figures = timed(call, device)
                if (base, relay) in runs:  # the first one warms up
                    print_row(f"{side}x{side}", f"{base} + {relay}", *figures)
        del pipe, make, call
        free()
    call = sdxl(model, shrink, device)
    call(num_inference_steps=1)
    side = SIZES[0] // shrink
    figures = timed(partial(call, num_inference_steps=50), device)
    print_row(f"{side}x{side}", "SDXL's size, 50", *figures)
    del call
    free()


def cascade(
    model: Any, more: Mapping[str, Any], base_size: int, device: torch.device
) -> RelayPipeline:
    """Networks made where they are to be, in the precision that ``relay generate`` opens them in:
    the autoencoder's is float32, that of the others on a GPU bfloat16.

    Args: more: arguments of the UNets.
    """
    tokenizer, dtype = build_tokenizer(), pick_dtype("auto", device)

    def made(build: Callable[..., Any], *arguments: Any) -> Any:
        with device:
            return torch.nn.Module.to(build(*arguments), dtype).eval()

    with device:
        vae = build_vae(model.vae).eval()
    text_encoder = made(build_text_encoder, model.text_encoder, len(tokenizer))
    unet = ({**model.unet, **more}, vae.config.latent_channels, text_encoder.config.d_model)
    pipe = RelayPipeline(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        vae=vae,
        base_unet=made(build_unet, *unet),
        relay_unet=made(build_unet, *unet),
        scheduler=cascade_scheduler(),
        base_size=base_size,
        max_tokens=model.max_tokens,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl(model: Any, shrink: int, device: torch.device) -> Callable[..., Any]:
    """A network of SDXL's size in diffusers' pipeline.

    Args: model: of a recipe, for the autoencoder, which is SDXL's.
    Returns: a call that makes one picture; it takes num_inference_steps and generator.
    """
    dtype = pick_dtype("auto", device)
    with device:
        unet: Any = UNet2DConditionModel(**{**SDXL, **(SDXL_TINY if shrink > 1 else {})})
        vae = build_vae(model.vae).to(dtype).eval()
        words, pooled = torch.randn(1, 77, 2048, dtype=dtype), torch.randn(1, 1280, dtype=dtype)
    pipe = StableDiffusionXLPipeline(
        vae=vae,
        unet=torch.nn.Module.to(unet, dtype).eval(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
    )
    pipe.set_progress_bar_config(disable=True)
    return partial(
        pipe,
        prompt_embeds=words,
        negative_prompt_embeds=torch.zeros_like(words),
        pooled_prompt_embeds=pooled,
        negative_pooled_prompt_embeds=torch.zeros_like(pooled),
        height=SIZES[0] // shrink,
        width=SIZES[0] // shrink,
        output_type="pt",
    )


def timed(call: Callable[..., Any], device: torch.device) -> list[str]:
    """Seconds and peak memory of one picture, as cells."""
    forget_peak(device)
    started = time.perf_counter()
    try:
        call(generator=torch.Generator().manual_seed(0))
    except torch.OutOfMemoryError:
        return ["out of memory", ""]
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return [f"{seconds:.2f}", f"{peak_bytes(device) / 1e9:.1f}"]


def training(recipes: Mapping[str, Any], shrink: int, device: torch.device) -> None:
    """Print a row for each recipe."""
    columns = ("recipe", "pixels", "samples (at a time)", "s a step", "TFLOP/s", "MFU", "peak GB")
    print_row(*columns)
    print_row("---", *["---:"] * (len(columns) - 1))
    for name, recipe in recipes.items():
        views = tuple(replace(view, size=view.size // shrink) for view in recipe.data.views)
        samples = recipe.data.batch_size // DEVICES // shrink
        alone = replace(
            recipe,
            data=Data(batch_size=samples, views=views, reuse=10**6, chapter=2),
            model=replace(recipe.model, text_encoder={**recipe.model.text_encoder, **ONE_LAYER}),
            run=replace(recipe.run, log_every=STEPS),
            validation=replace(recipe.validation, every=0),
            preview=replace(recipe.preview, every=0),
            checkpoint=replace(recipe.checkpoint, every=10**6),
        )
        print_row(name, str(views[0].size), *steps_that_fit(alone, device))


def steps_that_fit(recipe: Any, device: torch.device) -> list[str]:
    """How many samples a step has and how many at a time, and figures of ten steps, or why there
    are none, as cells. Parts of the batch are halved until they fit: first by the estimate of
    ``relay train --dry-run``, then by trying."""
    with torch.device("meta"):
        needs = estimate(recipe, networks_of(recipe, build_tokenizer()))
    samples = at_once = recipe.data.batch_size
    kept = KEPT_COMPILED * recipe.run.activation_memory_budget if recipe.run.compile else 1.0
    while at_once > 1 and needs.bytes_per_device(1, at_once * kept) > ROOM * memory_of(device):
        at_once //= 2
    while True:
        optimizer = replace(recipe.optimizer, accumulate=samples // at_once)
        cells = [f"{samples} ({at_once})"]
        try:
            return cells + steps(replace(recipe, optimizer=optimizer), device)
        except RelayError as error:
            if at_once == 1 or not isinstance(error.__cause__, torch.OutOfMemoryError):
                return [*cells, str(error), "", "", ""]
        at_once //= 2
        free()


class Enough(Exception):
    """Ends a run before it would write its gigabytes."""


def steps(recipe: Any, device: torch.device) -> list[str]:
    """Figures of ten steps after ten others, as cells. Raises: RelayError if they do not fit."""

    def make(recipe: Any, source: Any, device: torch.device) -> Any:
        with device:
            networks = networks_of(recipe, build_tokenizer())
        objective = objective_of(recipe, networks, source, device)

        def feed(step: int) -> Any:
            if step == 2 * STEPS:
                raise Enough
            return objective.feed(step)

        return replace(objective, feed=feed)

    with tempfile.TemporaryDirectory() as folder:
        recipe = replace(recipe, run=replace(recipe.run, out=folder))
        forget_peak(device)
        try:
            run(recipe, source=lambda split, views: Noise(views), make=make)
            sys.exit("stopped")  # by a signal
        except Enough:
            peak = peak_bytes(device) / 1e9
        lines = [json.loads(line) for line in (recipe.folder / "log.jsonl").open()]
    free()
    found = [line for line in lines if "tflops" in line][-1]
    seconds = recipe.data.batch_size / found["samples_per_second"]
    mfu = f"{found['mfu']:.1%}" if "mfu" in found else "peak unknown"
    return [f"{seconds:.3f}", f"{found['tflops']:.3g}", mfu, f"{peak:.1f}"]


def free() -> None:
    """What the last networks took."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def print_row(*cells: str) -> None:
    """At once: what has been measured stays, whatever comes."""
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny networks, on a CPU too")
    parser.add_argument("--only", choices=("pictures", "training"))
    parser.add_argument("--recipe", action="append", choices=NAMES, help="to train; all of them")
    parser.add_argument("--set", action="append", default=[], help="override of the recipes")
    arguments = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not arguments.tiny:
        print(
            "not run: torch finds no CUDA GPU here. Pictures want one of 40 GB, training one of "
            "80; --tiny runs tiny networks on this CPU"
        )
        return
    quiet_libraries()
    overrides = [*(TINY if arguments.tiny else ()), *arguments.set]
    recipes = {}
    for name in arguments.recipe or NAMES:
        recipe = read_recipe(RECIPES / f"{name}.toml", overrides)
        recipes[name] = replace(recipe, model=replace(recipe.model, tokenizer="", init_from={}))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    what = "tiny networks, which say nothing of full ones" if arguments.tiny else "full size"
    print(f"{where}, torch {torch.__version__}, {what}\n")
    shrink = SHRINK if arguments.tiny else 1
    if arguments.only != "training":
        pictures(next(iter(recipes.values())).model, shrink, device)
        print()
    if arguments.only != "pictures":
        training(recipes, shrink, device)


if __name__ == "__main__":
    main()
