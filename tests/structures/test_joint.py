"""Downstream evaluations read the progress R: what decides it, what they read, and that they do not act back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from model_values import some_point, values
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm, t

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError
from bayes_l2l.fits import fit, load_fit
from bayes_l2l.inference import nuts as sampling
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.inference.diagnostics import diagnose
from bayes_l2l.laws.residuals import Normal, StudentT
from bayes_l2l.laws.scaling import Law, log_reducible
from bayes_l2l.posterior.draws import LAW_VARIABLES, law_draws, stacked
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.likelihood import Discrepancy, ResidualSpec
from bayes_l2l.structures import joint
from bayes_l2l.structures.arrays import LossArrays, anchors
from bayes_l2l.structures.joint import Downstream
from bayes_l2l.structures.size_effect import expected_effect

FEW = SamplerSettings(draws=150, tune=150, chains=2, cores=2, seed=3)
OWN, READ = [0, 3], [1, 2]  # columns of the tiny joint sweep: code, task of code, task of web, web


def known(sweep, **options):
    return LossArrays.of(sweep, **options)


# Anchors: what decides R


def evaluated(noise, *, runs=12, train_set="a", seed=0):
    """A sweep of one training set: smooth losses on each evaluation, with this much noise."""
    rng = np.random.default_rng(seed)
    params, tokens = np.exp(rng.uniform(17, 20, runs)), np.exp(rng.uniform(21, 24, runs))
    law = tiny.truth("web")
    parts = []
    for name, (sd, kept) in noise.items():
        part = {
            "params": params,
            "tokens": tokens,
            "loss": law.loss(params, tokens) * np.exp(sd * rng.normal(size=runs)),
        }
        parts.append(pd.DataFrame(part).assign(train_set=train_set, eval_set=name).iloc[:kept])
    return pd.concat(parts, ignore_index=True)


def deciders(*tables):
    data = known(Sweep.from_table(pd.concat(tables, ignore_index=True)))
    return [data.labels[i] for i in anchors(data)]


def test_own_losses_decide_however_noisy_they_are():
    data = known(tiny.tiny_joint_sweep())
    assert list(anchors(data)) == OWN
    assert deciders(evaluated({"a": (0.2, 12), "smooth": (0.001, 12)})) == ["a|a"]


def test_without_an_own_loss_the_smoothest_evaluation_decides():
    noise = {"rough": (0.05, 12), "smooth": (0.002, 12), "so-so": (0.02, 12)}
    assert deciders(evaluated(noise)) == ["smooth|a"]
    with_own = evaluated({"b": (0.01, 12), "smooth": (0.001, 12)}, train_set="b")
    assert deciders(evaluated(noise), with_own) == ["smooth|a", "b|b"]


def test_a_lone_evaluation_decides():
    assert deciders(evaluated({"task": (0.1, 3)})) == ["task|a"]


def test_an_evaluation_of_few_runs_decides_only_where_all_have_few():
    """Six runs lie on any quadratic surface."""
    assert deciders(evaluated({"few": (0.0, 6), "rough": (0.05, 12)})) == ["rough|a"]
    assert deciders(evaluated({"few": (0.0, 6), "fewer": (0.0, 4)})) == ["few|a"]


def test_smoothness_does_not_reward_having_fewer_runs():
    """The surface takes six of ten degrees of freedom, and with them most of the scatter."""
    found = [
        deciders(evaluated({"many": (0.008, 60), "ten": (0.01, 10)}, runs=60, seed=seed))[0] for seed in range(20)
    ]
    assert found.count("many|a") > found.count("ten|a")


# R


laws = st.builds(
    Law,
    E=st.floats(0.5, 2.5),
    log_A=st.floats(15, 22),
    log_B=st.floats(17, 24),
    alpha=st.floats(0.2, 0.7),
    beta=st.floats(0.2, 0.7),
    gamma=st.floats(0.4, 1.5),
    c=st.floats(0, 0.2),
)


def with_draws(law, n=1):
    """The law as arrays of draws, all alike."""
    return Law(**{name: np.full(n, value) for name, value in vars(law).items()})


def reading_of(E, at_reference, gamma):
    return {"E": np.array([[E]]), "loss_at_reference": np.array([[at_reference]]), "gamma": np.array([[gamma]])}


@settings(max_examples=60, deadline=None)
@given(laws, st.floats(0.1, 3), st.floats(0.01, 3), st.floats(0.3, 1.5))
def test_the_law_of_a_downstream_is_that_of_the_same_progress(law, E, reducible, gamma):
    data = known(tiny.tiny_sweep())
    found = joint.laws(with_draws(law), reading_of(E, E + reducible, gamma), data.reference)
    params, tokens = np.exp(data.log_params), np.exp(data.log_tokens)
    np.testing.assert_allclose(found.loss(*np.exp(data.reference)), E + reducible, rtol=1e-9)
    # the curve that the model of the readings conditions on
    progress = joint.progress(with_draws(law), data, np.zeros((1, len(params))))
    np.testing.assert_allclose(found.loss(params, tokens), E + reducible * np.exp(gamma * progress), rtol=1e-8)
    # log R is that of the deciding cell up to a constant, and so is the optimum
    R = [
        log_reducible(data.log_params, data.log_tokens, **{k: v for k, v in vars(one).items() if k != "E"})
        / one.gamma
        for one in (law, found)
    ]
    np.testing.assert_allclose(np.ptp(R[0] - R[1]), 0, atol=1e-8)
    np.testing.assert_allclose(found.optimal(1e21)[0], law.optimal(1e21)[0], rtol=1e-8)
    assert found.c.item() == law.c


def test_progress_is_the_textbooks_and_takes_up_deviations():
    data = known(tiny.tiny_sweep())
    law = Law(E=1.5, log_A=18.0, log_B=20.0, alpha=0.5, beta=0.4, gamma=0.8, c=0.05)
    deviation = np.random.default_rng(0).normal(size=(2, len(data.log_params)))
    found = joint.progress(with_draws(law, 2), data, deviation)

    def R(log_N, log_D):
        N, D = np.exp(log_N), np.exp(log_D)
        terms = (np.exp(18.0) / N) ** (0.5 / 0.8) + (np.exp(20.0) / D) ** (0.4 / 0.8)
        return terms * (1 + 0.05 * 2e9 / D)

    expected = np.log(R(data.log_params, data.log_tokens) / R(*data.reference)) + deviation
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def decided_draws(data, *, draws=3, seed=0):
    """Draws of laws near those of the tiny sweep, and of their noise."""
    rng = np.random.default_rng(seed)
    parts = [tiny.truth(train) for _, train in data.cells]

    def values_of(name):
        return np.array([getattr(law, name) for law in parts]) * (1 + 1e-3 * rng.normal(size=(draws, len(parts))))

    law = Law(**{name: values_of(name) for name in LAW_VARIABLES})
    return law, np.abs(rng.normal(0.003, 0.001, (draws, len(parts)))), rng.uniform(0.002, 0.02, draws)


def test_deviations_are_the_conditional_mean_of_the_joint_normal():
    """Of the deviation and all residuals of a size, with their covariance written out."""
    table = tiny.tiny_sweep().table.assign(loss_se=lambda t: np.where(t.index % 2, 0.01, np.nan))
    table = table.drop(index=[0, 7, 25])  # sizes that one training set has and the other has not
    data = known(
        Sweep.from_table(table.reset_index(drop=True)), discrepancy=Discrepancy(at_largest=0.003, rate=1, cap=0.1)
    )
    law, scatter, deviation = decided_draws(data)
    found = expected_effect(law, data, residual_scale=scatter, size_effect_scale=deviation)
    assert found.shape == (3, len(data.log_params))
    params, tokens = np.exp(data.log_params), np.exp(data.log_tokens)
    for draw in range(3):
        for point in range(len(params)):
            loss = law.loss(params[point], tokens[point])[draw]
            seen = data.observed[point] > 0
            shared = (law.gamma[draw] * (1 - law.E[draw] / loss))[seen]
            prior = deviation[draw] ** 2 + data.discrepancy[point] ** 2
            noise = np.diag((scatter[draw] ** 2 + data.noise[point] ** 2)[seen])
            residual = (data.log_loss[point] - np.log(loss))[seen]
            covariance = prior * np.outer(shared, shared) + noise
            expected = prior * shared @ np.linalg.solve(covariance, residual)
            assert found[draw, point] == pytest.approx(expected, rel=1e-8)


def test_nothing_deviates_where_nothing_was_measured_or_may_deviate():
    data = known(tiny.tiny_sweep())
    data = replace(data, observed=data.observed * (np.arange(len(data.log_params)) % 2)[:, None])
    law, scatter, deviation = decided_draws(data)
    found = expected_effect(law, data, residual_scale=scatter, size_effect_scale=deviation)
    np.testing.assert_array_equal(found[:, ::2], 0)
    assert (found[:, 1::2] != 0).all()
    # a model file may say that there is no deviation
    np.testing.assert_array_equal(
        expected_effect(law, data, residual_scale=scatter, size_effect_scale=0 * deviation), 0
    )


# The model of the downstream evaluations


@pytest.mark.parametrize("nu", [None, 4])
def test_its_likelihood_is_that_of_the_curve_by_hand(nu):
    residuals = ResidualSpec(dist="StudentT", parameters={"nu": nu}) if nu else ResidualSpec(dist="Normal")
    spec = replace(tiny.JOINT, downstream=Downstream(likelihood=residuals))
    frame = tiny.tiny_joint_sweep().table
    frame = frame.assign(loss_se=np.where(frame.index % 3 == 0, 0.01, np.nan)).drop(index=[41, 50, 77])
    data = known(Sweep.from_table(frame.reset_index(drop=True)), weight_exponent=1.0).only(READ)
    assert (data.noise > 0).any()
    assert 0 < data.observed.mean() < 1
    model = joint.build_downstream(spec, data)
    progress = np.random.default_rng(0).normal(0, 0.5, len(data.log_params))
    model.set_data("progress", progress)
    E, loss, gamma, scatter, found = values(model, some_point(model), *joint.DOWNSTREAM_VARIABLES, "log_likelihood")
    assert E.shape == loss.shape == gamma.shape == (2,)
    curve = E + (loss - E) * np.exp(progress[:, None] * gamma)
    noise = t(nu) if nu else norm()
    spread = np.hypot(scatter, data.noise)
    densities = noise.logpdf((data.log_loss - np.log(curve)) / spread) - np.log(spread)
    assert found == pytest.approx((data.weight[:, None] * densities * data.observed).sum(), rel=1e-9)


def test_downstream_leave_what_the_deciding_cells_are_told_as_it_is():
    alone, beside = known(tiny.tiny_sweep()), known(tiny.tiny_joint_sweep()).only(OWN)
    assert beside.cells == alone.cells
    for name, array in alone.arrays().items():
        np.testing.assert_array_equal(beside.arrays()[name], array, err_msg=name)


# Moved to another R


class Cell:
    """Losses of one cell, whose posterior at any R is normal about a mode: the noise is small."""

    smallest, scatter, n = 1.9, 0.001, 80

    def __init__(self, *, weight=1.0):
        rng = np.random.default_rng(1)
        self.F = rng.uniform(-1.0, 1.0, self.n)
        self.log_loss = np.log(self.curve([0.9, -1.3, -0.2], self.F)) + self.scatter * rng.normal(size=self.n)
        columns = {"log_loss": self.log_loss, "observed": np.ones(self.n), "noise": np.zeros(self.n)}
        self.data = replace(
            known(tiny.tiny_sweep()),
            cells=[("task", "a")],
            log_params=self.F,
            weight=np.full(self.n, weight),
            smallest=np.array([self.smallest]),
            **{name: values[:, None] for name, values in columns.items()},
        )

    def curve(self, free, progress):
        """Loss where E, loss and gamma are given by their unconstrained values."""
        E = self.smallest * expit(free[0])
        loss = self.smallest * (1 + np.exp(free[1]))
        return E + (loss - E) * np.exp(np.exp(free[2]) * progress)

    def mode(self, progress):
        def misfit(free):
            return np.sum((self.log_loss - np.log(self.curve(free, progress))) ** 2) / self.scatter**2 / 2

        options = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 9000, "maxfev": 9000}
        return minimize(misfit, [0.9, -1.3, -0.2], method="Nelder-Mead", options=options).x

    def draws(self, n, *, spread):
        """Normal draws about the mode at `F`; the scatter is known up to `spread`, and E and the like accordingly."""
        rng, centre, h = np.random.default_rng(2), self.mode(self.F), 1e-5
        steps = h * np.eye(3)
        up, down = ([np.log(self.curve(centre + sign * step, self.F)) for step in steps] for sign in (1, -1))
        jacobian = (np.array(up) - down).T / (2 * h)
        covariance = np.linalg.inv(jacobian.T @ jacobian) * self.scatter**2
        scale = np.exp(spread * rng.normal(size=(n, 1)))
        free = centre + scale * rng.multivariate_normal(np.zeros(3), covariance, n)
        natural = {
            "E": self.smallest * expit(free[:, :1]),
            "loss_at_reference": self.smallest * (1 + np.exp(free[:, 1:2])),
            "gamma": np.exp(free[:, 2:]),
            "residual_scale": self.scatter * scale,
        }
        return natural, np.sqrt(np.diag(covariance))

    def free(self, reading):
        fraction, excess = reading["E"] / self.smallest, reading["loss_at_reference"] / self.smallest - 1
        return np.hstack([np.log(fraction / (1 - fraction)), np.log(excess), np.log(reading["gamma"])])


def bent(cell, size):
    """R of every draw: bent by a quadratic, by as much as `size` says."""
    return cell.F + np.asarray(size)[:, None] * (cell.F**2 - 0.5 * cell.F)


def test_nothing_moves_with_an_unchanged_progress():
    cell = Cell()
    reading, _ = cell.draws(50, spread=0.2)
    same = np.broadcast_to(cell.F, (50, cell.n))
    before = {name: values.copy() for name, values in reading.items()}
    moved = joint.moved(reading, cell.data, progress=same, drawn_at=cell.F)
    for name, values_before in before.items():
        np.testing.assert_allclose(moved[name], values_before, rtol=1e-9)
        np.testing.assert_array_equal(reading[name], values_before)  # what was given is left alone
    one = {name: values[:1] for name, values in reading.items()}
    assert joint.moved(one, cell.data, progress=same[:1], drawn_at=cell.F)["E"] == pytest.approx(one["E"])


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_downstream_move_to_the_posterior_of_the_other_progress(spread):
    cell = Cell()
    n, size = 4000, 0.01
    reading, sd = cell.draws(n, spread=spread)
    sign = np.where(np.arange(n) % 2, 1, -1)
    moved = joint.moved(reading, cell.data, progress=bent(cell, size * sign), drawn_at=cell.F)
    np.testing.assert_array_equal(moved["residual_scale"], reading["residual_scale"])
    before = cell.free(reading).mean(axis=0)
    for way in (1, -1):
        (progress,) = bent(cell, [way * size])
        found = cell.free({name: values[sign == way] for name, values in moved.items()})
        wanted = cell.mode(progress)
        shift = (wanted - before) / sd
        assert abs(shift[[0, 2]]).min() > 3  # E and gamma: far beyond what the draws spread
        np.testing.assert_allclose((found.mean(axis=0) - before) / sd, shift, atol=0.08 * abs(shift).max())
        # one R has one spread, as before
        np.testing.assert_allclose(found.std(axis=0), sd * np.exp(spread**2), rtol=0.25)


def test_runs_far_off_hardly_move_a_downstream_with_heavy_tails():
    cell = Cell()
    reading, _ = cell.draws(500, spread=0.2)
    # One run lies 300 times its scatter off, and R is moved there alone.
    log_loss = cell.data.log_loss.copy()
    log_loss[0] += 300 * cell.scatter
    cell_off = replace(cell.data, log_loss=log_loss)
    change = np.zeros(cell.n)
    change[0] = 0.01
    progress = cell.F + change * np.random.default_rng(0).normal(size=(500, 1))
    by = {
        nu: joint.moved(reading, cell_off, progress=progress, drawn_at=cell.F, residuals=residuals)
        for nu, residuals in ((np.inf, Normal()), (4.0, StudentT(4.0)))
    }
    moves = {nu: np.abs(one["gamma"] / reading["gamma"] - 1).max() for nu, one in by.items()}
    assert moves[4.0] < 0.05 * moves[np.inf]


def test_moved_curves_stay_where_the_losses_are():
    cell = Cell()
    reading, _ = cell.draws(2000, spread=0.2)
    progress = bent(cell, 0.025 * np.random.default_rng(0).normal(size=2000))
    moved = joint.moved(reading, cell.data, progress=progress, drawn_at=cell.F)

    def misfit(one):
        E, loss, gamma = (one[name] for name in ("E", "loss_at_reference", "gamma"))
        residual = cell.log_loss - np.log(E + (loss - E) * np.exp(gamma * progress))
        return np.sqrt(np.mean(residual**2)) / cell.scatter

    assert misfit(reading) > 3
    assert misfit(moved) < 1.3


def test_moved_downstream_stay_within_their_bounds_even_where_R_is_wildly_off():
    cell = Cell()
    reading, _ = cell.draws(300, spread=0.2)
    progress = bent(cell, 0.3 * np.random.default_rng(0).normal(size=300))
    moved = joint.moved(reading, cell.data, progress=progress, drawn_at=cell.F)
    assert (moved["E"] < cell.smallest).all()
    assert (moved["loss_at_reference"] > cell.smallest).all()
    assert (moved["gamma"] > 0).all()
    assert all(np.isfinite(values).all() for values in moved.values())


def test_runs_that_are_not_there_do_not_move_a_reading():
    cell = Cell()
    reading, _ = cell.draws(100, spread=0.2)
    hidden = replace(cell.data, observed=np.where(cell.F > 0, 1.0, 0.0)[:, None])
    change = np.where(cell.F > 0, 0.0, 0.1) * np.random.default_rng(0).normal(size=(100, 1))
    moved = joint.moved(reading, hidden, progress=cell.F + change, drawn_at=cell.F)
    np.testing.assert_allclose(moved["E"], reading["E"])


# Both modules


@pytest.fixture(scope="module")
def compiled():
    return CompiledModel(tiny.JOINT, tiny.tiny_joint_sweep())


@pytest.fixture(scope="module")
def drawn(compiled):
    return compiled.sample(tiny.tiny_joint_sweep(), FEW)


@pytest.mark.slow
def test_a_posterior_has_all_cells_and_says_which_decide(drawn):
    posterior, stats = drawn
    assert posterior["cell"].values.tolist() == ["code|code", "task|code", "task|web", "web|web"]
    assert posterior["anchor"].values.tolist() == [True, False, False, True]
    assert all(np.isfinite(values).all() for values in posterior.values())
    assert {"diverging", "energy", "diverging_downstream", "energy_downstream"} <= set(stats)
    for name in (*LAW_VARIABLES, "residual_scale"):
        assert posterior[name].dims == ("chain", "draw", "cell")


@pytest.mark.slow
def test_one_R_is_read_by_all(drawn):
    posterior = stacked(drawn[0])
    first, *others = (law_draws(posterior, i) for i in range(4))
    for law in others:
        np.testing.assert_allclose(law.alpha / law.gamma, tiny.ALPHA)
        np.testing.assert_allclose(law.optimal(1e21)[0], first.optimal(1e21)[0])


@pytest.mark.slow
def test_the_downstream_laws_are_found(drawn):
    posterior = stacked(drawn[0])
    params, tokens = tiny.grid()
    for column, name in zip(READ, tiny.SETS, strict=True):
        gap = np.log(law_draws(posterior, [column]).loss(params[:, None, None], tokens[:, None, None])[..., 0])
        gap -= np.log(tiny.task(name).loss(params, tokens))[:, None]
        assert abs(gap.mean(axis=1)).max() < 0.004  # of runs that scatter by 0.002 and deviate by 0.003
        scatter = posterior["residual_scale"].to_numpy()[:, column]
        assert scatter.mean() == pytest.approx(tiny.SCATTER, rel=0.6)


@pytest.mark.slow
def test_downstream_do_not_act_back_on_the_posterior_of_what_decides(drawn):
    alone, _ = CompiledModel(tiny.JOINT, tiny.tiny_sweep()).sample(tiny.tiny_sweep(), FEW)
    beside = drawn[0].isel(cell=OWN)
    assert alone["anchor"].values.all()
    for name in (*LAW_VARIABLES, "residual_scale", "size_effect_scale"):
        np.testing.assert_array_equal(beside[name], alone[name])


@pytest.mark.slow
def test_a_seed_gives_the_same_draws_of_both_modules(compiled, drawn):
    again, _ = compiled.sample(tiny.tiny_joint_sweep(), FEW)
    assert again.equals(drawn[0])


@pytest.mark.slow
def test_a_fit_with_downstream_is_saved_whole_and_forecast(compiled, tmp_path):
    few = {"draws": 100, "tune": 100, "chains": 2, "random_seed": 3}
    made = fit(tiny.tiny_joint_sweep(), compiled=compiled, **few)
    kept = load_fit(made.save(tmp_path / "fit.nc"))
    assert kept.posterior.equals(made.posterior)
    assert kept.posterior["anchor"].values.tolist() == [True, False, False, True]
    assert kept.posterior["anchor"].dtype == bool
    assert "diverging_downstream" in kept.tree["sample_stats"]
    at = {"params": 2e9, "tokens": 4e10}
    np.testing.assert_allclose(kept.forecast(**at).draws, made.forecast(**at).draws, rtol=1e-12)


@pytest.mark.slow
def test_divergences_of_the_downstream_are_counted(drawn):
    posterior, stats = drawn
    stats = stats.assign({name: 0 * stats[name] for name in ("diverging", "diverging_downstream")})
    stats["diverging_downstream"][0, :7] = 1
    notes = diagnose(posterior, stats, FEW)[1]
    (note,) = [note for note in notes if note.code == "divergences"]
    assert note.data == {"divergences": 7, "draws": 2 * 2 * 150}
    assert note.severity == "serious"


@pytest.mark.slow
@pytest.mark.parametrize(("module", "draws", "chains"), [(0, 31, 2), (1, 31, 2), (1, 40, 1)])
def test_interrupted_modules_keep_equal_draws(compiled, monkeypatch, module, draws, chains):
    """Ctrl-C as it looks once the sampler has returned: fewer draws than asked for, perhaps of fewer chains."""
    complete, calls = sampling._complete, []

    def shortened(posterior, stats):
        calls.append(posterior.sizes["draw"])
        if len(calls) - 1 != module:
            return complete(posterior, stats)
        kept = {"draw": slice(draws), "chain": slice(chains)}
        return complete(posterior.isel(kept), stats.isel(kept))

    monkeypatch.setattr(sampling, "_complete", shortened)
    short = replace(FEW, draws=50, tune=50, keep_interrupted=True)
    posterior, stats = compiled.sample(tiny.tiny_joint_sweep(), short)
    assert calls == ([50, draws] if module == 0 else [50, 50])
    assert posterior.sizes == {"chain": chains, "draw": draws, "cell": 4}
    for name in ("energy", "energy_downstream"):
        assert stats[name].shape == (chains, draws)
        assert np.isfinite(stats[name]).all()
    assert all(np.isfinite(values).all() for values in posterior.values())


def test_other_cells_are_refused(compiled):
    with pytest.raises(
        DataError, match=r"compiled for 4 cells and tiny has other ones; compile it for this sweep\.$"
    ):
        compiled.sample(tiny.tiny_sweep(), FEW)


def test_prior_draws_have_all_cells_and_one_R(compiled):
    prior = compiled.prior(300, 1)
    assert prior.sizes == {"chain": 1, "draw": 300, "cell": 4}
    assert prior["anchor"].values.tolist() == [True, False, False, True]
    assert all(np.isfinite(prior[name]).all() for name in prior)
    laws_of = [law_draws(stacked(prior), i) for i in range(4)]
    for law in laws_of:
        np.testing.assert_allclose(law.optimal(1e21)[0], laws_of[0].optimal(1e21)[0], rtol=1e-6)
    smallest = known(tiny.tiny_joint_sweep()).smallest
    assert (prior["E"].to_numpy() < smallest).all()


def test_prior_draws_of_the_modules_know_nothing_of_each_other(compiled):
    """Their models resemble each other: with one seed, their variables would be drawn alike."""
    prior = compiled.prior(300, 1)
    for name in ("E", "gamma", "residual_scale"):
        correlation = np.corrcoef(prior[name].to_numpy()[0].T)
        assert abs(correlation[np.ix_(OWN, READ)]).max() < 0.25, name
