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
from dnlcontrol.certificates.minimum_principle.needles import (
    SAMPLE,
    Sampled,
    convex_on,
    needles,
    sampled,
    samples_all,
)
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.minimise.faces import Face, held_entries

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian

DIRECTIONS = 16  # random ones, and unit ones at most, of second derivatives
NODES = 16  # at which second derivatives are formed
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
            if samples_all(point, block):
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


# -- the sampled minimum
def _minimum(
    point: StoredPoint, h: Hamiltonian, block: ControlBlock, name: str, rng: np.random.Generator
) -> Check:
    """H at the control against H at sampled admissible values, at every node."""
    found = sampled(point, h, block, rng)
    convex = convex_on(found, h, block, block.view(point.w))
    seen = f"H at {SAMPLE} values at each of {len(found.gain)} nodes"
    if convex or found.gap <= found.allowed or np.isnan(found.gap):
        kind = "convex" if convex else "not convex"
        what = f"{seen}: minimal, H {kind} on the sample"
        return at_most(name, found.gap, found.allowed, what)
    if point.evaluator.rows.size:
        return _legendre(point, h, block, rng, name, "H is not convex: second derivatives only")
    return _needles(point, block, name, found)


def _needles(point: StoredPoint, block: ControlBlock, name: str, found: Sampled) -> Check:
    """J_L with the control changed at one node alone, where H promises most."""
    value = point.at.value
    tried = [point.evaluator.value(w) for w in needles(point, block, found)]
    what = (
        f"H is not convex: J_L with the control changed at one node alone, the {len(tried)} worst"
    )
    return at_most(name, max(value - min(tried), 0.0), point.tolerance * (1 + abs(value)), what)


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
