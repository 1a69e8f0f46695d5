"""The average goes where its formula says."""

from __future__ import annotations

import torch
from torch import nn

from relay_diffusion.training.ema import Ema, EmaSettings


def test_an_average_keeps_its_share_of_what_it_was() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 2.0)
    ema = Ema({"m": module}, EmaSettings("fixed", decay=0.9))
    nn.init.constant_(module.weight, 7.0)
    ema.update(10**6)  # from where on the weight of the old average is ``decay``
    torch.testing.assert_close(ema.average["m.weight"], torch.tensor([[0.9 * 2 + 0.1 * 7]]))
    with ema.applied():
        torch.testing.assert_close(module.weight.detach(), ema.average["m.weight"])
    assert module.weight.item() == 7.0
