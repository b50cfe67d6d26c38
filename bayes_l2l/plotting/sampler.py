"""Pictures of the sampler's chains, by ArviZ: whether they agree, and whether they reached what they should.

As in `plots`, the functions return a figure that pyplot does not keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bayes_l2l.errors import DataError
from bayes_l2l.plotting import style as drawing

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from bayes_l2l.posterior.posterior import Posterior

#: Quantities that are drawn unless others are asked for: those whose chains agree least.
WORST: Final = 6


def traces(fit: Posterior, *, variables: Sequence[str] | None = None) -> Figure:
    """Draw the draws of every chain in their order: chains that agree look alike, and none wanders.

    Parameters
    ----------
    fit : Posterior
        A posterior.
    variables : sequence of str, optional
        Names of the posterior, every cell of each; by default the six quantities of largest R-hat.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a quantity, a colour a chain.

    Raises
    ------
    DataError
        If a variable is not in the posterior.
    """
    import arviz_plots
    import xarray as xr

    posterior, found = fit.draws, fit.diagnostics
    if unknown := [name for name in variables or () if name not in posterior]:
        raise DataError(f"The posterior has no {unknown[0]!r}; it has {', '.join(map(str, posterior))}.")
    if variables is None and fit.settings.method == "laplace":
        shown = [label for name in posterior for label in _scalars(posterior[name])][:WORST]
    elif variables is None:
        rhat = [label for name in found for label in _scalars(found[name].sel(diagnostic="rhat")).items()]
        shown = [label for label, _ in sorted(rhat, key=lambda one: -float(one[1]))[:WORST]]
    else:
        shown = [label for name in variables or () for label in _scalars(posterior[name])]
    every = {label: draws for name in posterior for label, draws in _scalars(posterior[name]).items()}
    chosen = xr.Dataset({drawing.literal(label): every[label].reset_coords(drop=True) for label in shown})
    tree = xr.DataTree.from_dict({"posterior": chosen})
    return _figure(arviz_plots.plot_trace(tree, backend="matplotlib", col_wrap=3))


def energy(fit: Posterior) -> Figure:
    """Draw the energy of the draws beside its changes, and E-BFMI: a chain that hardly changes it explores slowly.

    Parameters
    ----------
    fit : Posterior
        A posterior.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If there is no energy: the draws are of method "laplace".
    """
    import arviz_plots

    if "energy" not in fit.sample_stats:
        raise DataError("Draws of method 'laplace' have no energy: NUTS has (method='nuts').")
    return _figure(arviz_plots.plot_energy(fit.tree, backend="matplotlib"))


def _scalars(values: xr.DataArray) -> dict[str, xr.DataArray]:
    """Quantities of a variable by name: itself, or one a cell or other member."""
    along = [dim for dim in values.dims if dim not in ("chain", "draw")]
    if not along:
        return {str(values.name): values}
    (dim,) = along
    return {f"{values.name} {member}": values.sel({dim: member}) for member in values[dim].to_numpy()}


def _figure(collection: Any) -> Figure:
    """Figure of ArviZ's plots, no longer kept by pyplot."""
    from matplotlib import pyplot as plt

    figure: Figure = collection.viz["figure"].item()
    plt.close(figure)
    return figure
