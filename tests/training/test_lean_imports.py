"""The mathematics, training and scenes import with torch and what diffusers brings along."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What our pyproject.toml names beside torch, diffusers and what diffusers needs itself.
BLOCKED = """accelerate evalica fastapi imagehash jinja2 openai pandas peft pyarrow ray resvg_py
rich sentencepiece sqlalchemy tensorboard tokenizers torchao torchmetrics transformers typer
uvicorn wandb webdataset"""

IMPORT_ALL = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

class Lean(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        blocked = name.partition(".")[0] in sys.argv[1:]
        return None if blocked else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Lean
for package in ("diffusion", "training", "data.scenes"):
    parent = importlib.import_module(f"relay_diffusion.{package}")
    for module in pkgutil.walk_packages(parent.__path__, f"{parent.__name__}."):
        importlib.import_module(module.name)
print("relay_diffusion.training.networks" in sys.modules, set(sys.argv) & set(sys.modules))
"""


@pytest.mark.slow
def test_three_packages_import_without_what_diffusers_does_not_bring() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *BLOCKED.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "set()"]
