"""What a scene is called: in the short form that users type, and the long one a recaptioner writes.

Captions never say what is not so; short ones may leave things out.
"""

from __future__ import annotations

from random import Random

from relay_diffusion.data.scenes.scene import INVERSE, Scene, Thing
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.world import size_word

NUMBERS = {2: "two", 3: "three", 4: "four"}
RELATION_PHRASES = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}


def short_caption(scene: Scene, seed: int) -> str:
    """As users type: synonyms, articles or not, background and style sometimes left out."""
    draw = Random(seed)
    vocabulary = load_vocabulary()
    article = draw.random() < 0.7
    parts = [_subject_phrase(scene, draw, article, canonical=False)]
    if draw.random() < 0.75:
        parts.append(draw.choice(vocabulary.backgrounds[scene.background]))
    if scene.style != "flat" and draw.random() < 0.85:
        phrase = draw.choice(vocabulary.styles[scene.style])
        if draw.random() < 0.3:
            return f"{phrase}, " + " ".join(parts)
        parts.append("," + " " + phrase)
    return _join(parts)


def scene_prompt(scene: Scene) -> str:
    """A short prompt that leaves out nothing that can be judged, always in the same words."""
    vocabulary = load_vocabulary()
    parts = [_subject_phrase(scene, Random(0), True, canonical=True)]
    parts.append(vocabulary.backgrounds[scene.background][0])
    if scene.style != "flat":
        parts.append(", " + vocabulary.styles[scene.style][0])
    return _join(parts)


def long_caption(scene: Scene, seed: int) -> str:
    """One to three sentences that say everything."""
    draw = Random(seed)
    vocabulary = load_vocabulary()
    style = draw.choice(vocabulary.styles[scene.style])
    background = draw.choice(vocabulary.backgrounds[scene.background])
    things = [_noun(scene, thing, draw, sizes=True) for thing in scene.things]
    opening = draw.choice(("a picture of", "this picture shows", "an image of", "there is"))
    if opening == "there is" and _verb(scene.things[0]) == "are" and _one_kind(scene):
        opening = "there are"
    if len(scene.things) == 1:
        where = _place(scene.things[0])
        sentences = [f"{opening} {_a(things[0], scene.things[0])} {where} {background}"]
    elif _one_kind(scene):
        number = NUMBERS[len(scene.things)]
        plural = _noun(scene, scene.things[0], draw, sizes=False, plural=True)
        row = " in a row" if scene.relation == "in a row" else ""
        opening = opening.replace("there is", "there are")
        sentences = [f"{opening} {number} {plural}{row} {background}"]
    elif scene.relation in INVERSE:
        phrase = draw.choice(RELATION_PHRASES[scene.relation])
        first, second = (_a(*pair) for pair in zip(things, scene.things, strict=True))
        sentences = [f"{opening} {first} {phrase} {second} {background}"]
        # Two of a subject are told apart by what differs: a world's own samples have none such.
        alike = scene.things[0].subject == scene.things[1].subject
        names = [_noun(scene, t, draw, sizes=alike, bare=not alike) for t in scene.things]
        stand = [
            f"the {name} {_verb(thing)} {_place(thing)}"
            for name, thing in zip(names, scene.things, strict=True)
        ]
        sentences.append(" and ".join(stand))
    else:
        row = " in a row" if scene.relation == "in a row" else ""
        nouns = [_a(*pair) for pair in zip(things, scene.things, strict=True)]
        sentences = [f"{opening} {_listed(nouns)}{row} {background}"]
    if draw.random() < 0.5:
        # "it is drawn in chalk", but "the style is pixel art".
        how = style.split()[0] in ("as", "in", "drawn", "made", "knitted")
        sentences.append(f"{'it is' if how else 'the style is'} {style}")
    else:
        sentences.insert(0, style)
    return " . ".join(sentences) + " ."


def _subject_phrase(scene: Scene, draw: Random, article: bool, canonical: bool) -> str:
    things, relation = scene.things, scene.relation
    if len(things) > 1 and _one_kind(scene):
        number = NUMBERS[len(things)]
        noun = _noun(scene, things[0], draw, sizes=False, plural=True, canonical=canonical)
        row = " in a row" if relation == "in a row" and (canonical or draw.random() < 0.6) else ""
        return f"{number} {noun}{row}"
    nouns = [
        _noun(scene, t, draw, sizes=not canonical and draw.random() < 0.6, canonical=canonical)
        for t in things
    ]
    if article:
        nouns = [_a(*pair) for pair in zip(nouns, things, strict=True)]
    if len(nouns) == 1:
        return nouns[0]
    if relation in INVERSE and canonical:
        return f"{nouns[0]} {relation} {nouns[1]}"
    if relation in INVERSE and draw.random() < 0.85:
        form = draw.random()
        if form < 0.5:
            return f"{nouns[0]} {draw.choice(RELATION_PHRASES[relation])} {nouns[1]}"
        if form < 0.8:
            inverse = draw.choice(RELATION_PHRASES[INVERSE[relation]])
            return f"{nouns[1]} {inverse} {nouns[0]}"
        if relation in ("left of", "right of"):
            first, second = nouns if relation == "left of" else nouns[::-1]
            return f"{first} on the left and {second} on the right"
        first, second = nouns if relation == "above" else nouns[::-1]
        return f"{first} at the top and {second} at the bottom"
    if relation == "in a row":
        return f"{_listed(nouns)} in a row"
    if len(nouns) == 2 and not canonical:
        return f"{nouns[0]} {draw.choice(('and', 'and', 'with', 'next to'))} {nouns[1]}"
    return _listed(nouns)


def _one_kind(scene: Scene) -> bool:
    """Whether all things go by one name, "two red foxes", so that none can be said to be left."""
    return len({(t.subject, t.tint) for t in scene.things}) == 1 and scene.relation not in INVERSE


def _noun(
    scene: Scene,
    thing: Thing,
    draw: Random,
    sizes: bool,
    plural: bool = False,
    bare: bool = False,
    canonical: bool = False,
) -> str:
    subject = load_vocabulary().subjects[thing.subject]
    if plural:
        name = subject.plural
    elif canonical or bare or draw.random() < 0.7:
        name = subject.name
    else:
        name = draw.choice(subject.singulars)
    words = []
    if sizes and (size := size_word(scene, thing)):
        words.append(draw.choice(SIZE_WORDS[size]))
    if thing.tint and not bare:
        words.append(thing.tint)
    return " ".join([*words, name])


def _place(thing: Thing) -> str:
    """Where in the picture, in words that hold for every thing they are said of."""
    horizontal = "left" if thing.x < 0.4 else "right" if thing.x > 0.6 else ""
    vertical = "top" if thing.y < 0.4 else "bottom" if thing.y > 0.6 else ""
    if horizontal and vertical:
        return f"at the {vertical} {horizontal}"
    if vertical:
        return f"at the {vertical}"
    return f"on the {horizontal}" if horizontal else "in the middle"


def _a(noun: str, thing: Thing) -> str:
    if not load_vocabulary().subjects[thing.subject].takes_article and " of " not in noun:
        return noun
    return ("an " if noun[0] in "aeio" or noun.startswith(("umb", "hour")) else "a ") + noun


def _verb(thing: Thing) -> str:
    subject = load_vocabulary().subjects[thing.subject]
    return "are" if not subject.takes_article and subject.name.endswith("s") else "is"


def _listed(nouns: list[str]) -> str:
    return ", ".join(nouns[:-1]) + " and " + nouns[-1]


def _join(parts: list[str]) -> str:
    text = " ".join(parts).replace(" ,", ",")
    return " ".join(text.split())
