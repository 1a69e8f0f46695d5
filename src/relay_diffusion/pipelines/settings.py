"""How a run is to be sampled: what the caller asked for, else the cascade's own, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, cast, get_args

from diffusers import DDIMScheduler

from relay_diffusion.data.scenes.world import World, WorldName
from relay_diffusion.diffusion import Blur, NoiseSchedule, Solver
from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.notices import warn_once

NUM_TRAIN_STEPS = 1000
"""Length of the noise schedule, of which start levels and steps are indices."""

OTHER_SIGMAS = (
    "trained_betas",
    "rescale_betas_zero_snr",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
    "sigma_min",
    "sigma_max",
)
"""What in a scheduler's config, if set, has diffusers sample at other noise levels."""

STRENGTH = 0.6
"""Of image to image: the share of the base stage's steps that is run where nothing is said."""


@dataclass(frozen=True)
class Settings:
    """A run's settings, resolved.

    Attributes:
        num_inference_steps: of the base stage.
        num_relay_steps: of each relay stage.
        guidance_scale, relay_guidance_scale: of the base stage, of each relay stage; 1 or below
            runs without classifier-free guidance.
        solver, eta: as in ``relay_diffusion.diffusion.sample_base``.
        relay_start: start level T_r of each doubling, the last one repeated.
    """

    num_inference_steps: int
    num_relay_steps: int
    guidance_scale: float
    relay_guidance_scale: float
    solver: Solver
    eta: float
    relay_start: tuple[float, ...]

    def start_of(self, doubling: int) -> float:
        """T_r of a doubling, counted from 0 (base size to twice the base size)."""
        return self.relay_start[min(doubling, len(self.relay_start) - 1)]


def resolve_settings(
    config: Mapping[str, Any],
    distilled: Collection[str],
    *,
    num_inference_steps: int | None = None,
    num_relay_steps: int | None = None,
    guidance_scale: float | None = None,
    relay_guidance_scale: float | None = None,
    solver: str | None = None,
    eta: float = 0.0,
    relay_start: float | None = None,
) -> Settings:
    """Fill in what was left open from the cascade's config, and check the rest.

    The relay's guidance scale is what was asked for it, else the cascade's own for it, else that of
    the base stage: asked for, or the cascade's own.

    Args:
        config: of the pipeline, see ``RelayPipeline.__init__``.
        distilled: stages ("base", "relay") whose network has guidance embedded.
        relay_start: start level T_r for all doublings (``strength`` of ``upscale``); None is the
            cascade's own.
    Raises: RelayError for a value outside its range, or for a guidance scale outside the range that
        the stage's network was distilled for.
    """
    own = config["relay_start"]
    if not own or not all(isinstance(start, int | float) for start in own):
        raise RelayError(
            f"relay_start is {list(own)} in the cascade's model_index.json; it must be the start "
            "levels of the doublings, such as [500]"
        )
    if relay_start is not None:
        check_number("strength", relay_start)
        if relay_start <= 1:  # a share in most pipelines, here a level
            raise RelayError(
                f"strength {relay_start:g}; it is the noise level to start from, a training index "
                f"above 1 (hardly any) to {NUM_TRAIN_STEPS} (all), and no share; this cascade's "
                f"own is {own[0]:g}"
            )
    starts = own if relay_start is None else [relay_start]
    scale = config["guidance_scale"] if guidance_scale is None else guidance_scale
    relay_scale = config["relay_guidance_scale"]
    if relay_guidance_scale is not None:
        relay_scale = relay_guidance_scale
    settings = Settings(
        config["num_inference_steps"] if num_inference_steps is None else num_inference_steps,
        config["num_relay_steps"] if num_relay_steps is None else num_relay_steps,
        scale,
        scale if relay_scale is None else relay_scale,
        cast(Solver, config["solver"] if solver is None else solver),
        eta,
        tuple(starts),
    )
    check_number("num_inference_steps", settings.num_inference_steps, Integral)
    check_number("num_relay_steps", settings.num_relay_steps, Integral)
    check_number("eta", settings.eta)
    if settings.solver not in get_args(Solver):
        raise RelayError(f"solver {settings.solver!r}; allowed is {' or '.join(get_args(Solver))}")
    if not 0 <= settings.eta <= 1:
        raise RelayError(f"eta {settings.eta}; allowed is 0 (deterministic) to 1 (all noise fresh)")
    if not 1 <= settings.num_inference_steps <= NUM_TRAIN_STEPS:
        raise RelayError(f"{settings.num_inference_steps} steps; allowed is 1 to {NUM_TRAIN_STEPS}")
    if not all(1 <= start <= NUM_TRAIN_STEPS for start in settings.relay_start):
        raise RelayError(
            f"relay start level {', '.join(f'{start:g}' for start in settings.relay_start)}; it is "
            f"a training index, 1 (hardly any noise) to {NUM_TRAIN_STEPS} (all); CogView3 uses 500"
        )
    lowest = int(min(settings.relay_start))
    if not 1 <= settings.num_relay_steps <= lowest:
        raise RelayError(
            f"{settings.num_relay_steps} relay steps; allowed is 1 to {lowest}, the start level"
        )
    blur = config["relay_blur"]
    if blur not in get_args(Blur):
        raise RelayError(f"relay_blur {blur!r}; allowed is {' or '.join(get_args(Blur))}")
    check_guidance(config, distilled, "base", settings.guidance_scale)
    follows = relay_scale is None
    check_guidance(config, distilled, "relay", settings.relay_guidance_scale, follows)
    return settings


def check_number(name: str, value: Any, kind: type = Real) -> None:
    """Raise RelayError for what is no number, or none of that kind: ``Integral`` is whole ones. A
    bool is none.

    Args: name: of the argument, for the message.
    """
    if isinstance(value, bool) or not isinstance(value, kind):
        wanted = "whole number" if kind is Integral else "number, for all pictures of a call"
        raise RelayError(f"{name} of type {type(value).__name__}; give one {wanted}")


def check_strength(strength: float) -> None:
    """Raise RelayError for a share of the base stage's steps that is none."""
    check_number("strength", strength)
    if not 0 < strength <= 1:
        raise RelayError(f"strength {strength}; allowed is above 0 (no change) to 1 (all)")


def check_guidance(
    config: Mapping[str, Any],
    distilled: Collection[str],
    stage: str,
    scale: float,
    follows: bool = False,
) -> None:
    """Raise RelayError for a guidance scale that a stage cannot be run at.

    Args: follows: whether the relay has it of the base stage.
    """
    known = config["guidance_range"]
    if stage == "relay":
        known = config["relay_guidance_range"] or known
    distilled_range = known if stage in distilled else None
    name = "guidance" if stage == "base" else f"{stage} guidance"
    check_number(name, scale)
    if not 0 <= scale < float("inf"):
        raise RelayError(f"{name} {scale}; give a number of 0 or more")
    if distilled_range is not None and not distilled_range[0] <= scale <= distilled_range[1]:
        low, high = distilled_range
        raise RelayError(
            f"{name} {scale:g} is outside the range that the {stage} network was distilled for: "
            f"{low:g} to {high:g}" + ("; give the relay a scale of its own" if follows else "")
        )


def warn_of_untrained_use(config: Mapping[str, Any], stage: str, settings: Settings) -> None:
    """Say so where a distilled network is run with other steps than its own, from another start
    level, or by another solver than Euler's, whose steps it was taught.

    Args:
        stage: "base" or "relay".
    """
    trained = config[f"trained_{stage}_steps"]
    known = [trained] if isinstance(trained, int) else list(trained or [])
    if not known:
        return
    asked = settings.num_inference_steps if stage == "base" else settings.num_relay_steps
    if asked not in known:
        names = " or ".join(str(steps) for steps in known)
        warn_once(f"the {stage} network is distilled for {names} steps: {asked} will look worse")
    if settings.solver != "euler" and asked > 2:  # up to there, all solvers are the same
        warn_once(f"distilled networks are made for euler: {settings.solver} will look worse")
    own = config["relay_start"]
    for start in settings.relay_start if stage == "relay" else ():
        if start not in own:
            names = " or ".join(f"{level:g}" for level in own)
            warn_once(
                f"the relay network is distilled to start at {names}: {start:g} will look worse"
            )


def warn_of_untrained_size(config: Mapping[str, Any], height: int, width: int) -> None:
    """Say so where the base stage of a cascade of the scene world is not run at what that world
    was drawn at. Others, as CogView3, have seen shapes of all kinds.

    Args:
        height, width: of the base stage, in pixels.
    """
    if config["world"] not in get_args(WorldName):
        return
    side = config["base_size"]
    aspects = World.by_name(config["world"]).aspects
    if width / height not in aspects or min(height, width) < side:
        warn_once(
            f"the base stage was trained at {side}x{side} and is run at {width}x{height}: things "
            "may be missing"
        )


def schedule_of(scheduler: Any) -> NoiseSchedule:
    """The noise schedule that the config of a diffusers scheduler describes. Its class is another
    matter: a solver of this project runs in its place, which is said where it looks chosen.

    Raises: RelayError if it is another schedule than the one this project is written for.
    """
    config = scheduler.config
    kind = config.get("beta_schedule")
    if kind != "scaled_linear":
        raise RelayError(
            f"scheduler: beta_schedule {kind!r} is not supported; the relay cascade runs on "
            "scaled_linear"
        )
    others = [name for name in OTHER_SIGMAS if config.get(name) not in (None, False)]
    if config.get("final_sigmas_type", "zero") != "zero":
        others.append("final_sigmas_type")
    if others:
        raise RelayError(
            f"scheduler: {', '.join(others)} makes another noise schedule, which no network of a "
            "relay cascade knows; leave it out"
        )
    if config.get("num_train_timesteps") != NUM_TRAIN_STEPS:
        raise RelayError(
            f"scheduler: num_train_timesteps {config.get('num_train_timesteps')}; "
            f"the relay cascade has {NUM_TRAIN_STEPS}"
        )
    if config.get("prediction_type") not in ("epsilon", "v_prediction"):
        raise RelayError(
            f"scheduler: prediction_type {config.get('prediction_type')!r}; allowed is epsilon or "
            "v_prediction"
        )
    if not isinstance(scheduler, DDIMScheduler):
        warn_once(
            f"{type(scheduler).__name__} does not sample: a cascade has solvers of its own, chosen "
            f"by solver= ({' or '.join(get_args(Solver))})"
        )
    return NoiseSchedule.scaled_linear(config["beta_start"], config["beta_end"], NUM_TRAIN_STEPS)
