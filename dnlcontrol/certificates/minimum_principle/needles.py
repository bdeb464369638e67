"""Other values of a control at single nodes: whether they lower the Hamiltonian, and J_L itself.

A sample of admissible values is tried at every node. Where H is convex in the control a stationary
one minimises it; else J_L decides, with the control changed at one node alone ("needle").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dnlcontrol.certificates.minimum_principle.convexity import convex_hamiltonian
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.discretisation.space.flat import Flat

SAMPLE = 64  # admissible values at which H is compared with H at the control
# of the gate, where a coarser level of the branch took the whole: a quarter of a warm solve
WARM_SAMPLE = 24
NEEDLES = 8  # nodes where H promises most: J_L itself is tried there
# entries of kernel and cost values up to which every node is sampled: a few seconds
WORK = 20_000_000
H_ROUNDING = 64 * np.finfo(float).eps  # of H: rounding of its sums, in units of |H|
CONVEX = 1e-9  # H lies above a chord by more, relative to 1 + |H|: it is not convex
SEED = 27  # of the gate's sample


class NodeHamiltonian(Protocol):
    """The discrete Hamiltonian at other values of a control, states and costates held."""

    def every(self, block: ControlBlock, candidates: np.ndarray) -> np.ndarray:
        """h at candidates (m, sites, components), each site on its own; (m, sites)."""


@dataclass(frozen=True)
class Sampled:
    """What a sample of one control says, with h over the mass of a cell.

    gain, chosen : by how much the best value of each site lowers it, (sites,), and that value,
        (sites, components).
    allowed : of the gain, at a stationary point of a convex h.
    sample, values : (count, sites, components), and h at the control and at these, (1 + count,
        sites).
    """

    gain: np.ndarray
    chosen: np.ndarray
    allowed: float
    sample: np.ndarray
    values: np.ndarray

    @property
    def gap(self) -> float:
        """The largest gain, at least 0; NaN where one is not finite."""
        return max(float(np.max(self.gain)), 0.0) if np.all(np.isfinite(self.gain)) else np.nan


def sampled(
    point: StoredPoint,
    h: NodeHamiltonian,
    block: ControlBlock,
    rng: np.random.Generator,
    count: int = SAMPLE,
) -> Sampled:
    """H at the control against H at ``count`` sampled admissible values, at every node.

    Allowed for convex H: H(u) - H(v) <= |H_u|·|u - v|, with |H_u| <= ε/√mass on free entries of a
    control of stationarity ε, and |u - v| <= ε on held ones.
    """
    u, mass = block.view(point.w), block.metric.mass
    sample = admissible_values(point, block, rng, count)
    values = h.every(block, np.concatenate([u[None], sample])) / mass
    base, ends = values[0], values[1:]
    # where a formula has no value nothing is admissible
    ends = np.where(np.isfinite(ends), ends, np.inf)
    winner = np.argmin(ends, axis=0)
    slope = float(np.max(np.abs(block.view(point.at.gradient)) / mass[:, None]))
    reach = float(np.max(np.linalg.norm(sample - u, axis=2)))
    level = float(np.max(np.abs(base)))
    return Sampled(
        gain=base - ends.min(axis=0),
        chosen=sample[winner, np.arange(len(winner))],
        allowed=point.tolerance * (1 + slope + reach / np.sqrt(mass.min())) + H_ROUNDING * level,
        sample=sample,
        values=values,
    )


def convex_on(found: Sampled, h: NodeHamiltonian, block: ControlBlock, u: np.ndarray) -> bool:
    """Whether h lies below its chords from the control u (sites, components) to the sample."""
    middle = h.every(block, 0.5 * (u + found.sample)) / block.metric.mass
    base, ends = found.values[0], found.values[1:]
    ends = np.where(np.isfinite(ends), ends, np.inf)
    return not np.any(middle - 0.5 * (base + ends) > CONVEX * (1 + np.abs(base)))


def samples_all(point: StoredPoint, block: ControlBlock) -> bool:
    """Whether every node of a control is sampled: nothing couples them, and they are not too many.

    Counted are the values of the kernel and of the costs that this takes.
    """
    if block.layout.on == "const" or block.metric.smooth:
        return False
    p, L = point.evaluator.discrete.problem, point.evaluator.discrete.depth
    kernels = L if p.markov else L * (L + 1) // 2
    costs = L * L if block.layout.on == "t" else 0
    width = int(np.prod(p.integral_shape, dtype=int)) + int(np.prod(p.state_shape, dtype=int))
    work = (2 * SAMPLE + 1) * (p.samples * width + block.components) * (kernels + costs)
    return bool(work <= WORK)


def needles(point: StoredPoint, block: ControlBlock, found: Sampled) -> Iterator[Flat]:
    """The controls changed at one node alone, (size,): the nodes where H promises most."""
    for site in np.argsort(-found.gain)[:NEEDLES]:
        w = point.w.copy()
        block.view(w)[site] = found.chosen[site]
        yield w


def lowered(
    point: StoredPoint,
    hamiltonian: Callable[[StoredPoint], NodeHamiltonian],
    count: int = SAMPLE,
) -> Flat | None:
    """Controls (size,) of a lower J_L, with other values at some nodes; None where none is seen.

    As a certificate looks for them (pontryagin.py), and only where H is not known to be convex.
    With constraint rows a change at one node is not admissible, and none is looked for.
    """
    evaluator, allowed = point.evaluator, point.tolerance * (1 + abs(point.at.value))
    if evaluator.rows.size:
        return None
    rng, h = np.random.default_rng(SEED), None
    for block in evaluator.space:
        convex = not samples_all(point, block) or convex_hamiltonian(
            evaluator.discrete.problem, block.name
        )
        if convex:
            continue
        h = h or hamiltonian(point)
        found = sampled(point, h, block, rng, count)
        if not found.gap > found.allowed:
            continue
        best = min(needles(point, block, found), key=evaluator.value)
        if point.at.value - evaluator.value(best) > allowed:
            return _together(point, block, found, best)
    return None


def _together(point: StoredPoint, block: ControlBlock, found: Sampled, best: Flat) -> Flat:
    """As many nodes as lower J_L by more than one of them, those with the largest gains first."""
    order = np.argsort(-found.gain)
    count = int(np.count_nonzero(found.gain > found.allowed))
    least = point.evaluator.value(best)
    while count > 1:
        w = point.w.copy()
        block.view(w)[order[:count]] = found.chosen[order[:count]]
        if point.evaluator.value(w) < least:
            return w
        count //= 2
    return best


def admissible_values(
    point: StoredPoint, block: ControlBlock, rng: np.random.Generator, count: int = SAMPLE
) -> np.ndarray:
    """``count`` values (count, sites, components) within the bounds.

    Half are spread over the box, half lie near the control. A side without a bound is put at
    1 + max |u| beyond the values of the control.
    """
    u = block.view(point.w)
    sides = (block.view(side)[0] for side in point.evaluator.space.bounds)
    radius = 1.0 + float(np.max(np.abs(u)))
    lower, upper = sides
    low = np.where(np.isfinite(lower), lower, u.min(0) - radius)
    high = np.where(np.isfinite(upper), upper, u.max(0) + radius)
    half, components = count // 2, u.shape[1]
    if components == 1:
        spread = np.linspace(low, high, half)
    else:
        share = rng.uniform(size=(half, components))
        share[: half // 2] = np.round(share[: half // 2])  # corners
        spread = low + share * (high - low)
    scale = 0.5 * (high - low) * 10.0 ** -rng.uniform(0.0, 3.0, (count - half, 1, 1))
    near = np.clip(u + scale * rng.standard_normal((count - half, *u.shape)), low, high)
    return np.concatenate([np.broadcast_to(spread[:, None], (half, *u.shape)), near])
