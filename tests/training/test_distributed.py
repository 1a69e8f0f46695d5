"""Processes share a run: the numbers are those of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderDC, UNet2DConditionModel
from distributed_run import recipe_of
from tiny_training import train_tiny
from torch.testing import assert_close

from relay_diffusion.errors import RelayError
from relay_diffusion.models.lora import read_adapter
from relay_diffusion.training import distributed
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.recipe import Recipe
from tests.data.drawn import drawn, write_folder


def launch(
    processes: int, kind: str, out: Path, steps: int, *rest: str
) -> subprocess.CompletedProcess[str]:
    """Train under torchrun, to its end."""
    script = Path(__file__).with_name("distributed_run.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(script), kind, str(out), str(steps)]
    return subprocess.run([*command, *rest], capture_output=True, text=True, timeout=300)


def run(processes: int, kind: str, out: Path, steps: int, *rest: str) -> list[dict[str, Any]]:
    """Train under torchrun; the lines of the log with a loss."""
    done = launch(processes, kind, out, steps, *rest)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = log_of(recipe_of(kind, out, steps, *rest))
    return [line for line in lines if "loss" in line or "validation/loss" in line]


def log_of(recipe: Recipe) -> list[dict[str, Any]]:
    log = recipe.folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()]


def figures(
    lines: list[dict[str, Any]], named: tuple[str, ...] = ("loss", "grad_norm", "validation/loss")
) -> dict[tuple[int, str], float]:
    return {(line["step"], name): line[name] for line in lines for name in named if name in line}


@pytest.mark.slow
def test_two_processes_make_the_losses_of_one(tmp_path: Path) -> None:
    one, two = (run(n, "base", tmp_path / str(n), 8) for n in (1, 2))
    assert len(figures(one)) == 17
    assert_close(figures(two), figures(one), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("compiled",), marks=pytest.mark.long),
    ],
)
def test_two_processes_make_them_in_half_precision_too(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    """Weights in bfloat16 and in channels_last, activations computed twice, blocks compiled."""
    one, two = (run(n, "base", tmp_path / str(n), 4, "half", *more) for n in (1, 2))
    assert len(figures(one)) == 9
    assert_close(figures(two), figures(one), rtol=0.02, atol=0)


@pytest.mark.slow
def test_two_processes_sum_the_gradients_of_all_parts(tmp_path: Path) -> None:
    one, two = run(1, "base", tmp_path / "one", 4), run(2, "base", tmp_path / "two", 4, "parts")
    assert_close(figures(two), figures(one), rtol=2e-5, atol=0)


@pytest.mark.long
def test_two_groups_of_processes_have_a_copy_of_the_weights_each(tmp_path: Path) -> None:
    """As two machines of two GPUs would; and one process goes on where they stopped."""
    run(4, "base", tmp_path / "four", 10, "replicas")
    four, one = run(1, "base", tmp_path / "four", 14, "resume"), run(1, "base", tmp_path / "1", 14)
    assert_close(figures(four), figures(one), rtol=1e-5, atol=0)


@pytest.mark.slow
def test_two_processes_write_the_adapter_of_one(tmp_path: Path, starting_point: Path) -> None:
    cascade = f"cascade={starting_point}"
    one, two = (run(n, "base", tmp_path / str(n), 2, cascade) for n in (1, 2))
    assert_close(figures(two), figures(one), rtol=1e-5, atol=0)
    written = [read_adapter(tmp_path / n / "base" / "export" / "lora").tensors for n in ("1", "2")]
    assert_close(written[1], written[0], rtol=2e-3, atol=1e-5)  # half precision


@pytest.mark.long
def test_two_processes_learn_the_difference_of_one(tmp_path: Path, starting_point: Path) -> None:
    """Of low rank (``model.rank``), which is counted before anything is built, too."""
    rank = f"rank={starting_point}"
    one, two = (run(n, "base", tmp_path / str(n), 4, rank) for n in (1, 2))
    assert_close(figures(two), figures(one), rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "norm"),
    [("redraw", "grad_norm"), ("distil", "grad_norm"), ("match", "grad_norm_unet")],
)
def test_two_processes_share_out_the_text_encoder_too(
    what: str, norm: str, tmp_path: Path, starting_point: Path
) -> None:
    """Of a relay stage, whose text encoder does not learn: as its batches are made, where a base
    stage redraws by it, and in its loss. To match, one process has samples whose student is at its
    second step, the other has none, and must gather its weights for the first all the same."""
    given = f"{what}={starting_point}"
    one, two = (run(n, "relay", tmp_path / str(n), 4, given) for n in (1, 2))
    named = ("loss", norm, "validation/loss")
    assert len(figures(one, named)) == 9
    assert_close(figures(two, named), figures(one, named), rtol=2e-5, atol=0)


@pytest.mark.slow
def test_two_processes_outlive_a_full_disk(tmp_path: Path) -> None:
    """Where the main one cannot write, the others do not wait for it for ever."""
    done = launch(2, "base", tmp_path, 6, "full-disk")
    assert done.returncode != 0
    both = done.stderr.count("RelayError: ")
    assert both == 2, done.stderr[-3000:]
    recipe = recipe_of("base", tmp_path, 6, "full-disk")
    checkpoint, export = "checkpoint of step {} not written", "export not written (no space left"
    told = [(line["step"], line["note"]) for line in log_of(recipe) if "note" in line]
    wanted = [(1, checkpoint), (2, checkpoint), (3, export), (4, export), (6, export)]
    for (step, note), (at, what) in zip(told, wanted, strict=True):
        assert step == at and what.format(min(step, 2)) in note
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [5, 6]
    first = recipe.folder / "export" / "recipe.toml"
    assert first.read_text().startswith("# weights of step 5\n")
    # What could not be written at the end is written by who goes on.
    assert train_tiny(recipe, resume=True)
    assert first.read_text().startswith("# weights of step 6\n")


def test_copies_that_cannot_be_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 6)
    assert distributed.num_shares(2) == 3
    with pytest.raises(RelayError, match=r"replicas is 4, which does not divide the 6 processes"):
        distributed.num_shares(4)


@pytest.mark.long
def test_processes_make_a_series_of_recipes(tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", drawn(6))
    recipe = """
    [run]
    name = "NAME"
    objective = "base"
    steps = 1
    [data]
    source = "pictures"
    path = "pictures"
    batch_size = 2
    views = [{ size = 64 }]
    [model]
    cascade = "starter"
    [optimizer]
    warmup = 0
    [validation]
    every = 0
    [preview]
    every = 0
    """
    for name in ("first", "second"):
        (tmp_path / f"{name}.toml").write_text(recipe.replace("NAME", name))
    relay = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    relay += ["--no-python", str(Path(sys.executable).with_name("relay")), "train"]
    relay += ["first.toml", "second.toml"]
    done = subprocess.run(relay, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs" / "second" / "export" / "base_unet").is_dir()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["base", "relay", "autoencoder"])
def test_two_processes_make_the_losses_of_one_also_after_resuming(
    kind: str, tmp_path: Path
) -> None:
    one = run(1, kind, tmp_path / "one", 50)
    two = run(2, kind, tmp_path / "two", 50)
    assert len(figures(one)) >= 100
    # The gradient of the autoencoder's L1 loss is a sign: the last bit of a sum makes it jump.
    named = ("loss", "validation/loss", *(["grad_norm"] if kind != "autoencoder" else []))
    assert_close(figures(two, named), figures(one, named), rtol=1e-5, atol=0)
    # From one process to two, and back.
    for first, then in ((1, 2), (2, 1)):
        out = tmp_path / f"{first}-{then}"
        run(first, kind, out, 23)
        changed = figures(run(then, kind, out, 50, "resume"), named)
        # The first part ends with a validation that the whole run has no counterpart of.
        shared = {key: value for key, value in changed.items() if key in figures(one)}
        assert_close(shared, figures(one, named), rtol=1e-5, atol=0)
    folder = recipe_of(kind, tmp_path / "two", 50).folder
    assert Checkpoints(folder / "checkpoints", 2).steps() == [40, 50]
    cls = AutoencoderDC if kind == "autoencoder" else UNet2DConditionModel
    name = {"autoencoder": "vae"}.get(kind, f"{kind}_unet")
    exports = [tmp_path / out / kind / "export" / name for out in ("one", "two")]
    weights = [cls.from_pretrained(export).state_dict() for export in exports]
    assert_close(weights[1], weights[0], rtol=2e-3, atol=1e-5)  # half precision
