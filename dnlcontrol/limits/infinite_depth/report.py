"""What is known about a stack at infinite depth.

Verdicts, assumptions, and a bound of the error of finite depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.bounds import (
    beyond,
    first_below,
    log_of,
    raised,
    summed_log_bounds,
)
from dnlcontrol.limits.infinite_depth.declarations import Case
from dnlcontrol.limits.infinite_depth.hypotheses import (
    Contraction,
    Decay,
    Hypothesis,
    as_hypotheses,
)
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail, as_tail
from dnlcontrol.limits.infinite_depth.path import Path, follow
from dnlcontrol.limits.infinite_depth.rounding import norm_of, up, vector_norm
from dnlcontrol.limits.infinite_depth.stacks import Layer, Stack
from dnlcontrol.limits.infinite_depth.verdicts import Verdicts, decide

LONGEST = 10**6  # steps of the recursion that predicts a contraction


@dataclass(frozen=True, eq=False)
class Report:
    """Result of ``certify``.

    Attributes
    ----------
    condition : "satisfied", "violated" or "undecidable".
    network : "converges", "diverges" or "undecided", at x (on the ball: at each of its points).
    degenerate : the limit does not depend on the input.
    necessary : "not examined", "satisfied", "violated", "undecidable" or "hypothesis fails".
    assumptions : sentences; the verdicts and the bound hold under them and say nothing beyond.
    depth, norm, radius : n, the norm (1, 2 or inf) and the radius of the ball around x.
    bound : upper bound of ‖N_∞(y) - N_n(y)‖ for every y of the ball, in exact arithmetic, rounded
        up; inf when none.
    log_bound : its natural logarithm, finite also where ``bound`` overflows.
    vacuous : the bound exceeds ‖N_n(x)‖, so that it does not even tell N_∞(x) from 0.
    state_norm, rounding : ‖N_n(x)‖ (rounded up) and a bound of the rounding error of the computed
        N_n(x).
    log_bounds : logarithms of the bounds at the known depths 0, 1, ....
    """

    condition: str
    network: str
    degenerate: bool
    necessary: str
    assumptions: tuple[str, ...]
    depth: int
    norm: float
    radius: float
    bound: float
    log_bound: float
    vacuous: bool
    state_norm: float
    rounding: float
    log_bounds: np.ndarray
    _further: Callable[[int], float] | None = field(repr=False, default=None)

    def depth_for(self, eps: float) -> int | None:
        """The least depth found from which on the bound is <= eps.

        None when no depth up to 2^60 has one. Up to the known depth the bounds use the layers;
        beyond it only the declared tails.
        """
        target = float(np.log(checks.positive("eps", eps)))
        if self._further is None:
            return None
        return first_below(target, self.log_bounds, self._further)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the bounds per depth, ready for JSON.

        Infinities and the norm inf are strings.
        """
        names = (
            "condition",
            "network",
            "degenerate",
            "necessary",
            "assumptions",
            "depth",
            "norm",
            "radius",
            "bound",
            "log_bound",
            "vacuous",
            "state_norm",
            "rounding",
        )
        values = {name: getattr(self, name) for name in names}
        values["assumptions"] = list(self.assumptions)
        return {
            k: str(v) if isinstance(v, float) and not np.isfinite(v) else v
            for k, v in values.items()
        }

    def __str__(self) -> str:
        ball = f" on the ball of radius {self.radius:g}" if self.radius else ""
        rows = [
            ("condition", self.condition),
            (
                "network",
                self.network + (", to a limit independent of x" if self.degenerate else ""),
            ),
            ("necessary", self.necessary),
            ("bound", _shown(self) + (" (vacuous)" if self.vacuous else "")),
            ("state", f"{self.state_norm:.6g} at depth {self.depth}, norm {self.norm:g}{ball}"),
        ]
        lines = [f"{name:10} {text}" for name, text in rows]
        return "\n".join(
            [*lines, *(f"  {i}. {text}" for i, text in enumerate(self.assumptions, 1))]
        )


def _shown(report: Report) -> str:
    if np.isfinite(report.bound):
        return f"{report.bound:.6g}"
    return f"e^{report.log_bound:.6g}" if np.isfinite(report.log_bound) else "none"


def certify(
    stack: Stack,
    x: ArrayLike | None = None,
    *,
    depth: int | None = None,
    radius: float = 0.0,
    norm: float = 2,
    tail: Tail | Bound | None = None,
    minorant: Tail | Bound | None = None,
    hypotheses: Hypothesis | Iterable[Hypothesis] = (),
) -> Report:
    """Decide what can be decided about N_n as n -> ∞, and bound ‖N_∞ - N_n‖.

    Parameters
    ----------
    stack : the layers; ``depth`` n of them are evaluated (default: all of a finite stack).
    x, radius : the centre (width,) and radius of the ball, in ``norm``; without x only the
        verdicts.
    norm : 1, 2 or numpy.inf; matrices have the induced norm.
    tail, minorant : Tail(weights, biases), or one bound for both: declared bounds of p_k and β_k
        for every k beyond the known layers (all layers of a finite stack, n of a rule). Default:
        those of the stack.
    hypotheses : what else is declared; see ``hypotheses``.

    Raises
    ------
    InputError : wrong shapes; a declaration that another one, or a layer of the rule, contradicts.

    >>> from dnlcontrol.limits.infinite_depth import PowerLaw, Tail, Zero, from_rule
    >>> stack = from_rule(lambda n: (1 + 1 / n**2, 0.0), tail=Tail(PowerLaw(1, 2), Zero()))
    >>> report = certify(stack, 1.0, depth=100)  # N_∞(1) = sinh(π)/π = 3.676, N_100(1) = 3.640
    >>> report.network, round(report.bound, 4), report.depth_for(1e-3)
    ('converges', 0.0364, 3677)
    """
    if not isinstance(stack, Stack):
        checks.reject_type("stack", stack, "a Stack, from_rule(...) or from_module(...)")
    n, order = stack.whole_depth(depth), norm_of("norm", norm)
    radius = checks.non_negative("radius", radius)
    declared = stack.tail if tail is None else as_tail("tail", tail)
    below = stack.minorant if minorant is None else as_tail("minorant", minorant)
    given = as_hypotheses(hypotheses)
    if given and not stack.outer:
        seen = f"{', '.join(h.__name__ for h in given)} for a stack without outer activations"
        checks.reject("hypotheses", seen, "none; its condition is the declared tail")
    known = n if stack.depth is None else stack.depth
    path = None if x is None else _path(stack, x, known, radius, order)
    case = Case(
        stack=stack,
        n=known,
        norm=order,
        tail=declared,
        minorant=below,
        given=given,
        path=path,
    )
    return _report(case, decide(case), n, radius)


def _path(stack: Stack, x: ArrayLike, depth: int, radius: float, norm: float) -> Path:
    point = np.atleast_1d(checks.numbers("x", x))
    if point.shape != (stack.width,):
        checks.reject("x", point, f"shape ({stack.width},)")
    return follow(stack, point, depth, radius, norm)


def _report(case: Case, verdicts: Verdicts, n: int, radius: float) -> Report:
    path, notes = case.path, verdicts.assumptions
    if path is None:
        log_bounds = np.full(n + 1, np.inf)
        predicted = None
        state = np.inf
        rounding = np.inf
        notes = (*notes, "no point was given, hence no bound")
    else:
        log_bounds, predicted = _bounds(case, verdicts, path)
        rounding = float(path.rounding[n])
        state = float(up(vector_norm(path.states[n], case.norm) + rounding, 2))
        notes = (
            *notes,
            f"bounds are for exact arithmetic, rounded up; the computed N_{n}(x) is off by <= "
            f"{rounding:.2g}",
        )
    log_bound = float(log_bounds[n])
    with np.errstate(over="ignore"):
        bound = float(up(np.exp(log_bound), 4))
    return Report(
        condition=verdicts.condition,
        network=verdicts.network,
        degenerate=verdicts.degenerate,
        necessary=verdicts.necessary,
        assumptions=notes,
        depth=n,
        norm=case.norm,
        radius=radius,
        bound=bound,
        log_bound=log_bound,
        vacuous=path is None or bound > state * (1 + 1e-12),
        state_norm=state,
        rounding=rounding,
        log_bounds=log_bounds,
        _further=predicted,
    )


def _bounds(
    case: Case, verdicts: Verdicts, path: Path
) -> tuple[np.ndarray, Callable[[int], float]]:
    """log of the bounds at the known depths, and at any depth beyond.

    The best of what the verdicts allow.
    """
    slope, tail = case.stack.activation.slope if case.stack.outer else 1.0, case.tail
    log_bounds = np.full(path.depth + 1, np.inf)
    further: list[Callable[[int], float]] = []
    if verdicts.condition == "satisfied" and case.stack.activation.piecewise_linear:
        log_bounds = np.minimum(log_bounds, summed_log_bounds(path, tail, slope))
        further.append(lambda m: beyond(path, tail, slope, m))
    if (
        verdicts.degenerate
        and Decay in case.given
        and tail.biases is not None
        and tail.biases.summable
    ):
        log_bounds = np.minimum(log_bounds, raised(log_of(path.norms)))  # the limit is 0
    if verdicts.degenerate and Contraction in case.given:
        limit = case.given[Contraction]
        log_bounds = np.minimum(log_bounds, _contraction_bounds(case.stack, path, limit, case.norm))
        further.append(
            _contraction_beyond(case.stack, path, limit, case.norm, float(np.exp(log_bounds[-1])))
        )
    return log_bounds, lambda m: min((f(m) for f in further), default=np.inf)


def _contraction_bounds(stack: Stack, path: Path, limit: Contraction, norm: float) -> np.ndarray:
    """log of ‖x^k - x*‖ <= (residual + rounding) / (1 - q ‖W‖), plus rounding and spread of x^k."""
    sigma, layer = stack.activation, Layer(limit.operator, limit.bias)
    rate = float(up(sigma.lipschitz * limit.operator.norm(norm)))
    bounds = np.full(path.depth + 1, np.inf)
    for k, state in enumerate(path.states):
        if state.shape != (limit.operator.rows,):
            continue
        image = sigma(layer.before(state, sigma))
        local = sigma.lipschitz * layer.step_rounding(state, sigma, norm)
        slack = 5e-16 * (vector_norm(image, norm) + vector_norm(state, norm))
        residual = float(up(vector_norm(state - image, norm) + local + 2 * slack, 6))
        bounds[k] = float(up(residual / (1 - rate) + path.rounding[k] + path.spread[k], 6))
    return np.asarray(raised(log_of(bounds)))


def _contraction_beyond(
    stack: Stack, path: Path, limit: Contraction, norm: float, error: float
) -> Callable[[int], float]:
    """log of e_k <= q (‖W‖ + ω_k) e_{k-1} + q (ω_k ‖x*‖ + ν_k), from e_n on, one step at a time."""
    q, size = stack.activation.lipschitz, limit.operator.norm(norm)
    fixed = float(up(path.norms[-1] + error, 1))
    reached = [error]

    def further(m: int) -> float:
        if m - path.depth > LONGEST:
            return np.inf
        while len(reached) <= m - path.depth:
            k = path.depth + len(reached)
            drift, shift = limit.weights.at(k), limit.biases.at(k)
            reached.append(float(up(q * ((size + drift) * reached[-1] + drift * fixed + shift), 8)))
        return float(raised(log_of(reached[m - path.depth])))

    return further
