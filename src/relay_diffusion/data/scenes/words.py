"""The starter's tokenizer: one token a word, for all the words that captions use."""

from __future__ import annotations

import difflib
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from relay_diffusion.data.scenes.captions import NUMBERS
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_TOKENS = 64
WORD = r"\w+|[^\w\s]"
SPECIAL = ("<pad>", "</s>", "<unk>")
TEMPLATE_WORDS = """a an the of and with next to on in at is are it this there picture image shows
style as left right above below over under beneath top bottom middle row small little tiny
large big huge , ."""
UNUSED = ("made",)
"""In the tokenizer and in no caption any more: without it, ids would not be those that the
starter's text encoder was trained with."""


def words_of(world: World) -> set[str]:
    """The words that captions of a world use, punctuation included."""
    vocabulary = load_vocabulary()
    subjects = [vocabulary.subjects[name] for name in world.subjects]
    phrases = chain(
        [TEMPLATE_WORDS],
        (word for number, word in NUMBERS.items() if number <= world.max_things),
        chain.from_iterable((s.plural, *s.singulars) for s in subjects),
        world.tints,
        chain.from_iterable(vocabulary.backgrounds[name] for name in world.backgrounds),
        chain.from_iterable(vocabulary.styles[name] for name in world.styles),
    )
    return set(chain.from_iterable(split_words(phrase) for phrase in phrases))


def split_words(text: str) -> list[str]:
    """As the tokenizer does: lower case, words and single marks of punctuation."""
    return re.findall(WORD, text.lower())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer for every world, ending in </s>, opened again by ``AutoTokenizer``."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = [*SPECIAL, *sorted({*words_of(World.full()), *UNUSED})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    )


def unknown_words(
    prompt: str, tokenizer: Any, known: set[str] | None = None
) -> list[tuple[str, str | None]]:
    """Words of a prompt that the tokenizer, or a model that knows fewer, has never seen.

    Args:
        known: the words of the model; None is the whole tokenizer.
    Returns: (word, known word that is spelt like it, if there is one) in the order of the prompt,
        each once. Punctuation counts for nothing.
    """
    vocabulary = set(tokenizer.get_vocab()) if known is None else known
    candidates = sorted(word for word in vocabulary if word.isalpha())
    unknown = dict.fromkeys(
        word
        for word in split_words(prompt)
        if word not in vocabulary and any(map(str.isalnum, word))
    )
    return [
        (word, next(iter(difflib.get_close_matches(word, candidates, n=1)), None))
        for word in unknown
    ]
