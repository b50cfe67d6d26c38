"""Workers: one function over many tasks, in this process, in several of this machine, or on a Dask cluster."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from bayes_l2l.errors import DataError, L2LError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Task = TypeVar("Task")
Result = TypeVar("Result")


def completed(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, jobs: int = 1, dask: str | None = None
) -> Iterator[tuple[int, Result | L2LError]]:
    """Results as they come.

    Parameters
    ----------
    function : callable
        Of one task; at the top of a module, so that other processes find it.
    tasks : sequence
        What it is called with, each once; on a cluster again where a worker was lost.
    jobs : int, default 1
        Processes of this machine; 1 is this one.
    dask : str, optional
        Address of a Dask scheduler, whose workers are used instead.

    Yields
    ------
    int, result or L2LError
        Place of the task, and what came of it; an input that was refused is a result, other errors are raised.

    Raises
    ------
    DataError
        If both ways are asked for, the cluster cannot be reached, or a process of this machine was lost.
    """
    if jobs < 1:
        raise DataError(f"jobs must be at least 1, not {jobs}.")
    if dask is not None and jobs != 1:
        raise DataError("jobs are processes of this machine, dask is a cluster: give one of the two.")
    if dask is not None:
        return _on_cluster(function, tasks, dask)
    if jobs > 1 and len(tasks) > 1:
        return _in_processes(function, tasks, jobs)
    return ((i, _outcome(lambda task=task: function(task))) for i, task in enumerate(tasks))  # type: ignore[misc]


def _outcome(result: Callable[[], Result]) -> Result | L2LError:
    try:
        return result()
    except L2LError as error:
        return error


def _in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[tuple[int, Result | L2LError]]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # Not joblib: the workers of its pool (loky) outlive a parent that is killed, by minutes; a test kills one.
    # Nothing is forked: threads of a sampler or of BLAS do not survive that.
    context = get_context("spawn")
    # Nobody ever writes here. A worker that reads its end knows that this process has stopped, or was killed.
    held_by_workers, held_here = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), mp_context=context, initializer=_end_with, initargs=(held_by_workers,)
    )
    try:
        places = {pool.submit(function, task): i for i, task in enumerate(tasks)}
        for future in as_completed(places):
            yield places.pop(future), _outcome(future.result)
        pool.shutdown()
    except BrokenProcessPool:
        raise DataError(
            "A process of this machine was lost (was it killed, or is there too little memory for so many jobs? In a "
            "script, start the work below `if __name__ == '__main__':`); start again to go on from what is finished."
        ) from None
    finally:
        held_here.close()
        pool.shutdown(cancel_futures=True)
        held_by_workers.close()


def _end_with(parent: Connection) -> None:
    """Let a worker end when its parent does, whatever ended that; Ctrl-C is the parent's to hear."""
    import os
    import signal

    def watch() -> None:
        try:
            parent.recv()
        except (EOFError, OSError):
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(
    function: Callable[[Task], Result], tasks: Sequence[Task], address: str
) -> Iterator[tuple[int, Result | L2LError]]:
    try:
        from distributed import Client, KilledWorker, as_completed
        from distributed.comm import get_address_host_port
    except ImportError:
        raise DataError(
            "A Dask cluster needs the package `distributed`: pip install 'bayes-l2l[dask]', here and on its workers."
        ) from None
    try:
        # A client that cannot connect takes half a minute to say so, and a traceback: ask at the door first.
        if not address.startswith("inproc"):
            socket.create_connection(get_address_host_port(address), timeout=10).close()
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DataError(f"No Dask scheduler answers at {address!r} ({str(error).splitlines()[0]}).") from None
    with client:
        futures = client.map(function, tasks, pure=False)
        places = {future.key: i for i, future in enumerate(futures)}
        for future in as_completed(futures, loop=client.loop):
            try:
                yield places[future.key], _outcome(future.result)
            except KilledWorker:
                raise DataError(
                    f"The Dask cluster at {address} lost every worker that was given one of the tasks; is their "
                    "memory enough? Start again to go on from what is finished."
                ) from None
            future.release()
