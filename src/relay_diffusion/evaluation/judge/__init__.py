"""The judge: a network, trained on rendered scenes, that says what a picture shows."""

from relay_diffusion.evaluation.judge.judge import Judge
from relay_diffusion.evaluation.judge.partial import NamedThing, PartialScene
from relay_diffusion.evaluation.judge.verdict import Seen, Verdict, agreement

__all__ = ["Judge", "NamedThing", "PartialScene", "Seen", "Verdict", "agreement"]
