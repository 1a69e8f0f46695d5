"""Adapters (LoRA, DoRA) of a cascade: putting them in, and writing them to a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.attaching import attach_adapter, check_adapter, detach_adapter
from relay_diffusion.models.lora import UNETS, Adapter, read_adapter, write_adapter
from relay_diffusion.pipelines.components import CascadeComponents


class AdaptedComponents(CascadeComponents):
    """The parts of a cascade, with adapters in its UNets."""

    def load_lora_adapter(
        self, adapter: str | Path | Adapter, scale: float = 1.0, adapter_name: str = "default"
    ) -> None:
        """Put an adapter into the UNets that it is for, either or both (docs/lora.md).

        Scale 0 changes nothing, 1 is what was trained, and the weights are linear in it. Several
        LoRAs add up, each under a name of its own; a DoRA acts on the output of those before it.

        Args:
            adapter: its folder, its file, or what ``models.lora.read_adapter`` made of that.
        Raises: RelayError if it is none, fits neither UNet, or one of that name is there.
        """
        if not math.isfinite(scale):
            raise RelayError(f"the scale of an adapter is {scale}, must be a number, such as 0.8")
        found = adapter if isinstance(adapter, Adapter) else read_adapter(adapter)
        opened = [part for part in found.tensors if getattr(self, part) is not None]
        if not opened:
            raise RelayError(
                f"{found.path} is for {' and '.join(found.tensors)}, "
                "which this cascade was opened without"
            )
        for part in opened:  # all of them before the first, so that it is whole or not there
            check_adapter(getattr(self, part), part, found, adapter_name)
        try:
            for part in opened:
                attach_adapter(getattr(self, part), part, found, scale, adapter_name, self)
        except RelayError:
            for part in opened:
                detach_adapter(getattr(self, part), adapter_name)
            raise

    def save_lora_adapter(self, folder: str | Path, adapter_name: str = "default") -> None:
        """Write the adapter of that name, of either UNet or of both, as it acts, its scale
        included, for ``load_lora_adapter``. One in the folder is replaced.

        Raises: RelayError if there is no adapter of that name.
        """
        unets = {part: getattr(self, part) for part in UNETS}
        adapted = {
            part: unet
            for part, unet in unets.items()
            if adapter_name in getattr(unet, "peft_config", {})
        }
        if not adapted:
            raise RelayError(f"neither UNet has an adapter named {adapter_name!r}")
        cascade = Path(self.config.get("_name_or_path") or "").name
        write_adapter(Path(folder), adapted, cascade, adapter_name)

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """As diffusers does. Raises: RelayError where a UNet has an adapter, whose layers would be
        written under names that no UNet has."""
        for part in UNETS:
            unet = getattr(self, part)
            if unet is not None and any(hasattr(layer, "base_layer") for layer in unet.modules()):
                raise RelayError(
                    f"{part} has adapters, with which no cascade can be opened again: "
                    "save_lora_adapter() saves them alone; for a cascade that has them in its "
                    "weights call fuse_lora() and unload_lora_weights() first, for one without "
                    "unload_lora_weights() only"
                )
        super().save_pretrained(save_directory, *args, **kwargs)
