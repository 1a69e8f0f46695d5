"""Relay cascades in a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from PIL import Image

from relay_diffusion import __version__
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.painters import Record, Where, generators, plain
from relay_diffusion.pipelines.devices import pick_dtype
from relay_diffusion.pipelines.metadata import Parameters
from relay_diffusion.pipelines.notices import quoted
from relay_diffusion.pipelines.opening import open_cascade
from relay_diffusion.pipelines.prompting import NO_TOKENIZER
from relay_diffusion.pipelines.prompts import ExpansionError, language_model, long_form
from relay_diffusion.pipelines.settings import resolve_settings


class CascadePainter:
    """A ``RelayPipeline`` with the settings of an entry."""

    def __init__(self, entry: Entry, where: Where) -> None:
        """Raises: RelayError if it cannot be opened, or run with these settings."""
        dtype = where.dtype or pick_dtype("auto", where.device)
        self.pipe = open_cascade(entry.source, where.device, dtype, where.low_memory)
        self.pipe.set_progress_bar_config(disable=True)
        if self.pipe.tokenizer is None:
            raise RelayError(NO_TOKENIZER)
        options = entry.options
        width, height = options.get("size", (None, None))
        stages = self.pipe.stages_for(height, width)
        self.height, self.width = stages[-1]
        self.sampling = resolve_settings(
            self.pipe.config,
            self.pipe.distilled,
            num_inference_steps=options.get("steps"),
            num_relay_steps=options.get("relay_steps"),
            guidance_scale=options.get("guidance"),
            relay_guidance_scale=options.get("relay_guidance"),
            solver=options.get("solver"),
            eta=options.get("eta", 0.0),
        )
        choice, model = options.get("expand", False), options.get("expander_model")
        self._expander = self.pipe.expander_for(choice, model)
        self._source, self._dtype, self._low_memory = entry.source, dtype, where.low_memory
        relays = [self.sampling.num_relay_steps] * (len(stages) - 1)
        self.resolved = {
            "steps": "+".join(str(num) for num in [self.sampling.num_inference_steps, *relays]),
            "size": [self.width, self.height],
            "guidance_scale": self.sampling.guidance_scale,
            "relay_guidance_scale": self.sampling.relay_guidance_scale,
            "solver": self.sampling.solver,
            "eta": self.sampling.eta,
            "relay_start": list(self.sampling.relay_start),
            "expand": choice,
            **({"expander_model": model} if model else {}),
            **language_model(self._expander),
            "dtype": plain(dtype),
        }

    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Raises: RelayError if the expander fails, where ``relay generate`` would go on with what
        was typed: that picture would be measured as one of an expanded prompt. An answer of no use
        is the language model's own, so the prompt stays as typed and is counted (``Batch``)."""
        if self._expander is None:
            return list(prompts)
        return [self._long_form(*each) for each in zip(prompts, seeds, strict=True)]

    def _long_form(self, prompt: str, seed: int) -> str:
        assert self._expander is not None
        tokenizer, max_tokens = self.pipe.tokenizer, self.pipe.config.max_tokens
        try:
            return long_form(self._expander, prompt, seed, tokenizer, max_tokens)
        except ExpansionError as error:
            raise RelayError(
                f"{quoted(prompt)} cannot be expanded: {error}; mend that and run the same command "
                "again, it goes on from here, or evaluate without expansion in another --out"
            ) from error

    def paint(self, texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        sampling = self.sampling
        pictures: list[Image.Image] = self.pipe(
            list(texts),
            height=self.height,
            width=self.width,
            num_inference_steps=sampling.num_inference_steps,
            num_relay_steps=sampling.num_relay_steps,
            guidance_scale=sampling.guidance_scale,
            relay_guidance_scale=sampling.relay_guidance_scale,
            solver=sampling.solver,
            eta=sampling.eta,
            generator=generators(seeds),
        ).images
        return pictures

    def record(self, prompt: str, seed: int, text: str) -> Record:
        parameters = Parameters(
            prompt=prompt,
            negative_prompt=None,
            model=self._source,
            seed=seed,
            width=self.width,
            height=self.height,
            num_inference_steps=self.sampling.num_inference_steps,
            num_relay_steps=self.sampling.num_relay_steps,
            guidance_scale=self.sampling.guidance_scale,
            relay_guidance_scale=self.sampling.relay_guidance_scale,
            solver=self.sampling.solver,
            eta=self.sampling.eta,
            dtype=plain(self._dtype),
            low_memory=self._low_memory,
            version=__version__,
            expanded_prompt=text if text != prompt else None,
        )
        return Record(asdict(parameters), parameters.to_text())
