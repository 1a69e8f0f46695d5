"""The pictures of several models from one `relay evaluate`, prompt by prompt on one sheet.

    python docs/results/side_by_side.py evaluation sheet.jpg [--suite scenes] [--num 32]
        [--side 128] [--models full fast]

The first prompts, with the first seed of each: nothing is picked.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw

GAP, TEXT = 4, 34


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--suite", default="scenes")
    parser.add_argument("--num", type=int, default=32)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--groups", type=int, default=2, help="prompts in a row")
    parser.add_argument("--models", nargs="*")
    arguments = parser.parse_args()
    result = json.loads((arguments.evaluation / "scores.json").read_text(encoding="utf-8"))
    models = {model["label"]: model["suites"][arguments.suite] for model in result["models"]}
    labels = arguments.models or list(models)
    firsts = {label: {} for label in labels}
    for label in labels:
        for picture in models[label]["pictures"]:
            firsts[label].setdefault(picture["prompt"], picture["file"])
    prompts = list(firsts[labels[0]])[: arguments.num]

    side, groups = arguments.side, arguments.groups
    width = len(labels) * (side + GAP) + 3 * GAP
    height = side + TEXT + GAP
    rows = -(-len(prompts) // groups)
    sheet = Image.new("RGB", (groups * width, TEXT // 2 + rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for group in range(groups):
        for column, label in enumerate(labels):
            left = group * width + column * (side + GAP)
            draw.text((left + side / 2, 2), label, "black", anchor="ma")
    for number, prompt in enumerate(prompts):
        row, group = divmod(number, groups)
        left, top = group * width, TEXT // 2 + row * height
        for column, label in enumerate(labels):
            with Image.open(arguments.evaluation / firsts[label][prompt]) as picture:
                small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + column * (side + GAP), top))
        lines = textwrap.wrap(prompt, max(20, (width - 3 * GAP) // 6))[:2]
        draw.multiline_text((left, top + side + 2), "\n".join(lines), "black", spacing=1)
    sheet.save(arguments.out, quality=85)


if __name__ == "__main__":
    main()
