"""SamplerSettings: how a posterior is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bayes_l2l.errors import DataError

Sampler = Literal["nutpie", "pymc"]
Method = Literal["nuts", "laplace"]


@dataclass(frozen=True)
class SamplerSettings:
    """How the posterior is drawn.

    Parameters
    ----------
    draws, tune, chains : int
        Draws a chain that are kept, draws a chain for adaptation, and chains.
    seed : int
        The same seed gives the same draws on the same versions.
    sampler : {"nutpie", "pymc"}
        Which implementation of NUTS.
    target_accept : float
        Mean acceptance that the step size is adapted to; high because the posterior's curvature varies.
    cores : int
        Chains that run at a time.
    progress : bool
        Whether to show a progress bar (terminal or notebook).
    keep_interrupted : bool
        Whether Ctrl-C ends the sampling and keeps what was drawn, instead of stopping the program.
    method : {"nuts", "laplace"}
        Markov chains, or an approximation with importance resampling, of which chains and draws are but the number of
        draws, and `tune`, `sampler` and `target_accept` say nothing.
    thin : int
        Draws that a chain makes for each that is kept.
    """

    draws: int = 1000
    tune: int = 500
    chains: int = 4
    seed: int = 0
    sampler: Sampler = "nutpie"
    target_accept: float = 0.97
    cores: int = 2
    progress: bool = False
    keep_interrupted: bool = False
    method: Method = "nuts"
    thin: int = 1

    def __post_init__(self) -> None:
        for name in ("draws", "tune", "chains", "cores", "thin"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 < self.target_accept < 1:
            raise DataError(f"target_accept must lie between 0 and 1, not {self.target_accept}.")
        if self.sampler not in ("nutpie", "pymc"):
            raise DataError(f"sampler is {self.sampler!r}; known are nutpie and pymc.")
        if self.method not in ("nuts", "laplace"):
            raise DataError(f"method is {self.method!r}; known are nuts and laplace.")
