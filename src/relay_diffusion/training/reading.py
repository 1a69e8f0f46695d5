"""What a caption says of its scene, read from its embeddings: who is where, in which colour.

Captions of a batch are told apart by the words in them; who is blue and who is yellow hardly ever
decides, so an encoder that learns from contrast alone keeps a bag of words (arXiv:2210.01936 finds
it in CLIP) and a UNet cannot draw what it is not told. Here every subject asks the words what is
said of it, and every side who stands there, by one layer of cross-attention, fewer than a UNet has.

The facts are the scene's. Its long caption states them all (where a single thing stands is not
asked); a short one leaves some out, and the most likely answer is then learned.

Padding is not read, except in the mean, as a UNet has it. There is more of it than of words, an
encoder soon puts into it which colours there are, and a probe that finds that there never gets to
the words, which say whose they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relay_diffusion.data.scenes.captions import SIZE_WORDS
from relay_diffusion.data.scenes.scene import INVERSE, Scene
from relay_diffusion.data.scenes.world import World, size_word
from relay_diffusion.training.feed import Batch

SIDES = tuple(INVERSE)
"""Of a pair. The thing at "left of" is the one that stands left of the other."""

STANDINGS = (None, "in a row", *SIDES)
"""How a thing stands to the other, or to all others; None where nothing is said of it."""

SIZES_SAID = ("", *SIZE_WORDS)
MAX_THINGS = 4
UNSAID = -100
NUM_HEADS = 4
HEAD_WIDTH = 48
ABSENT_BIAS = 5.0  # initial logit that a subject is absent: most are, from most captions

Logits = dict[str, tuple[Tensor, ...]]
"""By the names of :func:`facts_of`, an answer to each question; and "whole"."""


def facts_of(scenes: Sequence[Scene], world: World) -> Batch:
    """The truth of scenes, by subject, by side, and of the whole picture; ``UNSAID`` where there is
    nothing to say, or things of one subject differ in it.

    Returns: ``things`` (B, S, 4) number, tint, relation and size of each of the world's S subjects,
        a number of 0 being none; ``sides`` (B, 4, 2) subject and tint at each of ``SIDES``, S where
        nothing is said to stand; ``picture`` (B, 2) background and style.
    """
    num_subjects = len(world.subjects)
    subjects = {name: index for index, name in enumerate(world.subjects)}
    tints = {name: index for index, name in enumerate((None, *world.tints))}
    things = torch.full((len(scenes), num_subjects, 4), UNSAID)
    things[..., 0] = 0
    sides = torch.full((len(scenes), len(SIDES), 2), UNSAID)
    sides[..., 0] = num_subjects
    for row, scene in enumerate(scenes):
        for index, thing in enumerate(scene.things):
            stands = scene.relation
            if index and stands in INVERSE:
                stands = INVERSE[stands]
            subject, tint = subjects[thing.subject], tints[thing.tint]
            size = SIZES_SAID.index(size_word(scene, thing))
            answers = torch.tensor([tint, STANDINGS.index(stands), size])
            said = things[row, subject]
            if said[0] == 0:
                said[1:] = answers
            else:
                said[1:][said[1:] != answers] = UNSAID
                said[3] = UNSAID  # captions give several of a kind no size
            said[0] += 1
            if stands in SIDES:
                sides[row, SIDES.index(stands)] = torch.tensor([subject, tint])
    picture = [[world.backgrounds.index(s.background), world.styles.index(s.style)] for s in scenes]
    return {"things": things, "sides": sides, "picture": torch.tensor(picture)}


class CaptionProbe(nn.Module):
    """Answers what :func:`facts_of` asks, from the embeddings of captions.

        answer_q = W_kind [softmax_l(q . K c_l / sqrt(48)) V c_l],    four heads, l over words

    with one query q for each subject, each of ``SIDES`` and the picture; and, since a UNet has it
    as well, ``whole``: which subjects, which background and style, from the mean of c alone.

    Args: width of the embeddings, D; world whose scenes are asked about.
    """

    def __init__(self, width: int, world: World) -> None:
        super().__init__()
        num_subjects, num_tints = len(world.subjects), 1 + len(world.tints)
        of_picture = [len(world.backgrounds), len(world.styles)]
        self.num_subjects = num_subjects
        self.splits = {
            "things": [num_tints, len(STANDINGS), len(SIZES_SAID)],
            "sides": [num_subjects + 1, num_tints],
            "picture": of_picture,
            "whole": [*of_picture, num_subjects],
        }
        inner = NUM_HEADS * HEAD_WIDTH
        self.queries = nn.Parameter(torch.randn(num_subjects + len(SIDES) + 1, inner) * 0.2)
        self.numbers = nn.Parameter(torch.zeros(num_subjects, 1 + MAX_THINGS, inner))
        self.number_bias = nn.Parameter(torch.tensor([ABSENT_BIAS, *[0.0] * MAX_THINGS]))
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
        nn.init.constant_(whole.bias[-num_subjects:], -ABSENT_BIAS)

    def gradient_checkpointing_enable(self) -> None:
        """Nothing to save: it has one layer."""

    def forward(self, context: Tensor, mask: Tensor) -> Logits:
        """Logits, float32. Args: context (B, L, D); mask (B, L), false on padding."""
        k, v = (
            to(context).unflatten(-1, (NUM_HEADS, HEAD_WIDTH)).transpose(1, 2)
            for to in (self.to_k, self.to_v)
        )
        q = self.queries.unflatten(-1, (NUM_HEADS, HEAD_WIDTH)).transpose(0, 1).to(k.dtype)
        q = q.expand(len(context), -1, -1, -1)
        read = F.scaled_dot_product_attention(q, k, v, mask[:, None, None])
        things, sides, picture = (
            read.transpose(1, 2).flatten(2).split([self.num_subjects, len(SIDES), 1], 1)
        )
        inputs = {
            "things": things,
            "sides": sides,
            "picture": picture.squeeze(1),
            "whole": context.mean(1),
        }
        logits = {
            name: self.answers[name](x).float().split(self.splits[name], -1)
            for name, x in inputs.items()
        }
        numbers = torch.einsum("bsd,snd->bsn", things, self.numbers.to(things.dtype)).float()
        return logits | {"things": (numbers + self.number_bias, *logits["things"])}


def reading_loss(logits: Logits, facts: Batch) -> Tensor:
    """Cross-entropy of every answer, summed over subjects, sides and questions; what is ``UNSAID``
    counts nothing. Returns: (B,) float32."""
    losses = []
    for name in ("things", "sides", "picture"):
        for index, answer in enumerate(logits[name]):
            truth = facts[name][..., index]
            error = F.cross_entropy(
                answer.flatten(0, -2), truth.flatten(), reduction="none", ignore_index=UNSAID
            )
            losses.append(error.view(len(truth), -1).sum(1))
    background, style, present = logits["whole"]
    losses.append(F.cross_entropy(background, facts["picture"][:, 0], reduction="none"))
    losses.append(F.cross_entropy(style, facts["picture"][:, 1], reduction="none"))
    shown = (facts["things"][..., 0] > 0).float()
    losses.append(F.binary_cross_entropy_with_logits(present, shown, reduction="none").sum(1))
    return torch.stack(losses).sum(0)


def count_read(logits: Logits, facts: Batch) -> dict[str, tuple[int, int]]:
    """By question, how many answers are right, and how many were asked for."""

    def count(answer: Tensor, truth: Tensor, asked: Tensor) -> tuple[int, int]:
        right = answer.argmax(-1) == truth
        return int(right[asked].sum()), int(asked.sum())

    things, sides = facts["things"], facts["sides"]
    there = things[..., 0] > 0
    numbers, tints, relations, sizes = zip(logits["things"], things.unbind(-1), strict=True)
    counts = {
        "number": count(*numbers, there),
        "absent": count(*numbers, ~there),
        "tint": count(*tints, tints[1] != UNSAID),
        "dyed": count(*tints, tints[1] > 0),
        "relation": count(*relations, relations[1] != UNSAID),
        "size": count(*sizes, sizes[1] != UNSAID),
        "side": count(logits["sides"][0], sides[..., 0], sides[..., 0] < there.shape[1]),
    }
    for index, name in enumerate(("background", "style")):
        for source in ("picture", "whole"):
            truth = facts["picture"][:, index]
            counts[f"{name} ({source})"] = count(
                logits[source][index], truth, torch.ones_like(truth, dtype=torch.bool)
            )
    return counts
