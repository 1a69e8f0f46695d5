from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import PipelineQuantizationConfig, TorchAoConfig
from safetensors.torch import load_file, save_file

from relay_diffusion.errors import RelayError
from relay_diffusion.models.stored import check_weights
from relay_diffusion.pipelines.assemble import assemble
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import generators

PROMPT = "a red fox"


@pytest.fixture
def broken(cascade_folder: Path, tmp_path: Path) -> Path:
    """A copy, to be broken."""
    return Path(shutil.copytree(cascade_folder, tmp_path / "broken"))


def test_a_saved_cascade_makes_the_same_pictures(
    cascade: RelayPipeline, cascade_folder: Path
) -> None:
    opened = RelayPipeline.from_pretrained(cascade_folder, dtype=torch.float32)
    opened.set_progress_bar_config(disable=True)
    before, after = (
        pipe(PROMPT, generator=generators(0), output_type="pt").images for pipe in (cascade, opened)
    )
    assert torch.equal(before, after)
    settings = {k: v for k, v in cascade.config.items() if not k.startswith("_")}
    assert settings == {k: v for k, v in opened.config.items() if not k.startswith("_")}


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "base_unet/config.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(broken: Path, missing: str) -> None:
    (broken / missing).unlink()
    with pytest.raises(RelayError, match=f"{missing} is missing"):
        RelayPipeline.from_pretrained(broken)


def test_missing_weights_are_named(broken: Path) -> None:
    (broken / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(RelayError, match=r"vae/ holds no \.safetensors"):
        RelayPipeline.from_pretrained(broken)


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("relay_unet", "conv_in.weight"),
        ("vae", "decoder.conv_in.weight"),
        ("text_encoder", "encoder.final_layer_norm.weight"),
    ],
)
@pytest.mark.parametrize("change", ["missing", "left over", "misfit"])
def test_tensors_that_do_not_fit_are_named_in_one_line(
    broken: Path,
    part: str,
    tensor: str,
    change: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (file,) = (broken / part).glob("*.safetensors")
    weights = load_file(file)
    if change == "missing":
        del weights[tensor]
    elif change == "left over":
        tensor = "spare.weight"
        weights[tensor] = torch.zeros(3)
    else:
        weights[tensor] = torch.cat([weights[tensor]] * 2)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(RelayError, match=f"does not fit .*; {change}: {tensor}") as refusal:
        RelayPipeline.from_pretrained(broken)
    assert str(refusal.value).startswith(str(file)) and "\n" not in str(refusal.value)
    assert not caplog.records and not capfd.readouterr().err


def test_tensors_in_several_files_are_looked_for_in_all(
    broken: Path, cascade: RelayPipeline
) -> None:
    shutil.rmtree(broken / "base_unet")
    cascade.base_unet.save_pretrained(broken / "base_unet", max_shard_size="20KB")
    files = sorted((broken / "base_unet").glob("*.safetensors"))
    assert len(files) > 1
    RelayPipeline.from_pretrained(broken)
    save_file({**load_file(files[0]), "spare": torch.zeros(1)}, files[0], {"format": "pt"})
    with pytest.raises(RelayError, match=r"base_unet/\*\.safetensors .* left over: spare;"):
        RelayPipeline.from_pretrained(broken)


def test_the_decoder_of_a_t5_and_files_of_others_are_left_aside(broken: Path) -> None:
    (file,) = (broken / "text_encoder").glob("*.safetensors")
    weights = load_file(file)
    weights["encoder.embed_tokens.weight"] = weights["shared.weight"].clone()  # tied, stored twice
    weights["decoder.final_layer_norm.weight"] = torch.zeros(16)
    save_file(weights, file, metadata={"format": "pt"})
    save_file({"spare": torch.zeros(1)}, broken / "base_unet" / "other.safetensors")
    RelayPipeline.from_pretrained(broken)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("base_unet", {"block_out_channels": "wide"}),
        ("text_encoder", {"num_layers": "many"}),
        ("vae", {"down_block_types": ["NoSuchBlock"]}),
    ],
)
def test_a_configuration_of_no_network_is_named(
    broken: Path, part: str, change: dict[str, object]
) -> None:
    file = broken / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(RelayError, match=f"{part}/config.json describes no ") as refusal:
        RelayPipeline.from_pretrained(broken)
    assert "\n" not in str(refusal.value)


def change_index(folder: Path, **changes: object) -> None:
    """``...`` takes a key out."""
    file = folder / "model_index.json"
    index = {**json.loads(file.read_text()), **changes}
    kept = {name: value for name, value in index.items() if value is not ...}
    file.write_text(json.dumps(kept))


@pytest.mark.parametrize("part", ["vae", "tokenizer", "scheduler", "relay_unet"])
@pytest.mark.parametrize("named", [..., None, "AutoencoderKL", [3, 4], ["diffusers", "NoSuch"]])
def test_a_part_that_the_index_does_not_name_is_missing(
    broken: Path, part: str, named: object
) -> None:
    change_index(broken, **{part: named})
    with pytest.raises(RelayError, match=f"names no class of diffusers or .* for its {part};"):
        RelayPipeline.from_pretrained(broken)


def test_a_part_may_be_left_out_on_purpose(broken: Path) -> None:
    change_index(broken, base_unet=[None, None], vae=[None, None])
    pipe = RelayPipeline.from_pretrained(broken)
    assert pipe.base_unet is None
    with pytest.raises(RelayError, match="without its vae"):
        pipe(PROMPT)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"relay_start": 500}, "relay_start is 500, must be a list"),
        ({"base_size": None}, "base_size is None, must be int"),
        ({"max_tokens": "8"}, "max_tokens is '8', must be int"),
        ({"relay_guidance_scale": "2"}, "relay_guidance_scale is '2', must be float"),
    ],
)
def test_settings_of_another_type_are_named(
    broken: Path, changes: dict[str, object], complaint: str
) -> None:
    change_index(broken, **changes)
    with pytest.raises(RelayError, match=rf"model_index.json: {complaint}"):
        RelayPipeline.from_pretrained(broken)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"relay_start": []}, r"relay_start is \[\] in the cascade's model_index.json; it must"),
        ({"relay_start": ["far"]}, r"relay_start is \['far'\]"),
        ({"base_size": 0}, "base_size is 0; it must be a side in pixels"),
    ],
)
def test_settings_that_mean_nothing_are_named(
    broken: Path, changes: dict[str, object], complaint: str
) -> None:
    change_index(broken, **changes)
    pipe = RelayPipeline.from_pretrained(broken)
    with pytest.raises(RelayError, match=complaint):
        pipe(PROMPT, height=64, width=64)


@pytest.mark.parametrize("part", ["text_encoder", "vae", "base_unet"])
@pytest.mark.parametrize("cut", [True, False], ids=["cut off", "overwritten"])
def test_a_damaged_file_of_weights_is_named_in_one_line(broken: Path, part: str, cut: bool) -> None:
    (file,) = (broken / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if cut else b"damaged" * 99)
    with pytest.raises(RelayError, match="is cut off, damaged") as refusal:
        RelayPipeline.from_pretrained(broken)
    assert str(file) in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_tensors_of_a_quantised_network_have_other_names(broken: Path) -> None:
    folder = broken / "relay_unet"
    (file,) = folder.glob("*.safetensors")
    save_file({"weight_in_pieces": torch.zeros(1)}, file)
    with pytest.raises(RelayError, match=r"missing: .* and \d+ more; left over: weight_in_pieces"):
        check_weights(broken)
    check_weights(broken, without=frozenset({"relay_unet"}))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "torchao"}
    (folder / "config.json").write_text(json.dumps(config))
    check_weights(broken)


def test_a_cascade_saved_quantised_opens_again(cascade_folder: Path, tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    kind = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    config = PipelineQuantizationConfig(quant_mapping={"base_unet": kind, "relay_unet": kind})
    pipe = RelayPipeline.from_pretrained(
        cascade_folder, dtype=torch.float32, quantization_config=config
    )
    pipe.save_pretrained(tmp_path / "saved")
    opened = RelayPipeline.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    first, again = (
        one(PROMPT, generator=generators(0), output_type="pt").images for one in (pipe, opened)
    )
    assert torch.equal(first, again)


def test_a_tokenizer_without_its_vocabulary_is_named(broken: Path) -> None:
    (broken / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(RelayError, match=r"tokenizer/ holds neither tokenizer\.json nor spiece"):
        RelayPipeline.from_pretrained(broken)


def test_another_pipeline_is_no_cascade(broken: Path) -> None:
    index = json.loads((broken / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionXLPipeline"
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(RelayError, match="names a StableDiffusionXLPipeline"):
        RelayPipeline.from_pretrained(broken)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"beta_schedule": "linear"}, "beta_schedule 'linear'"),
        ({"trained_betas": [0.1] * 1000}, "trained_betas makes another noise schedule"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr makes another"),
        ({"prediction_type": "sample"}, "prediction_type 'sample'"),
        ({"num_train_timesteps": 500}, "num_train_timesteps 500"),
    ],
)
def test_a_schedule_of_another_kind_is_refused(
    broken: Path, change: dict[str, object], complaint: str
) -> None:
    file = broken / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    pipe = RelayPipeline.from_pretrained(broken)
    with pytest.raises(RelayError, match=complaint):
        pipe(PROMPT)


def test_a_table_says_the_dtype_of_each_part(cascade_folder: Path) -> None:
    table = {"default": torch.float16, "vae": torch.bfloat16}
    pipe = RelayPipeline.from_pretrained(cascade_folder, dtype=table)
    assert pipe.relay_unet.dtype == torch.float16 and pipe.vae.dtype == torch.bfloat16


def test_a_cascade_is_opened_as_diffusers_opens_one(cascade_folder: Path) -> None:
    pipe = RelayPipeline.from_pretrained(
        pretrained_model_name_or_path=cascade_folder, torch_dtype="bfloat16"
    )
    assert pipe.base_unet.dtype == torch.bfloat16 and pipe.vae.dtype == torch.float32
    assert pipe.name_or_path == pipe.config["_name_or_path"] == str(cascade_folder)
    assert json.loads(json.dumps(dict(pipe.config)))["base_size"] == 32


def test_a_pipeline_of_another_has_its_defaults_and_leaves_its_parts(cascade_folder: Path) -> None:
    pipe = RelayPipeline.from_pretrained(cascade_folder, torch.bfloat16)
    again = RelayPipeline.from_pipe(pipe)
    assert dict(again.config) == dict(pipe.config)
    assert again.base_unet is pipe.base_unet and pipe.base_unet.dtype == torch.bfloat16
    again.interrupt = True
    assert not pipe.interrupt
    other = RelayPipeline.from_pipe(pipe, guidance_scale=3.0, text_encoder=None)
    assert other.config.guidance_scale == 3.0 and other.text_encoder is None
    assert RelayPipeline.from_pipe(pipe, dtype=torch.float32).base_unet.dtype == torch.float32


def test_what_could_not_be_opened_again_is_not_saved(
    cascade: RelayPipeline, tmp_path: Path
) -> None:
    with pytest.raises(RelayError, match="safe_serialization=False writes a cascade that cannot"):
        cascade.save_pretrained(tmp_path / "out", safe_serialization=False)
    assert not (tmp_path / "out").exists()


def test_parts_are_assembled_into_a_cascade(
    cascade: RelayPipeline, cascade_folder: Path, tmp_path: Path
) -> None:
    parts = {
        part: cascade_folder / part
        for part in ("vae", "text_encoder", "tokenizer", "base_unet", "relay_unet")
    }
    out = tmp_path / "assembled"
    config = {"base_size": 32, "relay_start": [400], "max_tokens": 8, "known_words": ["a", "fox"]}
    assemble(out, **parts, prediction_type="v_prediction", model_card="# Tiny\n", **config)
    weights = load_file(out / "base_unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (out / "README.md").read_text() == "# Tiny\n"
    pipe = RelayPipeline.from_pretrained(out)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert {key: pipe.config[key] for key in config} == config
    assert pipe("a fox").images[0].size == (64, 64)
    with pytest.raises(RelayError, match="exists already"):
        assemble(out, **parts)
