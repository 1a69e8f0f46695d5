"""The tiny cascade of the pipeline tests, for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.cli import main
from tests.pipelines.conftest import cascade, cascade_folder, distilled

__all__ = ["cascade", "cascade_folder", "distilled"]


@pytest.fixture
def generate(cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One picture of the command, its path."""

    def run(*arguments: object) -> Path:
        args = [str(one) for one in ("generate", *arguments, "--out", tmp_path, "--device", "cpu")]
        assert main([*args, *([] if "--from" in args else ["--model", str(cascade_folder)])]) == 0
        return Path(capsys.readouterr().out.strip())

    return run
