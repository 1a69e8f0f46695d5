"""A hash follows what is computed, not how it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from relay_diffusion.errors import RelayError
from relay_diffusion.models.hashes import network_hash, tokenizer_hash
from tests.pipelines.tiny import tiny_tokenizer


def network(folder: Path, cut: bool = False, **config: object) -> Path:
    folder.mkdir()
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    parts = [{name: value} for name, value in tensors.items()] if cut else [tensors]
    for number, part in enumerate(parts):
        save_file(part, folder / f"model-{number}.safetensors", metadata={"format": str(cut)})
    (folder / "config.json").write_text(json.dumps({"width": 3, **config}))
    return folder


def test_the_same_network_saved_otherwise_has_the_same_hash(tmp_path: Path) -> None:
    one = network_hash(network(tmp_path / "one"))
    noise = {"_name_or_path": "elsewhere", "transformers_version": "9", "dtype": "float16"}
    assert network_hash(network(tmp_path / "cut", cut=True, **noise)) == one
    assert network_hash(network(tmp_path / "wide", width=4)) != one
    other = network(tmp_path / "other")
    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4)}, other / "model-0.safetensors")
    assert network_hash(other) != one


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="nowhere holds no network with its weights"):
        network_hash(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RelayError, match=r"holds no \.safetensors"):
        network_hash(tmp_path)


def test_a_tokenizer_is_the_same_whatever_length_it_was_asked_for() -> None:
    one, other = tiny_tokenizer(), tiny_tokenizer()
    other(["a fox"], padding="max_length", max_length=5, truncation=True)
    assert tokenizer_hash(one) == tokenizer_hash(other)
    other.add_tokens(["owl"])
    assert tokenizer_hash(one) != tokenizer_hash(other)
