"""Configuration: frozen dataclasses read from TOML, strictly.

Values are checked against the annotations: dataclasses, ``int float str bool``, ``Literal``,
``tuple[X, ...]``, ``tuple[X, Y]``, ``dict[str, X]``, unions and ``Any``. An integer is a float
where a float is asked for; nothing else is converted. TOML has no null, so an optional field is
absent when it is None, and None must be its default.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from relay_diffusion.errors import RelayError

T = TypeVar("T")


def load_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises: RelayError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RelayError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RelayError(f"{path} is not valid TOML: {error}") from error


def load_extended(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file, laid over those of the file that its ``extends`` names, relative
    to it, and so on: tables are merged, anything else takes the place of what it was.

    Raises: RelayError as :func:`load_toml`, and for files that extend each other in a circle.
    """
    chain: list[dict[str, Any]] = []
    seen: list[Path] = []
    file = Path(path)
    while True:
        if file.resolve() in seen:
            raise RelayError(f"{path} extends itself, by way of {file}")
        seen.append(file.resolve())
        tables = load_toml(file)
        parent = tables.pop("extends", None)
        chain.append(tables)
        if parent is None:
            break
        if not isinstance(parent, str):
            raise RelayError(f"extends is {parent!r} in {file}, must be the name of a file")
        file = file.parent / parent
    result: dict[str, Any] = {}
    for tables in reversed(chain):
        result = _laid_over(result, tables)
    return result


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        merged[key] = _laid_over(below[key], value) if both else value
    return merged


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of ``mapping`` with ``"table.key=value"`` assignments applied in order.

    Values are TOML (``3``, ``1e-4``, ``true``, ``[1, 2]``, ``"text"``); what is not, such as a bare
    word or a path, is taken as a string.

    Raises: RelayError on a malformed assignment, or a path through something that is no table.
    """
    result = copy.deepcopy(dict(mapping))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise RelayError(f"override {override!r} must be key=value, such as optimizer.lr=1e-4")
        table = result
        for depth, key in enumerate(keys[:-1], start=1):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise RelayError(
                    f"override {override!r}: {'.'.join(keys[:depth])} is {table!r}, not a table"
                )
        table[keys[-1]] = _parse_value(text.strip(), override)
    return result


def from_dict(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass ``cls`` from nested tables.

    Args:
        cls: a dataclass, whose fields may be dataclasses.
        mapping: its fields by name; those with a default may be left out.
        where: key path of ``mapping`` itself, for messages.
    Raises: RelayError that names the key path, what is allowed there, and the nearest valid key.
    """
    if not isinstance(mapping, Mapping):
        raise _mismatch(where, mapping, cls)
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise _unknown_key(_join(where, str(key)), str(key), list(fields))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], _join(where, name))
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise RelayError(f"{_join(where, name)} is missing, must be {describe(hints[name])}")
    try:
        return cls(**values)
    except ValueError as error:  # raised by a __post_init__ that checks ranges
        raise RelayError(f"{where}: {error}" if where else str(error)) from error


def arguments_for(function: Callable[..., Any], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """``mapping`` as keyword arguments of ``function``, each as its annotation wants it.

    Raises: RelayError that names the argument and what is allowed there.
    """
    hints = typing.get_type_hints(function)
    return {name: _convert(hints[name], value, name) for name, value in mapping.items()}


def to_dict(obj: Any) -> dict[str, Any]:
    """Inverse of :func:`from_dict`: nested plain dicts and lists; None is left out."""
    plain = _plain(obj)
    if not isinstance(plain, dict):
        raise TypeError(f"to_dict takes a dataclass or a mapping, not {type(obj).__name__}")
    return plain


def dump_toml(obj: Any) -> str:
    """A dataclass (or nested dict) as the text of a TOML file that reads back to the same."""
    return "\n".join(_toml_lines(to_dict(obj), ())).lstrip("\n") + "\n"


def changed_keys(before: str, after: str) -> list[str]:
    """What differs between two TOML texts, key by key: "data.batch_size was 2, is 4"."""
    old, new = (dict(_leaves(tomllib.loads(text), "")) for text in (before, after))
    told = []
    for key in sorted(old.keys() | new.keys()):
        was, now = (inline_toml(side[key]) if key in side else "nothing" for side in (old, new))
        if was != now:
            told.append(f"{key} was {was}, is {now}")
    return told


def _leaves(table: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, _join(where, key))
        else:
            yield _join(where, key), value


def inline_toml(value: Any) -> str:
    """A value as it stands in one line of a TOML file; a dataclass is the table of its fields."""
    return _toml_value(_plain(value))


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the annotation ``hint`` wants it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        # A library caller may pass a ready-made object in place of its table.
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is Literal:
        # True == 1 in Python, never in a configuration.
        if any(value == allowed and type(value) is type(allowed) for allowed in args):
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        items = (args[0],) * len(value) if args[1:] == (...,) else args
        if len(items) == len(value):
            pairs = zip(items, value, strict=True)
            return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(pairs))
    elif origin is list and isinstance(value, list):
        return [_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    elif origin is dict and isinstance(value, Mapping):
        return {key: _convert(args[1], v, _join(where, key)) for key, v in value.items()}
    elif hint is float and type(value) is int:
        return float(value)
    elif hint in (int, float, str, bool, list, tuple, types.NoneType) and type(value) is hint:
        return value
    raise _mismatch(where, value, hint)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    """The first member that takes ``value``; if none, the message of the only one it could be."""
    members = [member for member in typing.get_args(hint) if member is not types.NoneType]
    if value is None and len(members) < len(typing.get_args(hint)):
        return None
    # int | float keeps an int, whichever comes first.
    members.sort(key=lambda member: member is not type(value))
    failures = []
    for member in members:
        try:
            return _convert(member, value, where)
        except RelayError as error:
            failures.append(error)
    raise failures[0] if len(failures) == 1 else _mismatch(where, value, hint)


def _parse_value(text: str, override: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[:1] in tuple("[{\"'"):
            raise RelayError(f"override {override!r}: the value is not valid TOML") from error
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def describe(hint: Any) -> str:
    """An annotation in words, for messages and documentation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        members = [describe(arg) for arg in args if arg is not types.NoneType]
        return " or ".join(dict.fromkeys(members))
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(map(repr, args))
    if hint in (list, tuple):
        return "a list"
    if origin is list or (origin is tuple and args[1:] == (...,)):
        return f"a list of {describe(args[0])}"
    if origin is tuple:
        return f"a list [{', '.join(map(describe, args))}]"
    if origin is dict or dataclasses.is_dataclass(hint):
        return "a table"
    return str(getattr(hint, "__name__", hint))


def _mismatch(where: str, value: Any, hint: Any) -> RelayError:
    return RelayError(f"{where or 'the configuration'} is {value!r}, must be {describe(hint)}")


def _unknown_key(path: str, key: str, allowed: list[str]) -> RelayError:
    nearest = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"allowed are {', '.join(sorted(allowed))}"
    return RelayError(f"unknown key {path}: {hint}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[str]:
    """Plain values first: after a table's header they would belong to that table."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            inner = (*path, _toml_key(key))
            yield f"\n[{'.'.join(inner)}]"
            yield from _toml_lines(value, inner)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        items = (f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    raise TypeError(f"TOML has no place for a {type(value).__name__}")
