"""Peak memory of ``relay convert`` on full-size networks: two UNets of 2.9 billion parameters.

    python benchmarks/convert_memory.py [--dir FOLDER]

Writes a checkpoint of zeros in the released layout (5.8 GB) and converts it as base and as relay
(11.6 GB more), each in a process of its own, then removes all of it. Peak is resident memory
(``ru_maxrss``), which counts the pages of mapped files although the system may drop them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_GB = 8
NEEDED_GB = 19


def write_parts(folder: Path) -> None:
    """A full-size UNet checkpoint, and the smallest VAE and T5 that go with it."""
    import torch
    from diffusers import AutoencoderKL
    from safetensors.torch import save_file
    from transformers import T5Config, T5EncoderModel

    from relay_diffusion.models import cogview3_unet_config, full_size_unet
    from relay_diffusion.models import official_vae as vae_layout
    from relay_diffusion.models.checkpoint import DEEPSPEED_FILE
    from relay_diffusion.models.official import PREFIX, official_names

    shapes = {key: tensor.shape for key, tensor in full_size_unet().state_dict().items()}
    names = official_names(cogview3_unet_config(), shapes)
    module = {
        PREFIX + names[key]: torch.zeros(shape, dtype=torch.float16)
        for key, shape in shapes.items()
    }
    torch.save({"module": module}, folder / DEEPSPEED_FILE)

    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    ).state_dict()
    vae_names = vae_layout.official_names(vae, num_levels=4)
    save_file({vae_names[key]: vae[key] for key in vae}, folder / "vae.safetensors")

    config = T5Config(vocab_size=32, d_model=4096, d_ff=8, d_kv=8, num_heads=1, num_layers=1)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")


def convert(folder: Path) -> None:
    """Convert what ``write_parts`` wrote, and print how long it took and what it needed."""
    from relay_diffusion.evaluation.memory import resident_peak
    from relay_diffusion.models import convert_cascade

    started = time.perf_counter()
    convert_cascade(
        folder, folder, folder / "vae.safetensors", folder / "text_encoder", folder / "cascade"
    )
    seconds = time.perf_counter() - started
    peak = resident_peak() / 1e9
    print(f"two UNets of 2.907 billion parameters in {seconds:.0f} s, peak {peak:.2f} GB")
    if peak > LIMIT_GB:
        sys.exit(f"above the limit of {LIMIT_GB} GB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dir", type=Path, help="where there is room for 18 GB [temporary folder]")
    parser.add_argument("--step", choices=["write_parts", "convert"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        {"write_parts": write_parts, "convert": convert}[arguments.step](arguments.dir)
        return
    folder = Path(tempfile.mkdtemp(prefix="relay-convert-", dir=arguments.dir))
    try:
        if shutil.disk_usage(folder).free < NEEDED_GB * 1e9:
            print(f"skipped: {folder} has less than {NEEDED_GB} GB free, give --dir")
            return
        # Own processes: a child's ru_maxrss starts from what its parent holds.
        for step in ("write_parts", "convert"):
            command = [sys.executable, __file__, "--step", step, "--dir", str(folder)]
            subprocess.run(command, check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
