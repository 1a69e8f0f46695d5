"""Whether ``relay prepare`` gives every good picture once, whatever is wrong or killed on the way.

    python benchmarks/prepare_scenes.py [--num 10000] [--size 64] [--atlas FILE] [--model starter]

Draws scenes, spoils 5% of the files, and prepares the folder twice. The first time a worker is
killed when a quarter of the shards are there, and the driver when half are; then the same command
is started again. The second time nothing is killed. Ends with 1 if a check fails.

Needs an atlas (``relay scenes --build-atlas``); says so in one line if there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from relay_diffusion.data.prepare.duplicates import THUMBNAIL, TOLERANCE
from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.captions import long_caption
from relay_diffusion.data.scenes.render import render
from relay_diffusion.data.scenes.world import World

PREPARE = "import sys; from relay_diffusion.cli import main; sys.exit(main())"
BATCH = 64
STALLED_SECONDS = 300


def draw(folder: Path, atlas_file: Path, num: int, size: int) -> None:
    """Scenes as PNG, each with its long caption. One that looks like an earlier one is passed over:
    it would be left out as a duplicate, and rightly."""
    folder.mkdir()
    world = World.small()
    atlas = Atlas.load(atlas_file, world.subjects)
    looks = np.empty((num, 3 * THUMBNAIL[0] * THUMBNAIL[1]), np.int16)
    done = seed = 0
    while done < num:
        scenes = [world.sample(seed + i) for i in range(BATCH)]
        seed += BATCH
        x = render(atlas, scenes, size, size)
        pixels = ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        for scene, image in zip(scenes, map(Image.fromarray, pixels), strict=True):
            look = np.asarray(image.resize(THUMBNAIL, Image.Resampling.BOX), np.int16).ravel()
            alike = (np.abs(looks[:done] - look).max(axis=1) <= TOLERANCE).any()
            if done == num or alike:
                continue
            image.save(folder / f"{done:06}.png")
            (folder / f"{done:06}.txt").write_text(long_caption(scene, done) + "\n")
            looks[done] = look
            done += 1


def spoil(way: str, picture: Path, earlier: Path) -> None:
    """Make a good picture one of ``WAYS``, with the help of an earlier one that stays."""
    caption = picture.with_suffix(".txt")
    match way:
        case "not a picture":
            picture.write_bytes(b"<html>no such picture</html>")
        case "truncated":
            data = picture.read_bytes()
            picture.write_bytes(data[: len(data) // 2])
        case "empty caption":
            caption.write_text(" \n")
        case "half a surrogate pair":
            caption.unlink()
            caption.with_suffix(".json").write_text('{"text": "a fox \\ud800"}')
        case "duplicate":
            Image.open(earlier).save(picture.with_suffix(".webp"), lossless=True)
            picture.unlink()


WAYS = {
    "not a picture": "not a picture",
    "truncated": "truncated",
    "empty caption": "no caption",
    "half a surrogate pair": "caption is not UTF-8",
    "duplicate": "duplicate",
}
"""Each with the reason that must be given for it."""


def spoil_some(folder: Path, num: int) -> dict[str, str]:
    """Spoil every twentieth picture, at random. Returns: the way of each, by key."""
    spoiled: dict[str, str] = {}
    chosen = sorted(random.Random(0).sample(range(1, num), num // 20))
    for number, i in enumerate(chosen):
        earlier = max(set(range(i)) - set(chosen))
        way = spoiled[f"{i:06}"] = list(WAYS)[number % len(WAYS)]
        spoil(way, folder / f"{i:06}.png", folder / f"{earlier:06}.png")
    return spoiled


def workers_of(parent: int) -> list[int]:
    """Processes below ``parent`` in which Ray keeps a worker that maps."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()[1:]]
    family = {parent}
    for _ in range(5):
        family |= {int(pid) for pid, ppid, _ in rows if int(ppid) in family}
    return [int(pid) for pid, _, name in rows if int(pid) in family and "MapWorker" in name]


def num_done(out: Path) -> int:
    return len(list((out / "shards").glob("*.json")))


def wait_for(process: subprocess.Popen[str], out: Path, num: int) -> bool:
    """Until so many shards are there; False if the process ends before, or nothing happens."""
    last, since = -1, time.monotonic()
    while (done := num_done(out)) < num:
        if done > last:
            last, since = done, time.monotonic()
        if process.poll() is not None or time.monotonic() > since + STALLED_SECONDS:
            return False
        time.sleep(0.01)
    return True


def kill_both(command: list[str], out: Path, num_shards: int) -> list[str]:
    """Run the command, kill a worker and later the driver. Returns: what did not go like that."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            if not wait_for(process, out, num_shards // 4):
                return ["no worker to kill: the run ended before"]
            victims = workers_of(process.pid)
            if not victims:
                return ["no worker to kill: none found"]
            os.kill(victims[0], signal.SIGKILL)
            print(f"killed a worker at {num_done(out)} of {num_shards} shards")
            if not wait_for(process, out, num_shards // 2):
                return ["the run did not outlive its worker"]
        finally:
            process.kill()
    print(f"killed the driver at {num_done(out)} of {num_shards} shards")
    finished = (out / "manifest.json").exists()
    return ["the driver was killed too late"] if finished else []


def run(command: list[str]) -> None:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"relay prepare ended with {done.returncode}: {done.stderr.strip()}")
    print(f"{done.stdout.splitlines()[0]} in {time.perf_counter() - started:.0f} s")


def keys_of(out: Path) -> Counter[str]:
    """Of all samples, from the shards themselves."""
    found: Counter[str] = Counter()
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file and member.name.endswith(".json"):
                    found[json.loads(file.read())["key"]] += 1
    return found


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def compare(out: Path, whole: Path, num: int, spoiled: dict[str, str]) -> list[str]:
    """Print what was found beside what should be. Returns: what differs."""
    good = {f"{i:06}" for i in range(num)} - spoiled.keys()
    keys = keys_of(out)
    lines = (out / "left-out.jsonl").read_text(encoding="utf-8").splitlines()
    listed = Counter((row["key"], row["reason"]) for row in map(json.loads, lines))
    rows = [
        ("good pictures, in the shards once", sum(keys[key] == 1 for key in good), len(good)),
        ("other samples in the shards", sum(keys[key] for key in keys.keys() - good), 0),
    ]
    for way, reason in WAYS.items():
        its = [key for key in spoiled if spoiled[key] == way]
        named = sum(listed[key, reason] == 1 for key in its)
        rows.append((f"{way}, listed once as {reason}", named, len(its)))
    rows.append(("lines in the list", len(lines), len(spoiled)))
    ours, theirs = contents(out), contents(whole)
    differing = sum(ours.get(name) != theirs.get(name) for name in ours.keys() | theirs.keys())
    rows.append(("files unlike those of the run that was let be", differing, 0))
    print(f"\n{'':60} found  should be")
    for what, found, wanted in rows:
        print(f"{what:60} {found:5} {wanted:10}{'' if found == wanted else '  FAILED'}")
    return [what for what, found, wanted in rows if found != wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=10_000, help="at least 100")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--atlas", type=Path, default=Path("runs/atlas.tar"))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--workers", type=int, default=0, help="0 is one for each core")
    arguments = parser.parse_args()
    num, size = max(100, arguments.num), arguments.size
    if not arguments.atlas.is_file():
        print(f"skipped: no atlas at {arguments.atlas}, see relay scenes --build-atlas")
        sys.exit(0)
    with tempfile.TemporaryDirectory(prefix="relay-prepare-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        pictures, out, whole = (Path(folder) / name for name in ("pictures", "out", "whole"))
        draw(pictures, arguments.atlas, num, size)
        spoiled = spoil_some(pictures, num)
        shard_size = max(8, num // 40)

        def command(to: Path) -> list[str]:
            options = f"--size {size} --shard-size {shard_size} --workers {arguments.workers}"
            given = ["prepare", str(pictures), "--out", str(to), "--model", arguments.model]
            return [sys.executable, "-c", PREPARE, *given, *options.split()]

        failed = kill_both(command(out), out, -(-num // shard_size))
        run(command(out))
        run(command(whole))
        failed += compare(out, whole, num, spoiled)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
