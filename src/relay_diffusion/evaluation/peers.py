"""Models of others in a comparison, through diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from relay_diffusion import __version__
from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.fingerprint import num_parameters
from relay_diffusion.evaluation.painters import Record, Where, generators, plain


@dataclass(frozen=True)
class Peer:
    """A model and how the paper ran it (arXiv:2403.05121, table 1), or its authors recommend.

    Attributes:
        call: arguments of its pipeline; the steps are the paper's.
        dtype, variant: on an accelerator, and the files of that precision.
        unet, scheduler: in the place of its own: a hub id, and a diffusers class.
    """

    hub_id: str
    call: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.bfloat16
    variant: str | None = None
    class_name: str | None = None
    unet: str | None = None
    scheduler: str | None = None


_SIDE = {"height": 1024, "width": 1024}
_SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
PEERS = {
    "sdxl": Peer(_SDXL, {"num_inference_steps": 50, **_SIDE}, torch.float16, "fp16"),
    "lcm-sdxl": Peer(
        _SDXL,
        {"num_inference_steps": 4, "guidance_scale": 8.0, **_SIDE},
        torch.float16,
        "fp16",
        unet="latent-consistency/lcm-sdxl",
        scheduler="LCMScheduler",
    ),
    "stable-cascade": Peer(
        "stabilityai/stable-cascade",
        {"prior_num_inference_steps": 20, "num_inference_steps": 10, **_SIDE},
        variant="bf16",
        class_name="StableCascadeCombinedPipeline",
    ),
    "cogview3-plus": Peer(
        "THUDM/CogView3-Plus-3B",
        {"num_inference_steps": 50, "guidance_scale": 7.0, **_SIDE},
        class_name="CogView3PlusPipeline",
    ),
}


def find_peer(entry: Entry) -> tuple[Peer, list[Path]]:
    """What an entry stands for, and the folders of its weights, fetched from the hub if need be.

    Raises: RelayError if there is no such folder and the hub gives none.
    """
    peer = PEERS.get(entry.source, Peer(entry.source))
    folders = [_folder(peer.hub_id, peer.variant)]
    if peer.unet:
        folders.append(_folder(peer.unet, peer.variant, whole=False))
    return peer, folders


def _folder(name: str, variant: str | None, whole: bool = True) -> Path:
    if Path(name).is_dir():
        return Path(name)
    from diffusers import DiffusionPipeline
    from huggingface_hub import snapshot_download

    try:
        if whole:
            return Path(DiffusionPipeline.download(name, variant=variant))
        weights = f"*.{variant}.safetensors" if variant else "*.safetensors"
        return Path(snapshot_download(name, allow_patterns=["*.json", weights]))
    except Exception as error:  # no network, no such repository, no permission, disk full
        raise RelayError(
            f"{name} is no folder, and the hub gave none: {first_line(error)}"
        ) from error


class PeerPainter:
    """Any diffusers text-to-image pipeline."""

    def __init__(self, entry: Entry, where: Where) -> None:
        """Raises: RelayError if it does not fit into memory, or cannot be opened."""
        peer, folders = find_peer(entry)
        dtype = where.dtype or (torch.float32 if where.device.type == "cpu" else peer.dtype)
        if not where.low_memory:
            check_memory(folders, peer.variant, dtype, where.device)
        self.pipe = _open(peer, entry.class_name or peer.class_name, dtype)
        self.pipe.set_progress_bar_config(disable=True)
        if where.low_memory and where.device.type != "cpu":
            self.pipe.enable_model_cpu_offload(device=where.device)
        else:
            self.pipe.to(where.device)
        accepted = inspect.signature(self.pipe.__call__).parameters
        self.call = {**peer.call, **_asked(entry.options)}
        refused = [name for name in self.call if name not in accepted]
        if refused:
            raise RelayError(f"{entry.label}: {type(self.pipe).__name__} takes no {refused[0]}")
        self.call = {
            name: self.call.get(name, parameter.default)
            for name, parameter in accepted.items()
            if name in self.call or name in ("num_inference_steps", "guidance_scale")
        }
        self._source = entry.source
        stages = ("prior_num_inference_steps", "num_inference_steps")
        self.resolved = {
            "steps": "+".join(str(self.call[name]) for name in stages if name in self.call),
            "pipeline": type(self.pipe).__name__,
            **self.call,
            "dtype": plain(dtype),
        }

    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return list(prompts)

    def paint(self, texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        pictures: list[Image.Image] = self.pipe(
            list(texts), generator=generators(seeds), **self.call
        ).images
        return pictures

    def record(self, prompt: str, seed: int, text: str) -> Record:
        values = {
            "prompt": prompt,
            "model": self._source,
            "seed": seed,
            **self.resolved,
            "version": __version__,
        }
        readable = f"{prompt}\nSteps: {self.resolved['steps']}, Seed: {seed}, Model: {self._source}"
        return Record(values, readable)


def check_memory(
    folders: Sequence[Path], variant: str | None, dtype: torch.dtype, device: torch.device
) -> None:
    """Raise RelayError if the weights alone need more memory than is free: on the CPU, the system
    would kill the whole run."""
    needed = sum(num_parameters(folder, variant) for folder in folders) * dtype.itemsize
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        import psutil

        free = psutil.virtual_memory().available
    if needed > free:
        raise RelayError(
            f"its weights need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on {device}"
        )


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    names = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
    call = {names[name]: value for name, value in options.items() if name in names}
    if "size" in options:
        call["width"], call["height"] = options["size"]
    return call


def _open(peer: Peer, class_name: str | None, dtype: torch.dtype) -> Any:
    import diffusers

    name = class_name or "DiffusionPipeline"
    if not hasattr(diffusers, name):
        raise RelayError(f"diffusers has no {name}; give the name of one of its pipelines")
    parts: dict[str, Any] = {}
    try:
        if peer.unet:
            parts["unet"] = diffusers.UNet2DConditionModel.from_pretrained(
                peer.unet, dtype=dtype, variant=peer.variant
            )
        pipe = getattr(diffusers, name).from_pretrained(
            peer.hub_id, dtype=dtype, variant=peer.variant, **parts
        )
        if peer.scheduler:
            kind = getattr(diffusers, peer.scheduler)
            pipe.scheduler = kind.from_config(pipe.scheduler.config)
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise RelayError(f"it cannot be opened: {first_line(error)}") from error
    return pipe
