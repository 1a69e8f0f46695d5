"""The noise schedule of a cascade, written down as diffusers does."""

from __future__ import annotations

from diffusers import DDIMScheduler


def cascade_scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    """The scheduler that is saved with a cascade: that of CogView3 and SDXL.

    Only its configuration is used, to build ``NoiseSchedule``.

    Args:
        prediction_type: "epsilon" or "v_prediction".
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
