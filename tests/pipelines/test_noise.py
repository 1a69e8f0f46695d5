from __future__ import annotations

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.noise import StageNoise, split_generators

from .tiny import generators

CPU = torch.device("cpu")


def test_a_single_generator_is_split_by_drawing_a_seed_for_each_picture() -> None:
    seeds = torch.randint(2**63 - 1, (3,), generator=torch.Generator().manual_seed(7)).tolist()
    split = split_generators(torch.Generator().manual_seed(7), 3)
    assert [generator.initial_seed() for generator in split] == seeds


def test_the_global_seed_rules_where_no_generator_is_given() -> None:
    torch.manual_seed(3)
    once = [g.initial_seed() for g in split_generators(None, 2)]
    torch.manual_seed(3)
    assert [g.initial_seed() for g in split_generators(None, 2)] == once


def test_noise_of_a_picture_does_not_depend_on_the_batch() -> None:
    shapes = [(4, 4, 4), (4, 8, 8)]
    batch = StageNoise(None, generators(1, 2), shapes, CPU)
    alone = StageNoise(None, generators(2), shapes, CPU)
    for stage in range(2):
        assert torch.equal(batch[stage][1:], alone[stage])


def test_given_latents_are_taken_and_missing_ones_drawn() -> None:
    mine = torch.randn(1, 4, 8, 8)
    noise = StageNoise([None, mine], generators(5), [(4, 4, 4), (4, 8, 8)], CPU)
    assert torch.equal(noise[1], mine)
    assert torch.equal(noise[0][0], torch.randn(4, 4, 4, generator=generators(5)[0]))


@pytest.mark.parametrize(
    ("latents", "complaint"),
    [
        (torch.zeros(1, 4, 8, 8), r"stage 0 have shape \(1, 4, 8, 8\), not \(2, 4, 4, 4\)"),
        ([None, torch.zeros(2, 4, 4, 4)], r"stage 1 have shape"),
        ([None, None, None], "latents for 3 stages; give 2 or fewer"),
    ],
)
def test_latents_that_do_not_fit_are_refused(latents: object, complaint: str) -> None:
    with pytest.raises(RelayError, match=complaint):
        StageNoise(latents, generators(1, 2), [(4, 4, 4), (4, 8, 8)], CPU)  # type: ignore[arg-type]


def test_a_generator_for_each_picture_or_one_for_all() -> None:
    with pytest.raises(RelayError, match="2 generators for 3 pictures"):
        split_generators(generators(1, 2), 3)
