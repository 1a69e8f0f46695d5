from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode finds no module beside a test by itself.
sys.path.insert(0, str(Path(__file__).parent))
