"""From the pictures of a suite to all that is said of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.render import render
from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.alignment import (
    alignment,
    alignment_by_task,
    sums_by_question,
    sums_by_task,
)
from relay_diffusion.evaluation.bootstrap import Score, Sums, scores_of
from relay_diffusion.evaluation.instruments import Instruments
from relay_diffusion.evaluation.judge import Judge, Verdict
from relay_diffusion.evaluation.making import Planned
from relay_diffusion.evaluation.metrics.distance import distances
from relay_diffusion.evaluation.metrics.features import (
    InceptionFeatures,
    JudgeFeatures,
    features_of,
    in_batches,
)
from relay_diffusion.evaluation.scorers.command import Scores
from relay_diffusion.evaluation.scorers.kept import kept_scores
from relay_diffusion.evaluation.suites.prompt import Suite
from relay_diffusion.files import sha256_of
from relay_diffusion.pipelines.pictures import from_pixels, open_picture, to_pixels

_PART = 32
"""Pictures in memory at once."""


@dataclass
class Measured:
    """What was found out about one model's pictures of one suite.

    Attributes:
        questions, tasks: the judge's, see ``alignment``.
        scores, scores_by_task: by scorer: "clip", and the names of commands.
        distances: see ``metrics.distance.Distances``.
        pictures: a row for each: prompt, seed, file, verdict, scores.
        notes: what could not be measured, and why.
        sums: what the scores are the means of, for differences between models: by kind
            ("questions", "tasks", "scores", and "SCORER by task") and name.
    """

    questions: dict[str, Score]
    tasks: dict[str, Score]
    scores: dict[str, Score]
    scores_by_task: dict[str, dict[str, Score]]
    versions: dict[str, str]
    distances: dict[str, Any] | None
    pictures: list[dict[str, Any]]
    notes: list[str]
    sums: dict[str, dict[str, Sums]] = field(default_factory=dict)


def measure(suite: Suite, planned: Sequence[Planned], tools: Instruments, out: Path) -> Measured:
    """Everything about one model's pictures of one suite.

    Args:
        out: the folder of the run: paths are told from there, scores of commands kept there.
    """
    num = len(planned) // len(suite.prompts)
    found = Measured({}, {}, {}, {}, {}, None, [], [])
    found.pictures = [
        {"prompt": one.prompt, "seed": one.seed, "file": one.path.relative_to(out).as_posix()}
        for one in planned
    ]
    if tools.judge is not None and any(prompt.asked for prompt in suite.prompts):
        verdicts = read_all(tools.judge, _open_all([one.path for one in planned]))
        for row, verdict in zip(found.pictures, verdicts, strict=True):
            row["verdict"] = asdict(verdict)
        read = [verdicts[i : i + num] for i in range(0, len(verdicts), num)]
        found.sums["questions"] = sums_by_question(suite.prompts, read)
        found.sums["tasks"] = sums_by_task(suite.prompts, read)
        found.questions = scores_of(found.sums["questions"])
        found.tasks = scores_of(found.sums["tasks"])
    for name, given in _all_scores(suite, planned, tools, out, found.notes):
        found.versions[name] = given.version
        for row, value in zip(found.pictures, given.values, strict=True):
            row.setdefault("scores", {})[name] = value
        sums, by_task = _by_prompt(suite, given.values, num)
        found.sums.setdefault("scores", {})[name] = sums
        if by_task:
            found.scores_by_task[name] = scores_of(by_task)
            found.sums[f"{name} by task"] = by_task
    found.scores = scores_of(found.sums.get("scores", {}))
    try:
        found.distances = _distances(suite, planned, tools)
    except ModuleNotFoundError as error:
        found.notes.append(f"no distances: {error}: pip install 'relay-diffusion[eval]'")
    return found


def read_all(judge: Judge, pictures: Iterator[Image.Image]) -> list[Verdict]:
    """The judge's verdicts on pictures of any sizes."""
    return [v for batch in in_batches(pictures, _PART) for v in judge.read(to_pixels(batch))]


def true_pictures(
    atlas: Atlas, scenes: Sequence[Scene], size: tuple[int, int]
) -> Iterator[Image.Image]:
    """Scenes as they should look, in 8 bits as pictures are saved; ``size`` is width, height."""
    for start in range(0, len(scenes), _PART):
        x = render(atlas, scenes[start : start + _PART], size[1], size[0])
        yield from from_pixels(x, "pil")


def truth(suite: Suite, tools: Instruments, size: tuple[int, int]) -> dict[str, dict[str, Score]]:
    """What the judge says of true pictures of the suite's own scenes: the score of a model that
    makes no mistake. Empty where there is no drawing them."""
    scenes = [prompt.asked for prompt in suite.prompts if isinstance(prompt.asked, Scene)]
    if tools.judge is None or tools.atlas is None or len(scenes) < len(suite.prompts):
        return {}
    verdicts = read_all(tools.judge, true_pictures(tools.atlas, scenes, size))
    read = [[verdict] for verdict in verdicts]
    return {
        "questions": alignment(suite.prompts, read),
        "tasks": alignment_by_task(suite.prompts, read),
    }


def _distances(
    suite: Suite, planned: Sequence[Planned], tools: Instruments
) -> dict[str, Any] | None:
    """To as many true pictures as there are pictures; None where there are none to be had."""
    references: Iterator[Image.Image]
    features: JudgeFeatures | InceptionFeatures
    if suite.scene_at is not None and tools.atlas is not None and tools.judge_features is not None:
        features = tools.judge_features
        with Image.open(planned[0].path) as picture:
            size = picture.size
        scenes = [suite.scene_at(index) for index in range(len(planned))]
        references = true_pictures(tools.atlas, scenes, size)
    elif all(prompt.reference for prompt in suite.prompts) and tools.inception is not None:
        features = tools.inception
        references = _open_all([prompt.reference for prompt in suite.prompts if prompt.reference])
    else:
        return None
    if min(len(planned), len(suite.prompts)) < 2:
        return None
    made = features_of(features, _open_all([one.path for one in planned]), tools.device)
    true = features_of(features, references, tools.device)
    return asdict(distances(made, true, features.name))


def _all_scores(
    suite: Suite,
    planned: Sequence[Planned],
    tools: Instruments,
    out: Path,
    notes: list[str],
) -> Iterator[tuple[str, Scores]]:
    if tools.clip is not None:
        values = []
        for start in range(0, len(planned), _PART):
            part = planned[start : start + _PART]
            pictures = list(_open_all([one.path for one in part]))
            values += tools.clip.score([one.prompt for one in part], pictures)
        yield "clip", Scores(values, tools.clip.name)
    rows = [
        {
            "prompt": one.prompt,
            "path": str(one.path.resolve()),
            "suite": suite.name,
            "id": suite.prompts[one.number].id,
            "task": suite.prompts[one.number].task,
        }
        for one in planned
    ]
    contents = [sha256_of(one.path) for one in planned] if tools.scorers else []
    for scorer in tools.scorers:
        try:
            yield scorer.name, kept_scores(scorer, rows, contents, out / "scores")
        except RelayError as error:
            notes.append(str(error))


def _by_prompt(suite: Suite, values: Sequence[float], num: int) -> tuple[Sums, dict[str, Sums]]:
    """Of all prompts, and of those of each task."""
    sums = {i: (sum(values[i * num : (i + 1) * num]), num) for i in range(len(suite.prompts))}
    tasks: dict[str, dict[int, tuple[float, int]]] = defaultdict(dict)
    for i, prompt in enumerate(suite.prompts):
        if prompt.task is not None:
            tasks[prompt.task][i] = sums[i]
    return sums, dict(tasks)


def _open_all(paths: Sequence[Path]) -> Iterator[Image.Image]:
    return (open_picture(path) for path in paths)
