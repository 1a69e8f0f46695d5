"""Work on many items by workers that Ray Data keeps: on this machine's cores, or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from relay_diffusion.errors import RelayError

Item = dict[str, Any]
Work = Callable[[Item], Item]


class Pool(Protocol):
    """Runs work; the results come as they are done."""

    @property
    def threads(self) -> int:
        """Cores that each worker on a GPU has."""
        ...

    def each(
        self, make: Callable[..., Work], arguments: Sequence[Any], items: Sequence[Item], gpu: bool
    ) -> Iterator[Item]:
        """``make(*arguments)`` is called once in each worker, and what it gives with each item."""
        ...


class RayPool:
    """Workers of Ray Data. When one dies, Ray starts another and gives it the item again.

    Args:
        workers: how many; 0 is one for each core, or for each GPU where work wants them.
    """

    def __init__(self, workers: int = 0) -> None:
        import ray

        resources = ray.cluster_resources()
        self.cpus, self.gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        self.workers = workers

    @property
    def threads(self) -> int:
        return max(1, self.cpus // (self.workers or self.gpus)) if self.gpus else 1

    def each(
        self,
        make: Callable[..., Work],
        arguments: Sequence[Any],
        items: Sequence[Item],
        gpu: bool = False,
    ) -> Iterator[Item]:
        import ray.data

        on_gpu = gpu and self.gpus > 0
        size = min(len(items), self.workers or (self.gpus if on_gpu else self.cpus))

        class Worker:
            """Hands failures over as text: an exception would come back as pages of Ray's own, and
            one at the start would be tried again without end."""

            def __init__(self) -> None:
                self.work: Work | None = None

            def __call__(self, item: Item) -> Item:
                try:
                    self.work = self.work or make(*arguments)
                    return self.work(item)
                except Exception as error:
                    what = str(error) if isinstance(error, RelayError) else repr(error)
                    return {"failed": what, "trace": traceback.format_exc()}

        dataset = ray.data.from_items(list(items), override_num_blocks=len(items)).map(
            Worker,  # type: ignore[arg-type]
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=self.threads if on_gpu else 1,
            num_gpus=min(1.0, self.gpus / size) if on_gpu else None,
        )
        for row in dataset.iter_rows():
            if row.get("failed"):
                failure = RelayError(row["failed"])
                failure.add_note(row["trace"])
                raise failure
            yield row


@contextlib.contextmanager
def ray_pool(workers: int = 0, cluster: str = "") -> Iterator[RayPool]:
    """Start Ray on this machine, or join a cluster, for as long as the pool is used.

    Args: cluster: "" starts Ray here with ``workers`` cores; "auto" is the cluster that this
        machine is part of; else the address of one.
    Raises: RelayError if the cluster cannot be reached.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not cluster:
        how |= {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
    try:
        with _silent():
            ray.init(address=cluster or "local", **how)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"reached at {cluster}" if cluster else "started"
        raise RelayError(f"Ray cannot be {where}: {error}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield RayPool(workers)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard error, where Ray's libraries announce how they log."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
