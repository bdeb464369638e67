"""Pontryagin's principle at a discrete solution, control by control.

What was checked is said in each row.

Where nothing couples a control's nodes its values minimise the Hamiltonian at each node, exactly so
in discrete time where H is convex in the control (theory section 5). Where H is not, a node with a
better value is no contradiction: then the value J_L itself is compared with the control changed at
that node alone. A penalty on differences couples the nodes: the weak Euler-Lagrange equation
remains, the stationarity of that control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol.certificates.certificate import Check, at_least, at_most
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.minimise.faces import Face, held_entries

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian

SAMPLE = 64  # admissible values at which H is compared with H at the control
DIRECTIONS = 16  # random ones, and unit ones at most, of second derivatives
NODES = 16  # at which second derivatives are formed
NEEDLES = 8  # nodes where H promises most: J_L itself is tried there
# entries of kernel and cost values up to which every node is sampled: a few seconds
WORK = 20_000_000
H_ROUNDING = 64 * np.finfo(float).eps  # of H: rounding of its sums, in units of |H|
CONVEX = 1e-9  # H lies above a chord by more, relative to 1 + |H|: it is not convex
SUMMED_OTHERWISE = 1.01  # the solver stopped on the same number, summed in another order


def pontryagin(point: StoredPoint, rng: np.random.Generator) -> list[Check]:
    """One or two rows for each control."""
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian

    assert isinstance(point.evaluator, Evaluator)  # certify's own
    rows: list[Check] = []
    h: Hamiltonian | None = None
    for block in point.evaluator.space:
        name = f"Pontryagin: {block.name}"
        if block.layout.on == "const":
            rows.append(_stationary(point, block, name, "a constant: stationarity"))
        elif block.metric.smooth:
            rows.append(
                _stationary(
                    point,
                    block,
                    name,
                    "the penalty couples the nodes: weak Euler-Lagrange equation",
                )
            )
        else:
            h = h or Hamiltonian(point.evaluator, point.w, point.multipliers, point.at)
            if _work(point, block) <= WORK:
                rows.append(_minimum(point, h, block, name, rng))
            else:
                rows.append(
                    _stationary(point, block, name, "too large for a sample: stationarity of H")
                )
                rows.append(_legendre(point, h, block, rng))
    return rows


def _stationary(point: StoredPoint, block: ControlBlock, name: str, what: str) -> Check:
    """The share of one control in the stationarity."""
    space, r = point.evaluator.space, np.zeros(point.evaluator.space.size)
    r[block.part] = point.at.gradient[block.part]
    face = Face(space, held_entries(space, point.w, point.at.gradient))
    return at_most(name, face.dual_norm(r), SUMMED_OTHERWISE * point.tolerance, what)


def _work(point: StoredPoint, block: ControlBlock) -> int:
    """Values of the kernel and of the costs that a sample at every node takes."""
    p, L = point.evaluator.discrete.problem, point.evaluator.discrete.depth
    kernels = L if p.markov else L * (L + 1) // 2
    costs = L * L if block.layout.on == "t" else 0
    width = int(np.prod(p.integral_shape, dtype=int)) + int(np.prod(p.state_shape, dtype=int))
    return (2 * SAMPLE + 1) * (p.samples * width + block.components) * (kernels + costs)


# -- the sampled minimum
def _minimum(
    point: StoredPoint, h: Hamiltonian, block: ControlBlock, name: str, rng: np.random.Generator
) -> Check:
    """H at the control against H at sampled admissible values, at every node.

    Allowed for convex H: H(u) - H(v) <= |H_u|·|u - v|, with |H_u| <= ε/√mass on free entries of a
    control of stationarity ε, and |u - v| <= ε on held ones.
    """
    u, mass = block.view(point.w), block.metric.mass
    sample = admissible_values(point, block, rng)
    best = np.zeros(len(u))
    chosen = np.zeros_like(u)
    convex = True
    level = 0.0
    for s in h.nodes(block):
        part = h.sites(block, s)
        here, there = u[None, part], sample[:, part]
        values = (
            h.values(block, s, np.concatenate([here, there, 0.5 * (here + there)])) / mass[part]
        )
        base = values[0]
        ends = values[1 : SAMPLE + 1]
        middle = values[SAMPLE + 1 :]
        # where a formula has no value nothing is admissible
        ends = np.where(np.isfinite(ends), ends, np.inf)
        bent = middle - 0.5 * (base + ends)
        convex = convex and not np.any(bent > CONVEX * (1 + np.abs(base)))
        winner = np.argmin(ends, axis=0)
        best[part] = base - ends.min(0)
        chosen[part] = there[winner, np.arange(len(winner))]
        level = max(level, float(np.max(np.abs(base))))
    slope = float(np.max(np.abs(block.view(point.at.gradient)) / mass[:, None]))
    reach = float(np.max(np.linalg.norm(sample - u, axis=2)))
    allowed = point.tolerance * (1 + slope + reach / np.sqrt(mass.min())) + H_ROUNDING * level
    gap = max(float(np.max(best)), 0.0) if np.all(np.isfinite(best)) else np.nan
    seen = f"H at {SAMPLE} values at each of {len(u)} nodes"
    if convex or gap <= allowed or np.isnan(gap):
        return at_most(
            name,
            gap,
            allowed,
            f"{seen}: minimal, H {'convex' if convex else 'not convex'} on the sample",
        )
    if point.evaluator.rows.size:
        return _legendre(point, h, block, rng, name, "H is not convex: second derivatives only")
    return _needles(point, block, name, best, chosen)


def _needles(
    point: StoredPoint, block: ControlBlock, name: str, best: np.ndarray, chosen: np.ndarray
) -> Check:
    """J_L with the control changed at one node alone, where H promises most."""
    value, lowest = point.at.value, np.inf
    worst = np.argsort(-best)[:NEEDLES]
    for site in worst:
        w = point.w.copy()
        block.view(w)[site] = chosen[site]
        lowest = min(lowest, point.evaluator.value(w))
    what = (
        f"H is not convex: J_L with the control changed at one node alone, the {len(worst)} worst"
    )
    return at_most(name, max(value - lowest, 0.0), point.tolerance * (1 + abs(value)), what)


def admissible_values(
    point: StoredPoint, block: ControlBlock, rng: np.random.Generator
) -> np.ndarray:
    """SAMPLE values (SAMPLE, sites, components) within the bounds.

    Half are spread over the box, half lie near the control. A side without a bound is put at
    1 + max |u| beyond the values of the control.
    """
    u = block.view(point.w)
    sides = (block.view(side)[0] for side in point.evaluator.space.bounds)
    radius = 1.0 + float(np.max(np.abs(u)))
    lower, upper = sides
    low = np.where(np.isfinite(lower), lower, u.min(0) - radius)
    high = np.where(np.isfinite(upper), upper, u.max(0) + radius)
    half, components = SAMPLE // 2, u.shape[1]
    if components == 1:
        spread = np.linspace(low, high, half)
    else:
        share = rng.uniform(size=(half, components))
        share[: half // 2] = np.round(share[: half // 2])  # corners
        spread = low + share * (high - low)
    scale = 0.5 * (high - low) * 10.0 ** -rng.uniform(0.0, 3.0, (SAMPLE - half, 1, 1))
    near = np.clip(u + scale * rng.standard_normal((SAMPLE - half, *u.shape)), low, high)
    return np.concatenate([np.broadcast_to(spread[:, None], (half, *u.shape)), near])


# -- second derivatives
def _legendre(
    point: StoredPoint,
    h: Hamiltonian,
    block: ControlBlock,
    rng: np.random.Generator,
    name: str = "",
    what: str = "second derivatives of H",
) -> Check:
    """dᵀH_vv d >= 0 along unit and random directions of the free entries, at some of the nodes.

    In discrete time H_vv >= -O(τ) is all that is necessary: where it is negative the Hessian itself
    decides.
    """
    space = point.evaluator.space
    free = block.view(~held_entries(space, point.w, point.at.gradient))
    components = free.shape[1]
    units = np.eye(components)[rng.permutation(components)[:DIRECTIONS]]
    random = rng.standard_normal((DIRECTIONS, components))
    directions = np.concatenate([units, random / np.linalg.norm(random, axis=1, keepdims=True)])
    every = h.nodes(block)
    nodes = sorted(rng.choice(len(every), min(NODES, len(every)), replace=False).tolist())
    lowest = np.inf
    largest = 0.0
    worst = (0, directions[0])
    for s in nodes:
        part = h.sites(block, s)
        d = directions[:, None] * free[None, part]
        second = h.second_derivatives(block, s, d) / block.metric.mass[part]
        largest = max(largest, float(np.max(np.abs(second))))
        if not second.min() >= lowest:
            lowest = float(second.min())
            k, site = divmod(int(np.argmin(second)), second.shape[1])
            worst = (part.start + site, d[k, site])
    allowed = -point.tolerance * (1 + largest)
    what = f"{what} along {len(directions)} directions at {len(nodes)} nodes"
    if lowest < allowed:
        site, d_here = worst
        d = np.zeros(space.size)
        block.view(d)[site] = d_here
        product = point.evaluator.hessian_product(point.w, d, point.multipliers)
        lowest = float(d @ product) / float(block.metric.mass[site])
        what = f"{what}; negative there, that of J_L itself at that node"
    return at_least(name or f"Legendre: {block.name}", lowest, allowed, what)
