"""What is compared: folders of pictures, from any model, sorted by prompt."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from relay_diffusion.data.pictures.records import escaped
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.texts import one_line, read_texts, texts_in
from relay_diffusion.pipelines.metadata import read_record

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True)
class Picture:
    """A picture file; ``digest`` is the SHA-256 of its bytes."""

    path: Path
    width: int
    height: int
    digest: str


@dataclass(frozen=True)
class Entry:
    """A model with its pictures of each prompt in the order of their seeds.

    Attributes:
        left_out: names of files without a prompt in a folder whose other pictures carry theirs,
            such as the grid that ``relay generate`` writes beside them.
    """

    model: str
    pictures: Mapping[str, Sequence[Picture]]
    left_out: Sequence[str]


def read_entries(named: Sequence[str | Path], prompts: Path | None = None) -> list[Entry]:
    """Open the folders of the models to compare, each given as FOLDER or NAME=FOLDER. Without a
    name, that of the folder is the model's, whatever it is compared with.

    The prompt of a picture is the one that relay wrote into it, or else what a text file says of
    its name (``prompts``, or the folder's own prompts.jsonl or prompts.txt), or else the name.

    Raises: RelayError if there are fewer than two folders, one is given twice, is missing or holds
        no picture, two models have one name, or a picture or a text file cannot be read.
    """
    models, folders = zip(*map(_named, named), strict=True) if named else ((), ())
    if len(folders) < 2:
        raise RelayError(
            f"{len(folders) or 'no'} folder{'s' if len(folders) != 1 else ''} of pictures: "
            "name two or more, one a model: relay arena A B"
        )
    for folder in folders:
        if not folder.is_dir():
            raise RelayError(f"{folder} is no folder; give folders of pictures, one a model")
    places = [folder.resolve() for folder in folders]
    twice = [folder for folder, num in Counter(places).items() if num > 1]
    if twice:
        raise RelayError(f"{twice[0]} is given twice; a model is not compared with itself")
    for model, num in Counter(models).items():
        if num > 1:
            given = [folder for folder, name in zip(folders, models, strict=True) if name == model]
            raise RelayError(
                f"two models would be called {model!r}: name them, as in A={given[0]} B={given[1]}"
            )
    texts = read_texts(prompts) if prompts else None
    return [
        _read_entry(folder, model, texts) for folder, model in zip(folders, models, strict=True)
    ]


def _named(given: str | Path) -> tuple[str, Path]:
    """Model and folder. Links are not followed: "latest" is called so whatever it leads to."""
    name, found, folder = str(given).partition("=")
    if found and name and not Path(given).is_dir():
        return one_line(escaped(name)), Path(folder)
    return escaped(Path(os.path.abspath(given)).name), Path(given)


def _read_entry(folder: Path, model: str, texts: Mapping[str, str] | None) -> Entry:
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]
    files = sorted((file for file in files if not file.name.startswith(".")), key=_by_number)
    if not files:
        raise RelayError(f"{folder} holds no pictures; they end in {', '.join(sorted(SUFFIXES))}")
    made = [_making(file) for file in files]
    relay_made = any(prompt for prompt, _ in made)
    if texts is None:
        texts = {} if all(prompt for prompt, _ in made) else texts_in(folder)
    found: dict[str, list[tuple[int, int, Picture]]] = defaultdict(list)
    left_out = []
    for index, (file, (written, seed)) in enumerate(zip(files, made, strict=True)):
        prompt = written or texts.get(file.name) or texts.get(file.stem)
        if prompt is None and relay_made:
            left_out.append(escaped(file.name))
            continue
        prompt = one_line(escaped(prompt or _as_words(file.stem)))
        found[prompt].append((seed, index, _open(file)))
    pictures = {prompt: [item[-1] for item in sorted(all_)] for prompt, all_ in found.items()}
    return Entry(model, pictures, left_out)


def _by_number(file: Path) -> list[tuple[int, str]]:
    """Sorts picture-2 before picture-10."""
    parts = re.split(r"(\d+)", file.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _as_words(stem: str) -> str:
    return re.sub(r"[-_\s]+", " ", stem).strip() or stem


def _making(file: Path) -> tuple[str, int]:
    """Prompt and seed that relay wrote into a picture; empty and 0 where it did not."""
    try:
        record = read_record(file) or {}
    except RelayError as error:
        raise RelayError(f"{error}; remove it or make it again") from error
    prompt, seed = record.get("prompt"), record.get("seed")
    return prompt if isinstance(prompt, str) else "", seed if isinstance(seed, int) else 0


def _open(file: Path) -> Picture:
    try:
        with Image.open(file) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) > 4:  # Orientation: shown on its side
                width, height = height, width
            image.load()  # the header of a damaged file may be whole, and raters would vote on it
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RelayError(
            f"{file} cannot be read as a picture: {error}; remove it or make it again"
        ) from error
    return Picture(file, width, height, hashlib.sha256(file.read_bytes()).hexdigest())
