"""The public suites: where their files are, and what they may be used for.

None is part of this package: a file is fetched when its suite is first asked for, and kept in the
user's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.suites.fetch import fetch
from relay_diffusion.evaluation.suites.formats import (
    COCO_NUM,
    read_coco,
    read_dpg,
    read_drawbench,
    read_geneval,
    read_parti,
)
from relay_diffusion.evaluation.suites.prompt import Prompt, Suite
from relay_diffusion.files import cache_folder, sha256_of

_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Public:
    """A suite that its authors publish.

    Attributes:
        member: the file inside, where ``url`` is a zip archive.
        licence: of the prompts, as published.
        num: how many prompts it has; another number is another list, or a part of it.
    """

    url: str
    file: str
    licence: str
    read: Callable[[str], list[Prompt]]
    num: int
    member: str | None = None


PUBLIC = {
    "drawbench": Public(
        "https://huggingface.co/datasets/sayakpaul/drawbench/resolve/"
        "ad794cba698c253ffdb6d18eff3fc87b004c1135/DrawBench%20Prompts%20-%20Sheet1.csv",
        "drawbench.csv",
        "none stated by its authors (Google); the copy says Apache-2.0",
        read_drawbench,
        200,
    ),
    "parti": Public(
        f"{_GITHUB}/google-research/parti/2c99f6652cbc7f0d0441aa91f4c7e7055bcb0071/"
        "PartiPrompts.tsv",
        "PartiPrompts.tsv",
        "Apache-2.0",
        read_parti,
        1632,
    ),
    "geneval": Public(
        f"{_GITHUB}/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
        "geneval.jsonl",
        "MIT",
        read_geneval,
        553,
    ),
    "dpg": Public(
        f"{_GITHUB}/TencentQQGYLab/ELLA/main/dpg_bench/dpg_bench.csv",
        "dpg_bench.csv",
        "Apache-2.0",
        read_dpg,
        1065,
    ),
    "coco2014": Public(
        "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
        "captions_val2014.json",
        "CC BY 4.0 (annotations)",
        read_coco,
        COCO_NUM,
        "annotations/captions_val2014.json",
    ),
    "coco2017": Public(
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        "captions_val2017.json",
        "CC BY 4.0 (annotations)",
        read_coco,
        COCO_NUM,
        "annotations/captions_val2017.json",
    ),
}


def public_suite(name: str, folder: Path | None = None) -> Suite:
    """A suite of ``PUBLIC``, its file fetched if it is not in ``folder`` (the user's cache) yet.

    Raises: RelayError if it can neither be found nor fetched, or has another form or number of
        prompts. What was fetched is not kept then.
    """
    suite = PUBLIC[name]

    def read(path: Path) -> list[Prompt]:
        prompts = suite.read(path.read_text(encoding="utf-8-sig"))
        if len(prompts) != suite.num:
            raise ValueError(f"it holds {len(prompts)} prompts, not {suite.num}")
        return prompts

    path = fetch(suite.url, (folder or cache_folder("suites")) / suite.file, suite.member, read)
    try:
        prompts = read(path)
    except (ValueError, OSError) as error:
        raise RelayError(
            f"{path} is not the file of {name}: {error}; delete it, and it is fetched again from "
            f"{suite.url}"
        ) from error
    source = {
        "file": suite.file,
        "url": suite.url,
        "licence": suite.licence,
        "sha256": sha256_of(path),
    }
    return Suite(name, tuple(prompts), source)


def with_references(suite: Suite, folder: Path) -> Suite:
    """A suite whose prompts have the pictures of ``folder`` for references: by the prompt's id as
    their name, with or without an ending.

    Raises: RelayError if a prompt has none.
    """
    if not folder.is_dir():
        raise RelayError(f"{folder} is no folder; give one with the references of {suite.name}")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    by_name = {path.stem: path for path in files} | {path.name: path for path in files}
    missing = [prompt.id for prompt in suite.prompts if prompt.id not in by_name]
    if missing:
        raise RelayError(
            f"{folder} has no picture named {missing[0]!r}, and lacks {len(missing)} of "
            f"{len(suite.prompts)}; pictures are named after the ids of the prompts"
        )
    prompts = tuple(replace(prompt, reference=by_name[prompt.id]) for prompt in suite.prompts)
    return replace(suite, prompts=prompts)
