from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
import torch
from diffusers import AutoencoderDC
from released import CASCADE, random_vae
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from relay_diffusion.errors import RelayError
from relay_diffusion.models import autoencoder
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.models.official_text import text_encoder_from_folder, tokenizer_from_folder
from relay_diffusion.models.text import encode_text, tokenize


def tiny_dc() -> AutoencoderDC:
    return AutoencoderDC(
        latent_channels=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        scaling_factor=0.4,
    ).eval()


@torch.no_grad()
def test_kl_latents_are_the_scaled_posterior_mean() -> None:
    vae = random_vae((32, 32), 1, 4)
    vae.register_to_config(shift_factor=0.25)
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    mean = vae.encode(x).latent_dist.mean
    z = encode(vae, x)
    torch.testing.assert_close(z, (mean - 0.25) * 0.13025)
    torch.testing.assert_close(decode(vae, z), vae.decode(mean).sample)
    assert torch.equal(encode(vae, x), z)


@torch.no_grad()
def test_dc_latents_are_scaled_once() -> None:
    vae = tiny_dc()
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    latent = vae.encode(x).latent
    torch.testing.assert_close(encode(vae, x), latent * 0.4)
    torch.testing.assert_close(decode(vae, latent * 0.4), vae.decode(latent).sample)


@torch.no_grad()
def test_autoencoder_in_half_precision_gives_and_takes_float32() -> None:
    vae = random_vae((32, 32), 1, 4).bfloat16()
    z = encode(vae, torch.zeros(1, 3, 8, 8))
    assert z.dtype == decode(vae, z).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("kind", ["kl", "dc"])
def test_many_pixels_pass_in_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = random_vae((32, 32), 1, 4) if kind == "kl" else tiny_dc()
    x = torch.rand(5, 3, 16, 16) * 2 - 1
    z = encode(vae, x)
    pictures = decode(vae, z)
    sizes = []
    monkeypatch.setattr(autoencoder, "PIXELS_AT_ONCE", 2 * 16 * 16)
    vae.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(encode(vae, x), z, rtol=0, atol=1e-5)
    assert sizes == [2, 2, 1]
    # One at a time, if a picture has more than that.
    monkeypatch.setattr(autoencoder, "PIXELS_AT_ONCE", 1)
    vae.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(decode(vae, z), pictures, rtol=0, atol=1e-5)
    assert sizes[3:] == [1] * 5


def test_prompts_are_padded_and_cut_to_one_length() -> None:
    vocabulary = {"<pad>": 0, "<unk>": 1, "red": 2, "fox": 3}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>"
    )
    ids = tokenize(tokenizer, ["red fox", "fox fox fox fox fox", ""], 4)
    assert ids.tolist() == [[2, 3, 0, 0], [3, 3, 3, 3], [0, 0, 0, 0]]


@torch.no_grad()
def test_padding_is_attended_to() -> None:
    encoder = text_encoder_from_folder(CASCADE / "text_encoder").float()
    ids = torch.tensor([[5, 9, 1, 0, 0, 0]])
    assert not torch.allclose(encode_text(encoder, ids)[:, :3], encode_text(encoder, ids[:, :3]))


@pytest.mark.parametrize("layout", ["safetensors", "sharded", "torch"])
def test_text_encoder_opens_from_every_layout_of_transformers(layout: str, tmp_path: Path) -> None:
    source = T5EncoderModel.from_pretrained(CASCADE / "text_encoder", dtype=torch.float16)
    source.save_pretrained(tmp_path, max_shard_size="20KB" if layout == "sharded" else "1GB")
    if layout == "torch":  # with a decoder, as T5 is published
        (tmp_path / "model.safetensors").unlink()
        decoder = {"decoder.final_layer_norm.weight": torch.zeros(48)}
        torch.save({**source.state_dict(), **decoder}, tmp_path / "pytorch_model.bin")
    assert (tmp_path / "model.safetensors.index.json").exists() == (layout == "sharded")
    found = text_encoder_from_folder(tmp_path)
    assert found.dtype == torch.float16
    assert found.shared.weight is found.encoder.embed_tokens.weight
    ids = torch.arange(6)[None]
    assert torch.equal(encode_text(found.float(), ids), encode_text(source.float(), ids))


def test_t5_tokenizer_opens_from_its_sentencepiece_model(tmp_path: Path) -> None:
    with (tmp_path / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a red fox above a blue box"] * 4),
            model_writer=file,
            vocab_size=24,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    tokenizer = tokenizer_from_folder(tmp_path)
    ids = tokenize(tokenizer, ["a red fox"], 32)[0].tolist()
    end = ids.index(1)
    assert end > 2 and set(ids[end + 1 :]) == {0} and 2 not in ids
    assert tokenizer.decode(ids[:end]).strip() == "a red fox"
    tokenizer.save_pretrained(tmp_path / "saved")
    again = tokenizer_from_folder(tmp_path / "saved")
    assert tokenize(again, ["a red fox"], 32)[0].tolist() == ids


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    assert tokenizer_from_folder(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(RelayError, match="tokenizer"):
        tokenizer_from_folder(tmp_path)
