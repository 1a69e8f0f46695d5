"""Every key of a recipe with its meaning, read from the dataclasses that a recipe becomes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from relay_diffusion.config import describe, inline_toml
from relay_diffusion.training.recipe import Recipe

HEADING = """# What can be in a recipe

A recipe is a TOML file of the tables below. What a recipe leaves out is as the column of defaults
says; what has no default must be there. `--set TABLE.KEY=VALUE` changes a value from the command
line, `extends = "other.toml"` at the top of a file lays it over another one, table by table, and
`relay train --dry-run` prints a recipe as it is resolved. This page is what `relay train --keys`
prints."""


def reference(kinds: Mapping[str, type[Recipe]]) -> str:
    """A page of Markdown: tables that all recipes have, then the objectives'.

    Args:
        kinds: by ``run.objective``, the dataclass of the recipe.
    """
    shared: dict[str, type] = {}
    objectives: dict[str, type] = {}
    for kind, recipe in kinds.items():
        tables = dict(_tables(recipe))
        objectives[f"[objective] of run.objective = {json.dumps(kind)}"] = tables.pop("objective")
        shared |= {f"[{name}]": table for name, table in tables.items()}
    shown: set[type] = set()
    sections = [_section(name, table, shown) for name, table in (shared | objectives).items()]
    return "\n\n".join([HEADING, *sections]) + "\n"


def meanings(table: type) -> dict[str, str]:
    """What the docstrings of a dataclass and of those it extends say of its fields."""
    found: dict[str, str] = {}
    for one in reversed(table.__mro__):
        _, _, text = inspect.cleandoc(one.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for name, meaning in re.findall(r"^    (\w+): ((?:.+\n?)(?:^     +.+\n?)*)", text, re.M):
            found[name] = " ".join(meaning.split())
    return found


def _tables(table: type) -> Iterator[tuple[str, type]]:
    """Fields of a dataclass that are tables themselves, or lists of such."""
    for name, hint in typing.get_type_hints(table).items():
        parts = (hint, *typing.get_args(hint))
        for part in parts:
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                yield name, part


def _section(name: str, table: type, shown: set[type]) -> str:
    """Of a table, and of the tables in it that are not ``shown`` yet."""
    intro = inspect.cleandoc(table.__doc__ or "").partition("Attributes:")[0]
    heading, *rest = name.split(" ", 1)
    lines = [f"## `{heading}`{' ' + rest[0] if rest else ''}", "", _plain(intro.strip()), ""]
    lines += ["| key | value | default | |", "|---|---|---|---|"]
    said, hints = meanings(table), typing.get_type_hints(table)
    for field in dataclasses.fields(table):
        cells = [f"`{field.name}`", _plain(describe(hints[field.name])), _default(field)]
        cells.append(_plain(said[field.name]))
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    below = []
    for key, part in _tables(table):
        if part not in shown:
            shown.add(part)
            inner = f"{heading.strip('[]')}.{key}"
            listed = typing.get_origin(hints[key]) is tuple
            below.append(_section(f"[[{inner}]]" if listed else f"[{inner}]", part, shown))
    return "\n\n".join(["\n".join(lines), *below])


def _plain(text: str) -> str:
    """A docstring's marks as Markdown's."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(text.split())).replace("``", "`")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return ""
    return "none" if value is None else f"`{inline_toml(value)}`"
