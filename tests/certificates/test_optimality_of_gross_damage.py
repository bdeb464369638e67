"""certify rejects every kind of damage that has no size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.extension import Extension
from tests.certificates.cases import (
    EPS,
    at_zero,
    concave,
    consistent,
    constrained,
    flat,
    maximum,
    network,
    quadratic,
    saddle,
    shifted,
    solved,
    with_controls,
)


def costates_of_another_sign() -> tuple[dnl.Solution, str]:
    s = solved("network")
    return replace(s, costates=-s.costates), "costates"


def costates_one_layer_early() -> tuple[dnl.Solution, str]:
    """ψ^{l+1}, the costate of the step, in the place of ψ^l."""
    s = solved("bounded")
    return replace(s, costates=np.concatenate([s.costates[1:], s.costates[-1:]])), "costates"


def costates_of_the_sum() -> tuple[dnl.Solution, str]:
    """Those of the mean over the samples, not per sample."""
    s = solved("network")
    return replace(s, costates=s.costates / 4), "costates"


def costates_without_the_step() -> tuple[dnl.Solution, str]:
    """λ^l in the place of the density λ^l/τ."""
    s = solved("constrained")
    return replace(s, costates=s.costates / s.depth), "costates"


def density_for_an_ode() -> tuple[dnl.Solution, str]:
    """p = -ψ' in the place of ψ."""
    s = solved("bounded")
    return replace(
        s, costates=np.append(-np.diff(s.costates, axis=0) * s.depth, s.costates[-1:], axis=0)
    ), "costates"


def samples_exchanged() -> tuple[dnl.Solution, str]:
    s = solved("network")
    return replace(s, states=s.states[:, ::-1], costates=s.costates[:, ::-1]), "states"


def targets_exchanged() -> tuple[dnl.Solution, str]:
    s = solved("bounded")
    running = dnl.cost(lambda t, x, u, y: u.u**2 + x * u.u + (x - y) ** 2, target=[0.1, 0.0])
    return replace(s, problem=quadratic(running=running)), "costates"


def multipliers_of_another_sign() -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return consistent(
        replace(s, multipliers={k: -v for k, v in s.multipliers.items()})
    ), "stationarity"


def inequality_of_another_sign() -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return consistent(
        replace(s, multipliers={**s.multipliers, "push": -s.multipliers["push"]})
    ), "sign: push"


def multipliers_forgotten() -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return consistent(
        replace(s, multipliers={k: 0 * v for k, v in s.multipliers.items()})
    ), "stationarity"


def wrong_bound() -> tuple[dnl.Solution, str]:
    """A held control at the other end of its box."""
    s = solved("bounded")
    w = flat(s)
    w[0] = 2.0
    return with_controls(s, w), "sign at bounds: u"


def bounds_dropped() -> tuple[dnl.Solution, str]:
    """The problem has wider bounds than the one that was solved."""
    s = solved("bounded")
    wider = quadratic(controls={"u": dnl.Control((), lower=-0.7, upper=2.0)})
    return consistent(replace(s, problem=wider)), "stationarity"


def truncated_iterations() -> tuple[dnl.Solution, str]:
    """One Newton step, called solved."""
    with pytest.warns(dnl.ConvergenceWarning):
        s = dnl.solve(network(), 3, "adjoint", max_iterations=1)
    return replace(s, status=0, message="solved"), "stationarity"


def loose_tolerance() -> tuple[dnl.Solution, str]:
    s = dnl.solve(network(), 3, "adjoint", tolerance=1e-3)
    return replace(s, tolerance=EPS), "stationarity"


def initial_guess() -> tuple[dnl.Solution, str]:
    """The multiplier and the controls of nothing."""
    s = solved("constrained")
    return with_controls(s, np.full(s.size, 0.5)), "feasible: budget"


def another_depth() -> tuple[dnl.Solution, str]:
    """The prolongation of a coarse minimiser is no minimiser."""
    from dnlcontrol.solving.starts import starting_point

    s = dnl.solve(network(), 2, "adjoint")
    w = starting_point(dnl.discretise(network(), 3), s).w
    return with_controls(solved("network"), w), "stationarity"


def transposed_weights() -> tuple[dnl.Solution, str]:
    s = solved("network")
    W = s.controls["W"]
    turned = Extension("W", W.layout, np.swapaxes(W.values, 1, 2).copy())
    return consistent(replace(s, controls={**s.controls, "W": turned})), "stationarity"


def rows_for_columns() -> tuple[dnl.Solution, str]:
    """The triangle packed by row."""
    s = solved("network")
    order = np.lexsort((s.controls["W"].layout.sources, s.controls["W"].layout.layers))
    packed = {k: Extension(k, c.layout, c.values[order]) for k, c in s.controls.items()}
    return consistent(replace(s, controls=packed)), "stationarity"


def time_of_the_source() -> tuple[dnl.Solution, str]:
    """A kernel that is given the time of the layer before: k(t_{l-1}, t_s)."""
    s = solved("constrained")

    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t + 1 / 6) * (u.v - y**2)

    return replace(s, problem=constrained(dynamics=dnl.Volterra(kernel))), "states"


def not_a_number() -> tuple[dnl.Solution, str]:
    s = solved("network")
    W = s.controls["W"]
    values = shifted(W.values, (1, 0, 0), np.nan)
    return replace(
        s, controls={**s.controls, "W": Extension("W", W.layout, values)}
    ), "stationarity"


def maximum_of_the_hamiltonian() -> tuple[dnl.Solution, str]:
    return at_zero(concave(-1.0), 4), "Pontryagin: u"


def weakly_held_maximum() -> tuple[dnl.Solution, str]:
    """u >= 0 with u = 0 and no gradient: nothing holds it there, and J falls inwards."""
    return at_zero(concave(-1.0, bound=0.0), 4), "second order"


def saddle_on_a_constraint() -> tuple[dnl.Solution, str]:
    """∫u = 1 at u = 1, a maximum of -∫u² among the controls that keep the constraint."""
    make = partial(
        dnl.ControlProblem,
        name="constant",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=1.0)},
        constraints=[dnl.terminal_constraint(lambda x, c: x, 1.0, 1.0, name="reach")],
    )
    s = dnl.solve(make(running=lambda t, x, u: 0.5 * u.u**2), 4, "exact")
    multipliers = {"reach": -s.multipliers["reach"]}
    s = replace(s, problem=make(running=lambda t, x, u: -0.5 * u.u**2), multipliers=multipliers)
    certificate = dnl.certify(consistent(s), seed=0)
    assert certificate["stationarity"].passed
    assert certificate["feasible: reach"].passed
    return consistent(s), "second order"


def kink() -> tuple[dnl.Solution, str]:
    """-max(u, 0) with derivative 0 at 0: stationary by convention, and u > 0 lowers J."""

    def running(t, x, u):
        xp = dnl.namespace(x)
        return 0.5 * u.u**2 - xp.where(u.u > 0.0, u.u, 0.0)

    problem = dnl.ControlProblem(
        name="kink",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        running=running,
    )
    return at_zero(problem, 4), "kinks"


GROSS: list[Callable[[], tuple[dnl.Solution, str]]] = [
    costates_of_another_sign,
    costates_one_layer_early,
    costates_of_the_sum,
    costates_without_the_step,
    density_for_an_ode,
    samples_exchanged,
    targets_exchanged,
    multipliers_of_another_sign,
    inequality_of_another_sign,
    multipliers_forgotten,
    wrong_bound,
    bounds_dropped,
    truncated_iterations,
    loose_tolerance,
    initial_guess,
    another_depth,
    transposed_weights,
    rows_for_columns,
    time_of_the_source,
    not_a_number,
    saddle,
    maximum,
    maximum_of_the_hamiltonian,
    weakly_held_maximum,
    saddle_on_a_constraint,
    kink,
]


@pytest.mark.parametrize("damage", GROSS, ids=lambda d: d.__name__)
def test_gross_damage_is_rejected(damage: Callable[[], tuple[dnl.Solution, str]]):
    damaged, row = damage()
    certificate = dnl.certify(damaged, seed=0)
    assert not certificate.passed and not certificate[row].passed, certificate
