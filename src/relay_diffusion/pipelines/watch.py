"""What goes on beside a stage's sampling: progress bar, the user's callback, a look for NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relay_diffusion.errors import RelayError

if TYPE_CHECKING:
    from relay_diffusion.pipelines.cascade import RelayPipeline

StepCallback = Callable[["RelayPipeline", int, int, dict[str, Any]], dict[str, Any] | None]

CALLBACK_TENSORS = ("latents", "denoised")


@dataclass(frozen=True)
class WatchOptions:
    """The caller's ``callback_on_step_end``, and which tensors it wants of ``CALLBACK_TENSORS``."""

    on_step_end: StepCallback | None
    tensor_inputs: Sequence[str]

    @classmethod
    def of(cls, on_step_end: StepCallback | None, tensor_inputs: Sequence[str]) -> WatchOptions:
        """A ``PipelineCallback`` of diffusers, or several as one, name their tensors themselves."""
        return cls(on_step_end, getattr(on_step_end, "tensor_inputs", tensor_inputs))

    def __post_init__(self) -> None:
        if self.on_step_end is not None and not callable(self.on_step_end):
            raise RelayError(
                f"callback_on_step_end of type {type(self.on_step_end).__name__}; give a function"
            )
        unknown = [name for name in self.tensor_inputs if name not in CALLBACK_TENSORS]
        if unknown:
            raise RelayError(
                f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; allowed is "
                f"{', '.join(CALLBACK_TENSORS)}; guidance is changed by pipe.guidance_scale"
            )

    def called(
        self, pipe: RelayPipeline, step: int, index: int, at_hand: Mapping[str, Any]
    ) -> Tensor:
        """The latents to go on with after the callback.

        Args:
            at_hand: what it may be given, by name: ``CALLBACK_TENSORS`` and "stage".
        Raises: RelayError if it returns something changed that is not latents, or latents of
            another shape.
        """
        z: Tensor = at_hand["latents"]
        if self.on_step_end is None:
            return z
        kwargs = {name: at_hand[name] for name in (*self.tensor_inputs, "stage")}
        changed: Any = self.on_step_end(pipe, step, index, kwargs)
        if changed is None:
            return z
        if not isinstance(changed, Mapping):
            raise RelayError(
                f"callback_on_step_end returned a {type(changed).__name__}; it returns None, or a "
                'table such as {"latents": ...}'
            )
        lost = [name for name, value in changed.items() if value is not at_hand.get(name)]
        if set(lost) - {"latents"}:
            raise RelayError(
                f"callback_on_step_end returned {', '.join(lost)}; latents are all that it can "
                "change, beside pipe.guidance_scale and pipe.interrupt"
            )
        latents = changed.get("latents", z)
        if not isinstance(latents, Tensor) or latents.shape != z.shape:
            of = type(latents).__name__
            if isinstance(latents, Tensor):
                of = f"shape {tuple(latents.shape)}"
            raise RelayError(
                f"callback_on_step_end returned latents of {of}; they must be a tensor of shape "
                f"{tuple(z.shape)}, as those that it was given"
            )
        return latents


class Interrupted(Exception):
    """The caller has set ``pipe.interrupt``; carries the newest estimate of z_0."""

    def __init__(self, denoised: Tensor) -> None:
        super().__init__("interrupted")
        self.denoised = denoised


class StageWatch:
    """The samplers' ``callback`` for one stage; a context manager that holds its progress bar.

    Whether latents are finite is noted on the device and read once, when the stage ends: asking
    after each step would make a GPU wait for the CPU.
    """

    def __init__(
        self,
        pipe: RelayPipeline,
        stage: int,
        name: str,
        indices: Sequence[int],
        dtype: torch.dtype,
        options: WatchOptions,
    ) -> None:
        """
        Args:
            stage: 0 is the base stage.
            name: of the stage, for messages: "relay 512x512".
            indices: training index of each step.
            dtype: of the network, for messages.
        """
        self._pipe, self._stage, self._name, self._dtype = pipe, stage, name, dtype
        self._indices = indices
        self._options = options
        self._finite: list[Tensor] = []

    def __enter__(self) -> StageWatch:
        self._bar = self._pipe.progress_bar(total=len(self._indices))
        self._bar.set_description(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, step: int, sigma: float, z: Tensor, denoised: Tensor) -> Tensor | None:
        # A sum is finite exactly if all terms are: latents are far from float32's limit.
        self._finite.append(z.sum().isfinite())
        at_hand = {"latents": z, "denoised": denoised, "stage": self._stage}
        z = self._options.called(self._pipe, step, self._indices[step], at_hand)
        self._bar.update()
        if self._pipe.interrupt:
            raise Interrupted(denoised)
        return z

    def check_finite(self) -> None:
        """Raise RelayError naming the first step after which the latents were not finite."""
        finite = torch.stack(self._finite).tolist() if self._finite else [True]
        if not all(finite):
            where = f"step {finite.index(False) + 1} of {len(self._indices)}"
            raise RelayError(not_finite(f"the latents of {self._name} at {where}", self._dtype))


def not_finite(what: str, dtype: torch.dtype) -> str:
    """One line on values that are not finite: where, in which precision, what to do."""
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.float16:
        advice = "float16 overflows here: use bfloat16, or float32"
    elif dtype == torch.bfloat16:
        advice = "try float32; if it stays, the weights are damaged"
    else:
        advice = "lower the guidance; if it stays, the weights are damaged"
    return f"{what} are not finite (NaN), network in {name}: {advice}"
