"""How often pictures show what was asked for, by question and by task, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from relay_diffusion.evaluation.bootstrap import Score, Sums, scores_of
from relay_diffusion.evaluation.judge import Verdict, agreement
from relay_diffusion.evaluation.suites.prompt import Prompt

EVERYTHING = "everything"
"""The share of pictures that show every fact asked for."""

FACTS = "facts"
"""The share of a picture's facts that it shows, on the mean over pictures."""

TASK_QUESTIONS = {
    "one subject": ("subject",),
    "two subjects": ("both subjects",),
    "counting": ("count",),
    "colour": ("subject", "colour"),
    "position": ("both subjects", "position"),
    "colour attribution": ("both subjects", "colour"),
    "style": ("style",),
    "background": ("background",),
}
"""What a picture must get right to solve a task, as GenEval (arXiv:2310.11513) has it: a position
without both things is wrong, a colour without the thing too."""

Answers = Mapping[str, float]
"""0 or 1 for a question, a share for ``FACTS``."""

Read = Sequence[Sequence[Verdict]]


def alignment(prompts: Sequence[Prompt], read: Read) -> dict[str, Score]:
    """Scores by question (see ``judge.agreement``), and of "facts" and "everything"; ``read[i]``
    are the verdicts on the pictures of prompt i. Prompts without facts are left out."""
    return scores_of(sums_by_question(prompts, read))


def alignment_by_task(prompts: Sequence[Prompt], read: Read) -> dict[str, Score]:
    """Scores by the tasks of ``TASK_QUESTIONS``, each over the prompts that pose it."""
    return scores_of(sums_by_task(prompts, read))


def sums_by_question(prompts: Sequence[Prompt], read: Read) -> dict[str, Sums]:
    """What the scores of ``alignment`` are the means of, prompt by prompt."""

    def named(prompt: Prompt, answers: Answers) -> Answers:
        if not answers:
            return {}
        shown = sum(answers.values()) / len(answers)
        return {**answers, FACTS: shown, EVERYTHING: shown == 1}

    return _sums(prompts, read, named)


def sums_by_task(prompts: Sequence[Prompt], read: Read) -> dict[str, Sums]:
    """What the scores of ``alignment_by_task`` are the means of, prompt by prompt."""

    def named(prompt: Prompt, answers: Answers) -> Answers:
        if prompt.task not in TASK_QUESTIONS:
            return {}
        solved = all(answers.get(question, 0) for question in TASK_QUESTIONS[prompt.task])
        return {prompt.task: solved}

    return _sums(prompts, read, named)


def _sums(
    prompts: Sequence[Prompt], read: Read, named: Callable[[Prompt, Answers], Answers]
) -> dict[str, Sums]:
    sums: dict[str, dict[int, tuple[float, int]]] = defaultdict(dict)
    for number, (prompt, verdicts) in enumerate(zip(prompts, read, strict=True)):
        if prompt.asked is None:
            continue
        counts: dict[str, list[float]] = defaultdict(lambda: [0, 0])
        for verdict in verdicts:
            for name, holds in named(prompt, agreement(prompt.asked, verdict)).items():
                counts[name][0] += holds
                counts[name][1] += 1
        for name, (right, num) in counts.items():
            sums[name][number] = (right, int(num))
    return dict(sums)
