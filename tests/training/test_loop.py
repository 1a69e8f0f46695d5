"""Training continues exactly, stops cleanly, and learns."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, KL_VAE, lines, newest_state, tiny_objective, tiny_recipe, train_tiny
from torch import Tensor
from transformers import T5EncoderModel

from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.export import Export
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.loop import train
from relay_diffusion.training.recipe import Recipe

KINDS = ["autoencoder", "base", "relay", "concat"]


def assert_same(a: Recipe, b: Recipe) -> None:
    """The newest checkpoints of two runs are equal to the bit."""
    one, other = newest_state(a), newest_state(b)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    ("kind", "reuse", "optimizer"),
    [
        ("autoencoder", 1, "adamw"),
        ("base", 1, "adamw"),
        pytest.param("base", 3, "muon", marks=pytest.mark.slow),
        pytest.param("relay", 3, "adamw", marks=pytest.mark.slow),
        pytest.param("base", 1, "adamw_8bit", marks=pytest.mark.slow),  # compiles its step
    ],
)
def test_three_steps_and_three_more_equal_six(
    kind: str, reuse: int, optimizer: str, tmp_path: Path
) -> None:
    if optimizer == "adamw_8bit":
        pytest.importorskip("torchao")

    # The interruption lies inside a chapter of two batches that are visited three times, and the
    # validation and preview before it must leave no trace.
    def make(out: str, steps: int, **run: Any) -> Recipe:
        return tiny_recipe(
            kind,
            tmp_path / out,
            run={"steps": steps, **run},
            data={"reuse": reuse, "chapter": 2},
            optimizer={"schedule": "constant", "kind": optimizer},
        )

    whole = make("whole", 6)
    assert train_tiny(whole)
    halves = make("halves", 3)
    halves = replace(
        halves,
        validation=replace(halves.validation, every=1),
        preview=replace(halves.preview, every=2),
    )
    assert train_tiny(halves)
    assert train_tiny(make("halves", 6), resume=True)
    assert_same(whole, halves)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_parts_give_the_gradient_of_the_whole_batch(kind: str, tmp_path: Path) -> None:
    figures = []
    for parts in (1, 2):
        recipe = tiny_recipe(
            kind,
            tmp_path / str(parts),
            run={"steps": 2},
            optimizer={"accumulate": parts},
        )
        train_tiny(recipe)
        figures.append([(line["loss"], line["grad_norm"]) for line in lines(recipe)])
    torch.testing.assert_close(figures[0], figures[1], rtol=2e-5, atol=0)


@pytest.mark.parametrize("kind", [*KINDS, "autoencoder-kl"])
def test_every_trainable_parameter_gets_a_gradient(kind: str, tmp_path: Path) -> None:
    model = {"model": {"vae": KL_VAE}} if kind.endswith("kl") else {}
    recipe = tiny_recipe(kind.removesuffix("-kl"), tmp_path, **model)
    objective = tiny_objective(recipe)
    # Twice, with a step between: zero-initialised layers hide what lies before them at first.
    parameters = [p for module in objective.trained.values() for p in module.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    for step in range(2):
        optimizer.zero_grad()
        objective.loss(objective.feed(step), Draws.of_batch(0, "train", step, 4)).mean().backward()
        optimizer.step()
    silent = [
        name
        for module in objective.trained.values()
        for name, p in module.named_parameters()
        if p.grad is None or not bool(p.grad.any())
    ]
    assert silent == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "factor"), [("autoencoder", 0.6), ("base", 0.7), ("relay", 0.8)])
def test_loss_falls(kind: str, factor: float, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        kind,
        tmp_path,
        run={"steps": 60, "log_every": 10},
        data={"reuse": 60, "chapter": 1},
        optimizer={"lr": 5e-3},
        checkpoint={"every": 100},
    )
    train_tiny(recipe)
    losses = [line["loss"] for line in lines(recipe) if "loss" in line]
    assert losses[-1] < factor * losses[0]


def test_a_sigterm_saves_and_the_rest_follows_exactly(tmp_path: Path) -> None:
    whole = tiny_recipe("autoencoder", tmp_path / "whole", run={"steps": 5})
    train_tiny(whole)
    recipe = tiny_recipe(
        "autoencoder",
        tmp_path / "killed",
        run={"steps": 5},
        checkpoint={"every": 100},
        validation={"every": 3},
        preview={"every": 3},
    )
    objective = tiny_objective(recipe)

    def feed(step: int) -> Batch:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return objective.feed(step)

    handler = signal.getsignal(signal.SIGTERM)
    assert not train(recipe, replace(objective, feed=feed), CPU)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [3]
    assert "SIGTERM" in lines(recipe)[-1]["note"]
    # Nor for what was due at that step.
    assert not any("validation/loss" in line for line in lines(recipe))
    assert not (recipe.folder / "samples").exists()
    # There may be no time to export, and the run that goes on does.
    export = recipe.folder / "export"
    assert not export.exists()
    assert train_tiny(recipe, resume=True)
    assert (export / "recipe.toml").read_text().startswith("# weights of step 5\n")
    assert_same(whole, recipe)


def test_what_goes_wrong_in_a_preview_costs_no_step(tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"steps": 3}, preview={"every": 2})

    def preview() -> tuple[Tensor, int]:
        raise RelayError("no pictures")

    objective = replace(tiny_objective(recipe), preview=preview)
    with pytest.raises(RelayError, match="no pictures"):
        train(recipe, objective, CPU)
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [2]
    with pytest.raises(RelayError, match="no pictures"):
        train(recipe, objective, CPU, resume=True)
    assert train(recipe, objective, CPU, resume=True)  # it is done all the same


def test_the_time_limit_saves_and_stops(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 50, "max_minutes": 1e-9})
    assert not train_tiny(recipe)
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [1]


def test_a_run_says_that_another_process_was_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 50})
    objective = tiny_objective(recipe)

    def feed(step: int) -> Batch:
        monkeypatch.setattr(distributed, "any_of", lambda flag: True)
        return objective.feed(step)

    assert not train(recipe, replace(objective, feed=feed), CPU)
    assert "stopped as another process was asked to" in lines(recipe)[-1]["note"]


def test_a_line_of_the_log_has_what_one_watches(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        "base", tmp_path, run={"steps": 2}, validation={"every": 2}, preview={"every": 2}
    )
    train_tiny(recipe)
    first, second, validation = lines(recipe)
    for line in (first, second):
        assert {"loss", "grad_norm", "lr", "samples_per_second", "minutes_left"} <= line.keys()
    assert second["minutes_left"] == 0
    bands = [validation[f"validation/loss_band_{i}"] for i in range(4)]
    assert validation["validation/loss"] == pytest.approx(sum(bands) / 4, rel=1e-4)
    assert (recipe.folder / "samples" / "step-00000002.png").is_file()
    assert list((recipe.folder / "tensorboard").iterdir())


def test_a_module_learns_at_its_share_of_the_rate_or_not_at_all(tmp_path: Path) -> None:
    def change(scale: float) -> dict[str, float]:
        """How far the largest weight of each module moved in one step."""
        recipe = tiny_recipe(
            "base",
            tmp_path / str(scale),
            run={"steps": 1},
            optimizer={"scales": {"text_encoder": scale}, "weight_decay": 0.0, "warmup": 0},
        )
        objective = tiny_objective(recipe)
        before = {
            name: {k: p.clone() for k, p in module.named_parameters()}
            for name, module in objective.trained.items()
        }
        train(recipe, objective, CPU)
        return {
            name: max(
                float((p.detach() - before[name][k]).abs().max()) for k, p in m.named_parameters()
            )
            for name, m in objective.trained.items()
        }

    # Adam's first step moves a weight by the rate, whatever the size of its gradient.
    assert change(0.25) == pytest.approx({"unet": 1e-3, "text_encoder": 2.5e-4}, rel=1e-2)
    assert change(0.0) == pytest.approx({"unet": 1e-3, "text_encoder": 0.0}, rel=1e-2)


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_a_text_encoder_that_stays_as_it_is_is_written_once(scale: float, tmp_path: Path) -> None:
    scales = {"text_encoder": scale}
    recipe = tiny_recipe("base", tmp_path, optimizer={"scales": scales})
    objective = tiny_objective(recipe)
    export, files = Export(tmp_path / "export", objective, ""), []
    folder = tmp_path / "export" / "text_encoder"
    for step in range(3):
        export.write(step)
        files.append((folder / "model.safetensors").stat().st_ino)
    assert [a == b for a, b in pairwise(files)] == [scale == 0] * 2
    opened = T5EncoderModel.from_pretrained(folder)
    own = objective.trained["text_encoder"].state_dict()
    for name, tensor in opened.state_dict().items():
        torch.testing.assert_close(tensor.float(), own[name], atol=1e-3, rtol=1e-3)
    assert not Export(tmp_path / "export", objective, "")._placed  # a run links its own only
    if scale == 0:
        shutil.rmtree(folder)  # moved away, say: said once, then made up for
        with pytest.raises(RelayError, match="not written"):
            export.write(3)
        export.write(4)
        assert folder.is_dir()


def test_a_rate_for_a_module_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, optimizer={"scales": {"text": 0.5}})
    with pytest.raises(RelayError, match=r"optimizer.scales.text: what learns here is vae"):
        train_tiny(recipe)
