"""Success is said at minimisers: the gate refuses saddles and maximisers on every route."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.certificates.critical_cone import critical_cone, lowest_in_cone
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.certificates.verdict import definite, examine
from dnlcontrol.minimise.multipliers import Multipliers

SCALAR = {"u": dnl.Control((1,))}
INTEGRATOR = dnl.ODE(lambda t, x, u: u.u)


def energy(t, x, u):
    return u.u[0] ** 2


def made(**more) -> dnl.ControlProblem:
    return dnl.ControlProblem(x0=np.zeros((1, 1)), **{"dynamics": INTEGRATOR, **more})


# a stationary start that is no minimiser, and a bound of the value of the minimisers: x(1) near ±1
# costs .01; u = v = 1 costs .02; c = 1; w near 1 costs its penalty; u = ±1 gives -1 + .1; u = -1;
# u = 1
STATIONARY = {
    "two wells": (
        lambda: made(
            controls=SCALAR,
            terminal=lambda x, c: (x[0] ** 2 - 1) ** 2,
            regularisers=[dnl.L2("u", 0.02)],
        ),
        0.02,
    ),
    "a product": (
        lambda: made(
            dynamics=dnl.ODE(lambda t, x, u: u.u * u.v),
            controls={"u": dnl.Control((1,)), "v": dnl.Control((1,))},
            terminal=lambda x, c: (x[0] - 1) ** 2,
            regularisers=[dnl.L2("u", 0.02), dnl.L2("v", 0.02)],
        ),
        0.03,
    ),
    "a constant": (
        lambda: made(
            dynamics=dnl.ODE(lambda t, x, u: 0 * x + u.c),
            controls={"c": dnl.Control((1,), on="const")},
            terminal=lambda x, c: (c["c"][0] ** 2 - 1) ** 2 + 0 * x[0],
        ),
        1e-6,
    ),
    "an even kernel": (
        lambda: made(
            dynamics=dnl.Volterra(lambda t, s, y, u: u.w**2),
            controls={"w": dnl.Control((1,), on="ts")},
            terminal=lambda x, c: (x[0] - 1) ** 2,
            regularisers=[dnl.H1("w", 0.05)],
        ),
        0.1,
    ),
    "a state bound": (
        lambda: made(
            controls=SCALAR,
            terminal=lambda x, c: -(x[0] ** 2),
            running=lambda t, x, u: 0.1 * energy(t, x, u),
            constraints=[dnl.state_bounds(-1.0, 1.0)],
        ),
        -0.89,
    ),
    "a sphere": (
        lambda: made(
            controls={"u": dnl.Control((1,), initial=1.0)},
            terminal=lambda x, c: x[0],
            constraints=[dnl.integral_constraint(energy, 1.0, 1.0)],
        ),
        -0.999,
    ),
    "a weak bound": (
        lambda: made(
            controls={"u": dnl.Control((1,), lower=0, upper=1)},
            running=lambda t, x, u: -(u.u[0] ** 2),
        ),
        -0.999,
    ),
}
ROUTES = [
    ("exact", {"formulation": "lifted"}),
    ("exact", {"formulation": "condensed"}),
    ("adjoint", {}),
    ("adjoint", {"method": "lbfgs"}),
    ("adjoint", {"method": "gauss-newton"}),
]


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize(("backend", "options"), ROUTES)
@pytest.mark.parametrize("name", STATIONARY)
def test_a_stationary_start_that_is_no_minimiser_is_left(name, backend, options, rule):
    make, most = STATIONARY[name]
    solution = dnl.solve(make(), 6, backend, rule=rule, max_iterations=300, **options)
    assert solution.success, solution.message
    assert solution.value <= most
    assert dnl.certify(solution, seed=0).passed


def stored(problem: dnl.ControlProblem, depth: int, w: np.ndarray) -> StoredPoint:
    evaluator = Evaluator(dnl.discretise(problem, depth))
    multipliers = Multipliers(np.zeros(evaluator.rows.size))
    return StoredPoint(evaluator, w, multipliers, evaluator.trajectory(w, multipliers), 1e-8)


def test_weak_bounds_leave_the_inward_directions():
    """-∫u² on 0 <= u <= 1 at u = 0: each d >= 0 bends J down by -2, and no d < 0 is admissible."""
    point = stored(STATIONARY["a weak bound"][0](), 5, np.zeros(5))
    cone = critical_cone(point, point.evaluator, 10)
    assert cone.weak == 5
    verdict = examine(point)
    assert not verdict.passed
    assert np.all(verdict.direction >= 0)
    assert verdict.curvature == pytest.approx(-2.0, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_search_in_the_cone_finds_what_enumeration_finds(seed):
    """min dᵀHd / dᵀd on d >= 0: the least eigenvalue with a positive eigenvector of a submatrix."""
    size = 5
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((size, size))
    H = H + H.T
    best = np.inf
    for mask in range(1, 2**size):
        on = [i for i in range(size) if mask >> i & 1]
        values, vectors = np.linalg.eigh(H[np.ix_(on, on)])
        for value, v in zip(values, vectors.T, strict=True):
            if np.all(v > -1e-12) or np.all(v < 1e-12):
                best = min(best, value)
    problem = made(
        dynamics=dnl.ODE(lambda t, x, u: 0 * x),
        controls={"c": dnl.Control((size,), on="const", lower=0)},
        terminal=lambda x, c: x[0] + 0 * dnl.namespace(x).sum(c.c),
    )
    point = stored(problem, 1, np.zeros(size))
    cone = critical_cone(point, point.evaluator, 10)
    assert cone.weak == size
    values, vectors = np.linalg.eigh(H)
    high = np.abs(values).max()
    low, d = lowest_in_cone(cone, lambda v: H @ v, vectors[:, 0], high, np.random.default_rng(0))
    assert np.all(d >= -1e-12)
    # a local search: it may stop above the least, never below; what it finds is attained
    assert low >= best - 1e-9
    assert low == pytest.approx(d @ H @ d / (d @ d), rel=1e-9)
    assert (low < 0) == (best < -1e-9)


@pytest.mark.parametrize("shift", [1e-9, -1e-9])
def test_a_cholesky_factor_tells_the_sign(shift):
    """The least eigenvalue of a random symmetric matrix moved to ±1e-9, of a norm about 10."""
    H = np.random.default_rng(5).standard_normal((30, 30))
    H = H + H.T
    H += (shift - np.linalg.eigvalsh(H)[0]) * np.eye(30)
    assert definite(H) == (shift > 0)
    assert not definite(np.full((2, 2), np.nan))


def test_a_warm_level_asks_for_one_product():
    problem = STATIONARY["two wells"][0]()
    coarse = dnl.solve(problem, 8, "adjoint")
    fine = dnl.solve(problem, 16, "adjoint", start=coarse)
    again = dnl.solve(problem, 16, "adjoint", start=fine)
    assert again.nit == 0
    assert again.nhev == 1
