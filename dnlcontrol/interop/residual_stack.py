"""The stack of a network trained here, for the certificates for infinite depth.

A one-step network x^{l+1} = x^l + c_l σ(K^l x^l + b^l) is a stack of residual blocks without an
outer activation, of two inner layers: (K^l, b^l) and (c_l I, 0).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail
from dnlcontrol.limits.infinite_depth.stacks import Stack
from dnlcontrol.problem.activations import identity, leaky_relu, relu
from dnlcontrol.problem.dynamics.base import Affine
from dnlcontrol.problem.dynamics.pde import WidthPDE
from dnlcontrol.problem.engines import Activation

SLOPES = ((relu, 0.0), (leaky_relu, 0.01), (identity, 1.0))
COVERED = "layers x + c σ(K x + b) by the rule 'left', of ResNet or WidthPDE"


def residual_stack(
    discrete: DiscreteProblem,
    values: Mapping[str, np.ndarray],
    tail: Tail | Bound | None = None,
) -> Stack:
    """The layers of a discrete problem with packed controls (sites, *shape) as a stack.

    Raises
    ------
    InputError : layers that are not one after the other, implicit ones, an activation other than
        relu, leaky_relu and identity.
    """
    problem, kind = discrete.problem, type(discrete.problem.dynamics).__name__
    f, affine = problem.formulas, _affine(discrete)
    if not problem.markov or f.outer or f.feature or f.free_term:
        seen = f"layers of {kind}, each of which reads all earlier ones or has an outer map"
        checks.reject("module", seen, COVERED)
    if affine is None:
        checks.reject("module", f"layers of {kind}, whose formula may be anything", COVERED)
    if discrete.grid.implicit:
        checks.reject("module", f"implicit layers of the rule {discrete.grid.rule!r}", COVERED)
    slope = _slope(kind, affine.activation)
    row, column = _scales(discrete)
    K = np.asarray(values[affine.matrix], dtype=float) * column / row[:, None]
    b = np.zeros(K.shape[:2])
    if affine.bias is not None:
        b = b + np.asarray(values[affine.bias], dtype=float) / row
    steps = [c * np.eye(K.shape[1]) for c in discrete.grid.later]
    weights = [
        [*pair] for pair in zip(np.broadcast_to(K, (len(steps), *K.shape[1:])), steps, strict=True)
    ]
    biases = [[one, None] for one in np.broadcast_to(b, (len(steps), b.shape[1]))]
    return Stack(weights, biases, residual=True, outer=False, slope=slope, tail=tail)


def _affine(discrete: DiscreteProblem) -> Affine | None:
    """How the kernel is σ of an affine map; None where that is not known."""
    dynamics = discrete.problem.dynamics
    if isinstance(dynamics, WidthPDE):
        return Affine("w", "b", dynamics.activation)
    return dynamics.affine


def _slope(kind: str, activation: Activation | None) -> float:
    """a of σ(u) = max(u, a u)."""
    if activation is None:
        return 1.0
    for known, slope in SLOPES:
        if activation is known:
            return slope
    name = getattr(activation, "__name__", repr(activation))
    seen = f"layers of {kind} with the activation {name}, which is not max(u, a u)"
    checks.reject("module", seen, "the activation relu, leaky_relu or identity")


def _scales(discrete: DiscreteProblem) -> tuple[np.ndarray, np.ndarray]:
    """r and c of a kernel σ((K (c y) + b) / r): 1 but for the quadrature of WidthPDE."""
    dynamics = discrete.problem.dynamics
    if isinstance(dynamics, WidthPDE):
        return np.sqrt(dynamics.q), np.sqrt(dynamics.q)
    ones = np.ones(discrete.problem.state_shape)
    return ones, ones
