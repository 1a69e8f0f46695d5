"""Optimisers, and the course of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.data_settings import at_least, within


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser, with linear warm-up and a decay of its rate.

    Attributes:
        kind: "adamw" (arXiv:1711.05101); "adamw_8bit", the same with moments of eight bits a number
            (arXiv:2110.02861), by torchao; "muon" updates matrices and kernels along their
            orthogonalised momentum (arXiv:2502.16982, whose scaling makes AdamW's rates fit), all
            else with AdamW.
        lr: learning rate.
        betas: memories of the moments.
        eps: added to the root of the second moment.
        weight_decay: of matrices and kernels.
        clip: bound of the norm of the gradient, of all that learns together, of student and critic
            apart; 0 is none.
        warmup: steps in which the rate rises to ``lr``.
        schedule: how it falls to ``final`` times ``lr``.
        decay_steps: over how many of the last steps; 0 is all after the warm-up.
        final: share of ``lr`` that is left at the end.
        scales: module name to a factor of its rate; 0 keeps the module as it is.
        accumulate: splits each batch into that many parts, to save memory; the result is the same,
            but for what an adapter drops out.
            Several processes sum their gradients once, after the last part, and until then each
            keeps whole ones of what learns, in float32: where these are larger than a batch's
            activations, more devices or ``run.activation_checkpointing`` save more.
    """

    kind: Literal["adamw", "adamw_8bit", "muon"] = "adamw"
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int = 500
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    decay_steps: int = 0
    final: float = 0.0
    scales: dict[str, float] = field(default_factory=dict)
    accumulate: int = 1

    def __post_init__(self) -> None:
        at_least(1, accumulate=self.accumulate)
        at_least(0, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay, clip=self.clip)
        at_least(0, warmup=self.warmup, decay_steps=self.decay_steps)
        at_least(0, **{f"scales.{name}": scale for name, scale in self.scales.items()})
        within(0, 1, final=self.final)
        for name, value in (("lr", self.lr), ("eps", self.eps)):
            if not value < math.inf:
                raise RelayError(f"{name} is {value}, must be finite")
        if not self.eps:
            raise RelayError("eps is 0, must be above, such as 1e-8: gradients of 0 divide by it")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RelayError(f"betas is {list(self.betas)}, must be two of at least 0 and below 1")

    def lr_at(self, step: int, num_steps: int) -> float:
        """Learning rate of step 0, 1, ..., num_steps - 1."""
        lr = self.lr * min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return lr
        length = self.decay_steps or num_steps - self.warmup
        progress = min(1.0, max(0.0, (step + 1 - num_steps + length) / max(length, 1)))
        fall = progress if self.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return lr * (1 - (1 - self.final) * fall)


def build_optimizer(
    modules: Mapping[str, nn.Module], settings: OptimizerSettings
) -> torch.optim.Optimizer | MuonAndAdamW:
    """An optimiser of all that learns; weight decay on matrices and kernels only.

    Each group has its module's ``scale``, and parameters whose scale is 0 no longer ask for
    gradients. Raises: RelayError if a scale is for no module, or nothing is left to learn.
    """
    at_rest = {name for name in NETWORKS if settings.scales.get(name) == 0}
    unknown = settings.scales.keys() - modules.keys() - at_rest
    if unknown:
        raise RelayError(
            f"optimizer.scales.{min(unknown)}: what learns here is {', '.join(modules)}"
        )
    groups: list[dict[str, Any]] = []
    for name, module in modules.items():
        scale = settings.scales.get(name, 1.0)
        if scale == 0:
            module.requires_grad_(False)
        for kind, params in _by_kind(module, settings.kind == "muon").items():
            decay = 0.0 if kind == "vector" else settings.weight_decay
            if params:
                groups.append(
                    {"params": params, "weight_decay": decay, "scale": scale, "kind": kind}
                )
    if not groups:
        raise RelayError("optimizer.scales leaves nothing to learn")
    hidden = [group for group in groups if group["kind"] == "hidden"]
    others = [group for group in groups if group["kind"] != "hidden"]
    adamw: dict[str, Any] = {
        "lr": settings.lr,
        "betas": settings.betas,
        "eps": settings.eps,
    }
    if settings.kind == "adamw_8bit":
        return _adamw_8bit(others, adamw)
    adamw["fused"] = True
    if not hidden:
        return torch.optim.AdamW(others, **adamw)
    # It needs whole matrices, and several processes have parts of them.
    distributed.insist_on_one("optimizer.kind muon")
    return MuonAndAdamW(hidden, torch.optim.AdamW(others, **adamw), settings.lr)


def _adamw_8bit(groups: list[dict[str, Any]], arguments: dict[str, Any]) -> torch.optim.Optimizer:
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise RelayError("optimizer.kind adamw_8bit needs torchao: pip install torchao") from error
    # Its blocks of 256 numbers do not lie as the shards of several processes do.
    distributed.insist_on_one("optimizer.kind adamw_8bit")
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, **arguments)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer | MuonAndAdamW, lr: float) -> None:
    """Have all modules learn at ``lr``, times their scale."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # where the step is compiled
            group["lr"].fill_(lr * group["scale"])
        else:
            group["lr"] = lr * group["scale"]


NETWORKS = ("vae", "text_encoder", "unet")
"""May have a scale of 0 where they do not learn in any case."""

EDGES = (
    "conv_in",
    "conv_out",
    "shared",
    "embed_tokens",
    "relative_attention_bias",
    "queries",  # these three of training/reading.py
    "numbers",
    "answers",
)
"""First and last layers and tables of embeddings: not what orthogonal updates are for."""


def _by_kind(module: nn.Module, muon: bool) -> dict[str, list[nn.Parameter]]:
    """Its learning parameters: "hidden" ones are for Muon, "matrix" and "vector" for AdamW."""
    kinds: dict[str, list[nn.Parameter]] = {"hidden": [], "matrix": [], "vector": []}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        inner = muon and not any(edge in name.split(".") for edge in EDGES)
        matrix = parameter.ndim >= 2
        kinds["hidden" if matrix and inner else "matrix" if matrix else "vector"].append(parameter)
    return kinds


class MuonAndAdamW:
    """torch's Muon, which takes matrices only, on kernels seen as matrices, beside AdamW for the
    rest; what the loop asks of an optimiser."""

    def __init__(self, groups: list[dict[str, Any]], adamw: torch.optim.AdamW, lr: float) -> None:
        self.adamw = adamw
        self.pairs = [(p, nn.Parameter(_flat(p.detach(), p))) for g in groups for p in g["params"]]
        if any(flat.data_ptr() != p.data_ptr() for p, flat in self.pairs):
            raise RelayError("optimizer.kind muon needs weights that lie in memory as matrices")
        seen = iter(flat for _, flat in self.pairs)
        flats = [{**g, "params": [next(seen) for _ in g["params"]]} for g in groups]
        self.muon = torch.optim.Muon(flats, lr=lr, adjust_lr_fn="match_rms_adamw")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.muon.param_groups + self.adamw.param_groups

    def step(self) -> None:
        for parameter, flat in self.pairs:
            flat.grad = None if parameter.grad is None else _flat(parameter.grad, parameter)
        self.muon.step()
        self.adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.adamw.zero_grad(set_to_none)
        for parameter, flat in self.pairs:
            parameter.grad = flat.grad = None

    def states(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """What is kept of each parameter from step to step."""
        for parameter, flat in self.pairs:
            yield parameter, self.muon.state[flat]
        yield from self.adamw.state.items()


def _flat(x: Tensor, parameter: nn.Parameter) -> Tensor:
    """``x``, a parameter or its gradient, (out, in, h, w) as (out, in h w). The columns are in the
    parameter's order in memory, so that its own matrix is a view; Muon does not mind the order."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return (x.permute(0, 2, 3, 1) if last else x).flatten(1)
