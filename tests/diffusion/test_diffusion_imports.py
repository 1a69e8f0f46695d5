from __future__ import annotations

import ast
from pathlib import Path

import relay_diffusion.diffusion

FOLDER = Path(relay_diffusion.diffusion.__file__).parent


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            names.add(node.module)
    return names


def test_the_mathematics_imports_torch_and_itself_only():
    files = sorted(FOLDER.glob("*.py"))
    assert {"samplers.py", "relay.py"} <= {file.name for file in files}
    standard = {"__future__", "collections", "dataclasses", "itertools", "math", "typing"}
    for file in files:
        for name in imported(ast.parse(file.read_text())):
            ours = name.startswith("relay_diffusion.diffusion")
            assert ours or name.split(".")[0] in standard | {"torch"}, f"{file.name}: {name}"
