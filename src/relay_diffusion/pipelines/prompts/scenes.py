"""The embedded expander: for cascades trained on the scene world, offline and at once."""

from __future__ import annotations

from relay_diffusion.data.scenes.captions import long_caption
from relay_diffusion.data.scenes.fitting import fit
from relay_diffusion.data.scenes.parsing import parse
from relay_diffusion.data.scenes.words import split_words, words_of
from relay_diffusion.data.scenes.world import World
from relay_diffusion.pipelines.notices import warn_once
from relay_diffusion.pipelines.prompts.expander import NothingToExpand


class ScenesExpander:
    """Reads a prompt into facts, completes a scene that has them, and tells it at length.

    Args:
        world: name of the world that the cascade was trained on. Raises: RelayError if there is
            no such world.
    """

    def __init__(self, world: str) -> None:
        self.world = World.by_name(world)
        self.words = words_of(self.world)

    def expand(self, prompt: str, seed: int) -> str:
        """The long caption of a scene of the seed. What the world lacks is left out, and said."""
        if self._is_long(prompt):
            return prompt
        facts, remarks = fit(parse(prompt), self.world)
        if not facts.things:
            why = "; ".join(remarks) or "it names nothing"
            raise NothingToExpand(f"it asks for nothing that this cascade draws: {why}")
        for remark in remarks:
            warn_once(remark)
        return long_caption(self.world.compose(facts, seed), seed)

    def _is_long(self, prompt: str) -> bool:
        """Whether a prompt is in the long form already: it says all, in the captions' words."""
        facts = parse(prompt)
        says_all = facts.things and facts.background and facts.style
        return bool(
            says_all and prompt.rstrip().endswith(" .") and set(split_words(prompt)) <= self.words
        )
