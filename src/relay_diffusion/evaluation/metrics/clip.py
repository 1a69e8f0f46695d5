"""CLIPScore: how near a picture and its prompt are in CLIP's space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relay_diffusion.errors import RelayError, first_line

# Of OpenAI's CLIP; the models trained after it kept them.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


class ClipScorer:
    """A CLIP model that scores pictures against texts.

    The picture's shorter side is resized to the model's (bicubic), the middle cut out.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name

    @classmethod
    def from_pretrained(cls, name: str | Path) -> ClipScorer:
        """Open a folder, or a hub id as "openai/clip-vit-base-patch16".

        Raises: RelayError if it cannot be opened.
        """
        from transformers import AutoTokenizer, CLIPModel

        try:
            model = CLIPModel.from_pretrained(name)
            return cls(model, AutoTokenizer.from_pretrained(name), str(name))
        except (OSError, ValueError) as error:
            first = first_line(error)
            raise RelayError(f"{name} cannot be opened as a CLIP model: {first}") from error

    @torch.no_grad()
    def score(self, prompts: Sequence[str], pictures: Sequence[Image.Image]) -> list[float]:
        """100 max(cos, 0) of each picture and its prompt, 0 to 100 (arXiv:2104.08718, eq. 1, with
        100 in the place of 2.5); what is beyond CLIP's 77 tokens is not read."""
        config = self.model.config
        tokens = self.tokenizer(
            list(prompts),
            padding=True,
            truncation=True,
            max_length=config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        side = config.vision_config.image_size
        device = next(self.model.parameters()).device
        output = self.model(
            input_ids=tokens["input_ids"].to(device),
            attention_mask=tokens["attention_mask"].to(device),
            pixel_values=torch.stack([_prepare(picture, side) for picture in pictures]).to(device),
        )
        cosine = (output.image_embeds * output.text_embeds).sum(-1)  # both of unit length
        return [100 * max(value, 0.0) for value in cosine.tolist()]


def _prepare(picture: Image.Image, side: int) -> Tensor:
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    picture = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)), dtype=np.float32) / 255
    return torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1)
