"""What PyMC and its relatives warn of, and is no trouble here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what is true of this model and no trouble.

    The likelihood is a potential, which the prior rightly leaves out; no BLAS is needed, since the model has no
    matrix product; Numba has no truncated normal to draw from the prior with, and does without; and sampling that is
    interrupted early has few draws.
    """
    log = logging.getLogger("pymc.sampling.forward")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The effect of Potentials")
            warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")
            warnings.filterwarnings("ignore", "Numba will use object mode")
            warnings.filterwarnings("ignore", "More chains .* than draws|Found chain dimension to be longer")
            yield
    finally:
        log.setLevel(level)
