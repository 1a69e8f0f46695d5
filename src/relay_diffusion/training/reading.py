"""What a caption says of its scene, read from its embeddings: who is where, in which colour.

Captions of a batch are told apart by the words in them; who is blue and who is yellow hardly ever
decides, so an encoder that learns from contrast alone keeps a bag of words (arXiv:2210.01936 finds
it in CLIP) and a UNet cannot draw what it is not told. Here every subject asks the words what is
said of it, and every place who stands there, by one layer of cross-attention: all that a UNet has.

Padding is not read. There is more of it than of words, an encoder soon puts into it which colours
there are, and a reader that finds that there never gets to the words, which say whose they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relay_diffusion.data.scenes.scene import INVERSE, Scene
from relay_diffusion.data.scenes.world import World, size_word
from relay_diffusion.training.feed import Batch

STANDS = ("unsaid", "in a row", *INVERSE)
"""How a thing stands to the other, or to all others."""

SIDES = tuple(INVERSE)
"""Places of which two things share two: the left thing is the one that stands left of the other."""

SIZES = ("", "small", "large")
MOST_THINGS = 4
NUM_HEADS = 4
HEAD_WIDTH = 48
RARE = 5.0

Logits = dict[str, tuple[Tensor, ...]]
"""By the names of :func:`facts_of`, an answer to each question; and "whole"."""


def facts_of(scenes: Sequence[Scene], world: World) -> Batch:
    """The truth of scenes, by subject, by place, and of the whole picture; -100 where there is
    nothing to say.

    Returns: ``things`` (B, S, 4) number, tint, stand and size of each of the world's S subjects, a
        number of 0 being none; ``places`` (B, 4, 2) subject and tint at each of ``SIDES``, S where
        nothing is said to stand; ``picture`` (B, 2) background and style.
    """
    num_subjects = len(world.subjects)
    subjects = {name: index for index, name in enumerate(world.subjects)}
    tints = {name: index for index, name in enumerate((None, *world.tints))}
    things = torch.full((len(scenes), num_subjects, 4), -100)
    things[..., 0] = 0
    places = torch.full((len(scenes), len(SIDES), 2), -100)
    places[..., 0] = num_subjects
    for row, scene in enumerate(scenes):
        relation = scene.relation or STANDS[0]
        for index, thing in enumerate(scene.things):
            stand = INVERSE.get(relation, relation) if index else relation
            subject, tint = subjects[thing.subject], tints[thing.tint]
            number = sum(other.subject == thing.subject for other in scene.things)
            things[row, subject] = torch.tensor(
                [number, tint, STANDS.index(stand), SIZES.index(size_word(scene, thing))]
            )
            if stand in SIDES:
                places[row, SIDES.index(stand)] = torch.tensor([subject, tint])
    picture = [[world.backgrounds.index(s.background), world.styles.index(s.style)] for s in scenes]
    return {"things": things, "places": places, "picture": torch.tensor(picture)}


class CaptionReader(nn.Module):
    """Answers what :func:`facts_of` asks, from the embeddings of captions.

        answers_q = W_q softmax_l(q . K c_l) V c_l

    with one query q for each subject, each of ``SIDES`` and the picture; and, since a UNet has it
    as well, ``whole``: which subjects, which background and style, from the mean of c alone.
    """

    def __init__(self, width: int, world: World) -> None:
        super().__init__()
        num_subjects, num_tints = len(world.subjects), 1 + len(world.tints)
        of_picture = [len(world.backgrounds), len(world.styles)]
        self.num_subjects = num_subjects
        self.splits = {
            "things": [num_tints, len(STANDS), len(SIZES)],
            "places": [num_subjects + 1, num_tints],
            "picture": of_picture,
            "whole": [*of_picture, num_subjects],
        }
        inner = NUM_HEADS * HEAD_WIDTH
        self.queries = nn.Parameter(torch.randn(num_subjects + len(SIDES) + 1, inner) * 0.2)
        self.numbers = nn.Parameter(torch.zeros(num_subjects, 1 + MOST_THINGS, inner))
        # Most subjects are absent from most captions.
        self.absent = nn.Parameter(torch.tensor([RARE, *[0.0] * MOST_THINGS]))
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner)
        self.answers = nn.ModuleDict(
            {
                name: nn.Linear(width if name == "whole" else inner, sum(split))
                for name, split in self.splits.items()
            }
        )
        whole = self.answers["whole"]
        assert isinstance(whole, nn.Linear)
        nn.init.constant_(whole.bias[-num_subjects:], -RARE)

    def forward(self, context: Tensor, words: Tensor) -> Logits:
        """Logits. Args: context (B, L, D); words (B, L), true where the caption has a word."""
        size = len(context)
        k, v = (
            to(context).unflatten(-1, (NUM_HEADS, HEAD_WIDTH)).transpose(1, 2)
            for to in (self.to_k, self.to_v)
        )
        q = self.queries.unflatten(-1, (NUM_HEADS, HEAD_WIDTH)).transpose(0, 1)
        mask = words[:, None, None]
        read = F.scaled_dot_product_attention(q.to(k.dtype).expand(size, -1, -1, -1), k, v, mask)
        read = read.transpose(1, 2).flatten(2)
        asked = dict(
            zip(
                ("things", "places", "picture"),
                read.split([self.num_subjects, len(SIDES), 1], 1),
                strict=True,
            )
        )
        numbers = torch.einsum("bsd,snd->bsn", asked["things"], self.numbers.to(read.dtype))
        numbers = numbers + self.absent
        asked["picture"] = asked["picture"].squeeze(1)
        asked["whole"] = context.mean(1)
        logits = {
            name: self.answers[name](values).float().split(self.splits[name], -1)
            for name, values in asked.items()
        }
        return logits | {"things": (numbers.float(), *logits["things"])}


def reading_loss(logits: Logits, facts: Batch) -> Tensor:
    """Cross-entropy of every answer, on the mean over those of a kind. Returns: (B,) float32."""
    losses = []
    for name in ("things", "places", "picture"):
        for index, answer in enumerate(logits[name]):
            truth = facts[name][..., index]
            error = F.cross_entropy(
                answer.flatten(0, -2), truth.flatten(), reduction="none", ignore_index=-100
            ).view_as(truth)
            # Most subjects are absent from most captions: the sum weighs the few that are there.
            losses.append(error if truth.ndim == 1 else error.sum(1))
    background, style, present = logits["whole"]
    losses.append(F.cross_entropy(background, facts["picture"][:, 0], reduction="none"))
    losses.append(F.cross_entropy(style, facts["picture"][:, 1], reduction="none"))
    shown = (facts["things"][..., 0] > 0).float()
    losses.append(F.binary_cross_entropy_with_logits(present, shown, reduction="none").sum(1))
    return torch.stack(losses).sum(0)


def share_read(logits: Logits, facts: Batch) -> dict[str, float]:
    """Share of right answers about what is there, by question."""
    figures = {}
    there = facts["things"][..., 0] > 0
    names = ("number", "tint", "stand", "size")
    for index, (name, answer) in enumerate(zip(names, logits["things"], strict=True)):
        right = answer.argmax(-1) == facts["things"][..., index]
        figures[name] = float(right[there].float().mean())
    standing = facts["places"][..., 0] < there.shape[1]
    at = logits["places"][0].argmax(-1) == facts["places"][..., 0]
    figures["who stands where"] = float(at[standing].float().mean())
    for index, name in enumerate(("background", "style")):
        for source in ("picture", "whole"):
            right = logits[source][index].argmax(-1) == facts["picture"][:, index]
            figures[f"{name} ({source})"] = float(right.float().mean())
    return figures
