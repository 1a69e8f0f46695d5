"""How much of a freely typed prompt the scenes expander reads: 100 prompts that no template wrote.

python benchmarks/expansion_recovery.py [--show]      # --show prints what was read wrongly
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib.resources import files
from typing import Any

from relay_diffusion.data.scenes.facts import Facts
from relay_diffusion.data.scenes.fitting import fit
from relay_diffusion.data.scenes.parsing import parse
from relay_diffusion.data.scenes.scene import INVERSE
from relay_diffusion.data.scenes.world import World

LISTS = ("subjects", "counts", "tints", "sizes")


def read_facts(facts: Facts) -> dict[str, Any]:
    """In the form of the suite."""
    return {
        "subjects": [thing.subject for thing in facts.things],
        "counts": [thing.count for thing in facts.things],
        "tints": [thing.tint for thing in facts.things],
        "sizes": [thing.size for thing in facts.things],
        "relation": facts.relation,
        "background": facts.background,
        "style": facts.style,
    }


def turned(read: dict[str, Any]) -> dict[str, Any]:
    """The same, its things told in the other order."""
    relation = read["relation"]
    lists = {name: read[name][::-1] for name in LISTS}
    return {**read, **lists, "relation": INVERSE.get(relation, relation)}


def main() -> None:
    text = files("relay_diffusion.evaluation").joinpath("suites_data/free.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    world, right = World.small(), Counter[str]()
    for row in rows:
        read, truth = read_facts(fit(parse(row["prompt"]), world)[0]), row["facts"]
        # Which of two things comes first is free; the relation turns with it.
        best = max(
            (read, turned(read)), key=lambda r: sum(r[name] == truth[name] for name in truth)
        )
        wrong = [name for name in truth if best[name] != truth[name]]
        right.update(name for name in truth if name not in wrong)
        right["all facts"] += not wrong
        if wrong and "--show" in sys.argv:
            print(row["prompt"], *(f"\n    {n}: {best[n]}, not {truth[n]}" for n in wrong))
    for name, number in right.items():
        print(f"{name:12} {number} of {len(rows)}")


if __name__ == "__main__":
    main()
