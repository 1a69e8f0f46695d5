"""Work on many items by workers that Ray Data keeps: on this machine's cores, or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relay_diffusion.errors import RelayError

Item = dict[str, Any]
Work = Callable[[Item], Item]

TRIES = 3
"""With an item, before a worker that dies each time is taken for its fault."""

MOST_CPUS = 8
"""Of a worker on a GPU: as many as there are threads that decode ahead of it (encoding.py)."""


class Pool(Protocol):
    """Runs work."""

    def each(
        self, make: Callable[..., Work], arguments: Sequence[Any], items: Sequence[Item], gpu: bool
    ) -> Iterator[Item]:
        """``make(*arguments)`` is called once in each worker, and what it gives with each item; the
        results come as they are done. ``gpu``: the work wants one, if there is any. An item that
        ends its worker :data:`TRIES` times has no result."""
        ...


@dataclass(frozen=True)
class Share:
    """How many workers, and what each asks of the node that it is on."""

    workers: int
    cpus: float
    gpus: float


def share_of(nodes: Sequence[Mapping[str, Any]], gpu: bool, workers: int, items: int) -> Share:
    """Workers that all find a place. A worker is on one node, so it must not ask for more than the
    poorest node that it may be sent to has for it, or Ray waits for ever.

    Args:
        nodes: as ``ray.nodes()`` gives them; without a GPU, a worker is a core.
        gpu: the work wants one, if there is any.
        workers: how many; 0 is one for each GPU, or each core.
        items: at most so many are needed.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    homes = [(node.get("CPU", 0.0), int(node.get("GPU", 0))) for node in alive] if gpu else []
    homes = [(cpus, gpus) for cpus, gpus in homes if gpus]
    if not homes:
        cores = sum(int(node.get("CPU", 0.0)) for node in alive)
        return Share(min(items, workers or max(1, cores)), 1, 0)
    total = sum(gpus for _, gpus in homes)
    size = min(items, workers or total)
    together = -(-size // total)  # on one GPU; each lies on one GPU whole
    cpus = min(cpus / (gpus * together) for cpus, gpus in homes)
    return Share(size, min(MOST_CPUS, int(cpus)) if cpus >= 1 else cpus, 1 / together)


class RayPool:
    """Workers of Ray Data. When one dies, Ray starts another and gives it the item again, up to
    :data:`TRIES` times in all.

    Ray is started, or a cluster joined, when there is work, and left with the ``with`` block.

    Args:
        workers: how many; 0 is one for each core, or for each GPU where work wants them.
        cluster: "" is this machine, "auto" the cluster that it is part of; else an address.
    """

    def __init__(self, workers: int = 0, cluster: str = "") -> None:
        self.workers, self.cluster = workers, cluster
        self._started = False

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *error: object) -> None:
        if self._started:
            import ray

            ray.shutdown()

    def each(
        self,
        make: Callable[..., Work],
        arguments: Sequence[Any],
        items: Sequence[Item],
        gpu: bool = False,
    ) -> Iterator[Item]:
        """Raises: RelayError if the work does, or the cluster cannot be reached."""
        self._start()
        import ray.data

        share = share_of(ray.nodes(), gpu, self.workers, len(items))

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

        with warnings.catch_warnings():
            # Ray announces that retries will be set in another way, and does not say in which.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = ray.data.from_items(list(items), override_num_blocks=len(items)).map(
                Worker,  # type: ignore[arg-type]
                # One item at a time: those that wait behind one that kills would be lost with it.
                compute=ray.data.ActorPoolStrategy(
                    size=share.workers, max_tasks_in_flight_per_actor=1
                ),
                num_cpus=share.cpus,
                num_gpus=share.gpus or None,
                max_task_retries=TRIES - 1,
            )
        for row in dataset.iter_rows():
            if row.get("failed"):
                failure = RelayError(row["failed"])
                failure.add_note(row["trace"])
                raise failure
            yield row

    def _start(self) -> None:
        if self._started:
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray
        import ray.data

        how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not self.cluster:
            how |= {"num_cpus": self.workers or os.cpu_count(), "include_dashboard": False}
        try:
            with _silent():
                ray.init(address=self.cluster or "local", **how)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"reached at {self.cluster}" if self.cluster else "started"
            raise RelayError(f"Ray cannot be {where}: {error}") from error
        self._started = True
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # those without a result; the others go on
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


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
