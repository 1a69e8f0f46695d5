from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relay_diffusion.cli import main
from relay_diffusion.errors import RelayError
from relay_diffusion.models import build_unet, cogview3_unet_config, full_size_unet, registry


def test_the_full_size_network_has_2_907_billion_parameters() -> None:
    unet = full_size_unet()
    assert round(sum(p.numel() for p in unet.parameters()) / 1e9, 3) == 2.907
    assert all(p.is_meta for p in unet.parameters())


def test_the_distilled_one_adds_one_linear_map_without_bias() -> None:
    plain = full_size_unet().state_dict().keys()
    with torch.device("meta"):
        distilled = build_unet(cogview3_unet_config(guidance_width=512)).state_dict()
    assert distilled.keys() - plain == {"time_embedding.cond_proj.weight"}
    assert distilled["time_embedding.cond_proj.weight"].shape == (320, 512)


@pytest.mark.parametrize(
    "wrong",
    [
        {"widths": (320, 640)},
        {"middle_depth": 3},
        {"head_dim": 48},
        {"vector_width": 1000},
        {"widths": (320, 640, 1290), "head_dim": 10},
    ],
)
def test_sizes_that_do_not_go_together_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RelayError), torch.device("meta"):
        build_unet(cogview3_unet_config(**wrong))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder in which the starter is installed."""
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)
    (tmp_path / "starter" / "vae").mkdir(parents=True)
    index = {
        "base_size": 128,
        "num_inference_steps": 4,
        "num_relay_steps": 1,
        "guidance_scale": 4.5,
        "guidance_range": [1.0, 5.0],
        "relay_guidance_scale": None,
        "relay_guidance_range": None,
        "solver": "euler",
    }
    (tmp_path / "starter" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "starter" / "vae" / "weights").write_bytes(bytes(3_000_000))
    return tmp_path / "starter"


def test_names_and_folders_are_resolved(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installed)
    assert registry.resolve("starter") == installed
    assert registry.resolve(str(installed)) == registry.resolve(installed) == installed
    assert registry.resolve("vae") == Path("vae")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("startr", "did you mean 'starter'"),
        ("/no/such/folder", "no cascade or folder"),
        ("nobody/nothing", "the hub gave none"),
        (__file__, "is a file"),
        (Path("nobody/nothing"), "no cascade or folder"),
    ],
)
def test_a_name_that_is_none_is_an_error_of_one_line(name: str | Path, says: str) -> None:
    with pytest.raises(RelayError, match=says) as caught:
        registry.resolve(name)
    assert "\n" not in str(caught.value)


def test_relay_models_lists_size_settings_and_description(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert "starter" in line and "3 MB" in line and "128x128" in line
    assert "4 + 1 steps, guidance 4.5 (1 to 5), euler" in line
    index = json.loads((installed / "model_index.json").read_text())
    for changes, told in (
        ({"guidance_range": None}, "guidance 4.5, euler"),
        ({"guidance_range": None, "relay_guidance_scale": 2}, "guidance 4.5 + 2, euler"),
        ({"relay_guidance_scale": 2.0}, "guidance 4.5 (1 to 5) + 2 (1 to 5), euler"),
        ({"relay_guidance_range": [2.0, 9.0]}, "guidance 4.5 (1 to 5) + 4.5 (2 to 9), euler"),
    ):
        (installed / "model_index.json").write_text(json.dumps({**index, **changes}))
        assert main(["models"]) == 0
        assert told in capsys.readouterr().out
    for file in sorted(installed.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    installed.rmdir()
    assert main(["models"]) == 0
    assert "not installed" in capsys.readouterr().out
    with pytest.raises(RelayError, match="does not come with this installation"):
        registry.resolve("starter")
