"""The files of the public suites, as their authors publish them, read into prompts.

Each reader takes the file's text and raises ValueError, naming the line where it can, if the file
has another form than the one described.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator

from relay_diffusion.evaluation.suites.prompt import Prompt

COCO_SEED = 2403_05121
COCO_NUM = 5000


def read_drawbench(text: str) -> list[Prompt]:
    """Imagen's sheet (arXiv:2205.11487): CSV with the columns Prompts and Category; 200 rows."""
    return [
        Prompt(row["Prompts"].strip(), None, str(line), row["Category"].strip() or None)
        for line, row in _rows(text, ("Prompts", "Category"), ",")
    ]


def read_parti(text: str) -> list[Prompt]:
    """PartiPrompts (arXiv:2206.10789): TSV, unquoted, with the columns Prompt, Category, Challenge
    and Note; 1632 rows."""
    return [
        Prompt(row["Prompt"].strip(), None, str(line), row["Category"].strip() or None)
        for line, row in _rows(text, ("Prompt", "Category", "Challenge"), "\t", quoted=False)
    ]


def read_geneval(text: str) -> list[Prompt]:
    """GenEval's evaluation_metadata.jsonl (arXiv:2310.11513): an object a line with "tag", "prompt"
    and what a detector must find; 553 lines."""
    prompts: list[Prompt] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            prompts.append(Prompt(entry["prompt"], None, str(len(prompts)), entry["tag"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} has no prompt and tag") from error
    return prompts


def read_dpg(text: str) -> list[Prompt]:
    """DPG-Bench (ELLA, arXiv:2403.05135): CSV with a row for each question about a picture, the
    prompt in "text", its name in "item_id"; 1065 prompts."""
    texts: dict[str, str] = {}
    for _, row in _rows(text, ("item_id", "text"), ","):
        texts.setdefault(row["item_id"].strip(), row["text"].strip())
    return [Prompt(prompt, None, name) for name, prompt in texts.items()]


def read_coco(text: str) -> list[Prompt]:
    """COCO's captions_val*.json (arXiv:1504.00325): of 5,000 pictures, drawn by a fixed seed, the
    caption with the lowest id. The id of a prompt is the picture's file name."""
    try:
        data = json.loads(text)
        files = {image["id"]: image["file_name"] for image in data["images"]}
        captions: dict[int, str] = {}
        for entry in sorted(data["annotations"], key=lambda entry: entry["id"]):
            captions.setdefault(entry["image_id"], " ".join(entry["caption"].split()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("it is no captions file with images and annotations") from error
    images = sorted(set(files) & set(captions))
    chosen = random.Random(COCO_SEED).sample(images, min(COCO_NUM, len(images)))
    return [Prompt(captions[image], None, files[image]) for image in chosen]


def _rows(
    text: str, columns: tuple[str, ...], delimiter: str, quoted: bool = True
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the number of their last line; those whose first column is empty are left out."""
    lines = io.StringIO(text)
    if quoted:
        reader = csv.DictReader(lines, delimiter=delimiter)
    else:
        reader = csv.DictReader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    missing = [name for name in columns if name not in (reader.fieldnames or [])]
    if missing:
        raise ValueError(f"its first line names no column {missing[0]}")
    for row in reader:
        if any(row[name] is None for name in columns):
            raise ValueError(f"line {reader.line_num} has too few columns")
        if row[columns[0]].strip():
            yield reader.line_num, row
