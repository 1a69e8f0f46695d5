"""docs/recipes.md tells what the keys of a recipe mean: what ``relay train --keys`` prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from relay_diffusion.cli import main
from relay_diffusion.training.objective_settings import RelayObjective
from relay_diffusion.training.reference import meanings

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--keys"]) == 0
    assert PAGE.read_text() == capsys.readouterr().out, "relay train --keys > docs/recipes.md"


def test_a_table_has_its_own_meanings_and_those_it_inherits() -> None:
    said = meanings(RelayObjective)
    assert said.keys() == {field.name for field in dataclasses.fields(RelayObjective)}
    assert said["through_vae"].endswith(
        "through the autoencoder at its own size, as it does in use."
    )


def test_a_key_without_a_meaning_is_not_passed_over() -> None:
    @dataclasses.dataclass
    class Table:
        """One.

        Attributes:
            told: of two lines, of which
                this is the second.
        """

        told: int = 1
        untold: int = 2

    assert meanings(Table) == {"told": "of two lines, of which this is the second."}
