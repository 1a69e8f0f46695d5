"""What the judge learns from: rendered scenes, whose truth is known, spoilt as generators spoil."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.evaluation.judge.network import CELLS, NO_TINT, SIDE, Answers, Reading
from relay_diffusion.training.draws import Draws

MOST_THINGS = 4


def targets_of(scenes: Sequence[Scene], answers: Answers) -> dict[str, Tensor]:
    """The truth as tensors, things padded to four with subject -1.

    Returns: ``things`` (B, 4, 5): subject, tint, x, y in cells, log2 size; ``background`` (B,);
        ``style`` (B,).
    """
    things = torch.full((len(scenes), MOST_THINGS, 5), -1.0)
    for row, scene in enumerate(scenes):
        for slot, thing in enumerate(scene.things):
            things[row, slot] = torch.tensor(
                [
                    answers.subjects.index(thing.subject),
                    answers.tints.index(thing.tint or NO_TINT),
                    min(thing.x, 0.999) * CELLS,
                    min(thing.y, 0.999) * CELLS,
                    torch.tensor(thing.size).log2().item(),
                ]
            )
    return {
        "things": things,
        "background": torch.tensor([answers.backgrounds.index(s.background) for s in scenes]),
        "style": torch.tensor([answers.styles.index(s.style) for s in scenes]),
    }


def judge_loss(reading: Reading, targets: dict[str, Tensor]) -> Tensor:
    """Loss per picture, (B,): focal loss on the heat maps (CenterNet, eq. 1) over the number of
    things, plus cross-entropy of tint, background and style, plus L1 of offset and log2 size."""
    things = targets["things"]
    present = things[..., 0] >= 0
    subject = things[..., 0].clamp(min=0).long()
    tint = things[..., 1].clamp(min=0).long()
    x, y = things[..., 2].clamp(min=0), things[..., 3].clamp(min=0)
    column, row = x.long(), y.long()
    num = present.sum(1).clamp(min=1)

    heat = _focal(reading.heat.float(), things, present, subject, column, row) / num
    picture = torch.arange(len(things), device=things.device)[:, None]
    tint_logits = reading.tint.float().permute(0, 2, 3, 1)[picture, row, column]
    tints = F.cross_entropy(tint_logits.flatten(0, 1), tint.flatten(), reduction="none")
    box = reading.box.float().permute(0, 2, 3, 1)[picture, row, column]
    wanted = torch.stack([x - column, y - row, things[..., 4]], -1)
    boxes = (box - wanted).abs().sum(-1)
    local = ((tints.view_as(x) + boxes) * present).sum(1) / num
    background = F.cross_entropy(
        reading.background.float(), targets["background"], reduction="none"
    )
    style = F.cross_entropy(reading.style.float(), targets["style"], reduction="none")
    return heat + local + background + style


def _focal(
    heat: Tensor, things: Tensor, present: Tensor, subject: Tensor, column: Tensor, row: Tensor
) -> Tensor:
    """Penalty-reduced focal loss, alpha 2 and beta 4, summed over a picture's cells, (B,)."""
    centres = torch.arange(CELLS, device=heat.device) + 0.5
    spread = (things[..., 4].exp2() * CELLS / 8).clamp(min=0.6)[..., None]
    near_x = torch.exp(-((centres - things[..., 2, None]) ** 2) / (2 * spread**2))
    near_y = torch.exp(-((centres - things[..., 3, None]) ** 2) / (2 * spread**2))
    bump = near_y[..., :, None] * near_x[..., None, :] * present[..., None, None]
    truth = torch.zeros_like(heat)
    index = subject[..., None, None].expand_as(bump)
    truth = truth.scatter_reduce(1, index, bump, "amax")
    peak = torch.zeros_like(heat, dtype=torch.bool)
    picture = torch.arange(len(heat), device=heat.device)[:, None].expand_as(subject)
    peak[picture[present], subject[present], row[present], column[present]] = True

    p = heat.sigmoid()
    at_peak = -F.logsigmoid(heat) * (1 - p) ** 2
    elsewhere = -F.logsigmoid(-heat) * p**2 * (1 - truth) ** 4
    return torch.where(peak, at_peak, elsewhere).sum((1, 2, 3))


def spoil(x: Tensor, draws: Draws) -> Tensor:
    """Pictures as a generator might make them: half of them a little blurred, noisy, off in colour.

    Args: x (B, 3, H, W) in [-1, 1]. Returns: (B, 3, 128, 128).
    """
    if x.shape[-1] != SIDE:
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
    amount = draws.uniform("spoil", 4) * (draws.uniform("spoilt") < 0.5)[:, None]
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = x + (blurred - x) * amount[:, 0, None, None, None] * 1.2
    noise = F.interpolate(draws.normal("noise", 3, SIDE // 2, SIDE // 2), scale_factor=2)
    x = x + 0.10 * amount[:, 1, None, None, None] * noise
    gain = 1 + 0.15 * amount[:, 2, None, None, None] * (2 * draws.uniform("gain", 3, 1, 1) - 1)
    return (x * gain).clamp(-1, 1)
