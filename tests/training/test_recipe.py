"""A recipe says what it means, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import tiny_recipe

from relay_diffusion.config import apply_overrides, dump_toml
from relay_diffusion.errors import RelayError
from relay_diffusion.training.ema import EmaSettings
from relay_diffusion.training.objective_settings import RelayObjective
from relay_diffusion.training.optimizer import OptimizerSettings
from relay_diffusion.training.recipe import read_recipe, recipe_from_dict

MINIMAL = """
[run]
name = "r"
objective = "relay"
steps = 10
[data]
views = [{size = 256}, {size = 512, crop = 256, weight = 3}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(MINIMAL)
    return path


def test_defaults_are_those_of_the_objective(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.objective == RelayObjective(offset_noise=0.05, num_relay_train_steps=500)
    assert [view.side for view in recipe.data.views] == [256, 256]


def test_overrides_lie_on_top(file: Path) -> None:
    recipe = read_recipe(file, ["run.steps=3", "objective.num_relay_train_steps=200"])
    assert recipe.run.steps == 3
    assert recipe.objective.num_relay_train_steps == 200


@pytest.mark.parametrize("kind", ["autoencoder", "base", "relay", "concat"])
def test_a_resolved_recipe_reads_back_to_the_same(kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(kind, tmp_path, model={"init_from": {"vae": "some/where"}})
    file = tmp_path / "resolved.toml"
    file.write_text(dump_toml(recipe))
    again = read_recipe(file)
    assert dump_toml(again) == dump_toml(recipe)
    assert again.objective == recipe.objective


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.step=3", "unknown key run.step: did you mean steps"),
        ("optimiser.lr=1", "unknown key optimiser: did you mean optimizer"),
        ("objective.gradient=1", "unknown key objective.gradient"),
        ("run.steps=0", "run: steps is 0, must be at least 1"),
        (
            "run.objective=judge",
            "run.objective is 'judge', allowed are autoencoder, text, base, relay",
        ),
        ("optimizer.accumulate=5", "must divide data.batch_size"),
        ("data.views=[]", "data: views is empty"),
        ("data.views=[{size=256, weight=0}]", "data: views all have weight 0"),
        ("data.views=[{size=256, weight=-1}]", "weight is -1"),
        ("objective.text_dropout=10", "objective: text_dropout is 10, must be 0 to 1"),
        ("objective.through_vae=50", "objective: through_vae is 50, must be 0 to 1"),
        ("objective.num_relay_train_steps=0", "num_relay_train_steps is 0, must be 1 to 1000"),
        ("objective.num_relay_train_steps=1001", "is 1001, must be 1 to 1000"),
        ("objective=5", "objective is 5, must be a table"),
        ("model.cascade=3", "model.cascade is 3, must be str"),
        ("model.stage=['base']", "model.stage is ['base'], must be one of"),
        ("ema.width=0", "ema: width is 0, must be above 0, at most 0.28"),
        ("ema.width=0.3", "ema: width is 0.3, must be above 0"),
        ("run.name=..", "run: name is '..', must be the name of a folder"),
        ("run.seed=99999999999", "run: seed is 99999999999, must be 0 to 4294967295"),
        ("run.seed=-1", "run: seed is -1, must be 0 to"),
        ("run.max_minutes=-1", "run: max_minutes is -1, must be at least 0"),
        ("optimizer.clip=-1", "optimizer: clip is -1, must be at least 0"),
        ("optimizer.lr=-1e-3", "optimizer: lr is -0.001, must be at least 0"),
        ("optimizer.lr=nan", "optimizer: lr is nan, must be at least 0"),
        ("optimizer.warmup=-1", "optimizer: warmup is -1, must be at least 0"),
        ("optimizer.final=2", "optimizer: final is 2, must be 0 to 1"),
        ("optimizer.lr=inf", "optimizer: lr is inf, must be finite"),
        ("optimizer.eps=0", "optimizer: eps is 0, must be above"),
        ("model.max_tokens=0", "model: max_tokens is 0, must be at least 1"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer: betas is [0.9, 1.0], must be two of at least 0"),
        ("optimizer.scales.unet=-1", "optimizer: scales.unet is -1, must be at least 0"),
        ("preview.num_steps=0", "preview: num_steps is 0, must be 1 to 1000"),
        ("preview.num_steps=2000", "preview: num_steps is 2000, must be 1 to 1000"),
        ("preview.num_pictures=0", "preview: num_pictures is 0, must be at least 1"),
        ("preview.every=-1", "preview: every is -1, must be at least 0"),
        ("validation.num_pictures=0", "validation: num_pictures is 0, must be at least 1"),
        ("validation.sizes=[0]", "validation: each of sizes is 0, must be at least 1"),
        ("data.workers=-1", "data: workers is -1, must be at least 0"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str, file: Path) -> None:
    with pytest.raises(RelayError) as caught:
        read_recipe(file, ["model.cascade=starter", override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "overrides", "message"),
    [
        ("base", ["ema.decay=0.9"], 'ema.decay has an effect only with ema.kind = "fixed"'),
        ("base", ["ema.kind=fixed", "ema.width=0.1"], "ema.width has an effect only with"),
        ("base", ["optimizer.schedule=constant", "optimizer.final=0.1"], "optimizer.final has"),
        ("base", ["validation.sizes=[64]"], "only with the objective autoencoder: leave it out"),
        ("relay", ["preview.prompts=['a fox']"], "preview.prompts has an effect only with"),
        (
            "base",
            ["lora.dora=true", "lora.target_modules=['to_q', 'conv1']", "run.channels_last=true"],
            "lora.dora of conv1 does not go with run.channels_last",
        ),
        ("autoencoder", ["preview.num_steps=5"], "preview.num_steps has an effect only with"),
        ("text", ["data.workers=2"], "only with an objective that looks at pictures"),
        ("text", ["data.views=[{size=64}]"], "data.views has an effect only with"),
        (
            "text",
            ["objective.contrast=0.0", "objective.reading=1.0", "objective.temperature=0.1"],
            "objective.temperature has an effect only with objective.contrast above 0",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(
    objective: str, overrides: list[str], message: str
) -> None:
    run = {"name": "r", "objective": objective, "steps": 10}
    with pytest.raises(RelayError) as caught:
        recipe_from_dict(apply_overrides({"run": run}, overrides))
    assert message in str(caught.value)


def test_a_setting_at_its_default_is_none_without_effect() -> None:
    run = {"name": "r", "objective": "base", "steps": 10}
    for kind in ("power", "fixed"):
        recipe_from_dict({"run": run, "ema": {"kind": kind, "width": 0.05, "decay": 0.999}})


def test_reuse_needs_views_of_one_side(file: Path) -> None:
    with pytest.raises(RelayError, match="same number of pixels"):
        read_recipe(file, ["data.reuse=2", "data.views=[{size=128}, {size=256}]"])


def test_a_table_without_run_is_no_recipe() -> None:
    with pytest.raises(RelayError, match=r"run.objective is None"):
        recipe_from_dict({"data": {}})


def test_learning_rate_warms_up_stays_and_falls_to_its_end() -> None:
    settings = OptimizerSettings(lr=1.0, warmup=9, schedule="linear", decay_steps=20, final=0.1)
    lrs = [settings.lr_at(step, 100) for step in range(100)]
    assert lrs[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert lrs[9:80] == pytest.approx([1.0] * 71)
    assert lrs[-1] == pytest.approx(0.1)
    assert lrs[89] == pytest.approx(0.55)


def test_cosine_falls_from_the_end_of_the_warm_up() -> None:
    settings = OptimizerSettings(lr=2.0, warmup=10, schedule="cosine")
    assert settings.lr_at(10, 110) == pytest.approx(2.0, rel=1e-3)
    assert settings.lr_at(59, 110) == pytest.approx(1.0)
    assert settings.lr_at(109, 110) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("width", "exponent"), [(0.05, 16.97), (0.10, 6.94)])
def test_power_average_has_the_published_exponents(width: float, exponent: float) -> None:
    # EDM2, arXiv:2312.02696, section 3: sigma_rel 0.05 and 0.10.
    beta = EmaSettings("power", width=width).beta(100)
    assert beta == pytest.approx((1 - 1 / 100) ** (exponent + 1), rel=1e-4)


def test_the_first_step_of_an_average_forgets_the_initialisation() -> None:
    assert EmaSettings("power").beta(1) == 0.0
    assert EmaSettings("fixed", decay=0.999).beta(1) == pytest.approx(2 / 11)
    assert EmaSettings("fixed", decay=0.999).beta(10**6) == 0.999
