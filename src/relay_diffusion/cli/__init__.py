"""The ``relay`` command.

To add a command, write ``cli/NAME.py`` with a typer-annotated function ``NAME`` and list it in
``COMMANDS``. Its module is imported only when the command runs, so it may import what it likes;
anything it raises becomes one line here.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from relay_diffusion import __version__
from relay_diffusion.errors import RelayError

COMMANDS = {
    "generate": "Make pictures from prompts.",
    "upscale": "Make pictures larger and finer.",
    "convert": "Turn the released CogView3 checkpoints into a cascade folder.",
    "prepare": "Check and encode pictures once, to train often.",
    "train": "Train a network from a recipe.",
    "assemble": "Make a cascade folder of trained stages.",
    "recaption": "Have a model write long captions for a data set.",
    "scenes": "Draw pictures of the scene world.",
    "models": "List the cascades that can be named.",
    "evaluate": "Measure models: pictures, scores, a report.",
    "arena": "Compare pictures of models by eye, blind, in the browser.",
}


class LazyGroup(TyperGroup):
    """Help shows the one-line placeholders; only the command that runs is imported."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name else None, rest


app = typer.Typer(
    cls=LazyGroup,
    help="Text to image by relay diffusion: a small picture first, then relayed upwards.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # which would take "[default: 4]" in a help text for markup
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options of every command; ``main`` takes ``--debug`` out wherever it stands."""


def _placeholder() -> None:
    """Never called: ``LazyGroup`` puts the real command in its place."""


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_placeholder)


def _load(name: str) -> Any:
    function = getattr(import_module(f"{__name__}.{name}"), name)
    command = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    command.command(name, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return typer.main.get_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``relay`` and return its exit code.

    0 is success; 2 wrong usage or input (:class:`RelayError`); 130 interrupted; 75 a training
    that was stopped before its end; 1 anything else.
    An error is one line on standard error, after its traceback if ``--debug`` is given.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    options_end = args.index("--") if "--" in args else len(args)
    debug = "--debug" in args[:options_end]
    args = [arg for i, arg in enumerate(args) if arg != "--debug" or i > options_end]
    try:
        result = app(args or ["--help"], prog_name="relay", standalone_mode=False)
    except typer.Abort:
        return _fail("aborted", 1, debug)
    except typer.TyperException as error:
        message = error.format_message()
        context = getattr(error, "ctx", None)
        if context:
            message += f"{'' if message[-1] in '.?' else '.'} See {context.command_path} --help."
        return _fail(message, error.exit_code, debug)
    except RelayError as error:
        return _fail(str(error), 2, debug)
    except Exception as error:
        extra = _extra_with(error.name) if isinstance(error, ModuleNotFoundError) else None
        if extra:
            return _fail(f"{error}: pip install '{extra}'", 2, debug)
        hint = "" if debug else " (--debug shows the traceback)"
        return _fail(f"{type(error).__name__}: {error}{hint}", 1, debug)
    return result if isinstance(result, int) else 0


def _extra_with(module: str | None) -> str | None:
    """What to install to get ``module``, if it comes with an extra of this distribution."""
    if not module:
        return None
    package = module.split(".")[0].replace("_", "-")
    try:
        requirements = metadata.requires("relay-diffusion") or []
    except metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        found = re.match(rf"{re.escape(package)}\b.*extra == .(\w+)", requirement)
        if found:
            return f"relay-diffusion[{found[1]}]"
    return None


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"relay: {' '.join(message.split())}", file=sys.stderr)
    return code
