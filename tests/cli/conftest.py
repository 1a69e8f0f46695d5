"""The tiny cascade of the pipeline tests, for the commands."""

from __future__ import annotations

from tests.pipelines.conftest import cascade, cascade_folder, distilled

__all__ = ["cascade", "cascade_folder", "distilled"]
