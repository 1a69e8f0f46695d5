"""The parser: what people type, what captions say, and that neither needs torch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from relay_diffusion.data.scenes.captions import long_caption, short_caption
from relay_diffusion.data.scenes.facts import Asked
from relay_diffusion.data.scenes.lexicon import load_lexicon, load_thesaurus
from relay_diffusion.data.scenes.parsing import parse
from relay_diffusion.data.scenes.scene import INVERSE, Scene
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.world import Split, World, size_word

from .typed_prompts import PROMPTS

VOCABULARY = load_vocabulary()
POSITIONS = {"left", "right", "above", "over", "below", "under", "beneath", "top", "bottom", "row"}


def in_words(thing: Asked) -> str:
    name = VOCABULARY.subjects[thing.subject].name
    count = str(thing.count) if thing.count > 1 else None
    return " ".join(filter(None, (count, thing.size, thing.tint, name)))


@pytest.mark.parametrize(
    ("prompt", "things", "relation", "background", "style"), PROMPTS, ids=[p[0] for p in PROMPTS]
)
def test_what_people_type_is_understood(
    prompt: str, things: list[str], relation: str | None, background: str | None, style: str | None
) -> None:
    facts = parse(prompt)
    assert [in_words(thing) for thing in facts.things] == things
    assert (facts.relation, facts.background, facts.style) == (relation, background, style)


def relation_said(scene: Scene, text: str) -> str | None:
    """The scene's relation, if any word in a short caption, its background aside, speaks of it."""
    for phrase in VOCABULARY.backgrounds[scene.background]:
        text = text.replace(phrase, "")
    words = text.replace("top hat", "").replace(",", " ").split()
    return scene.relation if POSITIONS & set(words) else None


@pytest.mark.parametrize("name", ["small", "full"])
@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("caption", [short_caption, long_caption])
def test_the_captions_of_a_world_are_read_back_exactly(name: str, split: Split, caption) -> None:
    for seed in range(300):
        scene = World.by_name(name).sample(seed, split)
        text = caption(scene, seed)
        facts = parse(text)
        asked = {(thing.subject, thing.tint): thing.count for thing in facts.things}
        assert asked == Counter((thing.subject, thing.tint) for thing in scene.things), text
        relation = facts.relation
        if relation in INVERSE and facts.things[0].subject != scene.things[0].subject:
            relation = INVERSE[relation]
        assert relation == relation_said(scene, text), text
        for said, meant, phrases in (
            (facts.background, scene.background, VOCABULARY.backgrounds[scene.background]),
            (facts.style, scene.style, VOCABULARY.styles[scene.style]),
        ):
            assert said == (meant if any(phrase in text for phrase in phrases) else None), text
        assert not facts.left_out and not facts.read_as, text


@pytest.mark.parametrize("name", ["small", "full"])
def test_long_captions_are_read_back_with_sizes_and_places(name: str) -> None:
    checked = 0
    for seed in range(300):
        scene = World.by_name(name).sample(seed)
        text = long_caption(scene, seed)
        things = parse(text).things
        if len({thing.subject for thing in scene.things}) < len(scene.things):
            continue  # several of a kind, of which captions say neither
        assert [t.size or "" for t in things] == [size_word(scene, t) for t in scene.things], text
        for asked, thing in zip(things, scene.things, strict=True):
            if asked.place is not None:
                words = asked.place.split()
                assert ("left" in words, "top" in words) == (thing.x < 0.4, thing.y < 0.4), text
                assert ("right" in words, "bottom" in words) == (thing.x > 0.6, thing.y > 0.6), text
                checked += 1
    assert checked > 150


@pytest.mark.parametrize(
    ("prompt", "left_out"),
    [
        ("a fox with a hat", ("hat",)),
        ("a fox behind a house", ("behind",)),
        ("a black cat", ("black",)),
        ("an orange and a banana", ("orange",)),
        ("un renard", ("un", "renard")),
        ("a fox, pixel art and a watercolour", ("watercolour",)),
        ("a fox on a meadow on sand", ("on sand",)),
        ("please draw me a fox, thank you", ()),
    ],
)
def test_what_is_not_understood_is_named(prompt: str, left_out: tuple[str, ...]) -> None:
    assert parse(prompt).left_out == left_out


@pytest.mark.parametrize(
    ("prompt", "read_as"),
    [
        ("an elefant", (("elefant", "elephant"),)),
        ("a flower", (("flower", "sunflower"),)),
        ("a girafe", (("girafe", "giraffe"),)),
        ("an appel", (("appel", "apple"),)),
        ("a hedghog", (("hedghog", "hedgehog"),)),
        ("a rocet", (("rocet", "rocket"),)),
        ("octapus", (("octapus", "octopus"),)),
        ("a crow and a moose on a planet with a snack", ()),
        ("elegant money crowing, first month, a coat, inspect the badge", ()),
    ],
)
def test_a_word_taken_for_another_is_told(
    prompt: str, read_as: tuple[tuple[str, str], ...]
) -> None:
    assert parse(prompt).read_as == read_as


@pytest.mark.parametrize("prompt", ["", " ", "?!", ",", "🦊", "\x00", "a", "the of", "under", "2"])
def test_nothing_is_refused(prompt: str) -> None:
    assert parse(prompt).things == ()


def test_a_prompt_of_any_length_is_read() -> None:
    assert parse("a fox and a blue owl, " * 500).things[0].subject == "fox"


def test_the_thesaurus_speaks_of_nothing_that_the_vocabulary_lacks() -> None:
    thesaurus = load_thesaurus()
    subjects = VOCABULARY.subjects
    near = thesaurus["nearest_subjects"]
    assert {*thesaurus["subjects"], *near, *near.values(), *thesaurus["compounds"]} <= {*subjects}
    assert {*thesaurus["kinds"].values(), *thesaurus["irregular_plurals"].values()} <= {*subjects}
    assert {*thesaurus["tints"]} == {*VOCABULARY.tints}
    for kind, known in (("background", VOCABULARY.backgrounds), ("style", VOCABULARY.styles)):
        nearest = thesaurus[f"nearest_{kind}s"]
        assert {*thesaurus[f"{kind}s"], *nearest, *nearest.values()} <= {*known}


def test_every_name_in_the_vocabulary_is_a_subject_to_the_lexicon() -> None:
    for subject in VOCABULARY.subjects.values():
        for name in (*subject.singulars, subject.plural):
            ((token, misspelt),) = load_lexicon().read(name)
            assert (token.kind, token.value[0], misspelt) == ("subject", subject.id, None), name


def test_reading_needs_no_torch() -> None:
    code = (
        "from relay_diffusion.data.scenes import parsing, fitting; import sys; "
        "print(sorted({'torch', 'numpy', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
