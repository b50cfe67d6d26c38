"""One thread for linear algebra: matrices are small here, and threads that wait for each other take far longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS use one thread."""
    import scipy.linalg  # noqa: F401 - limits hold for what is loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
