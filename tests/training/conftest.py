from __future__ import annotations

import sys
from pathlib import Path

import torch

# The tests share one tiny world; pytest's importlib mode finds no module beside a test by itself.
sys.path.insert(0, str(Path(__file__).parent))

# Networks this small lose time to a second thread, and the bit-for-bit tests should not depend on
# how many there are.
torch.set_num_threads(1)
