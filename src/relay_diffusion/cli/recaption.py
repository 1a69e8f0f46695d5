"""``relay recaption``: a vision-language model writes the long captions of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay_diffusion.errors import RelayError

if TYPE_CHECKING:
    from relay_diffusion.data.recaption.session import Watch
    from relay_diffusion.data.recaption.writer import Writer

NOT_FIELDS = ("text", "txt", "file_name", "original_size")
"""Names that mean something else, see docs/data.md."""


def recaption(
    data: Annotated[
        str, typer.Argument(help="A folder of pictures, 'shards/*.tar', or parquet files.")
    ],
    backend: Annotated[
        Literal["openai", "transformers"],
        typer.Option(help="A server that speaks the OpenAI interface, or a model here."),
    ] = "openai",
    model: Annotated[
        str | None,
        typer.Option(help="Its name at the server; its folder or hub id. ($RELAY_RECAPTION_MODEL)"),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="Server, such as http://127.0.0.1:8000/v1. ($RELAY_RECAPTION_BASE_URL; its key is "
            "$RELAY_RECAPTION_API_KEY)"
        ),
    ] = None,
    field: Annotated[str, typer.Option(help="Field of the data for the new captions.")] = "long",
    original: Annotated[
        str, typer.Option(help="Field of the caption that goes along with the picture.")
    ] = "caption",
    no_original: Annotated[
        bool, typer.Option("--no-original", help="The picture goes alone.")
    ] = False,
    instruction: Annotated[
        Path | None, typer.Option(help="File that says what to write. (default: the packaged one)")
    ] = None,
    num: Annotated[
        int | None, typer.Option(min=1, help="Ask about so many pictures. (default: all)")
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Ask again where another instruction was answered.")
    ] = False,
    side: Annotated[
        int, typer.Option(min=32, help="Longest side of pictures as sent, pixels.")
    ] = 1024,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Of an answer; longer ones are cut off, and refused.")
    ] = 600,
    min_words: Annotated[int, typer.Option(min=1, help="Shorter captions are refused.")] = 20,
    max_words: Annotated[int, typer.Option(min=1, help="Longer captions are refused.")] = 400,
    parallel: Annotated[
        int, typer.Option(min=1, help="Requests at a time; a model here takes one.")
    ] = 8,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.01, help="At most, repeated ones included.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Of a request that fails, after growing pauses.")
    ] = 6,
    timeout: Annotated[float, typer.Option(min=1, help="Of one try, seconds.")] = 120.0,
    price_in: Annotated[float | None, typer.Option(min=0, help="Of a million tokens read.")] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="Of a million tokens written.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Stop before all runs together cost more.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of a model here: auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Of a model here: auto, bfloat16, ...")] = "auto",
    journal: Annotated[
        Path | None,
        typer.Option(help="File of all answers. (default: .recaption.FIELD.jsonl in the data)"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show a request, tokens and cost; ask nothing.")
    ] = False,
) -> None:
    """A vision-language model describes each picture at length, knowing its caption. The text
    becomes a further caption field of the same data. What stopped goes on with the same command."""
    from relay_diffusion.data.pictures.opening import open_records
    from relay_diffusion.data.recaption.instruction import Instruction
    from relay_diffusion.data.recaption.journal import Journal, journal_path
    from relay_diffusion.data.recaption.merging import adder
    from relay_diffusion.data.recaption.session import recaption as run
    from relay_diffusion.data.recaption.session import rehearse
    from relay_diffusion.data.recaption.settings import Prices, Settings

    if not field.isidentifier() or field in (*NOT_FIELDS, original):
        raise RelayError(
            f"--field {field!r} cannot be a new caption: take letters and digits, and neither the "
            f"original's name nor {', '.join(NOT_FIELDS)}"
        )
    if min_words > max_words:
        raise RelayError(f"--min-words {min_words} is above --max-words {max_words}")
    if (price_in is None) != (price_out is None) or (budget is not None and price_in is None):
        raise RelayError("give both --price-in and --price-out, which --budget needs too")
    settings = Settings(
        field=field,
        original=None if no_original else original,
        instruction=Instruction.read(instruction),
        renew=renew,
        num=num,
        side=side,
        min_words=min_words,
        max_words=max_words,
        parallel=parallel if backend == "openai" else 1,
        prices=None if price_in is None or price_out is None else Prices(price_in, price_out),
        budget=budget,
    )
    records = open_records(data)
    for bad in records.broken():
        raise RelayError(f"{bad}: captions are written into whole shards only; move it away")
    adder(records, field)  # what cannot be written need not be asked
    path = journal or journal_path(records, field)
    if dry_run:
        rehearse(records, Journal(path), settings, model, requests_per_minute, typer.echo)
        return
    if backend == "openai":
        writer = _hosted(model, base_url, max_tokens, timeout, retries, requests_per_minute)
    else:
        writer = _local(model, device, dtype, max_tokens)
    with Journal.held(path) as held, _watch() as watch:
        stopped = run(records, held, settings, writer, watch)
    if stopped:
        raise typer.Exit(128 + stopped)


@contextmanager
def _watch() -> Iterator[Watch]:
    """Lines on standard output, and a bar on standard error between the first and the others."""
    from rich.console import Console
    from rich.progress import Progress

    from relay_diffusion.data.recaption.session import Watch

    bar = Progress(console=Console(stderr=True))
    task = bar.add_task("describing pictures")

    def advance(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    def say(line: str) -> None:
        if bar.live.is_started:
            bar.stop()  # which would take the line for itself
        typer.echo(line)

    try:
        yield Watch(say, advance)
    finally:
        if bar.live.is_started:
            bar.stop()


def _hosted(
    model: str | None,
    base_url: str | None,
    max_tokens: int,
    timeout: float,
    retries: int,
    per_minute: float | None,
) -> Writer:
    from relay_diffusion.data.recaption.endpoint import EndpointWriter
    from relay_diffusion.data.recaption.pace import Pace
    from relay_diffusion.models.hosted import Hosted

    hosted = Hosted.named("RECAPTION", "to describe pictures with", "--model", model, base_url)
    return EndpointWriter(hosted, max_tokens, timeout, retries, Pace(per_minute))


def _local(model: str | None, device: str, dtype: str, max_tokens: int) -> Writer:
    from relay_diffusion.data.recaption.local import LocalWriter
    from relay_diffusion.pipelines.devices import pick_device, pick_dtype

    wanted = model or os.environ.get("RELAY_RECAPTION_MODEL")
    if not wanted:
        raise RelayError(
            "no model is named to describe pictures with: give --model a folder or a hub id, or "
            "set RELAY_RECAPTION_MODEL"
        )
    on = pick_device(device)
    return LocalWriter(wanted, on, pick_dtype(dtype, on), max_tokens)
