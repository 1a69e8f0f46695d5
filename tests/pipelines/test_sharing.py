"""A distilled cascade keeps what is its own, and has the rest from the one it was made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from relay_diffusion.data.prepare.cascade import open_vae, read_encoders
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.asked import asked_of
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.painters import Where
from relay_diffusion.models.folder import LOW_RANK_NOTE, STUDENT_NOTE
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.low_rank import LOW_RANK_FILE
from relay_diffusion.pipelines.assemble import assemble, distilled_defaults
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import SETTINGS, generators


def test_a_sibling_stores_its_networks_only_and_opens_whole(
    siblings: tuple[Path, Path], distilled: RelayPipeline
) -> None:
    full, fast = siblings
    stored = {path.name for path in fast.iterdir() if path.is_dir()}
    assert stored == {"base_unet", "relay_unet", "scheduler"}
    assert not [file for file in fast.rglob("*.json") if str(fast.parent) in file.read_text()]
    opened = RelayPipeline.from_pretrained(full, fast=True, dtype=torch.float32)
    opened.set_progress_bar_config(disable=True)
    assert opened.config.num_inference_steps == 4
    own = RelayPipeline.from_pretrained(full, dtype=torch.float32)
    for part in ("vae", "text_encoder"):
        ours, theirs = getattr(opened, part).state_dict(), getattr(own, part).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    made_up = RelayPipeline(
        **{part: getattr(own, part) for part in ("text_encoder", "tokenizer", "vae")},
        **{part: getattr(distilled, part) for part in ("base_unet", "relay_unet", "scheduler")},
        **{name: distilled.config[name] for name in SETTINGS},
    )
    made_up.set_progress_bar_config(disable=True)
    ours, theirs = (
        pipe("a red fox", generator=generators(0), output_type="pt").images
        for pipe in (opened, made_up)
    )
    # Not to the bit: mapped weights lie elsewhere in memory, and sums are taken in another order.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_students_can_be_stored_as_differences(
    siblings: tuple[Path, Path], distilled: RelayPipeline, tmp_path: Path
) -> None:
    full, _ = siblings
    # Of rank 2, so that nothing is lost.
    students = RelayPipeline.from_pretrained(full, dtype=torch.float32)
    own = RelayPipeline.from_pretrained(full, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for unet in (students.base_unet, students.relay_unet):
            for weight in unet.parameters():
                if weight.ndim >= 2:
                    up, down = torch.randn(len(weight), 2), torch.randn(2, weight[0].numel())
                    weight += 0.003 * (up @ down).view_as(weight)
    students.save_pretrained(tmp_path / "students")
    fast = tmp_path / "low_rank"
    parts = {part: tmp_path / "students" / part for part in ("base_unet", "relay_unet")}
    settings = {name: own.config[name] for name in SETTINGS}
    assemble(fast, **parts, shares="../full", dtype=torch.float32, rank=2, **settings)
    assert {file.name for file in (fast / "base_unet").iterdir()} == {
        "config.json",
        "low_rank.safetensors",
    }
    opened = RelayPipeline.from_pretrained(fast, dtype=torch.float32)
    for pipe in (opened, students, own):
        pipe.set_progress_bar_config(disable=True)
    ours, theirs, before = (
        pipe("a red fox", generator=generators(0), output_type="pt").images
        for pipe in (opened, students, own)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.01)
    assert (theirs - before).abs().max() > 0.1
    assert opened.dtype == torch.float32
    half = RelayPipeline.from_pretrained(fast, dtype=torch.bfloat16)
    assert half.base_unet.dtype == torch.bfloat16
    # Opened, it is whole, and so is a copy of it.
    half.save_pretrained(tmp_path / "whole")
    assert not list((tmp_path / "whole").rglob("low_rank.safetensors"))
    # Those of another teacher are refused before anything is made.
    told = tmp_path / "students" / STUDENT_NOTE
    told.write_text(json.dumps({"teacher": "0" * 64}))
    with pytest.raises(RelayError, match="was made of another network than"):
        assemble(tmp_path / "wrong", **parts, shares="../full", rank=2, **settings)
    assert not (tmp_path / "wrong").exists()


def test_a_relay_stage_can_be_stored_as_its_difference_from_the_base_stage(
    siblings: tuple[Path, Path], tmp_path: Path
) -> None:
    full, _ = siblings
    parts = {part: full / part for part in ("base_unet", "text_encoder", "tokenizer", "vae")}
    relay = UNet2DConditionModel.from_pretrained(full / "base_unet")
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in relay.parameters():
            if weight.ndim >= 2:
                up, down = torch.randn(len(weight), 2), torch.randn(2, weight[0].numel())
                weight += 0.01 * (up @ down).view_as(weight)
    run = tmp_path / "run"
    relay.save_pretrained(run / "relay_unet")
    out = tmp_path / "out"
    # No more is stored than was learned.
    (run / LOW_RANK_NOTE).write_text(
        json.dumps({"rank": 2, "of": network_hash(parts["base_unet"])})
    )
    assemble(out, **parts, relay_unet=run / "relay_unet", dtype=torch.float32, rank=4)
    stored = load_file(out / "relay_unet" / LOW_RANK_FILE)
    assert {len(tensor) for name, tensor in stored.items() if name.endswith(".lora_A")} == {2}
    assert not list((out / "relay_unet").glob("diffusion_pytorch_model*"))
    assert list((out / "base_unet").glob("diffusion_pytorch_model*"))
    opened = RelayPipeline.from_pretrained(out, dtype=torch.float32).relay_unet.state_dict()
    for name, weight in relay.state_dict().items():
        torch.testing.assert_close(opened[name], weight, rtol=1e-3, atol=2e-4)
    # It can be a part of another cascade, too.
    again = tmp_path / "again"
    assemble(again, **parts, relay_unet=out / "relay_unet", dtype=torch.float32)
    copied = load_file(again / "relay_unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(copied[name], weight) for name, weight in opened.items())

    (run / LOW_RANK_NOTE).write_text(json.dumps({"rank": 2, "of": "0" * 64}))
    with pytest.raises(RelayError, match="was made of another network than"):
        assemble(tmp_path / "wrong", **parts, relay_unet=run / "relay_unet", rank=2)
    (run / LOW_RANK_NOTE).unlink()
    config = run / "relay_unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "block_out_channels": [8, 8]}))
    with pytest.raises(RelayError, match="was made of another network than"):
        assemble(tmp_path / "wrong", **parts, relay_unet=run / "relay_unet", rank=2)
    assert not (tmp_path / "wrong").exists()


def test_a_cascade_saved_whole_needs_no_other(siblings: tuple[Path, Path], tmp_path: Path) -> None:
    full, fast = siblings
    RelayPipeline.from_pretrained(fast).save_pretrained(tmp_path / "whole")
    shutil.rmtree(full)
    RelayPipeline.from_pretrained(tmp_path / "whole")
    with pytest.raises(RelayError, match=r"there is no cascade or folder '\.\./full'"):
        RelayPipeline.from_pretrained(fast)


def test_pictures_are_prepared_with_what_is_shared(siblings: tuple[Path, Path]) -> None:
    full, fast = siblings
    assert read_encoders(fast) == read_encoders(full)
    ours, theirs = (open_vae(folder).state_dict() for folder in siblings)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_shared_is_part_of_what_a_model_is(siblings: tuple[Path, Path]) -> None:
    full, fast = siblings
    entry, where = Entry("fast", str(fast)), Where(torch.device("cpu"))
    before = asked_of(entry, where)
    assert asked_of(entry, where) == before
    (full / "vae" / "config.json").write_text('{"changed": true}')
    assert asked_of(entry, where) != before


def test_parts_that_are_shared_in_a_circle_are_an_error(siblings: tuple[Path, Path]) -> None:
    full, fast = siblings
    shutil.rmtree(full / "vae")
    index = json.loads((full / "model_index.json").read_text())
    (full / "model_index.json").write_text(json.dumps({**index, "shares": "../fast"}))
    with pytest.raises(RelayError, match="shares its vae in a circle"):
        RelayPipeline.from_pretrained(fast)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_what_cannot_be_written_whole_is_not_there(
    siblings: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    """It fails at the last part but one: the UNets, which are written as differences."""

    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr("relay_diffusion.pipelines.assemble.write_low_rank", fail)
    before = sorted(tmp_path.iterdir())
    parts = {part: tmp_path / "full" / part for part in ("base_unet", "relay_unet")}
    expected = RelayError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        assemble(tmp_path / "new", **parts, shares="../full", rank=2)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_shared_is_not_looked_for_in_the_working_directory(
    siblings: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fast = siblings
    index = json.loads((fast / "model_index.json").read_text())
    (fast / "model_index.json").write_text(json.dumps({**index, "shares": "full"}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RelayError, match=r"there is no \S*/fast/full; from there it is \.\./full"):
        RelayPipeline.from_pretrained(fast)


def test_a_cascade_without_a_sibling_says_so(cascade_folder: Path) -> None:
    with pytest.raises(RelayError, match="has no fast sibling: leave --fast out, or distil it"):
        RelayPipeline.from_pretrained(cascade_folder, fast=True)


def test_what_is_not_lent_has_to_be_given(cascade_folder: Path, tmp_path: Path) -> None:
    unets = {part: cascade_folder / part for part in ("base_unet", "relay_unet")}
    with pytest.raises(RelayError, match="vae is missing: give its folder, or a cascade"):
        assemble(tmp_path / "out", **unets)


def exports(folder: Path, **told: dict[str, Any]) -> list[Path]:
    """Export folders of students by their stage, with what distillation says of them."""
    for stage, settings in told.items():
        (folder / stage).mkdir(exist_ok=True)
        (folder / stage / STUDENT_NOTE).write_text(json.dumps(settings))
    return [folder / stage for stage in told]


def test_students_bring_their_settings(tmp_path: Path) -> None:
    students = exports(
        tmp_path,
        base={"num_steps": 4, "guidance": [1.0, 8.0], "start": 500},
        relay={"num_steps": 1, "guidance": [2.0, 9.0], "start": 200},
    )
    assert distilled_defaults(*students, guidance_scale=7.5) == {
        "solver": "euler",
        "num_inference_steps": 4,
        "trained_base_steps": 4,
        "num_relay_steps": 1,
        "trained_relay_steps": 1,
        "relay_start": [200],
        "guidance_range": [1.0, 8.0],
        "relay_guidance_range": [2.0, 9.0],
        "guidance_scale": 7.5,
    }
    assert distilled_defaults(tmp_path, tmp_path, guidance_scale=7.5) == {}


@pytest.mark.parametrize(
    ("scale", "relay_scale", "brought", "relay_brought"),
    [
        (2.0, None, 2.0, None),  # known to both
        (5.0, None, 5.0, 3.0),
        (12.0, None, 8.0, 3.0),
        (5.0, 2.0, 5.0, 2.0),
        (5.0, 7.0, 5.0, 3.0),
        (2.0, 0.5, 2.0, 1.0),
    ],
)
def test_a_default_scale_is_brought_into_the_range_of_its_stage(
    scale: float,
    relay_scale: float | None,
    brought: float,
    relay_brought: float | None,
    tmp_path: Path,
) -> None:
    students = exports(
        tmp_path,
        base={"num_steps": 4, "guidance": [1.0, 8.0]},
        relay={"num_steps": 1, "guidance": [1.0, 3.0], "start": 200},
    )
    defaults = distilled_defaults(*students, scale, relay_scale)
    assert defaults["guidance_scale"] == brought
    assert defaults.get("relay_guidance_scale") == relay_brought


def test_of_a_stage_that_is_no_student_nothing_is_said(tmp_path: Path) -> None:
    (relay,) = exports(tmp_path, relay={"num_steps": 1, "guidance": [1.0, 3.0], "start": 200})
    defaults = distilled_defaults(tmp_path, relay, guidance_scale=7.5)
    assert "guidance_scale" not in defaults and "guidance_range" not in defaults
    assert defaults["relay_guidance_scale"] == 3.0


def test_a_relay_that_is_no_student_stays_at_the_scale_it_had(tmp_path: Path) -> None:
    (base,) = exports(tmp_path, base={"num_steps": 4, "guidance": [1.0, 5.0]})
    defaults = distilled_defaults(base, tmp_path, guidance_scale=7.5)
    assert (defaults["guidance_scale"], defaults["relay_guidance_scale"]) == (5.0, 7.5)
    assert "relay_guidance_scale" not in distilled_defaults(base, tmp_path, guidance_scale=3.0)


def test_students_of_another_prediction_type_are_refused(
    siblings: tuple[Path, Path], tmp_path: Path
) -> None:
    students = tmp_path / "students"
    parts = {part: students / part for part in ("base_unet", "relay_unet")}
    (students / STUDENT_NOTE).write_text(json.dumps({"prediction_type": "v_prediction"}))
    with pytest.raises(RelayError, match=r"base_unet was trained with .*v_prediction, .*epsilon"):
        assemble(tmp_path / "wrong", **parts, shares="../full", prediction_type="epsilon")
    assert not (tmp_path / "wrong").exists()
    for told in ({"prediction_type": "epsilon"}, {}):
        (students / STUDENT_NOTE).write_text(json.dumps(told))
        assemble(tmp_path / f"right_{len(told)}", **parts, shares="../full")


def test_defaults_that_no_call_would_take_are_refused(
    siblings: tuple[Path, Path], tmp_path: Path
) -> None:
    parts = {part: tmp_path / "students" / part for part in ("base_unet", "relay_unet")}
    settings = {"guidance_range": [1.0, 6.0], "guidance_scale": 7.5}
    with pytest.raises(RelayError, match=r"guidance 7.5 is outside the range .*: 1 to 6"):
        assemble(tmp_path / "wrong", **parts, shares="../full", **settings)
    assert not (tmp_path / "wrong").exists()
