"""Configuration is read strictly, and says what is wrong in one line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from relay_diffusion.config import (
    apply_overrides,
    changed_keys,
    dump_toml,
    from_dict,
    load_extended,
    load_toml,
    to_dict,
)
from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}, must be positive")


@dataclass(frozen=True)
class View:
    size: int
    share: float = 1.0


@dataclass(frozen=True)
class Recipe:
    steps: int
    name: str = "run"
    resume: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    unet: str | dict[str, Any] = ""
    views: tuple[View, ...] = (View(128),)
    init_from: dict[str, str] = field(default_factory=dict)
    optimizer: Optimizer = Optimizer()


FULL = Recipe(
    steps=7,
    name='quotes ", backslash \\, newline \n, tab \t, \x7f, é, 🦊',
    resume=True,
    dtype="bfloat16",
    unet={"channels": [16, 32], "nested": {"odd key": 1.5}},
    views=(View(256, 0.25), View(512)),
    init_from={"vae": "runs/vae"},
    optimizer=Optimizer(lr=1e-30, betas=(0.0, float("inf")), clip=1.0),
)


def test_what_is_written_reads_back_to_the_same() -> None:
    for recipe in (Recipe(steps=1), FULL):
        assert from_dict(Recipe, tomllib.loads(dump_toml(recipe))) == recipe
        assert from_dict(Recipe, to_dict(recipe)) == recipe


def test_differences_are_told_key_by_key() -> None:
    before = 'a = 1\n[b]\nc = "x"\n[b.d]\ne = [1, 2]\n'
    after = 'a = 1\n[b]\nc = "y"\n[b.d]\nf = true\n'
    wanted = ['b.c was "x", is "y"', "b.d.e was [1, 2], is nothing", "b.d.f was nothing, is true"]
    assert changed_keys(before, after) == wanted
    assert changed_keys(before, before) == []


def test_an_integer_becomes_a_float_only_where_a_float_is_wanted() -> None:
    recipe = from_dict(
        Recipe, {"steps": 1, "optimizer": {"lr": 1, "betas": [0, 1]}, "unet": {"channels": 8}}
    )
    assert type(recipe.optimizer.lr) is float
    assert recipe.optimizer.betas == (0.0, 1.0)
    assert type(recipe.unet["channels"]) is int  # type: ignore[index]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "steps is missing, must be int"),
        ({"steps": 1.0}, "steps is 1.0, must be int"),
        ({"steps": True}, "steps is True, must be int"),
        ({"steps": 1, "resume": 1}, "resume is 1, must be bool"),
        ({"steps": 1, "stpes": 2}, "unknown key stpes: did you mean steps?"),
        (
            {"steps": 1, "optimizer": {"learning": 1}},
            "unknown key optimizer.learning: allowed are betas, clip, lr",
        ),
        ({"steps": 1, "optimizer": {"beats": []}}, "optimizer.beats: did you mean betas?"),
        ({"steps": 1, "optimizer": 3}, "optimizer is 3, must be a table"),
        ({"steps": 1, "optimizer": {"lr": "1e-4"}}, "optimizer.lr is '1e-4', must be float"),
        ({"steps": 1, "optimizer": {"betas": [1]}}, r"must be a list [float, float]"),
        ({"steps": 1, "optimizer": {"clip": "no"}}, "optimizer.clip is 'no', must be float"),
        ({"steps": 1, "optimizer": {"lr": -1}}, "optimizer: lr is -1.0, must be positive"),
        ({"steps": 1, "dtype": "float16"}, "must be one of 'float32', 'bfloat16'"),
        ({"steps": 1, "unet": 3}, "unet is 3, must be str or a table"),
        ({"steps": 1, "views": {"size": 1}}, "must be a list of a table"),
        ({"steps": 1, "views": [{"size": 1}, {"share": 1}]}, "views[1].size is missing"),
        ({"steps": 1, "init_from": {"vae": 1}}, "init_from.vae is 1, must be str"),
    ],
)
def test_an_error_names_the_key_and_what_is_allowed(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(RelayError) as caught:
        from_dict(Recipe, mapping)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_are_toml_values_and_bare_words_are_strings() -> None:
    original = {"optimizer": {"lr": 1.0}}
    changed = apply_overrides(
        original,
        [
            "optimizer.lr=3e-4",
            "steps = 5",
            "resume=true",
            "name=a/b=c",
            'dtype="x y"',
            "unet.channels=[1, 2]",
            "empty=",
            "two=1\nsteps=9",
            "steps=6",
        ],
    )
    assert changed == {
        "optimizer": {"lr": 3e-4},
        "steps": 6,
        "resume": True,
        "name": "a/b=c",
        "dtype": "x y",
        "unet": {"channels": [1, 2]},
        "empty": "",
        "two": "1\nsteps=9",
    }
    assert original == {"optimizer": {"lr": 1.0}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "must be key=value"),
        ("=3", "must be key=value"),
        ("a..b=3", "must be key=value"),
        ("name.first=x", "name is 'run', not a table"),
        ("views=[1,", "not valid TOML"),
    ],
)
def test_a_malformed_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(RelayError, match=message):
        apply_overrides({"name": "run"}, [override])


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(RelayError, match=r"cannot read .*recipe.toml: No such file"):
        load_toml(path)
    with pytest.raises(RelayError, match="cannot read"):
        load_toml(tmp_path)
    for content in (b"steps = = 3", b"name = '\xff'"):
        path.write_bytes(content)
        with pytest.raises(RelayError, match=r"recipe.toml is not valid TOML"):
            load_toml(path)


def test_written_and_loaded_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(dump_toml(FULL), encoding="utf-8")
    assert from_dict(Recipe, load_toml(path)) == FULL


def test_a_file_is_laid_over_the_one_it_extends(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.toml").write_text("x = 1\n[t]\ny = [1, 2]\nz = 3\n[t.u]\nv = 4\n")
    (tmp_path / "b.toml").write_text(
        'extends = "below/a.toml"\nx = 5\n[t]\ny = [6]\n[t.u]\nw = 7\n'
    )
    (tmp_path / "c.toml").write_text('extends = "b.toml"\n[t]\nz = 8\n')
    assert load_extended(tmp_path / "c.toml") == {
        "x": 5,
        "t": {"y": [6], "z": 8, "u": {"v": 4, "w": 7}},
    }


def test_a_file_that_extends_itself_or_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(RelayError, match="extends itself"):
        load_extended(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text('extends = "c.toml"')
    with pytest.raises(RelayError, match=r"cannot read .*c\.toml"):
        load_extended(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("extends = 3")
    with pytest.raises(RelayError, match="must be the name of a file"):
        load_extended(tmp_path / "a.toml")
