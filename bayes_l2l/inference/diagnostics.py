"""Diagnostics: whether the sampler did its work, in numbers and as notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.errors import DataError
from bayes_l2l.notes import Note, Severity
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.structures.protocol import structure_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Bars that a posterior must pass to be reported (Vehtari et al., 2021, doi:10.1214/20-BA1221).
MAX_RHAT: Final = 1.01
MIN_ESS: Final = 400
MIN_BFMI: Final = 0.3
_BAD_RHAT: Final = 1.05
_BAD_ESS: Final = 100
#: Part of the draws that may diverge before the fit is not to be trusted.
_FEW_DIVERGENCES: Final = 0.001
#: Chains of at least this many draws in all are to pass the bars, and are made longer if they do not: so that they
#: would be worth this many times `MIN_ESS`, but no more than so many times as long.
_ENOUGH_DRAWS: Final = 4000
_SPARE: Final = 2.0
_LONGEST: Final = 10
#: Part of the mean rejection of their steps that is left.
_SHORTER: Final = 0.3
#: Kinds of diagnostics, and whether the largest is the worst: of chains, and of importance draws.
_KINDS: Final = {"rhat": True, "ess_bulk": False, "ess_tail": False, "khat": True, "ess": False}
_OF_CHAINS: Final = ("rhat", "ess_bulk", "ess_tail")
_OF_IMPORTANCE: Final = ("khat", "ess")
#: What is diagnosed of importance draws, a module each by its ending.
_IMPORTANCE: Final = "importance"


def diagnose(posterior: xr.Dataset, stats: xr.Dataset, settings: SamplerSettings) -> tuple[xr.Dataset, list[Note]]:
    """Convergence of every reported quantity, and notes where a bar is missed.

    Parameters
    ----------
    posterior, stats : xarray.Dataset
        As `CompiledModel.sample` returns them.
    settings : SamplerSettings
        What was asked for.

    Returns
    -------
    diagnostics : xarray.Dataset
        R-hat, bulk and tail effective sample size along ``diagnostic``.
    notes : list of Note
        Codes ``rhat``, ``ess``, ``divergences``, ``bfmi``, ``interrupted``, ``thinned``.
    """
    found = diagnostics_of(posterior)
    notes = [_interrupted(posterior.sizes["draw"], settings), *_mixing(found), _diverged(stats), _energy(stats)]
    notes.append(_thinned(stats, settings))
    return found, [note for note in notes if note is not None]


def settings_to_pass(posterior: xr.Dataset, stats: xr.Dataset, settings: SamplerSettings) -> SamplerSettings:
    """Settings with which chains that miss a bar can be expected to pass it.

    Parameters
    ----------
    posterior, stats : xarray.Dataset
        Of one module.
    settings : SamplerSettings
        That they were drawn with.

    Returns
    -------
    SamplerSettings
        Shorter steps, for longer chains meet corners that these passed by, and longer chains, thinned, where R-hat or
        the effective sample size misses. The same where the bars are passed, and where they cannot be: chains were
        interrupted, or few draws asked for.
    """
    complete = posterior.sizes["draw"] == settings.draws and posterior.sizes["chain"] == settings.chains
    if not complete or settings.draws * settings.chains < _ENOUGH_DRAWS:
        return settings
    found = diagnostics_of(posterior)
    rhat = max((float(values.sel(diagnostic="rhat").max()) for values in found.values()), default=1.0)
    ess = min((float(values.sel(diagnostic="ess_bulk").min()) for values in found.values()), default=np.inf)
    slow = rhat >= MAX_RHAT or ess < MIN_ESS
    if not slow and not divergences(stats)[0]:
        return settings
    longer = min(max(math.ceil(_SPARE * MIN_ESS / ess), 2), _LONGEST) if slow else 1
    target_accept = 1 - (1 - settings.target_accept) * _SHORTER
    return replace(settings, thin=settings.thin * longer, target_accept=target_accept)


def diagnostics_of(posterior: xr.Dataset) -> xr.Dataset:
    """R-hat, bulk and tail effective sample size of every quantity that varies, along ``diagnostic``."""
    import arviz_stats
    import xarray as xr

    # What is constant by the model (gamma of Chinchilla's form, c = 0) has no diagnostics.
    varying = [name for name, values in posterior.items() if float(values.max()) > float(values.min())]
    labels = [name for name, values in posterior.coords.items() if values.dims != (name,)]
    drawn = posterior[varying].drop_vars(labels, errors="ignore")
    # A chain that never moved has no variance: its R-hat is not a number, and is noted as one that is too large.
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = [
            arviz_stats.rhat(drawn),
            arviz_stats.ess(drawn, method="bulk"),
            arviz_stats.ess(drawn, method="tail"),
        ]
    found: xr.Dataset = xr.concat(tables, dim=xr.DataArray(list(_OF_CHAINS), dims="diagnostic", name="diagnostic"))
    return found


def worst(diagnostics: xr.Dataset) -> dict[str, tuple[str, float]]:
    """Quantity with the worst diagnostic of every kind, and its value.

    Parameters
    ----------
    diagnostics : xarray.Dataset
        From `diagnostics_of`.

    Returns
    -------
    dict
        By kind, ``"rhat"``, ``"ess_bulk"``, ``"ess_tail"``, or of method "laplace" ``"khat"``, ``"ess"``: name and
        value, not a number where one is not.
    """
    found = {}
    for kind in map(str, diagnostics["diagnostic"].values):
        values = by_variable(diagnostics, kind)
        sign = 1 if _KINDS[kind] else -1
        name = max(values, key=lambda n: (np.isnan(values[n]), sign * values[n]))
        found[kind] = name, values[name]
    return found


def by_variable(diagnostics: xr.Dataset, kind: str) -> dict[str, float]:
    """Worst value of a kind of diagnostic among the elements of every quantity."""
    sign = 1 if _KINDS[kind] else -1
    found = diagnostics.sel(diagnostic=kind)
    return {str(name): sign * float((sign * values).max(skipna=False)) for name, values in found.items()}


def diagnose_importance(stats: xr.Dataset) -> tuple[xr.Dataset, list[Note]]:
    """What importance draws are worth, module by module, and notes on them.

    Parameters
    ----------
    stats : xarray.Dataset
        As `CompiledModel.sample` returns them by method "laplace".

    Returns
    -------
    diagnostics : xarray.Dataset
        Pareto's k-hat and the independent draws that they are worth along ``diagnostic``.
    notes : list of Note
        Codes ``approximate``, always, and ``several_modes``.
    """
    import xarray as xr

    modules = [str(name).removeprefix("khat") for name in stats if str(name).startswith("khat")]
    found = xr.Dataset(
        {_IMPORTANCE + end: ("diagnostic", [float(stats[k + end]) for k in _OF_IMPORTANCE]) for end in modules},
        coords={"diagnostic": list(_OF_IMPORTANCE)},
    )
    (_, khat), (_, ess) = worst(found).values()
    few = ess < MIN_ESS
    message = (
        f"drawn by method 'laplace', not by NUTS: k-hat is {khat:.2f} (0.7 or less is usable), and the draws are "
        f"worth {ess:.0f} independent ones"
    )
    if few:
        message += f", below {MIN_ESS}: sample it with method='nuts'"
    notes = [Note("approximate", "warning" if few else "info", message, {"khat": khat, "ess": ess})]
    n_modes = max(int(stats["modes" + end]) for end in modules)
    if n_modes > 1:
        message = f"the posterior has {n_modes} modes, between which method 'laplace' weighs: compare it with NUTS"
        notes.append(Note("several_modes", "warning", message, {"modes": n_modes}))
    return found, notes


def outcome(posterior: Posterior) -> tuple[str, dict[str, float]]:
    """How the drawing of a posterior went, in words and as numbers.

    Parameters
    ----------
    posterior : Posterior
        Its diagnostics of losses alone.

    Returns
    -------
    said : str
        The worst of them.
    found : dict
        The same, by kind, and of NUTS the draws that diverged and all draws.
    """
    return summed_up(posterior.diagnostics, posterior.sample_stats)


def summed_up(diagnostics: xr.Dataset, stats: xr.Dataset) -> tuple[str, dict[str, float]]:
    """As `outcome`, of diagnostics that may be of losses and of error rates."""
    found = {kind: value for kind, (_, value) in worst(diagnostics).items()}
    if "khat" in found:
        return f"method 'laplace', k-hat at most {found['khat']:.2f}, draws worth at least {found['ess']:.0f}", found
    diverged, total = divergences(stats)
    said = (
        f"R-hat at most {found['rhat']:.3f}, bulk ESS at least {found['ess_bulk']:.0f}, {diverged} of {total} draws "
        "diverged"
    )
    return said, found | {"divergences": diverged, "draws": total}


def divergences(stats: xr.Dataset) -> tuple[int, int]:
    """Draws that diverged, and draws of all modules."""
    of_modules = [values for name, values in stats.items() if str(name).startswith("diverging")]
    return sum(int(values.sum()) for values in of_modules), sum(values.size for values in of_modules)


def _thinned(stats: xr.Dataset, settings: SamplerSettings) -> Note | None:
    thin = max((int(values) for name, values in stats.items() if str(name).startswith("thin")), default=1)
    if thin <= settings.thin:
        return None
    message = f"the chains move slowly, and were made {thin} times as long: one draw of {thin} is kept"
    return Note("thinned", "info", message, {"thin": thin})


def _interrupted(n_draws: int, settings: SamplerSettings) -> Note | None:
    if n_draws >= settings.draws:
        return None
    message = f"sampling was interrupted: {n_draws} of {settings.draws} draws a chain were kept"
    return Note("interrupted", "warning", message, {"draws": n_draws})


def _mixing(diagnostics: xr.Dataset) -> list[Note]:
    """Notes on R-hat and effective sample sizes."""
    notes = []
    found = worst(diagnostics)
    name, value = found["rhat"]
    if not value < MAX_RHAT:
        message = f"the chains disagree: R-hat of {name} is {value:.3f}, above {MAX_RHAT}; draw more, or tune longer"
        notes.append(Note("rhat", _worse(not value < _BAD_RHAT), message, {"variable": name, "rhat": value}))
    name, value = found["ess_bulk"]
    if not value >= MIN_ESS:
        message = f"few independent draws: bulk ESS of {name} is {value:.0f}, below {MIN_ESS}; draw more"
        notes.append(Note("ess", _worse(not value >= _BAD_ESS), message, {"variable": name, "ess_bulk": value}))
    return notes


def _diverged(stats: xr.Dataset) -> Note | None:
    count, total = divergences(stats)
    if not count:
        return None
    message = f"{count} of {total} draws diverged: the posterior has corners that were not explored"
    severity = _worse(count > _FEW_DIVERGENCES * total)
    return Note("divergences", severity, message, {"divergences": count, "draws": total})


def _energy(stats: xr.Dataset) -> Note | None:
    energy = min(_bfmi(values) for name, values in stats.items() if str(name).startswith("energy"))
    if energy >= MIN_BFMI:
        return None
    message = f"the energy mixes slowly (E-BFMI {energy:.2f}, below {MIN_BFMI}): heavy tails; tune longer"
    return Note("bfmi", "warning", message, {"bfmi": energy})


def _bfmi(energy: xr.DataArray) -> float:
    import arviz_base
    import arviz_stats

    energies = arviz_base.from_dict({"sample_stats": {"energy": energy.to_numpy()}})
    return float(arviz_stats.bfmi(energies)["energy"].min())


def _worse(serious: bool) -> Severity:
    return "serious" if serious else "warning"


def not_identified(posterior: xr.Dataset) -> list[Note]:
    """Note on cells whose irreducible entropy the data hardly bound."""
    low, high = (posterior["E"].quantile(q, dim=("chain", "draw")) for q in (0.05, 0.95))
    wide = posterior["cell"].values[((high - low) > 0.5 * high).values]
    if not len(wide):
        return []
    first = ", ".join(map(str, wide[:3])) + (f" and {len(wide) - 3} more" if len(wide) > 3 else "")
    message = f"the irreducible entropy is hardly known in {first}: forecasts far out rest on its prior"
    return [Note("E_not_identified", "warning", message, {"cells": [str(c) for c in wide]})]


def summary_table(posterior: Posterior, variables: Sequence[str] | None = None) -> pd.DataFrame:
    """Posterior and convergence of the reported quantities.

    Parameters
    ----------
    posterior : Posterior
        Of any structure.
    variables : sequence of str, optional
        Names of the posterior; by default those of the laws or relations, and of the likelihood.

    Returns
    -------
    pandas.DataFrame
        One row a quantity and cell, or pair of cells: mean, sd, q0.05, median, q0.95, and of NUTS rhat, ess_bulk,
        ess_tail.

    Raises
    ------
    DataError
        If a variable is not in the posterior.
    """
    import pandas as pd

    draws, found, structure = posterior.draws, posterior.diagnostics, structure_of(posterior.spec)
    along = structure.along
    # Importance draws are diagnosed all together.
    shown = draws if "khat" in found.get("diagnostic", ()) else found
    names = list(variables) if variables is not None else [n for n in structure.variables if n in shown]
    if unknown := [n for n in names if n not in draws]:
        raise DataError(f"The posterior has no {unknown[0]!r}; it has {', '.join(map(str, draws))}.")
    rows = []
    for name in names:
        long = draws[name].stack(sample=("chain", "draw"), create_index=False)  # noqa: PD013
        low, median, high = long.quantile([0.05, 0.5, 0.95], dim="sample")
        columns = {
            "mean": long.mean("sample"),
            "sd": long.std("sample"),
            "q0.05": low,
            "median": median,
            "q0.95": high,
        }
        if name in found:
            of_all = found[name].reindex({along: draws[along]}) if along in found[name].dims else found[name]
            columns |= {str(k): of_all.sel(diagnostic=k) for k in found["diagnostic"].values}
        own = [draws[dim].values for dim in draws[name].dims[2:]]
        labels = ["|".join(map(str, names)) for names in product(*own)] if own else [None]
        each = {k: np.ravel(v.to_numpy()) for k, v in columns.items()}
        for i, label in enumerate(labels):
            rows.append({"variable": name, along: label} | {k: float(v[i]) for k, v in each.items()})
    return pd.DataFrame(rows).set_index(["variable", along])
