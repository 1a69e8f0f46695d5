"""Adapters (LoRA, DoRA) of a cascade: putting them in, weighing them, writing them to a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.attaching import (
    active_adapters,
    attach_adapter,
    check_adapter,
    detach_adapter,
    has_adapter_layers,
    insist_on_unfused,
    insist_on_weights,
    is_fused,
)
from relay_diffusion.models.hub import name_of
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
        if not _is_weight(scale):
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
            self.enable_lora()
        except RelayError:
            for part in opened:
                detach_adapter(getattr(self, part), adapter_name)
            raise

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path,
        adapter_name: str = "default",
        weight_name: str | None = None,
    ) -> None:
        """``load_lora_adapter`` by diffusers' name, at scale 1: ``set_adapters`` weighs it.

        Args: weight_name: of the file in that folder, if it has another name than ours.
        """
        path = pretrained_model_name_or_path_or_dict
        self.load_lora_adapter(
            Path(path) / weight_name if weight_name else path, adapter_name=adapter_name
        )

    def save_lora_adapter(self, folder: str | Path, adapter_name: str = "default") -> None:
        """Write the adapter of that name, of either UNet or of both, as it acts, its scale and its
        weight included, for ``load_lora_adapter``. One in the folder is replaced.

        Raises: RelayError if there is no adapter of that name.
        """
        adapted = {
            part: unet for part, unet in self._adapted().items() if adapter_name in unet.peft_config
        }
        if not adapted:
            raise RelayError(f"neither UNet has an adapter named {adapter_name!r}")
        for unet in adapted.values():
            insist_on_weights(unet, "save_lora_adapter")
        cascade = name_of(Path(self.config.get("_name_or_path") or ""))
        write_adapter(Path(folder), adapted, cascade, adapter_name)

    def set_adapters(
        self,
        adapter_names: str | Sequence[str],
        adapter_weights: float | Sequence[float | None] | None = None,
    ) -> None:
        """Let these adapters act, in this order, and no others.

        Args:
            adapter_weights: of each, or one for all; None is 1. They multiply the scales that the
                adapters were loaded at. One that is of both UNets has one weight in both.
        Raises: RelayError for names that are not there or weights that are no finite numbers, for a
            DoRA at another weight than 1, and while adapters are fused.
        """
        names = self._known(adapter_names)
        given = adapter_weights
        each = list(given) if isinstance(given, Sequence) else [given] * len(names)
        weights = [1.0 if weight is None else weight for weight in each]
        if len(weights) != len(names) or not all(map(_is_weight, weights)):
            raise RelayError(
                f"adapter_weights {weights} for {len(names)} adapters; give a number, or one each"
            )
        adapted = self._adapted()
        weighed = dict(zip(names, weights, strict=True))
        for part, unet in adapted.items():
            insist_on_unfused(unet, part)
            _insist_on_linear(unet, [name for name, weight in weighed.items() if weight != 1])
        for unet in adapted.values():
            own = {name: weighed[name] for name in weighed if name in unet.peft_config}
            unet.set_adapters(list(own), list(own.values()))
            unet.enable_lora()

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of the adapters of each UNet that has any, those that do not act among them."""
        return {part: list(unet.peft_config) for part, unet in self._adapted().items()}

    def get_active_adapters(self) -> list[str]:
        """Names of the adapters that act, in either UNet, or would if they were not disabled."""
        active = [name for unet in self._adapted().values() for name in active_adapters(unet)]
        return list(dict.fromkeys(active))

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Take these adapters out of the UNets.

        Raises: RelayError for names that are not there, and while adapters are fused.
        """
        names, adapted = self._known(adapter_names), self._adapted()
        for part, unet in adapted.items():
            insist_on_unfused(unet, part)
        for unet in adapted.values():
            for name in names:
                detach_adapter(unet, name)

    def unload_lora_weights(self) -> None:
        """Take all adapters out of the UNets. Fused ones stay in the weights, for good."""
        for part in UNETS:
            unet = getattr(self, part)
            if unet is not None and has_adapter_layers(unet):
                unet.unload_lora()

    def disable_lora(self) -> None:
        """Let no adapter act until ``enable_lora``, or until they are weighed, fused or joined by
        another one.

        Raises: RelayError while adapters are fused.
        """
        for part, unet in self._adapted().items():
            insist_on_unfused(unet, part)
        for unet in self._adapted().values():
            unet.disable_lora()

    def enable_lora(self) -> None:
        """Let the adapters act again that did before ``disable_lora``."""
        for unet in self._adapted().values():
            unet.enable_lora()

    def fuse_lora(self, *, lora_scale: float = 1.0) -> None:
        """Add the adapters that act to the weights of the UNets, which makes these as fast as they
        were without. Others do not act until ``unfuse_lora``.

        Args:
            lora_scale: multiplies the weights that the adapters have.
        Raises: RelayError where the weights are out of reach, adapters are fused already, for a
            scale of 0 and for a DoRA at another scale than 1.
        """
        if not _is_weight(lora_scale) or lora_scale == 0:
            raise RelayError(
                f"lora_scale {lora_scale}; give a number such as 0.7; for none call disable_lora()"
            )
        adapted = self._adapted()
        for part, unet in adapted.items():
            insist_on_unfused(unet, part)
            insist_on_weights(unet, "fuse_lora")
            _insist_on_linear(unet, active_adapters(unet) if lora_scale != 1 else [])
        for unet in adapted.values():
            unet.enable_lora()  # peft would take off what is disabled at the first step
            unet.fuse_lora(lora_scale)

    def unfuse_lora(self) -> None:
        """Take what ``fuse_lora`` added off the weights again, but for rounding."""
        for unet in self._adapted().values():
            if is_fused(unet):
                unet.unfuse_lora()
                for layer in unet.modules():
                    if hasattr(layer, "unscale_layer"):  # left at that scale by diffusers
                        layer.unscale_layer(getattr(unet, "lora_scale", 1.0))

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """As diffusers does. Raises: RelayError where a UNet has an adapter, whose layers would be
        written under names that no UNet has."""
        for part in UNETS:
            unet = getattr(self, part)
            if unet is not None and has_adapter_layers(unet):
                raise RelayError(
                    f"{part} has adapters, with which no cascade can be opened again: "
                    "save_lora_adapter() saves them alone; for a cascade that has them in its "
                    "weights call fuse_lora() and unload_lora_weights() first, for one without "
                    "unload_lora_weights() only"
                )
        super().save_pretrained(save_directory, *args, **kwargs)

    def _adapted(self) -> dict[str, Any]:
        """The UNets that have adapters."""
        unets = {part: getattr(self, part) for part in UNETS}
        return {part: unet for part, unet in unets.items() if getattr(unet, "peft_config", None)}

    def _known(self, adapter_names: str | Sequence[str]) -> list[str]:
        """The names as a list. Raises: RelayError for one that no UNet has an adapter of."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        known = {name for unet in self._adapted().values() for name in unet.peft_config}
        unknown = sorted(set(names) - known)
        if unknown:
            there = f"there are {', '.join(sorted(known))}" if known else "there is none"
            raise RelayError(f"neither UNet has an adapter named {unknown[0]!r}; {there}")
        return names


def _is_weight(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _insist_on_linear(unet: Any, adapter_names: Sequence[str]) -> None:
    """Raise RelayError for a DoRA among these adapters."""
    for name in adapter_names:
        if name in unet.peft_config and unet.peft_config[name].use_dora:
            raise RelayError(
                f"the adapter {name!r} is a DoRA, which is weighed when it is loaded: "
                "delete_adapters, then load_lora_adapter with another scale"
            )
