"""The adapters of this package, run by the Python of an environment made for another package.

Nothing of this package is installed there, and what is beside it here must not get on its path: an
adapter gets a folder with copies of itself and of what adapters share, and no more.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from relay_diffusion.errors import RelayError

ADAPTERS = ("aesthetic", "hps", "imagereward", "pickscore")
PACKAGE = "relay_diffusion.evaluation.scorers"
SHARED = ("__init__.py", "adapter.py")
_PYTHON = re.compile(r"python[\d.]*(\.exe)?")


def as_command(name: str, command: str) -> str:
    """The command that runs an adapter, where only a Python and options of the adapter are given.

    "envs/hps/bin/python --hps-version v2.1" runs the adapter that ``name`` is, or begins with, as
    "hps-v2.1" does; any other command stays as it is.
    Raises: RelayError if its quotes do not end, or a Python stands alone and ``name`` is none.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RelayError(f"scorer {name}: {command!r}: {error}; quote words as a shell") from error
    alone = _PYTHON.fullmatch(Path(words[0]).name) and all(w.startswith("--") for w in words[1:2])
    if not alone:
        return command
    adapter = name.partition("-")[0]
    if adapter not in ADAPTERS:
        raise RelayError(
            f"scorer {name}={command} gives no script to run; a Python alone is for the packaged "
            f"{', '.join(ADAPTERS)}"
        )
    return shlex.join([words[0], "-m", f"{PACKAGE}.{adapter}", *words[1:]])


def environment(words: Sequence[str], folder: Path) -> dict[str, str] | None:
    """The variables that a command runs with; None, for those of this process, if it runs no
    adapter.

    Args:
        folder: a new one, for the adapter's files; it must stay until the command has ended.
    """
    names = [word.removeprefix(f"{PACKAGE}.") for word in words if word.startswith(f"{PACKAGE}.")]
    if not names or names[0] not in ADAPTERS:
        return None
    inside = folder.joinpath(*PACKAGE.split("."))
    inside.mkdir(parents=True)
    # Empty, but there: without them, this package would win wherever it is on the path as well.
    for package in (inside.parent, inside.parent.parent):
        (package / "__init__.py").touch()
    for file in (*SHARED, f"{names[0]}.py"):
        shutil.copyfile(Path(__file__).with_name(file), inside / file)
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, [str(folder), before]))
    return {**os.environ, "PYTHONPATH": path}
