"""Messages of failed solves: they name what failed, where, and what helps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.results.diagnosis import missing_h1
from dnlcontrol.results.stiffness import fastest

ROUTES = [("exact", "lifted"), ("exact", "condensed"), ("adjoint", None)]
MISLEADING = ("unbounded", "loosen the tolerance", "rescale")


def failed(problem, depth, route, rule="left"):
    """The message of a solve that fails; NumPy says nothing meanwhile."""
    backend, formulation = route
    options = {"formulation": formulation} if formulation else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.warns(dnl.ConvergenceWarning):
            solution = dnl.solve(problem, depth, backend, rule=rule, **options)
    assert not solution.success
    assert "0.0e+00 <=" not in solution.message
    assert not solution.message.rstrip().endswith(":")
    return solution.message


def log(x):
    return dnl.namespace(x).log(x)


def with_formula(**parts):
    """x' = u from -1, u = 0 at the start."""
    base = {
        "x0": np.array([[-1.0], [-1.0]]),
        "dynamics": dnl.ODE(lambda t, x, u: u.u + 0.0 * x),
        "controls": {"u": dnl.Control(())},
        "terminal": lambda x, c: x[0] ** 2,
        "regularisers": [dnl.L2("u", 1.0)],
    }
    return dnl.ControlProblem(**(base | parts))


# methods whose states or rows are unknowns of their own start outside and come in
SOLVED = {("constraint", "adjoint"), ("no root", "lifted")}


def certified(problem, depth, route, rule="left"):
    """Solved from a start that another way refuses, and proved."""
    backend, formulation = route
    options = {"formulation": formulation} if formulation else {}
    solution = dnl.solve(problem, depth, backend, rule=rule, **options)
    assert solution.success
    assert dnl.certify(solution, seed=0).passed


NOT_FINITE = {
    "running": (with_formula(running=lambda t, x, u: log(u.u)), "'running' at t = 0 (layer 0)"),
    "terminal": (with_formula(terminal=lambda x, c: log(x[0])), "'terminal' at t = 1 (layer 4)"),
    "constraint": (
        with_formula(
            constraints=[dnl.path_constraint(lambda t, x, u: log(u.u), upper=1.0, name="cap")]
        ),
        "'cap' at t = 0 (layer 0)",
    ),
    "kernel": (
        with_formula(dynamics=dnl.ODE(lambda t, x, u: log(x) + u.u)),
        "'kernel' at t = 0.25, s = 0 (layer 1, source 0)",
    ),
    "feature": (
        with_formula(
            dynamics=dnl.Volterra(lambda t, s, y, u: t * y * u.u, feature=lambda s, x, u: log(x))
        ),
        "'feature' at t = 0 (layer 0)",
    ),
    "outer": (
        with_formula(
            dynamics=dnl.Volterra(
                lambda t, s, y, u: t * y * u.u, outer=lambda t, g, z, u: g + log(z - 1.0 + 0.0 * t)
            )
        ),
        "'outer' at t = 0 (layer 0)",
    ),
    "free term": (
        with_formula(
            dynamics=dnl.Volterra(
                lambda t, s, y, u: t * y * u.u, free_term=lambda t, x0: x0 * log(0.5 - t)
            )
        ),
        "'free_term' at t = 0.5 (layer 2)",
    ),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", NOT_FINITE)
def test_the_formula_that_is_not_finite_is_named_with_its_place(name, route):
    problem, place = NOT_FINITE[name]
    if (name, route[0]) in SOLVED:
        certified(problem, 4, route)
        return
    message = failed(problem, 4, route)
    assert "not finite at the start" in message
    assert f"{place}, sample 0 is " in message


@pytest.mark.parametrize("route", ROUTES)
def test_a_start_on_the_edge_of_a_formula_is_told(route):
    """√u at u = 0: the value is 0, the derivative infinite."""
    problem = with_formula(running=lambda t, x, u: dnl.namespace(x).sqrt(u.u))
    message = failed(problem, 4, route)
    assert "gradient is not finite at the start: the formula 'running' at t = 0" in message


@pytest.mark.parametrize("route", ROUTES)
def test_a_step_without_a_root_is_told(route):
    """x = 1 + ½τ·8(1 + x²) at τ = ½ has no real root."""
    problem = with_formula(x0=np.ones((1, 1)), dynamics=dnl.ODE(lambda t, x, u: 8.0 * x * x + u.u))
    if ("no root", route[1]) in SOLVED:
        certified(problem, 2, route, rule="trapezoid")
    else:
        message = failed(problem, 2, route, rule="trapezoid")
        assert "layer 1 (t = 0.5), sample 0, entry 0: the implicit step" in message
        assert "has no root" in message
    with pytest.warns(dnl.ConvergenceWarning, match=r"layer 1 \(t = 0.5\), sample 0.*no root"):
        dnl.simulate(problem, 2, rule="trapezoid")


def stiff_problem(k):
    return dnl.ControlProblem(
        name="stiff",
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: -k * (x - u.u)),
        controls={"u": dnl.Control((), lower=-2, upper=2)},
        running=lambda t, x, u: (x - dnl.namespace(x).cos(3 * t)) ** 2 + 1e-3 * u.u**2,
    )


@pytest.mark.parametrize("k", [1e3, 1e5])
@pytest.mark.parametrize("route", ROUTES)
def test_a_stiff_problem_is_sent_to_more_depth_or_the_trapezoidal_rule(route, k):
    """τk = k/100: the left rule decays from a depth of k/2 on."""
    message = failed(stiff_problem(k), 100, route)
    depth = int(message.split("depth of at least ")[1].split(",")[0])
    assert k / 2 < depth < 0.52 * k
    assert "rule='trapezoid'" in message
    assert not any(words in message for words in MISLEADING)
    with pytest.warns(dnl.ConvergenceWarning, match="stiff: the step 0.01 times the fastest rate"):
        dnl.simulate(stiff_problem(k), 100)


def test_what_grows_by_itself_is_not_called_stiff():
    """x' = 20 x grows to e^20 whatever the rule."""
    growth = dnl.ControlProblem(x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: 20.0 * x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dnl.simulate(growth, 1000)[-1, 0] > 1e8


@pytest.mark.parametrize("size", [3, 80])
def test_the_fastest_rate_is_the_largest_decaying_eigenvalue(size):
    """x' = -A x, A symmetric with eigenvalues 1..size and one 50: dense, and by powers."""
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    values = np.append(np.linspace(0.0, 10.0, size - 1), 50.0)
    matrix = basis @ np.diag(values) @ basis.T
    problem = dnl.ControlProblem(
        x0=np.ones((1, size)),
        dynamics=dnl.Volterra(
            lambda t, s, y, u: -(dnl.namespace(y).asarray(matrix) @ y) * dnl.namespace(y).exp(s - t)
        ),
    )
    discrete = dnl.discretise(problem, 200)
    x = dnl.simulate(problem, 200)
    # k at t_{l+1}, t_l: e^{-τ} of the rate on the diagonal, and differences to 1e-8
    assert fastest(discrete, np.zeros(0), x).size == pytest.approx(50.0 * np.exp(-0.005), rel=1e-6)


def test_a_missing_h1_term_is_told_where_a_solve_fails():
    def dense(*regularisers):
        return dnl.ControlProblem(
            x0=np.ones((2, 2)),
            dynamics=dnl.Dense(2),
            terminal=lambda x, c: (x[0] - 3.0) ** 2,
            regularisers=list(regularisers),
        )

    without = dense(dnl.L2("W", 1e-3), dnl.H1("b", 1e-3))
    assert "'W' has no H1 term" in missing_h1(without)
    assert missing_h1(dense(dnl.H1("W", 1e-3), dnl.H1("b", 1e-3))) == ""
    with pytest.warns(dnl.ConvergenceWarning, match="add dnl.H1"):
        dnl.solve(without, 4, "adjoint", max_iterations=1)


def test_float32_says_what_it_can_resolve():
    problem = with_formula(terminal=lambda x, c: (x[0] - 1.0) ** 4 + x[0])
    with pytest.warns(dnl.ConvergenceWarning) as caught:
        solution = dnl.solve(problem, 8, "adjoint", dtype="float32", tolerance=1e-13)
    assert not solution.success
    assert "dtype='float64' goes on" in str(caught[0].message)
    assert "resolved in float64" not in solution.message
