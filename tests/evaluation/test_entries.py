"""What is compared, as it is named on the command line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.entries import Entry, check_labels
from relay_diffusion.evaluation.fingerprint import fingerprint, num_parameters
from relay_diffusion.evaluation.peers import PEERS, check_memory, find_peer

DEFAULTS = {"steps": 50, "guidance": None, "size": "256"}


def test_a_model_has_the_options_of_the_run_and_its_own() -> None:
    plain = Entry.parse("starter", defaults=DEFAULTS)
    assert (plain.label, plain.source) == ("starter", "starter")
    assert plain.options == {"steps": 50, "size": (256, 256)}
    quick = Entry.parse("quick=runs/fast/export@steps=8,guidance=3.5", defaults=DEFAULTS)
    assert (quick.label, quick.source) == ("quick", "runs/fast/export")
    assert quick.options == {"steps": 8, "guidance": 3.5, "size": (256, 256)}
    relay = Entry.parse("starter@relay_guidance=2", defaults={"guidance": 3.0})
    assert relay.options == {"guidance": 3.0, "relay_guidance": 2.0}
    assert Entry.parse("runs/fast@steps=8").label == "fast steps=8"
    assert Entry.parse("runs/fast@steps=8").folder_name == "fast-steps-8"


@pytest.mark.parametrize(
    ("text", "run", "expand", "model"),
    [
        ("starter", {}, None, None),
        ("starter@expand=true", {}, True, None),
        ("starter@expand=false", {"expand": True}, None, None),
        ("starter@expand=False", {"expand": "openai", "expander_model": "m"}, None, None),
        ("starter", {"expand": "openai", "expander_model": "m"}, "openai", "m"),
        ("starter@expand=true", {"expand": "openai", "expander_model": "m"}, "openai", "m"),
        ("starter@expander_model=n", {"expand": "openai", "expander_model": "m"}, "openai", "n"),
        ("starter@expander=scenes", {"expand": "openai", "expander_model": "m"}, "scenes", None),
        ("starter@expand=scenes", {}, "scenes", None),
        ("starter@expander=transformers,expander_model=a/b", {}, "transformers", "a/b"),
    ],
)
def test_a_model_expands_as_it_says_or_else_as_the_run_does(
    text: str, run: dict[str, Any], expand: bool | str | None, model: str | None
) -> None:
    options = Entry.parse(text, defaults=run).options
    expected = {"expand": expand, "expander_model": model}
    assert options == {name: value for name, value in expected.items() if value is not None}


def test_a_peer_may_name_its_class_and_has_settings_of_its_own() -> None:
    peer = Entry.parse("my/folder:StableDiffusionXLPipeline@size=64x32", is_peer=True)
    assert (peer.source, peer.class_name) == ("my/folder", "StableDiffusionXLPipeline")
    assert peer.options == {"size": (64, 32)}
    assert Entry.parse("sdxl", is_peer=True).options == {}
    with pytest.raises(RelayError, match="sets 'relay_guidance'; after @ stand steps, guidance,"):
        Entry.parse("sdxl@relay_guidance=2", is_peer=True)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "give a name or a folder"),
        ("starter@stepz=8", "sets 'stepz'; after @ stand steps, relay_steps"),
        ("starter@steps=many", "which is no number"),
        ("starter@size=big", "give a side"),
        ("starter@expand", "expand has no value; give expand=VALUE"),
        ("starter@expander_model=m", "expander_model goes with expander, or with expand=true"),
        ("starter@expand=false,expander_model=m", "expander_model goes with expander"),
        ("starter@expand=false,expander=openai", "give one of the two"),
    ],
)
def test_a_model_that_is_no_model_says_why(text: str, match: str) -> None:
    with pytest.raises(RelayError, match=match):
        Entry.parse(text)


def test_two_models_of_one_name_must_be_told_apart() -> None:
    check_labels([Entry.parse("a/export"), Entry.parse("b=b/export")])
    with pytest.raises(RelayError, match="two models are called 'export'"):
        check_labels([Entry.parse("a/export"), Entry.parse("b/export")])


def test_peers_have_the_steps_of_the_paper() -> None:
    steps = {
        name: (peer.call.get("prior_num_inference_steps"), peer.call["num_inference_steps"])
        for name, peer in PEERS.items()
    }
    assert steps["sdxl"] == (None, 50)
    assert steps["lcm-sdxl"] == (None, 4)
    assert steps["stable-cascade"] == (20, 10)
    assert all(peer.call["height"] == peer.call["width"] == 1024 for peer in PEERS.values())


def test_a_peer_that_is_nowhere_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="is no folder, and the hub gave none"):
        find_peer(Entry.parse(str(tmp_path / "gone"), is_peer=True))


def test_weights_are_counted_and_told_apart(tmp_path: Path) -> None:
    unet = tmp_path / "unet"
    unet.mkdir()
    save_file({"w": torch.zeros(3, 5)}, unet / "model.safetensors", {"format": "pt"})
    save_file({"w": torch.zeros(3, 4).half()}, unet / "model.fp16.safetensors")
    (tmp_path / "model_index.json").write_text("{}")
    assert num_parameters(tmp_path) == 15
    assert num_parameters(tmp_path, "fp16") == num_parameters(unet, "fp16") == 12
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("new")
    assert fingerprint(tmp_path) == before
    save_file({"w": torch.ones(3, 5)}, unet / "model.safetensors")
    assert fingerprint(tmp_path) != before


def test_a_part_that_is_linked_counts(tmp_path: Path) -> None:
    unet, folder = tmp_path / "unet", tmp_path / "model"
    unet.mkdir()
    folder.mkdir()
    (folder / "unet").symlink_to(unet)
    (unet / "model.safetensors").write_bytes(b"one")
    before = fingerprint(folder)
    (unet / "model.safetensors").write_bytes(b"another")
    assert fingerprint(folder) != before


def test_the_cache_of_the_hub_is_not_read_again(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    folder.mkdir()
    blob = blobs / ("0" * 64)
    blob.write_bytes(b"one")
    (folder / "model.safetensors").symlink_to(blob)
    before = fingerprint(folder)
    blob.write_bytes(b"not looked at")
    assert fingerprint(folder) == before


def test_what_does_not_fit_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 50], "data_offsets": [0, 0]}})
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(RelayError, match=r"weights need 4503599\.6 GB"):
        check_memory([tmp_path], None, torch.float32, torch.device("cpu"))
