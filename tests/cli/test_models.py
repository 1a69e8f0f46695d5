"""``relay models``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from relay_diffusion.cli import main
from relay_diffusion.cli.models import known_and_free
from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.models.registry import resolve
from relay_diffusion.pipelines.cascade import RelayPipeline


def test_words_are_those_known_and_those_free_to_be_taught() -> None:
    known, free = known_and_free("starter")
    every = {*build_tokenizer().get_vocab()} - {"<pad>", "</s>", "<unk>", ",", "."}
    assert {*known} | {*free} == every and not {*known} & {*free}
    config = RelayPipeline.load_config(resolve("starter"))
    assert {*known} == {*config["known_words"]} - {",", "."}
    assert "fox" in known and "dragon" in free


def test_words_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--words", "starter-fast"]) == 0
    known, free = capsys.readouterr().out.split("It has a token for")
    assert " fox " in known and " dragon " in free


def test_a_cascade_that_spells_has_no_list_of_words(
    cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "spelling"
    shutil.copytree(cascade_folder, folder)
    spelling = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=spelling).save_pretrained(folder / "tokenizer")
    assert main(["models", "--words", str(folder)]) == 2
    assert "it spells them out of parts" in capsys.readouterr().err
