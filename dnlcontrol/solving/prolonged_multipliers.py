"""The multipliers that a solve takes over from a solution of another depth."""

from __future__ import annotations

import numpy as np

from dnlcontrol.discretisation.constraint_rows import RowBlock, Rows
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.extension import linear_weights
from dnlcontrol.results.solution import Solution


def prolonged_multipliers(solution: Solution, discrete: DiscreteProblem) -> np.ndarray | None:
    """The flat multipliers of ``discrete.rows`` from those of a solution.

    None where there is nothing to carry.

    Along the path μ^l = τ m(t_l), with m the density of a multiplier in t:

        state bounds, path constraints   μ'^l = (τ'/τ) · (μ interpolated linearly at t'_l,
                                         constant beyond the ends)
        integral, terminal               μ' = μ, one row

    At the same depth this is the identity, and no sign changes. A sign whose side is infinite now
    becomes 0. Nothing is carried from a solve that did not converge, nor where a constraint has
    another name, kind or shape.
    """
    if not solution.success:
        return None
    mu = np.zeros(discrete.rows.size)
    for old, new in zip(
        Rows(discrete.problem, solution.grid).blocks, discrete.rows.blocks, strict=True
    ):
        values = solution.multipliers.get(new.constraint.name)
        if values is None or np.shape(values) != old.full_shape or not np.all(np.isfinite(values)):
            return None
        mu[new.part] = _prolonged(
            np.asarray(values), solution.grid, old, discrete.grid, new
        ).ravel()
    lower, upper = discrete.rows.bounds
    return np.clip(
        mu, np.where(np.isfinite(lower), -np.inf, 0.0), np.where(np.isfinite(upper), np.inf, 0.0)
    )


def _prolonged(
    values: np.ndarray, coarse: Grid, old: RowBlock, fine: Grid, new: RowBlock
) -> np.ndarray:
    """(layers, samples, *shape) at the layers of the finer (or coarser) grid."""
    if new.constraint.kind not in ("state", "path") or coarse == fine:
        return values
    weights = linear_weights(coarse.nodes[old.layers], fine.nodes[new.layers])
    density = np.asarray(weights @ values.reshape(len(values), -1)) / coarse.step
    return fine.step * density.reshape(new.full_shape)
