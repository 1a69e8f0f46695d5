"""The judge, opened from a folder, ready to read pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.judge.network import Answers, JudgeNetwork
from relay_diffusion.evaluation.judge.verdict import Verdict, verdicts

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def packaged(world: str) -> Path:
    """Folder of the judge that ships for a world, by the world's name."""
    return Path(__file__).parent / "trained" / world


class Judge:
    """Reads pictures: which subjects, how many, where, in which tint, style and background.

    Attributes:
        accuracy: what it got right on held-out rendered scenes, and on the same scenes through the
            autoencoder, as measured when it was trained; belongs beside every score it gives.
    """

    def __init__(self, network: JudgeNetwork, accuracy: dict[str, dict[str, float]]) -> None:
        self.network = network.eval()
        self.accuracy = accuracy

    @property
    def answers(self) -> Answers:
        return self.network.answers

    @torch.no_grad()
    def read(self, x: Tensor, batch_size: int = 64) -> list[Verdict]:
        """Verdicts on pictures (B, 3, H, W) in [-1, 1]; H and W at least 128."""
        device = next(self.network.parameters()).device
        read: list[Verdict] = []
        for part in x.split(batch_size):
            read += verdicts(self.network(part.float().to(device)), self.answers)
        return read

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Judge:
        """Open a judge. Raises: RelayError if the folder holds none."""
        folder = Path(folder)
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise RelayError(
                    f"{folder} is no judge: {name} is missing; train one with 'relay train "
                    "recipes/judge_cpu.toml' (the small world) or recipes/judge.toml (the full one)"
                )
        config = json.loads((folder / CONFIG).read_text())
        network = JudgeNetwork(Answers.from_dict(config["answers"]), config["width"])
        weights = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
        network.load_state_dict(weights)
        return cls(network, config["accuracy"])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write configuration, accuracy and weights (half precision)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "answers": self.answers.to_dict(),
            "width": self.network.width,
            "accuracy": self.accuracy,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        state = self.network.state_dict()
        save_file({k: v.half().contiguous() for k, v in state.items()}, folder / WEIGHTS)
