"""``relay convert``: from released files to a folder that the pipeline and plain libraries open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from released import BASE, CASCADE, DISTILLED, HEAD_DIM, read_released
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast, T5EncoderModel
from transformers.utils import logging

from relay_diffusion.cli import main
from relay_diffusion.errors import RelayError
from relay_diffusion.models import convert, convert_cascade
from relay_diffusion.pipelines import RelayPipeline

VAE, TEXT = CASCADE / "vae.safetensors", CASCADE / "text_encoder"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text encoder's folder with a tokenizer in it, as T5 comes."""
    folder = tmp_path_factory.mktemp("t5") / "text"
    shutil.copytree(TEXT, folder)
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "fox": 2}, unk_token="fox"))
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="fox"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cascade(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "cascade"
    convert_cascade(BASE, DISTILLED, VAE, text, out, head_dim=HEAD_DIM, base_size=64, base_steps=10)
    return out


def test_all_parts_are_there_and_open_with_plain_libraries(cascade: Path) -> None:
    parts = {path.name for path in cascade.iterdir()}
    assert parts == {
        *("model_index.json", "README.md", "scheduler", "vae", "text_encoder", "tokenizer"),
        *("base_unet", "relay_unet"),
    }
    base = UNet2DConditionModel.from_pretrained(cascade / "base_unet")
    stored = read_released(BASE)["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    assert torch.equal(base.mid_block.resnets[0].conv1.weight, stored.float())
    relay = UNet2DConditionModel.from_pretrained(cascade / "relay_unet")
    assert relay.config.time_cond_proj_dim == 64
    assert AutoencoderKL.from_pretrained(cascade / "vae").config.scaling_factor == 0.13025
    T5EncoderModel.from_pretrained(cascade / "text_encoder")
    assert AutoTokenizer.from_pretrained(cascade / "tokenizer").pad_token_id == 0


def test_half_precision_stays_half_precision(cascade: Path) -> None:
    for part in ("base_unet", "relay_unet", "vae", "text_encoder"):
        for file in (cascade / part).glob("*.safetensors"):
            with safe_open(file, framework="pt") as weights:
                dtypes = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
            assert dtypes == {"F16"}, part


def test_the_pipeline_opens_it_with_its_settings(cascade: Path) -> None:
    pipe = RelayPipeline.from_pretrained(cascade)
    settings = {
        "base_size": 64,
        "num_inference_steps": 10,
        "num_relay_steps": 1,
        "relay_start": [200],
        "guidance_scale": 7.5,
        "trained_base_steps": None,
        "trained_relay_steps": [1],
        "max_tokens": 225,
    }
    assert {name: pipe.config[name] for name in settings} == settings
    assert pipe("fox", output_type="pt", num_inference_steps=1).images.shape == (1, 3, 128, 128)


@pytest.mark.parametrize(
    ("base_folder", "relay_folder", "given", "expected"),
    [
        ("base-50", "relay-10", {}, (4, 1, 200)),
        ("base-distill-8step/1", "relay-distill-2steps/1", {}, (8, 2, 200)),
        (
            "base-8step",
            "relay-2step",
            {"base_steps": 4, "relay_steps": 1, "relay_start": 150},
            (4, 1, 150),
        ),
    ],
)
def test_distilled_networks_bring_their_steps(
    base_folder: str,
    relay_folder: str,
    given: dict[str, int],
    expected: tuple[int, int, int],
    text: Path,
    tmp_path: Path,
) -> None:
    for folder in (base_folder, relay_folder):
        shutil.copytree(DISTILLED, tmp_path / folder)
    index = convert_cascade(
        tmp_path / base_folder,
        tmp_path / relay_folder,
        VAE,
        text,
        tmp_path / "out",
        head_dim=HEAD_DIM,
        **given,
    )
    base_steps, relay_steps, start = expected
    assert index["num_inference_steps"] == base_steps and index["trained_base_steps"] == [
        base_steps
    ]
    assert index["num_relay_steps"] == relay_steps and index["trained_relay_steps"] == [relay_steps]
    assert index["relay_start"] == [start]


def test_undistilled_networks_get_the_paper_s_settings(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "3step-trial"  # says nothing about networks that were not distilled
    shutil.copytree(BASE, folder)
    index = convert_cascade(folder, folder, VAE, text, tmp_path / "out", head_dim=HEAD_DIM)
    assert index["num_inference_steps"] == 50 and index["num_relay_steps"] == 10
    assert index["relay_start"] == [500] and index["guidance_scale"] == 7.5
    assert index["trained_base_steps"] is None and index["base_size"] == 512


def test_the_command_line_makes_the_same_folder(
    cascade: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deeper" / "cascade"
    arguments = ["--base", BASE, "--relay", DISTILLED, "--vae", VAE, "--text-encoder", text]
    options = ["--head-dim", "16", "--base-size", "64", "--base-steps", "10"]
    command = ["convert", *map(str, arguments), "--out", str(out), *options]
    logging.enable_progress_bar()
    assert main(command) == 0
    made = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    for file in (file for file in cascade.rglob("*") if file.is_file()):
        assert made.pop(file.relative_to(cascade)) == file.read_bytes(), file
    assert not made
    said = capsys.readouterr()
    assert "10 steps" in said.out and not said.err
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err


def test_without_a_tokenizer_it_says_so_and_takes_embeddings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    convert_cascade(BASE, DISTILLED, VAE, TEXT, out, head_dim=HEAD_DIM, base_size=64)
    assert "prompt_embeds" in caplog.text
    pipe = RelayPipeline.from_pretrained(out)
    embeds = torch.randn(1, 225, 48)
    images = pipe(prompt_embeds=embeds, output_type="pt", num_inference_steps=1).images
    assert images.shape == (1, 3, 128, 128)
    with pytest.raises(RelayError, match="holds no tokenizer"):
        convert_cascade(BASE, BASE, VAE, TEXT, tmp_path / "x", tokenizer=TEXT, head_dim=HEAD_DIM)


def test_a_tokenizer_beside_the_text_encoder_is_found(text: Path, tmp_path: Path) -> None:
    shutil.copytree(TEXT, tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(text / name, tmp_path / "tokenizer")
    out = tmp_path / "out"
    convert_cascade(BASE, BASE, VAE, tmp_path / "text_encoder", out, head_dim=HEAD_DIM)
    assert (out / "tokenizer" / "tokenizer.json").is_file()


def test_parts_that_do_not_go_together_are_refused(text: Path, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow"
    shutil.copytree(text, narrow)
    config = json.loads((narrow / "config.json").read_text()) | {"d_model": 24}
    (narrow / "config.json").write_text(json.dumps(config))
    tensors = load_file(narrow / "model.safetensors")
    for name, tensor in tensors.items():
        for dim in range(tensor.ndim):
            if tensor.shape[dim] == 48:
                tensor = tensor.narrow(dim, 0, 24)
        tensors[name] = tensor.contiguous()
    save_file(tensors, narrow / "model.safetensors")
    with pytest.raises(RelayError, match=r"text of width 48.*24"):
        convert_cascade(BASE, BASE, VAE, narrow, tmp_path / "out", head_dim=HEAD_DIM)
    assert [path.name for path in tmp_path.iterdir()] == ["narrow"]


@pytest.mark.parametrize("failing", ["disk full", "bad relay"])
def test_nothing_is_left_of_a_conversion_that_failed(
    failing: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = DISTILLED
    if failing == "disk full":

        def full(*_: object) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(convert, "converted_card", full)
    else:
        relay = tmp_path / "relay"
        relay.mkdir()
        (relay / "mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04 cut short")
    before = {path.name for path in tmp_path.iterdir()}
    says = "No space left" if failing == "disk full" else "damaged"
    with pytest.raises(RelayError, match=says):
        convert_cascade(BASE, relay, VAE, text, tmp_path / "out", head_dim=HEAD_DIM)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_steps": 0},
        {"relay_steps": 1001},
        {"relay_start": 0},
        {"relay_start": 5, "relay_steps": 6},
        {"guidance_scale": -1.0},
        {"base_size": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(RelayError):
        convert_cascade(BASE, BASE, VAE, TEXT, tmp_path / "out", head_dim=HEAD_DIM, **wrong)
