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
    """Runs work."""

    def each(
        self, make: Callable[..., Work], arguments: Sequence[Any], items: Sequence[Item], gpu: bool
    ) -> Iterator[Item]:
        """``make(*arguments)`` is called once in each worker, and what it gives with each item; the
        results come as they are done. ``gpu``: the work wants one, if there is any."""
        ...


class RayPool:
    """Workers of Ray Data. When one dies, Ray starts another and gives it the item again.

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

        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0)) if gpu else 0
        size = min(len(items), self.workers or gpus or cpus)

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
            num_cpus=max(1, cpus // size) if gpus else 1,
            num_gpus=min(1.0, gpus / size) if gpus else None,
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
