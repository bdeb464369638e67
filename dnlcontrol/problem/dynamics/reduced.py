"""min over ξ in the range of M of Σ_s p_s σ(ξ_s) + ½ ξᵀM^+ξ, for many p: reduced Hamiltonians."""

from __future__ import annotations

from itertools import product

import numpy as np

from dnlcontrol.files.turns import turn
from dnlcontrol.problem.engines import Activation, Native

ALL_CORNERS = 5  # data up to which every corner of the box is a start: 2^5
LEAST_CURVATURE = 1e-3  # below it a direction is damped; relative to the 1 of the quadratic part
MOST_STEPS = 60  # Newton steps; the starts are corners of a bounded box, quadratic after a few


def minimise_reduced(
    activation: Activation, p: np.ndarray, M: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """p∘σ'(ξ) (n, S) at the best minimiser found, and its value (n,).

    p is (n, S), M (S, S) positive semidefinite. In ξ = C η the quadratic part is ½|η|², so M may be
    singular, and η = -Cᵀ(p∘σ'(ξ)) at every stationary point. Eigenvalues of M that are rounding
    (below S ε times the largest) are 0: their roots would not be small.
    """
    S = p.shape[1]
    eigenvalues, vectors = np.linalg.eigh(M)
    rounding = S * np.finfo(float).eps * eigenvalues[-1]
    C = vectors * np.sqrt(np.where(eigenvalues > rounding, eigenvalues, 0.0))
    if S <= ALL_CORNERS:
        corners = np.array(list(product((0.0, 1.0), repeat=S)))
    else:
        corners = np.random.default_rng(0).integers(0, 2, (2**ALL_CORNERS, S)).astype(float)
    starts = [-(p * a) @ C for a in corners]
    if start is not None:
        starts.append(np.asarray(start) @ np.linalg.pinv(C).T)
    every = np.stack(starts, axis=1).reshape(-1, S)
    repeated = np.repeat(p, len(starts), axis=0)
    eta = _newton(activation, repeated, C, every)
    s, ds, _ = derivatives(activation, eta @ C.T)
    value = ((repeated * s).sum(1) + 0.5 * (eta**2).sum(1)).reshape(len(p), -1)
    best = np.argmin(value, axis=1)
    rows = np.arange(len(p))
    return (repeated * ds).reshape(len(p), -1, S)[rows, best], value[rows, best]


def _newton(activation: Activation, p: np.ndarray, C: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """Newton steps with |eigenvalues| and Armijo's rule, all rows at once."""
    identity = np.eye(C.shape[1])

    def energy(eta: np.ndarray) -> np.ndarray:
        return np.asarray((p * _value(activation, eta @ C.T)).sum(1) + 0.5 * (eta**2).sum(1))

    value = energy(eta)
    for _ in range(MOST_STEPS):
        _, ds, dds = derivatives(activation, eta @ C.T)
        gradient = (p * ds) @ C + eta
        H = identity + np.einsum("si,ns,sj->nij", C, p * dds, C)
        e, v = np.linalg.eigh(H)
        step = -np.einsum(
            "nij,nj,nkj,nk->ni", v, 1.0 / np.maximum(np.abs(e), LEAST_CURVATURE), v, gradient
        )
        slope = (gradient * step).sum(1)
        if np.max(-slope, initial=0.0) < 1e-28:  # steps of 1e-14, rounding
            break
        length = np.ones(len(eta))
        for _ in range(30):  # halvings, down to 1e-9 of the step
            trial = energy(eta + length[:, None] * step)
            failed = trial > value + 1e-4 * length * slope + 1e-15 * np.abs(value)
            if not failed.any():
                break
            length[failed] *= 0.5
        length[failed] = 0.0
        eta = eta + length[:, None] * step
        value = energy(eta)
    return eta


def _value(activation: Activation, x: np.ndarray) -> np.ndarray:
    import torch

    return np.asarray(activation(torch.as_tensor(x)))


def derivatives(activation: Activation, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """σ, σ' and σ'' at every entry of x, each of its shape."""
    import torch
    from torch.func import jvp

    at = torch.as_tensor(x)
    one = torch.ones_like(at)

    def slope(a: torch.Tensor) -> Native:
        return jvp(activation, (a,), (one,))[1]

    with turn():
        ds, dds = jvp(slope, (at,), (one,))[:2]
    s = activation(at)
    return np.asarray(s), np.asarray(ds), np.asarray(dds)
