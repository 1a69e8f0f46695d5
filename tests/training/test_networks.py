"""Networks from recipes: what is exported opens elsewhere, what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderDC, DDIMScheduler, UNet2DConditionModel
from tiny_training import (
    KL_VAE,
    TEXT_ENCODER,
    UNET,
    VAE,
    Squares,
    newest_state,
    tiny_objective,
    tiny_recipe,
    tokenizer,
    train_tiny,
)
from transformers import AutoTokenizer, T5EncoderModel

from relay_diffusion.errors import RelayError
from relay_diffusion.training import build, distributed
from relay_diffusion.training.autoencoder import latent_std
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.learning import into_training
from relay_diffusion.training.networks import build_text_encoder, build_unet, build_vae, save_half
from relay_diffusion.training.optimizer import build_optimizer
from relay_diffusion.training.recipe import Model, Recipe


def averaged(recipe: Recipe, module: str) -> dict[str, torch.Tensor]:
    prefix = f"ema.{module}."
    return {
        key.removeprefix(prefix): value
        for key, value in newest_state(recipe).items()
        if key.startswith(prefix)
    }


def test_an_exported_base_opens_with_the_libraries_and_holds_the_average(tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, model={"prediction_type": "v_prediction"})
    train_tiny(recipe)
    folder = recipe.folder / "export"
    unet, info = UNet2DConditionModel.from_pretrained(
        folder / "base_unet", torch_dtype=torch.float16, output_loading_info=True
    )
    assert not any(info.values())
    for name, value in averaged(recipe, "unet").items():
        assert torch.equal(unet.state_dict()[name], value.half()), name
    text_encoder = T5EncoderModel.from_pretrained(folder / "text_encoder")
    assert text_encoder.dtype == torch.float16
    stored = text_encoder.state_dict()
    for name, value in averaged(recipe, "text_encoder").items():
        assert torch.equal(stored[name], value.half()), name
    words = "a blue square"
    opened = AutoTokenizer.from_pretrained(folder / "tokenizer")
    assert opened(words).input_ids == tokenizer()(words).input_ids
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.beta_schedule == "scaled_linear"


def test_an_exported_autoencoder_has_latents_of_unit_variance(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path)
    train_tiny(recipe)
    vae = AutoencoderDC.from_pretrained(recipe.folder / "export" / "vae").float()
    from tiny_training import Squares

    x = Squares("held-out", recipe.data.views).batch(0, 4).x
    with torch.no_grad():
        assert latent_std(vae, [x]) * vae.config.scaling_factor == pytest.approx(1, rel=2e-3)


def test_a_decoder_can_learn_alone(tmp_path: Path) -> None:
    train_tiny(tiny_recipe("autoencoder", tmp_path))
    vae = tmp_path / "autoencoder" / "export" / "vae"
    recipe = tiny_recipe(
        "autoencoder",
        tmp_path / "decoder",
        model={"vae": str(vae)},
        objective={"decoder_only": True, "latent_noise": 0.2},
    )
    train_tiny(recipe)
    before, after = (
        AutoencoderDC.from_pretrained(folder) for folder in (vae, recipe.folder / "export" / "vae")
    )
    assert after.config.scaling_factor == before.config.scaling_factor
    learned = {
        name.split(".")[0]
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert learned == {"decoder"}


def test_a_decoder_alone_wants_an_encoder_with_weights(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, objective={"decoder_only": True})
    with pytest.raises(RelayError, match=r"decoder_only .* name the folder of a trained auto"):
        train_tiny(recipe)


@pytest.mark.slow
def test_a_relay_starts_from_the_half_precision_weights_of_a_base(tmp_path: Path) -> None:
    train_tiny(tiny_recipe("base", tmp_path))
    export = tmp_path / "base" / "export"
    recipe = tiny_recipe(
        "relay",
        tmp_path,
        model={
            "text_encoder": str(export / "text_encoder"),
            "init_from": {"unet": str(export / "base_unet")},
        },
    )
    networks = networks_of(recipe, tokenizer())
    assert networks.unet is not None
    stored = UNet2DConditionModel.from_pretrained(export / "base_unet").state_dict()
    for name, value in networks.unet.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name].float()), name
    assert train_tiny(recipe)
    assert (tmp_path / "relay" / "export" / "relay_unet" / "config.json").is_file()


def test_a_text_encoder_from_a_folder_has_no_dropout_and_keeps_its_configuration(
    tmp_path: Path,
) -> None:
    stored = build_text_encoder({**TEXT_ENCODER, "dropout_rate": 0.5}, len(tokenizer()))
    save_half(stored, tmp_path / "text_encoder")
    opened = build_text_encoder(str(tmp_path / "text_encoder"), 0).train()
    ids = torch.arange(8)[None] % len(tokenizer())
    first, second = (opened(ids).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)
    assert opened.config.dropout_rate == 0.5
    again = stored.train()
    assert not torch.equal(*(again(ids).last_hidden_state for _ in range(2)))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_text_encoder_that_was_trained_with_dropout_gives_one_loss(
    scale: float, tmp_path: Path
) -> None:
    stored = build_text_encoder({**TEXT_ENCODER, "dropout_rate": 0.5}, len(tokenizer()))
    save_half(stored, tmp_path / "text_encoder")
    recipe = tiny_recipe(
        "base",
        tmp_path,
        model={"text_encoder": str(tmp_path / "text_encoder")},
        optimizer={"scales": {"text_encoder": scale}},
    )
    objective = tiny_objective(recipe)
    build_optimizer(objective.trained, recipe.optimizer)
    into_training(objective.trained)
    modes = {name: module.training for name, module in objective.trained.items()}
    assert modes == {"unet": True, "text_encoder": scale > 0}
    batch, draws = objective.feed(0), Draws.of_batch(0, "train", 0, 4)
    first, *others = (objective.loss(batch, draws) for _ in range(3))
    assert all(torch.equal(first, other) for other in others)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_half(build_vae(VAE), tmp_path / "vae")
    wider = {**VAE, "latent_channels": 8}
    recipe = tiny_recipe(
        "autoencoder",
        tmp_path,
        model={"vae": wider, "init_from": {"vae": str(tmp_path / "vae")}},
    )
    with pytest.raises(RelayError, match=r"init_from.vae: .* do not fit .*encoder.conv_out") as e:
        networks_of(recipe, None)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"vae": {"class": "AutoencoderXL"}}, "allowed are AutoencoderDC, AutoencoderKL"),
        ({"vae": {**VAE, "latent_chanels": 4}}, "nearest: latent_channels"),
        ({"vae": ""}, "model.vae: is not given"),
        ({"vae": "no/where"}, "there is no no/where/config.json"),
        ({"vae": VAE, "unet": {**UNET, "layer_per_block": 1}}, "nearest: layers_per_block"),
        ({"vae": VAE, "text_encoder": {"d_modle": 1}}, "nearest: d_model"),
        ({"vae": VAE, "unet": {**UNET, "norm_num_groups": 5}}, "model.unet: UNet2DConditionModel"),
        ({"vae": VAE, "init_from": {"vea": "x"}}, "init_from.vea: allowed are vae"),
    ],
)
def test_what_is_wrong_with_a_network_is_named(model: dict, message: str, tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, model={"text_encoder": TEXT_ENCODER, **model})
    with pytest.raises(RelayError) as caught:
        networks_of(recipe, tokenizer())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_of_the_full_size_are_counted_without_weights() -> None:
    full = {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "addition_time_embed_dim": 256,
    }
    with torch.device("meta"):
        unet = build_unet(full, 4, 4096)
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(2.907e9, rel=1e-3)


def test_what_follows_from_the_other_networks_may_be_left_out() -> None:
    networks = Model(vae=KL_VAE, text_encoder=TEXT_ENCODER, unet=UNET)
    vae = build_vae(networks.vae)
    text_encoder = build_text_encoder(networks.text_encoder, 8)
    unet = build_unet(networks.unet, vae.config.latent_channels, text_encoder.config.d_model)
    assert unet.config.in_channels == unet.config.out_channels == 4
    assert unet.config.cross_attention_dim == 16
    assert unet.config.projection_class_embeddings_input_dim == 48
    assert text_encoder.config.dropout_rate == 0.0


def test_a_fresh_text_encoder_looks_at_the_words_beside_each_other() -> None:
    encoder = build_text_encoder(
        {"d_model": 48, "d_kv": 8, "num_layers": 1, "num_heads": 6, "d_ff": 32}, 20
    )
    attention = encoder.encoder.block[0].layer[0].SelfAttention
    weights = attention.compute_bias(16, 16).detach().softmax(-1)[0]  # (heads, from, to)
    for head, offset in enumerate((-1, 1, -2, 2, -3)):
        assert int(weights[head, 8].argmax()) == 8 + offset
        assert float(weights[head, 8, 8 + offset]) > 0.8
    assert float(weights[5, 8].max()) < 0.2  # the last head looks at all


def test_what_processes_share_out_is_whole_on_no_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It goes there block by block; "meta" stands for a device that is not the CPU."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(build, "base", lambda *_: None)  # which computes
    recipe = tiny_recipe("base", tmp_path)
    networks = networks_of(recipe, tokenizer())
    objective_of(recipe, networks, Squares, torch.device("meta"))
    devices = {name: next(m.parameters()).device.type for name, m in networks.modules().items()}
    assert devices == {"vae": "meta", "text_encoder": "cpu", "unet": "cpu"}
