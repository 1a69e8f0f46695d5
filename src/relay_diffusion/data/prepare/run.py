"""From pictures to shards: check all of them, decide what stays, encode that.

Both passes work on ranges of records, and each range leaves a file that is a function of its
records and the plan. What is there is kept, so the same command run again goes on where a killed
one stopped, and ends with the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tqdm import tqdm

from relay_diffusion.config import to_dict
from relay_diffusion.data.coverage import Coverage
from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.kept import fingerprint
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.data.prepare.blocklists import Blocklists
from relay_diffusion.data.prepare.cascade import read_encoders
from relay_diffusion.data.prepare.checking import Checker, checked, checks_file
from relay_diffusion.data.prepare.duplicates import Look, duplicates
from relay_diffusion.data.prepare.encoding import Encoder
from relay_diffusion.data.prepare.manifest import (
    LEFT_OUT,
    MANIFEST,
    Manifest,
    Pictures,
    Plan,
    begin,
)
from relay_diffusion.data.prepare.pool import TRIES, Item, Pool, Work
from relay_diffusion.data.prepare.settings import Settings
from relay_diffusion.data.prepare.shard import Coverages, Faults, ShardFile
from relay_diffusion.errors import RelayError
from relay_diffusion.files import put_text, sweep
from relay_diffusion.locks import alone_in

Row = tuple[int, int, int]
"""Record, height, width."""


@dataclass(frozen=True)
class Job:
    """A preparation.

    Attributes:
        pictures: as ``open_records`` takes it; on a cluster, a path that all machines see, as
            ``out`` and ``cascade``.
        out: folder for the shards.
        cascade: folder with the networks; ``model`` is its name.
        device: "auto", or one of torch.
    """

    pictures: str
    out: Path
    cascade: Path
    model: str
    settings: Settings
    blocklists: Blocklists
    device: str = "auto"


def prepare(job: Job, pool: Pool) -> Manifest:
    """Do what is not done yet.

    Raises: RelayError if the folder was begun with another plan or another run is in it, if it lies
        among the pictures, if nothing can be used, or if files cannot be written.
    """
    _check_apart(job)
    records = open_records(job.pictures)
    plan = _plan(job, records)
    folders = (job.out, job.out / "checks", job.out / "shards")
    refusal = f"another relay prepare is at work in {job.out}: wait for it, or give another --out"
    try:
        with alone_in(job.out, refusal):
            for folder in folders:
                folder.mkdir(exist_ok=True)
                sweep(folder)
            begin(job.out, plan)
            return _prepared(job, plan, records, pool)
    except OSError as error:
        raise RelayError(f"cannot write to {job.out}: {error.strerror or error}") from error


def _check_apart(job: Job) -> None:
    """Shards below a folder of pictures would be what is read of it from then on."""
    # A pattern reads everything below the folder before its **; shards are tar files.
    start, everything, names = job.pictures.partition("**")
    if everything and not fnmatch("a.tar", Path(names).name):
        return
    pictures = Path(start)
    if pictures.is_dir() and job.out.resolve().is_relative_to(pictures.resolve()):
        raise RelayError(
            f"--out {job.out} lies in the folder of pictures {pictures}, and would be read as a "
            "part of it: give one elsewhere"
        )


def _prepared(job: Job, plan: Plan, records: Records, pool: Pool) -> Manifest:
    checks = job.out / "checks"
    numbers = range(-(-len(records) // job.settings.shard_size))

    todo: list[Item] = [{"shard": n} for n in numbers if not checked(checks, n)]
    total = min(len(records), len(todo) * job.settings.shard_size)
    given: tuple[Any, ...] = (job.pictures, checks, job.settings, job.blocklists)
    _run(job, records, pool, Checker, given, todo, "checking", total, gpu=False)

    rows, faults = _decided(records, checks, numbers, job.settings)
    if not any(rows.values()):
        reasons = counted(_counts(faults))
        raise RelayError(f"none of {len(records)} pictures can be used: {reasons}")
    wanted = {n: json.dumps(rows[n]) for n in numbers}
    missing = [n for n in numbers if not ShardFile(job.out, n).done(wanted[n])]
    todo = [{"shard": n, "rows": wanted[n]} for n in missing]
    total = sum(len(rows[n]) for n in missing)
    tokens = plan.encoders.max_tokens
    given = (job.pictures, job.out, job.cascade, job.settings, tokens, job.device)
    _run(job, records, pool, Encoder, given, todo, "encoding", total, gpu=job.device != "cpu")
    return _finish(job, plan, records, numbers, faults)


def counted(counts: Mapping[str, int]) -> str:
    """Reasons and how many of each, for a message."""
    return ", ".join(f"{num} {kind}" for kind, num in counts.items())


def _counts(faults: Faults) -> dict[str, int]:
    """The most frequent reason first."""
    return dict(Counter(str(fault.kind) for fault in faults.values()).most_common())


def _plan(job: Job, records: Records) -> Plan:
    lists = repr((job.blocklists.words, sorted(job.blocklists.domains)))
    return Plan(
        job.settings,
        read_encoders(job.cascade),
        Pictures(job.pictures, len(records), fingerprint(records.files())[1]),
        hashlib.sha256(lists.encode()).hexdigest(),
    )


def _run(
    job: Job,
    records: Records,
    pool: Pool,
    make: Callable[..., Work],
    given: Sequence[Any],
    todo: Sequence[Item],
    what: str,
    total: int,
    gpu: bool,
) -> None:
    """Raises: RelayError that names a range over which workers died."""
    if not todo:
        return
    lost = {item["shard"] for item in todo}
    with tqdm(total=total, desc=what, unit=" pictures", disable=None, leave=False) as bar:
        for done in pool.each(make, given, todo, gpu):
            bar.update(done["num"])
            lost.remove(done["shard"])
    if lost:
        begin = min(lost) * job.settings.shard_size
        end = min(begin + job.settings.shard_size, len(records))
        first, last = records.key(begin), records.key(end - 1)
        more = f", and so did {len(lost) - 1} other ranges" if len(lost) > 1 else ""
        raise RelayError(
            f"{what} the pictures from {first} to {last} ended the worker {TRIES} times{more}; "
            "all else is done: give --workers 1 if memory is short, or move the picture away that "
            "does it"
        )


def _decided(
    records: Records, checks: Path, numbers: range, settings: Settings
) -> tuple[dict[int, list[Row]], Faults]:
    """Records to encode, by range, and the faults of the others: what the first pass found, and
    duplicates, for which all of it has to be known."""
    rows: dict[int, list[Row]] = {}
    faults: Faults = {}
    looks: list[Look | None] = [None] * len(records)
    for number in numbers:
        found = json.loads(checks_file(checks, number).read_text(encoding="utf-8"))
        faults |= {i: PictureFault(kind, detail) for i, kind, detail in found["faults"]}
        rows[number] = [(i, height, width) for i, height, width, _ in found["rows"]]
        for i, _, _, look in found["rows"]:
            looks[i] = Look.parse(look)
    twice = duplicates(looks, settings.duplicate_distance)
    for i, first in twice.items():
        faults[i] = PictureFault("duplicate", f"of {records.key(first)}")
    kept = {number: [row for row in its if row[0] not in twice] for number, its in rows.items()}
    return kept, faults


def _finish(job: Job, plan: Plan, records: Records, numbers: range, faults: Faults) -> Manifest:
    """List what was left out and write the manifest, which says that all is there."""
    shards = []
    fields: set[str] = set()
    captions: Coverages = {}
    for number in numbers:
        file = ShardFile(job.out, number)
        index = file.read()
        faults |= {i: PictureFault(kind, detail) for i, kind, detail in index["faults"]}
        fields.update(*(sample["fields"] for sample in index["samples"]))
        if index["samples"]:
            shards.append(file.entry())
        for name, counts in file.coverages().items():
            captions[name] = captions.get(name, Coverage()) + counts
    lines = [
        json.dumps({"key": records.key(i), "reason": fault.kind, "detail": fault.detail})
        for i, fault in sorted(faults.items())
    ]
    broken = [*records.broken(), *records.bad_lines()]
    lines += [json.dumps({"key": b.key, "reason": b.kind, "detail": b.detail}) for b in broken]
    put_text(job.out / LEFT_OUT, "".join(f"{line}\n" for line in lines))
    manifest = Manifest(
        settings=plan.settings,
        encoders=plan.encoders,
        pictures=plan.pictures,
        blocklists=plan.blocklists,
        model=job.model,
        fields=tuple(sorted(fields)),
        buckets=tuple((bucket.height, bucket.width) for bucket in job.settings.buckets),
        shards=tuple(shards),
        left_out=_counts(faults) | Counter(str(bad.kind) for bad in broken),
        captions=dict(sorted(captions.items())),
    )
    put_text(job.out / MANIFEST, json.dumps(to_dict(manifest), indent=2) + "\n")
    return manifest
