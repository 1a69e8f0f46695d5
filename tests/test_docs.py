"""What the documents print holds: commands parse, recipes and their keys exist, links lead on."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion import cli, diffusion
from relay_diffusion.cli.train import objectives
from relay_diffusion.errors import RelayError
from relay_diffusion.training.recipe import read_recipe

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "src").rglob("README.md"))
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# The log tells what was run at the time, with the options of that time.
CURRENT = [path for path in [*GUIDES, *CARDS] if path.name != "log.md"]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
OTHERS = {"--hps-version", "--show", "--shutdown-timeout"}
"""Flags of a scorer, of a benchmark and of torchrun."""
EVERY_PAGE = [*GUIDES, *CARDS, *sorted((ROOT / "docs" / "results").glob("*.md"))]


def commands(path: Path) -> list[list[str]]:
    """The lines of a page, or the comments of a recipe, that are a ``relay`` command."""
    text = re.sub(r"\\\n#?\s*", "", path.read_text(encoding="utf-8"))
    lines = re.findall(r"^(?:#| {4})\s*(relay [a-z]+(?: .*)?)$", text, re.M)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def printed(paths: list[Path]) -> list[Any]:
    return [
        pytest.param(command, id=f"{path.relative_to(ROOT)}: {' '.join(command)}")
        for path in paths
        for command in commands(path)
    ]


@cache
def parser(name: str) -> Any:
    return cli._load(name)


@cache
def flags() -> set[str]:
    ours = [p.opts + p.secondary_opts for n in cli.COMMANDS for p in parser(n).params]
    return {flag for names in ours for flag in names} | {"--help", "--version", "--debug"}


@pytest.mark.parametrize("command", printed([*CURRENT, *RECIPES]))
def test_a_printed_command_is_one(command: list[str]) -> None:
    name, *arguments = command
    context = parser(name).make_context(name, list(arguments))
    if name == "train":
        for recipe in context.params["recipes"]:
            try:
                read_recipe(ROOT / recipe, context.params["set_"] or (), objectives()[0])
            except RelayError as error:  # a cascade that the reader makes before
                assert "there is no cascade" in str(error)


def test_there_are_commands_to_look_at() -> None:
    assert len(printed(CURRENT)) > 50
    assert len(printed(RECIPES)) > 5


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_flag_in_the_text_is_one_of_a_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"`(--[a-z][a-z-]*)", text)) <= flags() | OTHERS


@pytest.mark.parametrize("path", EVERY_PAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_its_heading(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if heading:
            assert heading in headings(target), link


def test_the_page_on_the_mathematics_names_all_that_is_computed_and_its_sources() -> None:
    page = (ROOT / "docs" / "math.md").read_text(encoding="utf-8")
    names = [name for name in diffusion.__all__ if name[0].islower()]
    assert [name for name in names if not re.search(rf"`{name}\b", page)] == []
    files = (ROOT / "src" / "relay_diffusion" / "diffusion").glob("*.py")
    cited = re.findall(r"arXiv:(\d{4}\.\d{5})", "".join(map(Path.read_text, files)))
    assert [number for number in cited if number not in page] == []


def headings(path: Path) -> set[str]:
    """As anchors: lower case, words joined by hyphens, other signs left out."""
    lines = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", EVERY_PAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_that_a_page_runs_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for script in re.findall(r"^ {4}python3? ([\w/]+\.py)", text, re.M):
        assert (ROOT / script).is_file(), script
