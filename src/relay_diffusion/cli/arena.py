"""``relay arena``: people compare pictures in the browser, not knowing which model made them."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from relay_diffusion.errors import RelayError


def arena(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]FOLDER", help="Folders of pictures, one a model, two or more."
        ),
    ] = None,
    db: Annotated[Path, typer.Option(help="The file of votes.")] = Path("votes.sqlite"),
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in this machine's browser.")
    ] = False,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs a rater is shown, the same for all. (default: every pair)"),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts by picture name: a .jsonl, or name, tab, text."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of pairs, orders and sides.")] = 0,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the report on the votes in --db, and stop."),
    ] = None,
) -> None:
    """Compare models by eye, blind, or write the report on the votes (--report)."""
    if report is not None:
        if folders:
            raise RelayError("give folders to vote on, or --report DIR for the votes so far")
        _report(db, report)
    else:
        _serve(folders or [], prompts, pairs, seed, db, host, port, open_page)


def _report(db: Path, folder: Path) -> None:
    from relay_diffusion.evaluation.arena.report import make_report, write_report
    from relay_diffusion.evaluation.arena.votes import VoteStore

    for path in write_report(make_report(VoteStore(db, create=False)), folder):
        typer.echo(path)


def _serve(
    folders: Sequence[str],
    prompts: Path | None,
    limit: int | None,
    seed: int,
    db: Path,
    host: str,
    port: int,
    open_page: bool,
) -> None:
    import uvicorn

    from relay_diffusion.evaluation.arena.app import create_app
    from relay_diffusion.evaluation.arena.entries import read_entries
    from relay_diffusion.evaluation.arena.pairs import choose, make_pairs
    from relay_diffusion.evaluation.arena.votes import VoteStore

    found, notes = make_pairs(read_entries(folders, prompts))
    chosen = choose(found, limit, seed)
    store = VoteStore(db)
    listening = _listen(host, port)
    app = create_app(chosen, store, seed, _hosts(host, listening))
    name = "localhost" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}"
    for note in notes:
        typer.echo(note)
    typer.echo(f"{len(chosen)} of {len(found)} pairs; votes go to {db}")
    typer.echo(f"{address}   Ctrl-C ends it; 'relay arena --report DIR --db {db}' has the outcome")
    if open_page:
        webbrowser.open(address)  # the socket listens already, so the browser only waits
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def _hosts(host: str, listening: socket.socket) -> list[str]:
    """What the arena may be asked for by: of an address that only this machine reaches, its own
    names. A page elsewhere whose name is made to lead here would ask for it by that name."""
    if ip_address(listening.getsockname()[0]).is_loopback:
        return ["localhost", "127.0.0.1", "::1", "[::1]", host]
    return ["*"]


def _listen(host: str, port: int) -> socket.socket:
    """Raises: RelayError if the address cannot be had."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise RelayError(
            f"{host}, port {port} cannot be listened at ({error.strerror or error}); "
            "choose others with --host and --port"
        ) from error
