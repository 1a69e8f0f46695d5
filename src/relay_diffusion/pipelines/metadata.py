"""Pictures that know how they were made: parameters in the text of a PNG."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from relay_diffusion.config import from_dict
from relay_diffusion.errors import RelayError
from relay_diffusion.files import put

KEY = "relay"
_READABLE_KEY = "parameters"  # where picture viewers of the field look
_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "str | None": (str, type(None)),
    "int": int,
    "float": (int, float),
    "bool": bool,
    "float | None": (int, float, type(None)),
    "tuple[UsedAdapter, ...]": list,
    "UsedImage | None": (dict, type(None)),
}


@dataclass(frozen=True)
class UsedAdapter:
    """An adapter that a picture was made with: its folder as the user named it, its scale, and the
    SHA-256 of its file."""

    path: str
    scale: float
    sha256: str

    def __str__(self) -> str:
        return f"{self.path}:{self.scale:g} ({self.sha256[:12]})"


@dataclass(frozen=True)
class UsedImage:
    """A picture that another one was started from: its file as the user named it, and the SHA-256
    of it."""

    path: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.path} ({self.sha256[:12]})"


@dataclass(frozen=True)
class Parameters:
    """Everything that ``relay generate`` needs to make a picture again, nothing left to defaults.

    Attributes:
        model: as the user named it.
        seed: of the picture's own generator, on the CPU.
        dtype: of the networks, the VAE being in float32.
        version: of this package.
        expanded_prompt: what the picture was made of instead of ``prompt``, None if of that.
        adapters: in the order in which they were put in.
        image: that the base stage started from, None if from noise alone.
        strength: with ``image``, the share of the base stage's steps that was run.
        relay_guidance_scale: of the relay stages, None: ``guidance_scale``.
    """

    prompt: str
    negative_prompt: str | None
    model: str
    seed: int
    width: int
    height: int
    num_inference_steps: int
    num_relay_steps: int
    guidance_scale: float
    solver: str
    eta: float
    dtype: str
    low_memory: bool
    version: str
    expanded_prompt: str | None = None
    adapters: tuple[UsedAdapter, ...] = ()
    image: UsedImage | None = None
    strength: float | None = None
    relay_guidance_scale: float | None = None

    def to_text(self) -> str:
        """For people, in the form that picture viewers of the field show."""
        lines = [self.prompt]
        if self.expanded_prompt:
            lines.append(f"Expanded prompt: {self.expanded_prompt}")
        lines += _negative_and_adapters(self)
        if self.image:
            lines.append(f"Image: {self.image}, Denoising strength: {self.strength:g}")
        scale = f"CFG scale: {self.guidance_scale:g}"
        if self.relay_guidance_scale not in (None, self.guidance_scale):
            scale += f", Relay CFG scale: {self.relay_guidance_scale:g}"
        lines.append(
            f"Steps: {self.num_inference_steps}, Relay steps: {self.num_relay_steps}, "
            f"Sampler: {self.solver}, Eta: {self.eta:g}, {scale}, "
            f"{_identity(self)}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Upscaling:
    """How ``relay upscale`` made a picture.

    Attributes:
        upscaled: the picture that it was made of, without the folder where that lay.
        times: doublings.
        strength: start level of all doublings, or of each, the last one repeated.
        seed, dtype, version: as of ``Parameters``; the others are those of ``upscale``.
    """

    upscaled: UsedImage
    prompt: str | None
    negative_prompt: str | None
    times: int
    strength: float | list[float]
    model: str
    seed: int
    width: int
    height: int
    num_relay_steps: int
    guidance_scale: float
    solver: str
    eta: float
    dtype: str
    low_memory: bool
    version: str
    adapters: tuple[UsedAdapter, ...] = ()

    def to_text(self) -> str:
        """In the form of ``Parameters.to_text``."""
        starts = self.strength if isinstance(self.strength, list) else [self.strength]
        levels = " ".join(f"{start:g}" for start in starts)
        lines = [self.prompt or "", *_negative_and_adapters(self)]
        lines.append(
            f"Upscaled: {self.upscaled}, Doublings: {self.times}, Start level: {levels}, "
            f"Relay steps: {self.num_relay_steps}, Sampler: {self.solver}, Eta: {self.eta:g}, "
            f"CFG scale: {self.guidance_scale:g}, {_identity(self)}"
        )
        return "\n".join(lines)


def _negative_and_adapters(made: Parameters | Upscaling) -> list[str]:
    lines = [f"Negative prompt: {made.negative_prompt}"] if made.negative_prompt else []
    if made.adapters:
        lines.append(f"Adapters: {', '.join(map(str, made.adapters))}")
    return lines


def _identity(made: Parameters | Upscaling) -> str:
    return (
        f"Seed: {made.seed}, Size: {made.width}x{made.height}, Model: {made.model}, "
        f"Version: relay-diffusion {made.version}"
    )


def save_picture(image: Image.Image, path: Path, record: dict[str, Any], readable: str) -> None:
    """Write a PNG with ``record`` as JSON under "relay" and ``readable`` under "parameters".

    The file appears whole or not at all. Raises: OSError if it cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add_itxt(KEY, json.dumps(record, ensure_ascii=False))
    text.add_itxt(_READABLE_KEY, readable)
    with put(path) as new:
        image.save(new, format="PNG", pnginfo=text)


def read_record(path: Path) -> dict[str, Any] | None:
    """What ``save_picture`` kept in a file; None if it is a picture without it.

    Raises: RelayError if the file is missing or no picture, or its record is damaged.
    """
    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(KEY)
    except FileNotFoundError:
        raise RelayError(f"there is no picture {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RelayError(f"{path} cannot be read as a picture: {error}") from error
    if text is None:
        return None
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise RelayError(f"{path}: its parameters are damaged")
    return record


def read_parameters(path: Path) -> Parameters:
    """The parameters of a picture that ``relay generate`` made.

    Raises: RelayError if it carries none, or they are of another kind.
    """
    record = read_record(path)
    if record is None:
        raise RelayError(
            f"{path} does not say how it was made: give a picture that relay generate wrote, not a "
            "grid of several"
        )
    if "grid" in record:
        raise RelayError(
            f"{path} is a grid of {record['grid']} pictures and holds the parameters of none: give "
            "one of the pictures"
        )
    if "upscaled" in record:
        raise RelayError(f"{path} was made by relay upscale; give a picture of relay generate")
    fields = dataclasses.fields(Parameters)
    # A field with a default came later than the first pictures.
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    missing = [name for name in required if name not in record]
    if missing:
        raise RelayError(
            f"{path} cannot be made again from its parameters: {', '.join(missing)} is missing"
        )
    known = [field for field in fields if field.name in record]
    for field in known:
        if not isinstance(record[field.name], _JSON_TYPES[str(field.type)]):
            raise RelayError(f"{path}: its parameters are damaged: {field.name} is no {field.type}")
    values = {field.name: record[field.name] for field in known}
    try:
        values["adapters"] = tuple(
            from_dict(UsedAdapter, one, "adapters") for one in record.get("adapters", ())
        )
        if record.get("image") is not None:
            values["image"] = from_dict(UsedImage, record["image"], "image")
    except RelayError as error:
        raise RelayError(f"{path}: its parameters are damaged: {error}") from error
    if values.get("relay_guidance_scale") is None:  # from before the relay had one of its own
        values["relay_guidance_scale"] = values["guidance_scale"]
    return Parameters(**values)
