"""Every evaluator gives the same value, gradient and Hessian products for every random problem.

NumPy loops over the definition, PyTorch sweeps (stored or recomputed, batched or mapped, any chunk)
and the CasADi transcription share nothing but the formulas. TEST_SEED=... draws other controls.
"""

from __future__ import annotations

import os
from functools import cache, cached_property
from types import SimpleNamespace

import casadi as ca
import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.lifted.transcription import Transcription
from tests.random_problems import CASES, build

RULES = ("left", "trapezoid")
EVERY = [pytest.param(name, rule, id=f"{name}-{rule}") for rule in RULES for name in CASES]
MODES = {
    "stored": {"stored": True},
    "swept": {"stored": False},
    "swept, mapped kernel": {"stored": False, "batched": False},
    "chunks of 1": {"stored": False, "chunk": 1},
    "chunks of 2": {"stored": False, "chunk": 2},
    "stored, chunks of 2": {"stored": True, "chunk": 2},
}

# All states, costs and derivatives are O(1) to O(100) sums of at most a few hundred terms: their
# rounding is a few hundred units of 2.2e-16 of the largest term, below 1e-13. Values keep a factor
# 10 above that, gradients (which pass L layers back) 1000, Hessian products (twice) 10^4.
VALUE = 1e-12
GRADIENT = 1e-10
HESSIAN = 1e-9


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(int(os.environ.get("TEST_SEED", "0")))


class Setting:
    """One discrete problem with its evaluators, each built when it is first needed."""

    def __init__(self, name: str, rule: str) -> None:
        found = build(name)
        self.problem, self.depth = found.problem, found.depth
        self.discrete = dnl.discretise(found.problem, found.depth, rule)
        self.size = self.discrete.space.size

    @cached_property
    def evaluators(self) -> dict[str, Evaluator]:
        # the other modes differ in columns, which rules share
        implicit = ("stored", "swept", "chunks of 2")
        modes = implicit if self.discrete.grid.implicit else tuple(MODES)
        return {mode: Evaluator(self.discrete, **MODES[mode]) for mode in modes}

    @cached_property
    def casadi(self) -> SimpleNamespace:
        """f, g and their derivatives in (w, x) as CasADi Functions of (w, x) and (w, x, λ)."""
        t = Transcription(self.discrete)
        w = t.w
        x = ca.vec(t.x)
        f = t.objective
        g = ca.vec(t.rows)
        lam = ca.SX.sym("lam", g.numel())
        first = [f, g, ca.gradient(f, w), ca.gradient(f, x), ca.jacobian(g, w), ca.jacobian(g, x)]
        hessian = ca.hessian(f + ca.dot(lam, g), ca.vertcat(w, x))[0]
        return SimpleNamespace(
            first=ca.Function("first", [w, x], first),
            hessian=ca.Function("hessian", [w, x, lam], [hessian]),
        )

    def control(self, rng: np.random.Generator) -> np.ndarray:
        return 0.5 * rng.standard_normal(self.size)


@cache
def setting(name: str, rule: str = "left") -> Setting:
    return Setting(name, rule)


class Condensed:
    """Value, gradient and Hessian of J(w) = f(w, x(w)) by the implicit function theorem.

    The states solve g(w, x(w)) = 0.
    """

    def __init__(self, found: Setting, w: np.ndarray) -> None:
        x = found.discrete.states(w).ravel()
        self.value, g, f_w, f_x, g_w, g_x = (np.array(v) for v in found.casadi.first(w, x))
        self.value, self.residual = float(self.value.squeeze()), g.ravel()
        # the rows are causal: a state appears in its own and in later ones, with the coefficient 1
        # if they are explicit
        size = len(g_x) // (found.depth + 1)
        own = np.kron(np.eye(found.depth + 1), np.ones((size, size)))
        upper = (
            np.triu(g_x)
            if not found.discrete.grid.implicit
            else np.where(own, 0.0, np.triu(g_x)) + np.eye(len(g_x))
        )
        assert np.array_equal(upper, np.eye(len(g_x)))
        lam = -np.linalg.solve(g_x.T, f_x)
        self.gradient = (f_w + g_w.T @ lam).ravel()
        slopes = -np.linalg.solve(g_x, g_w)
        motion = np.vstack([np.eye(len(w)), slopes])
        self.hessian = motion.T @ np.array(found.casadi.hessian(w, x, lam)) @ motion


def close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """To ``tolerance`` of the largest entry (or of 1, the size of the terms, where they cancel)."""
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return np.allclose(got, expected, rtol=0, atol=tolerance * scale)


# -- value and states ----------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_values_and_states_agree(name, rule, rng):
    case = setting(name, rule)
    w = case.control(rng)
    x = case.discrete.states(w)
    J = case.discrete.value(w)
    for mode, evaluator in case.evaluators.items():
        assert close(evaluator.states(w), x, VALUE), mode
        assert evaluator.value(w) == pytest.approx(J, rel=VALUE), mode
        assert evaluator.value_and_gradient(w)[0] == pytest.approx(J, rel=VALUE), mode
        trajectory = evaluator.trajectory(w)
        assert close(trajectory.states, x, VALUE) and trajectory.value == pytest.approx(
            J, rel=VALUE
        ), mode


@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_transcription_holds_at_the_reference_states(name, rule, rng):
    case = setting(name, rule)
    w = case.control(rng)
    condensed = Condensed(case, w)
    assert condensed.value == pytest.approx(case.discrete.value(w), rel=VALUE)
    assert close(condensed.residual, np.zeros_like(condensed.residual), VALUE)


# -- derivatives ---------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_gradients_agree(name, rule, rng):
    case = setting(name, rule)
    w = case.control(rng)
    expected = Condensed(case, w).gradient
    for mode, evaluator in case.evaluators.items():
        assert close(evaluator.value_and_gradient(w)[1], expected, GRADIENT), mode
        assert close(evaluator.trajectory(w).gradient, expected, GRADIENT), mode


@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_gradient_is_the_limit_of_central_differences(name, rule, rng):
    """(4 D(h/2) - D(h))/3 for D(h) = (J(w+hd) - J(w-hd))/2h, |d| = 1, h = 2e-3, by NumPy's values.

    Truncation: h⁴ J⁽⁵⁾/480 = 3e-14 J⁽⁵⁾, with J⁽⁵⁾ up to 1000 |J|. Rounding: each J is off by at
    most 64 eps |J| (certificates/taylor.py), so the combination by (4·2 + 1)/3 · 64 eps |J| / h =
    2.2e-11 |J|.
    """
    case = setting(name, rule)
    w, h = case.control(rng), 2e-3
    value, J = case.discrete.value, case.discrete.value(w)
    gradient = case.evaluators["stored"].value_and_gradient(w)[1]
    d = rng.standard_normal(case.size)
    d /= np.linalg.norm(d)
    coarse, fine = ((value(w + k * d) - value(w - k * d)) / (2 * k) for k in (h, h / 2))
    assert (4 * fine - coarse) / 3 == pytest.approx(
        gradient @ d, rel=0, abs=1e-10 * max(1.0, abs(J))
    )


@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_hessian_products_agree(name, rule, rng):
    case = setting(name, rule)
    w, d = case.control(rng), rng.standard_normal(case.size)
    H = Condensed(case, w).hessian
    assert close(H, H.T, HESSIAN)
    for mode, evaluator in case.evaluators.items():
        assert close(evaluator.hessian_product(w, d), H @ d, HESSIAN), mode


@pytest.mark.parametrize("stored", [True, False])
def test_dense_hessian_column_by_column(stored, rng):
    case = setting("Dense C with feature, target")
    w = case.control(rng)
    evaluator = case.evaluators["stored" if stored else "swept"]
    H = np.stack([evaluator.hessian_product(w, e) for e in np.eye(case.size)])
    assert close(H, Condensed(case, w).hessian, HESSIAN)


# -- orders --------------------------------------------------------------------------------------
def reaches(rate: float, order: float, slack: float) -> bool:
    """``inf`` stands for a remainder that vanishes."""
    return np.isinf(rate) or abs(rate - order) <= slack


@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_taylor_remainders(name, rule):
    """Orders 2 and 3, at the best of four random points.

    At about one random point in fifty the leading coefficient is so small that the next one shows,
    so the best of four counts; a wrong gradient or Hessian shows at every point.
    """
    case = setting(name, rule)
    first, second = [], []
    for _ in range(4):
        found = dnl.taylor_test(case.problem, case.depth, rule=rule)
        first.append(found.gradient_rate)
        second.append(found.hessian_rate)
        if reaches(first[-1], 2, 0.05) and reaches(second[-1], 3, 0.1):
            return
    assert any(reaches(r, 2, 0.05) for r in first) and any(reaches(r, 3, 0.1) for r in second), (
        first,
        second,
    )


def linear_in_the_control(terminal, penalties) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.array([0.3, -1.0]),
        dynamics=dnl.Volterra(lambda t, s, y, u: u.w * (1.0 + t * s)),
        controls={"w": dnl.Control((), on="ts")},
        terminal=terminal,
        regularisers=penalties,
    )


@pytest.mark.parametrize(("penalties", "rate"), [([], np.inf), ([dnl.H1("w", 1.0)], 2.0)])
def test_taylor_rates_of_linear_and_quadratic_costs(penalties, rate):
    found = dnl.taylor_test(linear_in_the_control(lambda x, c: 2.0 * x, penalties), depth=4)
    # The quadratic remainder ½h²d'Hd is 1e-6 at the smallest step, 6e-4; rounding, 64 eps |J|, is
    # 1e-8 of it.
    assert found.gradient_rate == pytest.approx(rate, abs=1e-5)
    assert np.isinf(found.hessian_rate)
    assert found.passed


def test_taylor_test_sees_a_wrong_gradient(monkeypatch):
    """One entry in ten off by a thousandth: the order drops to 1, first where it should be 3."""

    def wrong(self, w, multipliers=None):
        value, gradient = right(self, w, multipliers)
        return value, gradient + 1e-3 * np.abs(gradient).max() * (
            np.arange(len(gradient)) % 10 == 0
        )

    right = Evaluator.value_and_gradient
    monkeypatch.setattr(Evaluator, "value_and_gradient", wrong)
    found = build("Dense C with feature, target", 0)
    rates = dnl.taylor_test(found.problem, found.depth, seed=3)
    assert not rates.passed
    assert rates.hessian_rate == pytest.approx(1.0, abs=0.05)


def test_taylor_test_sees_a_wrong_hessian(monkeypatch):
    """A thousandth too large: the order drops to 2, at the smaller steps too."""
    right = Evaluator.hessian_product
    monkeypatch.setattr(
        Evaluator, "hessian_product", lambda self, w, d, m=None: 1.001 * right(self, w, d, m)
    )
    found = build("Dense C with feature, target", 0)
    rates = dnl.taylor_test(found.problem, found.depth, seed=3)
    assert not rates.passed
    assert rates.gradient_rate == pytest.approx(2.0, abs=0.05)


def test_taylor_steps_shrink_where_the_cost_bends_fast():
    """sin(150 x): the leading term rules at h = 1e-3.

    At h = 1e-2 a step moves x by about 1e-2, a radian and more.
    """
    fast = linear_in_the_control(lambda x, c: dnl.namespace(x).sin(150.0 * x), [])
    found = [dnl.taylor_test(fast, depth=4, seed=seed) for seed in range(4)]
    assert all(f.passed for f in found)
    assert any(f.steps[0] == 1e-3 for f in found)


# -- costates ------------------------------------------------------------------------------------
@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("stored", [True, False])
def test_volterra_costates_by_hand(N, stored, rng):
    """The costates and gradients of a Volterra equation, written out (theory, 5).

    λ^L = ∇Φ, λ^s = τ ℓ_x + τ Σ_{l>s} k_x λ^l and the gradients τ k_w λ^l, τ ℓ_v + τ Σ k_v λ^l, for

        k = sin(w y) e^{s-t} + v y t,  ℓ = (1 + t) x² + v⁴,  Φ = (x - 1)⁴, means over the samples.
    """
    L, T = 6, 1.3

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.sin(u.w * y) * xp.exp(s - t) + u.v * y * t

    problem = dnl.ControlProblem(
        horizon=T,
        x0=rng.standard_normal(N),
        dynamics=dnl.Volterra(kernel),
        controls={"w": dnl.Control((), on="ts"), "v": dnl.Control(())},
        terminal=lambda x, c: (x - 1.0) ** 4,
        running=lambda t, x, u: (1.0 + t) * x**2 + u.v**4,
    )
    evaluator = Evaluator(dnl.discretise(problem, L), stored=stored)
    w, v = 0.5 * rng.standard_normal((L + 1, L)), 0.5 * rng.standard_normal(L)
    packed = [w[l, s] for s in range(L) for l in range(s + 1, L + 1)]
    flat = evaluator.space.assemble({"w": np.array(packed), "v": v})

    tau, t = T / L, T / L * np.arange(L + 1)
    x = np.tile(problem.x0, (L + 1, 1))
    for l in range(1, L + 1):
        for s in range(l):
            x[l] += tau * (np.sin(w[l, s] * x[s]) * np.exp(t[s] - t[l]) + v[s] * x[s] * t[l])
    lam = np.zeros((L + 1, N))
    g_w = []
    g_v = np.zeros(L)
    lam[L] = 4 * (x[L] - 1) ** 3 / N
    for s in range(L - 1, -1, -1):
        lam[s] = tau * 2 * (1 + t[s]) * x[s] / N
        g_v[s] = tau * 4 * v[s] ** 3
        for l in range(s + 1, L + 1):
            decay = np.exp(t[s] - t[l])
            lam[s] += tau * (w[l, s] * np.cos(w[l, s] * x[s]) * decay + v[s] * t[l]) * lam[l]
            g_v[s] += tau * np.sum(x[s] * t[l] * lam[l])
    for s in range(L):
        for l in range(s + 1, L + 1):
            g_w.append(tau * np.sum(x[s] * np.cos(w[l, s] * x[s]) * np.exp(t[s] - t[l]) * lam[l]))

    found = evaluator.trajectory(flat)
    expected = evaluator.space.assemble({"w": np.array(g_w), "v": g_v})
    assert close(found.states, x, VALUE)
    assert close(found.costates, lam, VALUE)
    assert close(found.integral_costates, lam, VALUE)  # x = g + z
    assert close(found.gradient, expected, VALUE)
    assert close(evaluator.value_and_gradient(flat)[1], expected, VALUE)


@pytest.mark.parametrize("N", [1, 3])
def test_ode_costates_by_hand(N, rng):
    """The classical costate ψ^l = ψ^{l+1} + τ (ℓ_x + f_x ψ^{l+1}) is dJ/dz.

    λ^l = ψ^l - ψ^{l+1} is dJ/dx.
    """
    L, T = 7, 0.9
    problem = dnl.ControlProblem(
        horizon=T,
        x0=rng.standard_normal(N),
        dynamics=dnl.ODE(lambda t, x, u: x * u.v - x**3 * t),
        controls={"v": dnl.Control(())},
        terminal=lambda x, c: x**2,
        running=lambda t, x, u: t * x**2 + u.v**2 * x,
    )
    evaluator = Evaluator(dnl.discretise(problem, L))
    v = 0.5 * rng.standard_normal(L)
    tau = T / L
    t = T / L * np.arange(L + 1)
    x = [problem.x0]
    for l in range(L):
        x.append(x[l] + tau * (x[l] * v[l] - x[l] ** 3 * t[l]))
    psi, g = np.zeros((L + 1, N)), np.zeros(L)
    psi[L] = 2 * x[L] / N
    for l in range(L - 1, -1, -1):
        g[l] = tau * np.sum(2 * v[l] * x[l] / N + x[l] * psi[l + 1])
        slope = v[l] - 3 * x[l] ** 2 * t[l]
        psi[l] = psi[l + 1] + tau * ((2 * t[l] * x[l] + v[l] ** 2) / N + slope * psi[l + 1])
    found = evaluator.trajectory(v)
    assert close(found.states, np.array(x), VALUE)
    assert close(found.integral_costates, psi, VALUE)
    assert close(found.costates, np.append(-np.diff(psi, axis=0), psi[-1:], axis=0), VALUE)
    assert close(found.gradient, g, VALUE)


@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_costates_are_the_multipliers_of_the_transcription(name, rule, rng):
    """-lam is λ = dJ/dx for Volterra rows and ψ = dJ/dz for one-step rows."""
    case = setting(name, rule)
    w = case.control(rng)
    x = case.discrete.states(w)
    _, _, _, f_x, _, g_x = (np.array(v) for v in case.casadi.first(w, x.ravel()))
    lam = np.linalg.solve(g_x.T, f_x).reshape(x.shape)
    found = case.evaluators["swept"].trajectory(w)
    one_step = case.problem.markov and case.problem.dynamics.outer is None
    assert close(found.integral_costates if one_step else found.costates, lam, GRADIENT)


# -- what the table covers -----------------------------------------------------------------------
def test_the_random_problems_cover_the_library():
    problems = [setting(name).problem for name in CASES]
    assert {type(p.dynamics).__name__ for p in problems} == {"Volterra", "ODE", "Dense", "ResNet"}
    assert {p.dynamics.form for p in problems if isinstance(p.dynamics, dnl.Dense)} == {
        "A",
        "B",
        "C",
    }
    assert {len(p.state_shape) for p in problems} == {0, 1, 2}
    used = {(type(r).__name__, p.controls[r.name].on) for p in problems for r in p.regularisers}
    places = {(kind, on) for kind in ("H1", "L2") for on in ("ts", "t", "const")}
    assert used == places | {("TvG", "t")}
    losses = {p.terminal.name for p in problems if p.terminal is not None}
    assert {"squared", "logistic", "cross_entropy", "distance"} <= losses
    with_head = {
        p.terminal.name for p in problems if p.terminal is not None and p.terminal.controls
    }
    assert with_head == {"squared", "logistic", "cross_entropy"}
    targets = {None if p.running is None else p.running.target is not None for p in problems}
    assert targets == {None, True, False}
    assert any(p.node_controls for p in problems)
    assert any(p.markov and p.node_controls for p in problems)
    assert {p.samples for p in problems} == {1, 2, 3, 4}
    assert {setting(name).depth for name in CASES} == {1, 2, 3, 4, 5}
