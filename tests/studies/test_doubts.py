"""A study says what speaks against its limit, and nothing where nothing does."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.results.concentration import concentration_note
from dnlcontrol.studies.doubts import doubts, fitted_orders, rate_of_values
from dnlcontrol.studies.rates import DISTANCES, limit_of

LEFT = (1.0, 2.0, 3.0)
RATES = dict.fromkeys(["value", *DISTANCES], 1.0)


def arc() -> dnl.ControlProblem:
    """A chain of length 4 between the heights 1 and 3: ∫ x √(1 + u²) is 5.0685 at best.

    Under the left rule the last cell jumps for nothing: J_L tends to 1.45.
    """

    def length(u):
        return (1 + u.u**2) ** 0.5

    return dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=lambda t: 4 * t)},
        running=lambda t, x, u: x * length(u),
        constraints=[
            dnl.integral_constraint(lambda t, x, u: length(u), 4.0, 4.0),
            dnl.terminal_constraint(lambda x, c: x, 3.0, 3.0),
        ],
    )


@pytest.fixture(scope="module")
def false_limit() -> dnl.Study:
    return dnl.study(arc(), [8, 16, 32], backend="exact")


def rows_of(values, depths=(4, 8, 16, 32), constants=None) -> list[dict[str, float]]:
    """Rows of a table with these values; ``constants``: c by level."""
    c = [np.nan] * len(values) if constants is None else constants
    return [
        {
            "depth": L,
            "value": J,
            "constant": k,
            "corrected": J - k / L,
            **{f"{name}_step": np.nan for name in DISTANCES},
        }
        for L, J, k in zip(depths, values, c, strict=True)
    ]


@pytest.fixture(scope="module")
def quiet() -> list[dnl.Solution]:
    """Solutions that give no reason to doubt."""
    problem = importlib.import_module("problems.o1_hager").problem()
    return [dnl.solve(problem, L) for L in (4, 8, 16, 32)]


def said(rows, solutions, assumed=LEFT, rates=RATES) -> list[str]:
    used = fitted_orders(rows, assumed)
    return doubts(rows, solutions[: len(rows)], assumed, used, rates)


def test_an_arc_that_jumps_in_its_last_cell(false_limit):
    """Every level converges, and every sign is said."""
    assert false_limit.success
    assert false_limit.extrapolated_value == pytest.approx(1.446, abs=1e-3)
    text = "\n".join(false_limit.statements)
    assert "doubtful limit: the largest entry of control 'u' grows like L^" in text
    assert "is larger than the value 1.4" in text
    assert "contradicts the error constant" in text
    assert "% of control 'u' stand in one cell, at t = 0.984" in text
    assert "no convergence seen" in text
    assert "controls_sup -1.0" in text


def test_a_solve_says_it_too(false_limit):
    for level in false_limit.levels[1:]:
        assert level.solution.success
        assert "doubtful limit: 78 % of control 'u' stand in one cell" in level.solution.message
        assert "compare rule='trapezoid'" in level.solution.message


def test_the_trapezoidal_rule_finds_the_arc_without_a_doubt_of_its_jump():
    found = dnl.study(arc(), [16, 32, 64], backend="exact", rule="trapezoid")
    assert found.extrapolated_value == pytest.approx(5.0685, abs=1e-3)
    text = "\n".join(found.statements)
    assert "grows like" not in text
    assert "stand in one cell" not in text
    assert "larger than the value" not in text
    assert not any(concentration_note(level.solution) for level in found.levels)


@pytest.mark.parametrize("p", [0.3, 0.5, 1.5, 5.0])
def test_another_rate_is_said_and_extrapolated_with(p: float, quiet):
    """J_L = 2 + 3 L^{-p}: the fitted exponent gives the limit, the assumed ones do not."""
    rows = rows_of([2 + 3 * L**-p for L in (4, 8, 16, 32)])
    assert fitted_orders(rows, LEFT) == pytest.approx((p,))
    assert said(rows, quiet) == [
        f"the values show the rate {p:.2f}, far from the assumed 1, 2, 3: extrapolated with the "
        "fitted one; orders= takes others"
    ]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_an_assumed_rate_is_not_doubted(p: float, quiet):
    rows = rows_of([2 + 3 * L**-p for L in (4, 8, 16, 32)])
    assert fitted_orders(rows, LEFT) == LEFT
    assert said(rows, quiet) == []


def test_between_two_orders_both_terms_may_act(quiet):
    """4/L² + 40/L³ has rates from 2.7 to 2.4: no other exponent, and no doubt."""
    rows = rows_of([1 + 4 / L**2 + 40 / L**3 for L in (4, 8, 16, 32)])
    rate = rate_of_values(rows)
    assert 2.3 < rate.last < rate.before < 2.8
    assert said(rows, quiet, (2.0, 3.0, 4.0)) == []


def test_values_whose_steps_grow_are_doubted(quiet):
    rows = rows_of([1.0, 1.1, 1.3, 1.7])
    assert fitted_orders(rows, LEFT) == ()
    assert limit_of(rows, ()) == 1.7
    assert "doubtful limit: the values show the rate -1.00" in said(rows, quiet)[0]
    assert "not extrapolated, the limit given is the value at L=32" in said(rows, quiet)[0]


def test_a_far_rate_that_has_not_settled_is_not_extrapolated_with(quiet):
    """1 + L^-0.1 + 4/L: exponents that fall from level to level; no limit is claimed."""
    values = [1 + L**-0.1 + 4 / L for L in (16, 64, 256, 1024)]
    rows = rows_of(values, (16, 64, 256, 1024))
    rate = rate_of_values(rows)
    assert np.isfinite(rate.before)
    assert not rate.settled
    assert rate.far_from(LEFT)
    assert fitted_orders(rows, LEFT) == ()
    assert limit_of(rows, ()) == values[-1]
    (sentence,) = said(rows, quiet, rates={**RATES, "value": 0.3})
    assert "no one rate fits the levels: not extrapolated" in sentence
    assert "or give orders=" in sentence


def test_a_far_rate_of_three_levels_alone_is_doubted(quiet):
    """1 + 3 L^-0.4: the fitted exponent gives the limit, and one more level would confirm it."""
    rows = rows_of([1 + 3 * L**-0.4 for L in (4, 8, 16)], (4, 8, 16))
    assert limit_of(rows, fitted_orders(rows, LEFT)) == pytest.approx(1.0, abs=1e-9)
    (sentence,) = said(rows, quiet)
    assert sentence.startswith("doubtful limit: the values show the rate 0.40")
    assert "which three levels alone show: add deeper levels" in sentence


def test_a_limit_that_moves_more_than_it_claims(quiet):
    """An error in the coarsest level moves the limit by its share of the table, 2·10⁻⁴."""
    values = [1 + 1 / L + 0.1 / L**2 for L in (4, 8, 16, 32)]
    assert said(rows_of(values), quiet) == []
    moved = said(rows_of([values[0] + 0.1, *values[1:]]), quiet)
    assert any("without L=4 the extrapolated value moves by" in s for s in moved)


def test_a_limit_that_contradicts_the_error_constant(quiet):
    values = [1 + 1 / L for L in (4, 8, 16, 32)]
    assert said(rows_of(values, constants=[1.2, 1.1, 1.05, 1.025]), quiet) == []
    found = said(rows_of(values, constants=[-1.2, -1.1, -1.05, -1.025]), quiet)
    assert any("contradicts the error constant" in s for s in found)


def test_a_first_order_term_above_the_value(quiet):
    """c that stays; one that tends to 0, as in tracking problems, is not doubted."""
    tracking = rows_of(
        [1 / L**2 for L in (4, 8, 16, 32)], constants=[2 / L for L in (4, 8, 16, 32)]
    )
    assert said(tracking, quiet) == []
    lasting = rows_of([0.1 + 1 / L for L in (4, 8, 16, 32)], constants=[20, 21, 22, 22])
    assert any("is larger than the value 0.131" in s for s in said(lasting, quiet))


def test_rates_that_say_nothing_are_said(quiet):
    rows = rows_of([1 + 1 / L for L in (4, 8, 16, 32)])
    found = said(rows, quiet, rates={**RATES, "controls_L2": -0.82, "controls_sup": 0.01})
    assert found == [
        "no convergence seen, the steps do not fall with L: rates controls_L2 -0.82, "
        "controls_sup 0.01"
    ]
    same = [{**row, "controls_L2_step": 1e-16} for row in rows_of([1.0, 1.0, 1.0, 1.0])]
    found = said(same, quiet, rates={**RATES, "value": np.nan, "controls_L2": np.nan})
    assert found == ["no rate of value and controls_L2: fewer than two steps are above rounding"]


def test_a_singular_kernel_without_its_reference():
    """v5 with α = ¾ has exponents ½, 1, ...: the fitted one is 3 times nearer than the rule's."""
    v5 = importlib.import_module("problems.v5_minimum_energy")
    problem, right = v5.problem(alpha=0.75), v5.reference(alpha=0.75).value
    depths = [8, 16, 32, 64]
    found = dnl.study(problem, depths, backend="exact")
    assert found.orders == pytest.approx((0.5,), abs=0.01)
    assert found.extrapolated_value == pytest.approx(right, abs=2e-4)
    assert any("far from the assumed 1, 2, 3" in s for s in found.statements)
    given = dnl.study(problem, depths, backend="exact", orders=(0.5, 1.0, 1.5))
    assert given.orders == (0.5, 1.0, 1.5)
    assert given.extrapolated_value == pytest.approx(right, abs=2e-5)
    assert not any("assumed" in s for s in given.statements)


def test_orders_are_checked_and_kept(tmp_path, capsys):
    from dnlcontrol.shell.cli import main

    problem = importlib.import_module("problems.o1_hager").problem()
    made = dnl.study(problem, [2, 4, 8], orders=[1, 3], directory=tmp_path)
    assert made.orders == (1.0, 3.0)
    back = dnl.load(tmp_path)
    assert back.orders == (1.0, 3.0)
    assert back.extrapolated_value == made.extrapolated_value
    for orders in ([], [2, 1], [0.0], [1, 1], ["a"], "12", 1.0):
        with pytest.raises(dnl.InputError, match=r"^orders: got"):
            dnl.study(problem, [2], orders=orders)
    assert main(["study", "o1_hager", "--depths", "2,4", "--orders", "1,x"]) == 2
    assert "--orders: got '1,x'" in capsys.readouterr().err
    assert main(["study", "o1_hager", "--depths", "2,4", "--orders", "1,3"]) == 0


def test_levels_that_did_not_converge_are_left_out_of_the_limit():
    problem = importlib.import_module("problems.o1_hager").problem()
    good = dnl.study(problem, [8, 16, 32])
    bad = dnl.solve(problem, 4, "adjoint", max_iterations=1, method="lbfgs")
    assert not bad.success
    mixed = dnl.Study("mixed", (type(good.levels[0])(bad), *good.levels))
    assert mixed.extrapolated_value == good.extrapolated_value
    assert any("not converged: adjoint at L=4" in s for s in mixed.statements)
