"""The error constant c of J_L = J* + c/L + O(L^-2), predicted at one depth."""

from __future__ import annotations

import dataclasses
import importlib
import math

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.results.extrapolation import extrapolate

# case: file, parameters, depths, backend
REFERENCES = {
    "t2": ("t2_scalar_resnet", {}, (25, 50, 100), "exact"),
    "t3b": ("t3b_h1_path", {}, (25, 50, 100, 200), "exact"),
    "t5": ("t5_l2_triangle_tracking", {}, (12, 24, 48), "adjoint"),
    "t7": ("t7_h1_triangle", {}, (12, 24, 48), "adjoint"),
    "v1": ("v1_rational_memory", {}, (25, 50, 100), "exact"),
    "v2": ("v2_transient_impact", {}, (25, 50, 100), "exact"),
    "v2, two samples": ("v2_transient_impact", {"samples": 2}, (25, 50, 100), "adjoint"),
    "v5": ("v5_minimum_energy", {"alpha": 1.5}, (25, 50, 100), "exact"),
    "v8": ("v8_double_integral", {}, (25, 50, 100), "exact"),
    "o1": ("o1_hager", {}, (25, 50, 100, 200), "exact"),
    "o2": ("o2_dt_qp", {}, (25, 50, 100, 200), "exact"),
    "o5b": ("o5b_van_der_pol", {}, (25, 50, 100, 200), "exact"),
}


def module(name: str):
    return importlib.import_module(f"problems.{name}")


def ladder(problem, depths, backend="adjoint", rule="left") -> list[dnl.Solution]:
    """Solutions at increasing depths, each started from the one before."""
    found, start = [], None
    for depth in depths:
        start = dnl.solve(problem, depth, backend, rule=rule, start=start)
        assert start.success, start.message
        found.append(start)
    return found


def ratios(values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[:-1] / values[1:]


@pytest.mark.parametrize("case", REFERENCES)
def test_the_corrected_value_is_second_order(case):
    """The error of J_L - c/L falls four times per doubling, that of c twice."""
    name, parameters, depths, backend = REFERENCES[case]
    problem, reference = module(name).problem(**parameters), module(name).reference(**parameters)
    solutions = ladder(problem, depths, backend)
    found = [dnl.error_constant(s) for s in solutions]
    for one, solution in zip(found, solutions, strict=True):
        assert one.value == solution.value
        assert one.depth == solution.depth
        assert one.constant == pytest.approx(math.fsum(one.terms.values()), rel=1e-12)
        assert one.corrected == solution.value - one.constant / solution.depth
    errors = ratios([one.corrected - reference.value for one in found])
    assert np.all((errors >= 3.5) & (errors <= 4.5)), errors
    c = [one.constant for one in found]
    assert extrapolate(depths[-3:], c[-3:], (1.0, 2.0))[0] == pytest.approx(
        reference.error_constant, rel=2e-3
    )


# case: parameters, depths, the factor by which the error of J_L - c/L² falls per doubling: the next
# term is L^-3 where end samples of a control see the costate half a step away, or where c is only
# first-order accurate, else L^-4
TRAPEZOID = {
    "t2_scalar_resnet": ({}, (8, 16, 32), 8),
    "t3b_h1_path": ({}, (64, 128), 8),
    "t7_h1_triangle": ({}, (12, 24, 48), 16),
    "v1_rational_memory": ({}, (16, 32, 64), 16),
    "v5_minimum_energy": ({"alpha": 2.0}, (8, 16, 32), 16),
    "v8_double_integral": ({}, (8, 16, 32), 16),
    "o1_hager": ({}, (16, 32, 64), 8),
    "o2_dt_qp": ({}, (64, 128), 8),
    "o5b_van_der_pol": ({}, (32, 64), 8),
}


@pytest.mark.parametrize("name", TRAPEZOID)
def test_the_corrected_value_of_the_trapezoidal_rule(name):
    """c/L² is all of the second order.

    The rest falls 8 or 16 times per doubling, up to 20 % before the limit.
    """
    parameters, depths, factor = TRAPEZOID[name]
    problem, reference = module(name).problem(**parameters), module(name).reference(**parameters)
    solutions = ladder(problem, depths, rule="trapezoid")
    found = [dnl.error_constant(s) for s in solutions]
    assert all(one.order == 2 for one in found)
    errors = [one.corrected - reference.value for one in found]
    assert ratios(errors)[-1] == pytest.approx(factor, rel=0.2)
    assert abs(errors[-1]) < 0.05 * abs(solutions[-1].value - reference.value)


def test_a_state_bound_leaves_no_first_order_term():
    """O4: ψ is a measure, c = 0 and its estimate falls like 1/L."""
    solutions = ladder(module("o4_bryson_denham").problem(), (24, 48, 96), "exact")
    found = [dnl.error_constant(s) for s in solutions]
    c = np.array([one.constant for one in found])
    assert np.all(np.abs(ratios(c) - 2) < 0.2)
    assert abs(c[-1]) < 0.1 * 18
    assert ratios([one.corrected - 4 for one in found])[-1] == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("name", ["o1_hager", "v2_transient_impact", "t7_h1_triangle"])
def test_both_backends_predict_the_same(name):
    one, other = (
        dnl.error_constant(dnl.solve(module(name).problem(), 12, b)) for b in ("exact", "adjoint")
    )
    for term, value in one.terms.items():
        assert other.terms[term] == pytest.approx(value, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", ["o2_dt_qp", "o5b_van_der_pol", "t2_scalar_resnet"])
def test_the_classical_form_for_differential_equations(name):
    """c_1 = ½ ∫ ψ'·x' dt - ½ [H], from the reported costates, where H is constant."""
    problem = module(name).problem()
    solution = dnl.solve(problem, 200, "exact")
    step, samples = solution.grid.step, solution.samples
    slopes = np.diff(solution.costates, axis=0) / step, np.diff(solution.states, axis=0) / step
    classical = problem.horizon * 0.5 * step * np.vdot(*slopes) / samples
    assert dnl.error_constant(solution).constant == pytest.approx(classical, rel=0.03)


def test_the_unit_of_time_does_not_matter():
    """[0, 3] with slower dynamics and cost: the same discrete problems, and so the same c."""

    def stretched(T):
        return dnl.ControlProblem(
            horizon=T,
            x0=[[0.5], [1.5]],
            dynamics=dnl.Volterra(
                lambda t, s, y, u: dnl.namespace(y).exp((s - t) / T) * (u.u - y**2 + u.w) / T
            ),
            controls={"u": dnl.Control(()), "w": dnl.Control((), on="ts")},
            running=lambda t, x, u: (x[0] ** 2 + u.u**2 + t / T * u.u) / T,
            regularisers=[dnl.L2("u", 0.3 / T), dnl.L2("w", 0.4 / T**2)],
            constraints=[dnl.integral_constraint(lambda t, x, u: (u.u + x[0]) / T, upper=0.1)],
        )

    one, other = (dnl.error_constant(dnl.solve(stretched(T), 16, "adjoint")) for T in (1.0, 3.0))
    assert one.value == pytest.approx(other.value, rel=1e-9)
    for term, value in one.terms.items():
        assert other.terms[term] == pytest.approx(value, rel=1e-6, abs=1e-8)
    assert one.terms["integral constraints"] != 0


# -- formulas, penalties and constraints beyond the reference problems, against Richardson
# extrapolation -------
POINTS = np.random.default_rng(0).normal(size=(2, 2)) * 0.7
TARGETS = np.stack([np.sin(2 * POINTS[:, 0]), POINTS[:, 0] * POINTS[:, 1]], axis=1)
LOSS = dnl.losses.squared(TARGETS)
TRACKING = dnl.cost(lambda t, x, u, y: dnl.namespace(x).sum((x - y) ** 2), target=TARGETS)
START = dnl.smooth_random(3, 0.5)


def network(dynamics, regularisers, limits=None, **cost) -> dnl.ControlProblem:
    controls = {
        name: dnl.Control(c.shape, on=c.on, initial=START, **((limits or {}).get(name, {})))
        for name, c in dynamics.own_controls.items()
    }
    return dnl.ControlProblem(
        x0=POINTS, dynamics=dynamics, controls=controls, regularisers=regularisers, **cost
    )


def volterra_with_features() -> dnl.ControlProblem:
    """Path control in the feature map, moving free term, T = 1.3."""

    def feature(s, x, u):
        xp = dnl.namespace(x)
        return xp.stack([xp.sin(x[0] + u.v), x[1], u.v])

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.exp(s - t) * xp.tanh(u.W @ y)

    return dnl.ControlProblem(
        horizon=1.3,
        x0=POINTS,
        dynamics=dnl.Volterra(kernel, free_term=lambda t, x0: (1 + 0.3 * t) * x0, feature=feature),
        controls={
            "W": dnl.Control((2, 3), on="ts", initial=START),
            "v": dnl.Control((), initial=START),
        },
        terminal=LOSS,
        regularisers=[dnl.H1("W", 0.1), dnl.L2("v", 0.3)],
    )


def bounded_triangle() -> dnl.ControlProblem:
    """The bound u <= 0.7 holds the whole row t = 1."""
    return dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: (1 + s + t) * u.u),
        controls={"u": dnl.Control((), on="ts", upper=0.7)},
        terminal=lambda x, c: 0.5 * (x - 2) ** 2,
        regularisers=[dnl.H1("u", 0.3)],
    )


def bounded_state() -> dnl.ControlProblem:
    """A Volterra equation whose state rests at its bound."""
    return dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: (t - s) * u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: -40 * dnl.namespace(x).sin(3 * t) * x,
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[
            dnl.state_bounds(-1.0, 0.4),
            dnl.terminal_constraint(lambda x, c: x, 0.1, 0.1),
        ],
    )


EXTENSIONS = {
    "feature map, free term, T = 1.3": volterra_with_features,
    "outer map with a path control": lambda: network(
        dnl.Dense(2, "A"), [dnl.H1("W", 0.1), dnl.H1("b", 0.1), dnl.L2("b", 0.2)], terminal=LOSS
    ),
    "outer map, TvG, running cost, T = 1.5": lambda: network(
        dnl.Dense(2, "B"),
        [dnl.H1("W", 0.1), dnl.TvG("b", 0.1, 0.7)],
        horizon=1.5,
        terminal=LOSS,
        running=TRACKING,
    ),
    "outer map, L2 alone, no terminal load": lambda: network(
        dnl.Dense(2, "A"), [dnl.L2("W", 0.1), dnl.L2("b", 0.1)], running=TRACKING
    ),
    "H1 and L2 on one control": lambda: network(
        dnl.Dense(2, "C"),
        [dnl.H1("W", 0.1), dnl.L2("W", 0.3), dnl.H1("b", 0.05)],
        terminal=LOSS,
        running=TRACKING,
    ),
    "TvG": lambda: network(
        dnl.ResNet(2), [dnl.TvG("K", 0.05, 0.5), dnl.TvG("b", 0.05, 2.0)], terminal=LOSS
    ),
    "bounds on a path control": lambda: network(
        dnl.ResNet(2),
        [dnl.L2("K", 0.1), dnl.L2("b", 0.1)],
        {"K": {"lower": -0.1, "upper": 0.1}},
        terminal=LOSS,
    ),
    "bound that holds the last row": bounded_triangle,
    "state bound in a Volterra equation": bounded_state,
}


@pytest.mark.parametrize("case", EXTENSIONS)
def test_other_formulas_against_extrapolated_values(case):
    problem, depths = EXTENSIONS[case](), (6, 12, 24, 48)
    solutions = ladder(problem, depths, "exact" if problem.constraints else "adjoint")
    limit, coefficients = extrapolate(depths, [s.value for s in solutions], (1.0, 2.0, 3.0))
    found = [dnl.error_constant(s) for s in solutions]
    c = [one.constant for one in found[1:]]
    assert extrapolate(depths[1:], c, (1.0, 2.0))[0] == pytest.approx(coefficients[0], rel=1e-2)
    assert c[-1] == pytest.approx(coefficients[0], rel=0.1)
    assert abs(found[-1].corrected - limit) < 0.1 * abs(found[-1].value - limit)


SMOOTH = [name for name in EXTENSIONS if "bound" not in name and "L2 alone" not in name]


@pytest.mark.parametrize("case", SMOOTH)
def test_the_trapezoidal_constant_against_extrapolated_values(case):
    problem, depths = EXTENSIONS[case](), (6, 12, 24, 48)
    solutions = ladder(problem, depths, rule="trapezoid")
    limit, coefficients = extrapolate(depths, [s.value for s in solutions], (2.0, 3.0, 4.0))
    found = [dnl.error_constant(s) for s in solutions]
    c = [one.constant for one in found[1:]]
    assert extrapolate(depths[1:], c, (1.0, 2.0))[0] == pytest.approx(coefficients[0], rel=1e-2)
    assert abs(found[-1].corrected - limit) < 0.2 * abs(found[-1].value - limit)


# -- refusals ------------------------------------------------------------------------------------
def triangle(**options) -> dnl.ControlProblem:
    options = {"terminal": lambda x, c: (x - 1) ** 2, "regularisers": [dnl.H1("w", 0.1)], **options}
    return dnl.ControlProblem(
        x0=[0.0], dynamics=dnl.Volterra(lambda t, s, y, u: u.w), controls={"w": CONTROL}, **options
    )


CONTROL = dnl.Control((), on="ts", lower=-3, upper=3)
REFUSED = {
    "k(t, t) infinite": (
        lambda: module("v5_minimum_energy").problem(alpha=0.75),
        r"k\(t, t\) .* infinite",
    ),
    "L2 under a terminal load": (
        lambda: module("t4_l2_triangle_terminal").problem(),
        "a terminal load on control 'u'",
    ),
    "L2 at nodes under a terminal load": (
        lambda: network(dnl.Dense(2, "A"), [dnl.H1("W", 0.1), dnl.L2("b", 0.1)], terminal=LOSS),
        "a terminal load on control 'b'",
    ),
    "no penalty": (lambda: triangle(regularisers=[]), "triangular control 'w' without a penalty"),
    "zero weight": (
        lambda: triangle(regularisers=[dnl.H1("w", 0.0)]),
        "triangular control 'w' without a penalty",
    ),
    "state bound on a triangular control": (
        lambda: triangle(
            running=lambda t, x, u: -x, constraints=[dnl.state_bounds(upper=0.1, name="low")]
        ),
        "'low' active before T with triangular controls",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_covered_is_named(case):
    build, words = REFUSED[case]
    problem = build()
    with pytest.raises(dnl.InputError, match=words):
        dnl.error_constant(dnl.solve(problem, 8, "exact" if problem.constraints else "adjoint"))


NO_EXPANSION = {
    "slope infinite at s = t": (
        lambda: module("v5_minimum_energy").problem(alpha=1.5),
        "infinite at s = t",
    ),
    "L2 on the triangle": (lambda: module("t5_l2_triangle_tracking").problem(), "without H1"),
    "bound on the way": (
        lambda: network(
            dnl.ResNet(2),
            [dnl.L2("K", 0.1), dnl.L2("b", 0.1)],
            {"K": {"lower": -0.1, "upper": 0.1}},
            terminal=LOSS,
        ),
        "'K' at a bound on a part of its way",
    ),
    "bound on the triangle": (bounded_triangle, "at a bound"),
    "state bound": (lambda: module("o4_bryson_denham").problem(), "active before T"),
}


@pytest.mark.parametrize("case", NO_EXPANSION)
def test_where_the_trapezoidal_rule_has_no_expansion(case):
    build, words = NO_EXPANSION[case]
    problem = build()
    with pytest.raises(dnl.InputError, match=words):
        dnl.error_constant(
            dnl.solve(problem, 8, "exact" if problem.constraints else "adjoint", rule="trapezoid")
        )


def test_solutions_that_cannot_be_used(tmp_path):
    solution = dnl.solve(module("o1_hager").problem(), 4, "adjoint")
    solution.save(tmp_path / "run")
    loaded = dnl.load(tmp_path / "run")
    with pytest.raises(dnl.InputError, match="without its problem"):
        dnl.error_constant(loaded)
    whole = dataclasses.replace(loaded, problem=solution.problem)
    assert dnl.error_constant(whole) == dnl.error_constant(solution)
    with pytest.raises(dnl.InputError, match="did not converge"):
        dnl.error_constant(dataclasses.replace(solution, status=1))
    with pytest.raises(dnl.InputError, match="depth >= 3"):
        dnl.error_constant(dnl.solve(module("o1_hager").problem(), 2, "adjoint"))
    with pytest.raises(TypeError, match="allowed: a Solution"):
        dnl.error_constant(4)


# -- studies -------------------------------------------------------------------------------------
def test_studies_show_it(tmp_path):
    t7 = module("t7_h1_triangle")
    study = dnl.study(t7.problem(), [2, 4, 8], reference=t7.reference(), directory=tmp_path / "run")
    rows = study.rows
    assert np.isnan(rows[0]["constant"])
    assert np.isnan(rows[0]["corrected"])
    for row, level in zip(rows[1:], study.levels[1:], strict=True):
        assert row["constant"] == dnl.error_constant(level.adjoint).constant
        assert abs(row["corrected"] - t7.reference().value) < 0.6 * row["value_error"]
    np.testing.assert_array_equal(
        dnl.load(tmp_path / "run").table()["constant"], study.table()["constant"]
    )
    again = dnl.study(t7.problem(), [2, 4, 8], directory=tmp_path / "run")
    np.testing.assert_array_equal(again.table()["corrected"], study.table()["corrected"])


def test_studies_leave_it_out_where_it_is_not_known():
    study = dnl.study(module("v5_minimum_energy").problem(alpha=0.75), [4, 8])
    assert all(np.isnan(row["constant"]) and np.isnan(row["corrected"]) for row in study.rows)
