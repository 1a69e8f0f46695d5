"""Model cards: the README.md of a cascade folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CONVERTED = """\
---
library_name: relay-diffusion
pipeline_tag: text-to-image
---

# {name}

A relay diffusion cascade, converted from released CogView3 checkpoints (arXiv:2403.05121) by
`relay convert`. Weights and their precision are as released, and so is their licence: see where
they came from.

| stage | pixels | steps | start level |
|---|---|---|---|
| base | {base_size} | {base_steps} | from noise |
| relay, each doubling | {relay_size} and up | {relay_steps} | {relay_start} of 1000 |

Guidance {guidance:g}{embedded}; prompts of up to {max_tokens} tokens.

```python
import torch
from relay_diffusion import RelayPipeline

pipe = RelayPipeline.from_pretrained("path/to/{name}", torch.bfloat16).to("cuda")
pipe("a red fox in the snow").images[0].save("fox.png")
```

The parts open with plain diffusers and transformers: `base_unet/` and `relay_unet/` are
`UNet2DConditionModel`, `vae/` is an `AutoencoderKL`, `text_encoder/` a `T5EncoderModel`. Run the
VAE in float32: it overflows in float16.
"""


def converted_card(name: str, index: Mapping[str, Any]) -> str:
    """The card of a converted cascade, from its model_index.json."""
    distilled = index["trained_base_steps"] or index["trained_relay_steps"]
    return _CONVERTED.format(
        name=name,
        base_size=index["base_size"],
        relay_size=2 * index["base_size"],
        base_steps=index["num_inference_steps"],
        relay_steps=index["num_relay_steps"],
        relay_start=index["relay_start"][0],
        guidance=index["guidance_scale"],
        embedded=", embedded in the distilled networks" if distilled else "",
        max_tokens=index["max_tokens"],
    )
