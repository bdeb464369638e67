"""certify: whether this is a minimiser of the discrete problem.

Everything is computed again from its controls and multipliers.

    feasibility       each constraint and the control bounds; states and value against a fresh
                      forward solve
    stationarity      of the Lagrangian with the stored multipliers, in the dual norm; the
                      reported measures
    costates          against those of the adjoint sweep
    complementarity   and signs: of the multipliers, and of the gradient at control bounds
    Pontryagin        control by control, see pontryagin.py
    second order      the Hessian on the critical cone's linear hull, see second_order.py
    Taylor            the orders of the remainders at the solution itself
    units             where the solution has scales: all rows are measured in them, if they fit
    reported          tolerance, status, backend, name, counts and message, see reported.py
    kinks             that none lowers J, see kinks.py; the rows above are then of its smooth piece

The evaluator recomputes every column from the formulas, with no batched kernel and no stored
derivatives; where it takes at most LOOPS kernel values, states, cost and constraints come from the
NumPy loops of the definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.certificate import Certificate, Check, at_least, at_most
from dnlcontrol.certificates.kinks import PieceProducts, at_kinks, kink_rows
from dnlcontrol.certificates.minimum_principle.pontryagin import SUMMED_OTHERWISE, pontryagin
from dnlcontrol.certificates.point import StoredPoint, problem_of, stored_point
from dnlcontrol.certificates.reported import reported_rows, status_row, tolerance_row
from dnlcontrol.certificates.second_order import second_order
from dnlcontrol.certificates.taylor import DIRECTIONS, taylor_at
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.discretisation.scaling import Scaling
from dnlcontrol.discretisation.space.control_space import sample
from dnlcontrol.files.turns import in_turn
from dnlcontrol.minimise.faces import complementarity, held_entries, stationarity
from dnlcontrol.problem.controls import smooth_random
from dnlcontrol.results.assemble import costates_of
from dnlcontrol.results.natural_sizes import natural_sizes
from dnlcontrol.results.rescaled import LOOSEST, in_own_units, looseness
from dnlcontrol.results.solution import Solution

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    Products = Evaluator | PieceProducts

TOLERANCE = 1e-8  # of a solve that is asked for none
LOOPS = 10_000  # kernel values; beyond them states and cost come from a sweep
CHUNK = 61  # samples per chunk: another order of summation than the solver's
TAYLOR_STEPS = (1e-2, 1e-3)  # the shorter where higher orders still show at the longer


@in_turn
def certify(
    solution: Solution, tolerance: float = TOLERANCE, seed: int | None = None
) -> Certificate:
    """Check a solution of any backend against the definition of a minimiser, by its stored numbers.

    Parameters
    ----------
    solution : a Solution; one that was loaded from a run directory runs its problem file again.
    tolerance : what stationarity, feasibility and complementarity may reach, and the tolerance of
        the solve: one that was solved to a looser one needs that here. States, value and costates
        may differ by it relative to 1 + their size, a negative eigenvalue relative to 1 or the
        largest.
    seed : of the sampled controls and directions; None draws one (the certificate keeps it).

    Returns
    -------
    Certificate. It speaks of a local minimiser of the discrete problem, as far as first and second
    order and a sample of values can tell; nothing in it is global, and nothing says how far J_L is
    from its limit.

    Raises
    ------
    InputError for what is not a solution, belongs to another problem, or holds none and names no
    problem file; for a bad tolerance or seed.

    >>> import numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u),
    ...     controls={"u": dnl.Control(())},
    ...     terminal=lambda x, c: 0.5 * x**2,
    ...     regularisers=[dnl.L2("u", 1.0)],
    ... )
    >>> certificate = dnl.certify(dnl.solve(problem, depth=4, backend="adjoint"), seed=0)
    >>> certificate.passed, round(certificate["second order"].measured, 6)
    (True, 1.0)
    """
    if not isinstance(solution, Solution):
        checks.reject_type("certify.solution", solution, "a Solution")
    tolerance = checks.positive("certify.tolerance", tolerance)
    seed = (
        int(np.random.SeedSequence().generate_state(1)[0])
        if seed is None
        else checks.seed("certify.seed", seed)
    )
    users = solution
    solution = in_own_units(solution, problem_of(solution))
    discrete = discretise(problem_of(solution), solution.depth, solution.rule)
    w, mu = stored_point(solution, discrete)

    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.minimise.multipliers import Multipliers

    evaluator = Evaluator(discrete, chunk=CHUNK, batched=False, stored=False)
    multipliers = Multipliers(mu)
    with np.errstate(all="ignore"):  # what is not finite fails its row
        point = StoredPoint(
            evaluator, w, multipliers, evaluator.trajectory(w, multipliers), tolerance
        )
        point, piece = at_kinks(point)
        rows = [
            tolerance_row(users, tolerance),
            *reported_rows(users, point),
            *_forward(solution, point),
            *_first_order(solution, point),
            *_costates(solution, point),
            *_constraint_signs(point),
            *_bound_signs(point),
            *_units(users),
        ]
        if discrete.space.size and np.all(np.isfinite(point.at.gradient)):
            rng, products = np.random.default_rng(seed), piece or Evaluator(discrete)
            rows += [
                *pontryagin(point, rng),
                second_order(point, products, rng).check,
                *_taylor(point, products, rng),
            ]
            rows += kink_rows(point, piece, seed) if piece else []
        rows.append(status_row(users, point, rows))
    return Certificate(
        problem=discrete.problem.name,
        backend=solution.backend,
        depth=solution.depth,
        rule=solution.rule,
        tolerance=tolerance,
        seed=seed,
        checks=tuple(rows),
    )


# -- rows
def _forward(solution: Solution, point: StoredPoint) -> list[Check]:
    """Feasibility, states and value, by a fresh forward solve."""
    evaluator = point.evaluator
    w = point.w
    eps = point.tolerance
    discrete = evaluator.discrete
    kernels = discrete.depth * (discrete.depth + 1) // 2 * discrete.problem.samples
    if kernels <= LOOPS:
        how = "the loops of the definition"
        x = discrete.states(w)
        value, c = (
            discrete.data_cost(w, x) + discrete.space.penalty(w),
            discrete.constraint_values(w, x),
        )
    else:
        how = "a forward sweep"
        x = point.at.states
        value = evaluator.value(w)
        c = point.at.constraints
    rows = _feasible(point, c)
    what = f"the largest difference from {how}"
    rows.append(at_most("states", _largest(solution.states - x), eps * (1 + _largest(x)), what))
    rows.append(
        at_most("value", abs(solution.value - value), eps * (1 + abs(value)), f"from {how}")
    )
    return rows


def _feasible(point: StoredPoint, c: np.ndarray) -> list[Check]:
    """The violation of each constraint, of values c (rows.size,), and of each control's bounds."""
    rows, space = point.evaluator.rows, point.evaluator.space
    eps = point.tolerance
    violation = rows.violation(c)
    found = []
    for b in rows.blocks:
        here = violation[b.part]
        largest = _largest(here)
        worst = f", worst: {b.words(int(np.argmax(here)))}" if largest > 0 else ""
        what = f"the largest of {b.size}{worst}"
        found.append(at_most(f"feasible: {b.constraint.name}", largest, eps, what))
    lower, upper = space.bounds
    outside = np.maximum(np.maximum(lower - point.w, point.w - upper), 0.0)
    found += [
        at_most(f"bounds: {b.name}", _largest(outside[b.part]), eps, "the farthest outside")
        for b in space
        if b.control.bounded
    ]
    return found


def _first_order(solution: Solution, point: StoredPoint) -> list[Check]:
    """Stationarity, and what the solution reports about itself."""
    space, at = point.evaluator.space, point.at
    rows = point.evaluator.rows
    norm = stationarity(space, point.w, at.gradient)
    lower, upper = space.bounds
    outside = np.maximum(np.maximum(lower - point.w, point.w - upper), 0.0)
    feasible = max(_largest(rows.violation(at.constraints)), _largest(outside))
    slack = _largest(rows.slack(at.constraints, point.multipliers.mu))
    measured = (norm, feasible, max(slack, complementarity(space, point.w, at.gradient)))
    reported = (solution.stationarity, solution.feasibility, solution.complementarity)
    free = space.size - int(np.count_nonzero(held_entries(space, point.w, at.gradient)))
    what = "stationarity, feasibility, complementarity as the solution reports them"
    return [
        at_most(
            "stationarity",
            norm,
            SUMMED_OTHERWISE * point.tolerance,
            f"dual norm of the Lagrangian's gradient, {free} of {space.size} entries",
        ),
        at_most(
            "reported",
            _largest(np.subtract(measured, reported)),
            SUMMED_OTHERWISE * point.tolerance,
            what,
        ),
    ]


def _costates(solution: Solution, point: StoredPoint) -> list[Check]:
    costates, terminal = costates_of(point.evaluator, point.w, point.at)
    kind = "ψ" if point.evaluator.discrete.problem.dynamics.is_ode else "p and p(T)"
    return [
        at_most(name, _largest(stored - fresh), point.tolerance * (1 + _largest(fresh)), what)
        for name, stored, fresh, what in (
            ("costates", solution.costates, costates, f"{kind} against the adjoint sweep"),
            (
                "terminal gradient",
                solution.terminal_gradient,
                terminal,
                "∇Φ, multiplier terms included",
            ),
        )
    ]


def _constraint_signs(point: StoredPoint) -> list[Check]:
    """Complementarity and signs of the multipliers, for constraints with inequalities."""
    rows = point.evaluator.rows
    c = point.at.constraints
    mu = point.multipliers.mu
    lower, upper = rows.bounds
    slack = rows.slack(c, mu)
    # the side that c is nearer to is the only one that may push
    wrong = np.where(np.abs(c - lower) < np.abs(upper - c), mu, -mu)
    wrong = np.where(lower == upper, 0.0, np.maximum(wrong, 0.0))
    found = []
    for b in rows.blocks:
        if np.all(lower[b.part] == upper[b.part]):
            continue
        for name, measured, what in (
            ("complementary", slack, "|μ| times the distance to its side"),
            ("sign", wrong, "μ > 0 only at an upper side, μ < 0 only at a lower one"),
        ):
            largest = _largest(measured[b.part])
            found.append(at_most(f"{name}: {b.constraint.name}", largest, point.tolerance, what))
    return found


def _bound_signs(point: StoredPoint) -> list[Check]:
    """Held entries are at their bound, and the gradient pushes outwards there: bounded controls."""
    space, eps = point.evaluator.space, point.tolerance
    w, r = point.w, point.at.gradient
    lower, upper = space.bounds
    held = held_entries(space, w, r)
    distance = np.where(w - r / space.metric_diagonal <= lower, w - lower, upper - w)
    inward = np.maximum(np.where(w <= lower + eps, -r, 0.0), np.where(w >= upper - eps, r, 0.0))
    inward = np.where(lower == upper, 0.0, np.maximum(inward, 0.0) / np.sqrt(space.metric_diagonal))
    outwards = "the gradient pushes outwards at a bound (units of the dual norm)"
    found = []
    for block in space:
        if not block.control.bounded:
            continue
        off = _largest(np.where(held, np.abs(distance), 0.0)[block.part])
        sign = _largest(inward[block.part])
        what = f"{int(np.count_nonzero(held[block.part]))} entries, distance to their bound"
        found.append(at_most(f"held: {block.name}", off, eps, what))
        found.append(
            at_most(f"sign at bounds: {block.name}", sign, SUMMED_OTHERWISE * eps, outwards)
        )
    return found


def _units(solution: Solution) -> list[Check]:
    """The units in which all of this is measured are not far too large for the solution."""
    if not solution.scales:
        return []
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    discrete = discretise(problem_of(solution), solution.depth, solution.rule)
    sizes = natural_sizes(Evaluator(discrete), stored_point(solution, discrete)[0])
    scaling = Scaling.restored(solution.scales)
    seen = np.nan if sizes is None else looseness(scaling, sizes)
    what = f"how much looser than the sizes there its units make the tolerance ({scaling.words()})"
    return [at_most("units", seen, LOOSEST, what)]


def _taylor(point: StoredPoint, products: Products, rng: np.random.Generator) -> list[Check]:
    """The Taylor orders along smooth random directions into the bounds.

    The derivatives are those of the value there.
    """
    space = point.evaluator.space
    directions = []
    for seed in rng.integers(2**31, size=DIRECTIONS).tolist():
        smooth = space.assemble({b.name: sample(b, smooth_random(seed, 1.0)) for b in space})
        directions.append(
            (np.clip(point.w + TAYLOR_STEPS[0] * smooth, *space.bounds) - point.w) / TAYLOR_STEPS[0]
        )
    for step in TAYLOR_STEPS:
        test = taylor_at(products, point.w, np.array(directions), point.multipliers, step)
        if test.passed:
            break
    what = f"order of the remainder of the Lagrangian at the solution, {DIRECTIONS} directions"
    return [
        at_least("Taylor, gradient", test.gradient_rate, 1.95, f"first {what}"),
        at_least("Taylor, Hessian", test.hessian_rate, 2.9, f"second {what}"),
    ]


def _largest(values: np.ndarray) -> float:
    """The largest absolute value, NaN where there is one."""
    return float(np.max(np.abs(values), initial=0.0))
