"""What speaks against the limit that a study extrapolates to, in words.

A row is the line of one level in a study's table, as in :mod:`dnlcontrol.studies.rates`; all of
them are of one branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.rules import RULES
from dnlcontrol.results.concentration import concentration_note
from dnlcontrol.results.extrapolation import corrections, local_rate
from dnlcontrol.results.solution import Solution
from dnlcontrol.studies.rates import DISTANCE_NOISE, VALUE_NOISE, Row, limit_of

FAR = 0.3  # a fitted exponent is far from one that differs by more
FAR_ALONE = 0.5  # where one set of three levels shows it, which may be too coarse
# two sets of three levels that differ by less have one exponent: between L^-p and L^-(p+1) in equal
# parts it moves by a quarter for each level
SETTLED = 0.1
NO_RATE = 0.05  # steps that shrink more slowly do not shrink
GROWS = 0.7  # exponent of a sup norm: that of a jump is 1, of (T - t)^{-1/2} it is 1/2
RESOLVED = 100.0  # differences of values above so many roundings have a rate
PART = 0.05  # of the whole correction: what a further term may move without a doubt
# what J_L - c/L^p converges faster than L^-p by, at least: 1 for smooth kernels, β near (t - s)^β
GAIN = 0.25
LASTING = 0.75  # c that falls by less per level does not tend to 0


@dataclass(frozen=True)
class Rate:
    """The exponents that the last levels show: of the last three, and of the three before."""

    last: float
    before: float

    @property
    def settled(self) -> bool:
        return abs(self.last - self.before) < SETTLED

    def far_from(self, orders: Sequence[float]) -> bool:
        """Whether they are slower than every exponent, or settled elsewhere.

        Between two exponents they may else come from both terms together.
        """
        seen = [p for p in (self.last, self.before) if np.isfinite(p)]
        far = FAR if len(seen) > 1 else FAR_ALONE
        if seen and max(seen) < orders[0] - far:
            return True
        near = min(abs(self.last - order) for order in orders)
        return self.settled and near > FAR


def rate_of_values(rows: Sequence[Row]) -> Rate:
    """NaN where there are too few levels, or they differ by rounding alone."""
    depths, values = [r["depth"] for r in rows], [float(r["value"]) for r in rows]
    noise = RESOLVED * VALUE_NOISE * max(abs(v) for v in values)

    def of(last: int) -> float:
        part = slice(max(last - 3, 0), last)
        steps = np.abs(np.diff(values[part]))
        if last < 3 or not np.all(steps > noise):
            return float("nan")
        return local_rate(depths[part], values[part])

    return Rate(of(len(rows)), of(len(rows) - 1))


def fitted_orders(rows: Sequence[Row], assumed: Sequence[float]) -> tuple[float, ...]:
    """The exponents to extrapolate with.

    Where the levels show a rate that is far from those assumed: it, unless one set of three levels
    contradicts the other; then none, and the value of the deepest level stands.
    """
    rate = rate_of_values(rows)
    if not rate.far_from(assumed):
        return tuple(assumed)
    agreed = rate.settled or not np.isfinite(rate.before)
    return (rate.last,) if agreed and rate.last > NO_RATE else ()


def doubts(
    rows: Sequence[Row],
    solutions: Sequence[Solution],
    assumed: Sequence[float],
    used: Sequence[float],
    rates: Mapping[str, float],
) -> list[str]:
    """Every doubt: about the order, the extrapolation, the error constant, controls, and rates.

    ``assumed``: the exponents of the rule, the reference or the user; ``used``: those that the
    limit comes from.
    """
    said = [
        _order(rows, assumed, used),
        _moves(rows, used),
        *_constant(rows, used, solutions[-1].rule),
    ]
    said += [*_growth(solutions), concentration_note(solutions[-1])]
    said += [_not_falling(rates), _rounding(rows, rates)]
    return [sentence for sentence in said if sentence]


def _order(rows: Sequence[Row], assumed: Sequence[float], used: Sequence[float]) -> str:
    rate = rate_of_values(rows)
    if not rate.far_from(assumed):
        return ""
    seen = f"the values show the rate {rate.last:.2f}, far from the assumed {_list(assumed)}"
    if not used:
        return (
            f"doubtful limit: {seen}, and no one rate fits the levels: not extrapolated, the limit "
            f"given is the value at L={rows[-1]['depth']}; add deeper levels, or give orders="
        )
    if tuple(used) != tuple(assumed):
        alone = "" if rate.settled else ", which three levels alone show: add deeper levels"
        doubtful = "doubtful limit: " if alone else ""
        return f"{doubtful}{seen}: extrapolated with the fitted one{alone}; orders= takes others"
    return f"doubtful limit: {seen}; add deeper levels, or give orders="


def _moves(rows: Sequence[Row], used: Sequence[float]) -> str:
    """A further term claims to be a correction: it must move the limit less than those before."""
    depths, values = [r["depth"] for r in rows], [r["value"] for r in rows]
    steps = np.abs(corrections(depths, values, used))
    if len(steps) < 2 or not np.all(np.isfinite(steps)):
        return ""
    moved, claimed = float(steps[-1]), float(steps[-2])
    noise = RESOLVED * VALUE_NOISE * max(abs(v) for v in values)
    whole = abs(limit_of(rows, used) - values[-1])
    if moved <= max(claimed, PART * whole, noise):
        return ""
    return (
        f"doubtful limit: without L={depths[-len(steps) - 1]} the extrapolated value moves by "
        f"{moved:.1e}, more than the {claimed:.1e} that its last term claims; add deeper levels"
    )


def _constant(rows: Sequence[Row], used: Sequence[float], rule: str) -> list[str]:
    """The limit against J_L - c/L^p, and c/L^p against J_L itself."""
    known = [r for r in rows if np.isfinite(r["constant"]) and np.isfinite(r["value"])]
    if not known or known[-1] is not rows[-1]:
        return []
    last, before = known[-1], known[-2] if len(known) > 1 else None
    error = abs(last["value"] - last["corrected"])
    words = f"c/L^p = {last['value'] - last['corrected']:.2e} at L={last['depth']}"
    said = []
    lasting = before is None or abs(last["constant"]) > LASTING * abs(before["constant"])
    if lasting and error > abs(last["value"]):
        said.append(
            f"doubtful limit: {words}, predicted from that level alone, is larger than the value "
            f"{last['value']:.4g} itself"
        )
    if before is None or len(rows) < 2 or not used:
        return said
    limit = limit_of(rows, used)
    apart, rest = abs(limit - last["corrected"]), abs(last["corrected"] - before["corrected"])
    noise = RESOLVED * VALUE_NOISE * max(abs(r["value"]) for r in rows)
    finer = (last["depth"] / before["depth"]) ** (RULES[rule].exponents[0] + GAIN)
    if apart > rest / (finer - 1) + PART * error + noise:
        said.append(
            f"doubtful limit: the extrapolated value {limit:.10g} contradicts the error constant: "
            f"J_L - c/L^p = {last['corrected']:.10g} at L={last['depth']}, "
            f"{before['corrected']:.10g} at L={before['depth']}"
        )
    return said


def _growth(solutions: Sequence[Solution]) -> list[str]:
    """Controls whose sup norm grows like L, over the last three levels."""
    said = []
    levels = solutions[-3:]
    for name in levels[-1].controls if len(levels) == 3 else ():
        sizes = [float(np.max(np.abs(s.controls[name].values), initial=0.0)) for s in levels]
        if min(sizes) <= 0 or not np.all(np.isfinite(sizes)):
            continue
        exponents = np.diff(np.log(sizes)) / np.diff(np.log([s.depth for s in levels]))
        if np.all(exponents > GROWS):
            said.append(
                f"doubtful limit: the largest entry of control {name!r} grows like "
                f"L^{exponents[-1]:.2f}, from {sizes[0]:.3g} at L={levels[0].depth} to "
                f"{sizes[-1]:.3g} at L={levels[-1].depth}: a jump in one cell, which the rule "
                "does not charge as the limit does"
            )
    return said


def _not_falling(rates: Mapping[str, float]) -> str:
    flat = [f"{name} {p:.2f}" for name, p in rates.items() if p < NO_RATE]
    if not flat:
        return ""
    return f"no convergence seen, the steps do not fall with L: rates {', '.join(flat)}"


def _rounding(rows: Sequence[Row], rates: Mapping[str, float]) -> str:
    """Values and controls without a rate, since nothing that it would be fitted to is left."""
    values, noise = [r["value"] for r in rows], VALUE_NOISE * max(abs(r["value"]) for r in rows)
    steps = {
        "value": (np.abs(np.diff(values)), noise),
        "controls_L2": (np.array([r["controls_L2_step"] for r in rows[1:]]), DISTANCE_NOISE),
    }
    names = [
        name
        for name, (seen, least) in steps.items()
        if len(seen) > 1 and np.all(np.isfinite([*seen, *values])) and np.isnan(rates[name])
        if np.sum(seen > least) < 2
    ]
    if not names:
        return ""
    return f"no rate of {' and '.join(names)}: fewer than two steps are above rounding"


def _list(orders: Sequence[float]) -> str:
    return ", ".join(f"{p:g}" for p in orders)
