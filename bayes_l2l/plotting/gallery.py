"""Pictures: what can be drawn of a fit, by name; drawn by the modules beside this one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayes_l2l.posterior.posterior import Posterior

#: Name of every picture of a fit, and the module that draws it.
HOME: Final = {
    "curves": "laws",
    "entropy": "laws",
    "isoflop": "laws",
    "residuals": "laws",
    "exponents": "relations",
    "grid": "relations",
    "overview": "relations",
    "test_to_test": "relations",
    "train_to_test": "relations",
    "train_to_train": "relations",
    "errors": "over_training",
    "multiples": "over_training",
    "energy": "sampler",
    "traces": "sampler",
}


class Pictures:
    """What can be drawn of a fit: ``fit.plot.curves()`` is ``bayes_l2l.plotting.laws.curves(fit)``.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    """

    def __init__(self, fit: Posterior) -> None:
        self._fit = fit

    def __getattr__(self, name: str) -> Callable[..., Figure]:
        if name not in HOME:
            raise AttributeError(f"a fit has no picture {name!r}; it has {', '.join(HOME)}")
        draw = getattr(import_module(f"bayes_l2l.plotting.{HOME[name]}"), name)
        return update_wrapper(partial(draw, self._fit), draw)

    def __dir__(self) -> list[str]:
        return sorted(HOME)
