"""One evaluation of a stack with everything the bounds need, layer by layer, rounded up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.rounding import EPS, up, vector_norm
from dnlcontrol.limits.infinite_depth.stacks import Stack


@dataclass(frozen=True, eq=False)
class Path:
    """The states N_0(x)..N_n(x) and numbers per depth.

    On a ball all are valid for every point of it.

    Attributes
    ----------
    states : the computed states at the centre.
    norms : [k] upper bounds of ‖N_k‖, rounding errors included.
    negatives : [k] upper bounds of ‖(N_k)_-‖, the negative part.
    rounding : [k] bounds of the rounding error of states[k] (running error analysis).
    spread : [k] upper bounds of ‖N_k(y) - N_k(x)‖ over the ball.
    perturbations, biases : [k-1] p_k and β_k of layer k.
    """

    states: list[np.ndarray]
    norms: np.ndarray
    negatives: np.ndarray
    rounding: np.ndarray
    spread: np.ndarray
    perturbations: np.ndarray
    biases: np.ndarray

    @property
    def depth(self) -> int:
        return len(self.biases)


def follow(stack: Stack, x: np.ndarray, depth: int, radius: float, norm: float) -> Path:
    """Evaluate at x (width,); per layer with gain g and Lipschitz constant q of σ:

        rounding   r_k <= q (g r_{k-1} + local error)
        spread     s_k <= q g s_{k-1},  s_0 = radius
        size       ‖N_k‖ <= min(‖computed‖ + r_k + s_k, g M_{k-1} + β_k)  when |σ(u)| <= |u|

    Raises
    ------
    InputError where a layer does not fit the one before.
    """
    sigma, q = stack.activation, stack.activation.lipschitz
    state = x
    states = [state]
    rounding = [0.0]
    spread = [radius]
    largest = float(up(vector_norm(x, norm) + radius))
    norms, negatives = [largest], [float(up(vector_norm(np.minimum(x, 0), norm) + radius))]
    perturbations, biases = [], []
    relu = sigma.piecewise_linear and sigma.slope == 0 and stack.outer
    for k in range(1, depth + 1):
        layer = stack.layer(k)
        if layer.columns != state.size:
            checks.reject(
                f"layer {k}", f"{layer.columns} columns", f"{state.size}, the rows of layer {k - 1}"
            )
        perturbations.append(layer.perturbation(norm))
        biases.append(layer.bias(norm))
        gain = layer.gain(norm)
        local = layer.step_rounding(state, sigma, norm)
        with np.errstate(over="ignore", invalid="ignore"):
            state = layer.after(state, sigma)
            computed = vector_norm(state, norm)
            # σ is taken to be good to 4 ulps
            own = 0.0 if sigma.piecewise_linear else 4 * EPS * computed
            rounding.append(float(up(q * (gain * rounding[-1] + local) + own, 5)))
            spread.append(float(up(q * gain * spread[-1], 2)))
            size = float(up(computed + rounding[-1] + spread[-1], 2))
            if sigma.piecewise_linear:
                largest = float(up(gain * largest + biases[-1], 2))
                size = min(size, largest) if size == size else largest
        states.append(state)
        norms.append(size)
        negative = vector_norm(np.minimum(state, 0), norm)
        negatives.append(0.0 if relu else float(up(negative + rounding[-1] + spread[-1], 2)))
    return Path(
        states, *(np.array(a) for a in (norms, negatives, rounding, spread, perturbations, biases))
    )
