"""Coarse-grid correction: the Hessian's compact part, from a coarser level, as preconditioner.

In the metric the Hessian is the bulk B (the penalties' share, a multiple of A for each control)
plus a compact part, whose eigenvectors v of H v = λ B v are smooth: those of a coarse level,
carried over by splines, are nearly those of the fine one. With them, orthonormal in B,

    Ĥ = B + Σ (|λ| - 1) (Bv)(Bv)ᵀ,     Ĥ^{-1} = B^{-1} + Σ (1/|λ| - 1) v vᵀ,

positive definite whatever the sign of λ. On a face of the bounds the matching block of Ĥ is
inverted, again by B_FF^{-1} and a small matrix (Woodbury's identity). Conjugate gradients then see
eigenvalues near 1 only.

The pairs come from the last steps of a cold start, or from Lanczos at a coarse level. From then on
they are improved by the products of every Newton step (Morales and Nocedal 2000 precondition one
Newton system by those of the last), and carried on from level to level. Within a level what is
learnt is kept as it comes, Ĥ = B + B X N XᵀB with a small N; bringing it back to pairs costs as
much as several gradients, and is left to the way from a level to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.lanczos import ritz_pairs
from dnlcontrol.minimise.quadratic_model import Seen, Solve

# Pairs kept, and Lanczos steps at the coarse level, which find that many and some more: spirals,
# α = 2e-3, L = 128 take 55, 43, 28, 28, 26 CG iterations with 16, 24, 40, 60, 80 pairs.
KEPT_PAIRS = 40
COARSE_STEPS = 70
# Pairs with |log|λ|| below it stay in the bulk: with eigenvalues between e^{-w} and e^w, w = 0.2,
# an iteration of conjugate gradients gains a factor of (e^w + 1) / (e^w - 1) = 10.
BULK_WIDTH = 0.2
KNOWN_RESIDUAL = 0.3  # of a Ritz pair, relative to |λ|: the sign and rough size of λ are known then
LEAST_COUPLING = 0.1  # β at which Lanczos ends: the rest of H moves no eigenvalue by more [chosen]
BLOCK_ENTRIES = 4096  # of each vector taken at once: 40 vectors are 1.3 MB, the size of a cache
SOFTEST = 1e-6  # λ below are not told from rounding
DEPENDENT = 1e-10  # of the largest eigenvalue of XᵀBX: directions below are dependent vectors
# The coarse level lies a factor of COARSENING below the fine one, where a product costs a quarter
# (one-step problems) or a sixteenth (pairs of layers), within these depths.
COARSENING = 4
SHALLOWEST = 8
DEEPEST = 32
MOST_VECTORS = 80  # before they are compressed to KEPT_PAIRS
# entries of the controls up to which that is done at once: N grows where the vectors become
# dependent
CHEAP_SIZE = 20_000
# entries of the controls up to which a cold start remembers its last steps: 240 MB at most
LEARNER_SIZE = 50_000
RECENT_STEPS = 5  # steps that a cold start is remembered by


@dataclass(frozen=True)
class Correction:
    """Ĥ = B + B X N XᵀB, B = scale·A.

    ``scale`` is flat, constant on each control; ``blocks`` hold the rows of X, (k_i, size) each;
    ``gram`` is XᵀBX and ``change`` is N, both (k, k).
    """

    space: ControlSpace
    scale: Flat
    blocks: tuple[np.ndarray, ...]
    gram: np.ndarray
    change: np.ndarray

    @staticmethod
    def diagonal(
        space: ControlSpace, scale: Flat, vectors: np.ndarray, shifts: np.ndarray
    ) -> Correction:
        """From pairs (1 + shift, v), v orthonormal in B."""
        return Correction(space, scale, (vectors,), np.eye(len(shifts)), np.diag(shifts))

    @property
    def rows(self) -> list[Flat]:
        """The vectors one by one."""
        return [v for block in self.blocks for v in block]

    def on(self, face: Face) -> Solve:
        """(r, A_FF^{-1} r) -> Ĥ_FF^{-1} r_F."""
        blocks = self.blocks
        gram = self.gram
        N = self.change
        if not len(N):
            return lambda r, z: z / self.scale
        if not face.whole:
            U = np.stack([face.restrict(self.scale * self.space.metric(v)) for v in self.rows])
            Z = np.stack([face.riesz(u / self.scale) for u in U])
            blocks, gram = (Z,), U @ Z.T
        # (B + U N Uᵀ)^{-1} = B^{-1} - Z (I + N UᵀZ)^{-1} N Zᵀ, Z = B^{-1} U; the small matrix is
        # symmetric
        small = np.linalg.solve(np.eye(len(N)) + N @ gram, N)
        small = 0.5 * (small + small.T)

        def solve(r: Flat, z: Flat) -> Flat:
            weights = small @ np.concatenate([block @ r for block in blocks])
            out: Flat = z / self.scale
            start = 0
            for block in blocks:
                out -= weights[start : start + len(block)] @ block
                start += len(block)
            return out

        return solve

    def learn(self, seen: Sequence[Seen]) -> Correction:
        """Ĥ changed so that Ĥs = y for the pairs (s, y = Hs) of a Newton step.

        The block form of the BFGS update, positive definite like Ĥ and SᵀY:

            Ĥ - ĤS (SᵀĤS)^{-1} SᵀĤ + Y (SᵀY)^{-1} Yᵀ,    with S and B^{-1}Y added to X.
        """
        k = len(self.change)
        m = len(seen)
        N = self.change
        S = [pair.s for pair in seen]
        Z = [(self.space.riesz(pair.y) if pair.z is None else pair.z) / self.scale for pair in seen]
        added = np.stack([*S, *Z])
        X = [*self.rows, *added]
        gram = np.eye(k + 2 * m)
        gram[:k, :k] = self.gram
        gram[k:] = products(
            [self.scale * self.space.metric(s) for s in S] + [pair.y for pair in seen], X
        )
        gram[:k, k:] = gram[k:, :k].T
        gram = 0.5 * (gram + gram.T)
        VS, SY = gram[:k, k : k + m], gram[k : k + m, k + m :]
        SHS = gram[k : k + m, k : k + m] + VS.T @ N @ VS
        along = np.concatenate([N @ VS, np.eye(m), np.zeros((m, m))])  # ĤS = B X along
        change = np.zeros_like(gram)
        change[:k, :k] = N
        try:
            half = np.linalg.solve(np.linalg.cholesky(SHS), along.T)
            inverse = np.linalg.inv(np.linalg.cholesky(0.5 * (SY + SY.T)))
        except np.linalg.LinAlgError:  # dependent pairs, or of different models
            return self
        change[k + m :, k + m :] += inverse.T @ inverse
        learnt = Correction(
            self.space, self.scale, (*self.blocks, added), gram, change - half.T @ half
        )
        return (
            learnt
            if len(gram) <= MOST_VECTORS and self.space.size > CHEAP_SIZE
            else learnt.compressed()
        )

    def compressed(self) -> Correction:
        """As bulk and few eigenpairs of the small matrices ``change`` and ``gram``.

        Those near 1 are left to the bulk.
        """
        if np.array_equal(self.gram, np.eye(len(self.gram))):
            return self
        sizes, turn = np.linalg.eigh(self.gram)
        good = sizes > DEPENDENT * sizes[-1]
        root, turn = np.sqrt(sizes[good]), turn[:, good]
        shifts, vectors = np.linalg.eigh((root[:, None] * (turn.T @ self.change @ turn)) * root)
        values = np.maximum(np.abs(1.0 + shifts), SOFTEST)
        chosen = outstanding(np.abs(np.log(values)))
        combine = (turn / root) @ vectors[:, chosen]
        return Correction.diagonal(
            self.space, self.scale, combined(combine.T, self.rows), values[chosen] - 1.0
        )

    def moved(self, space: ControlSpace) -> Correction | None:
        """The same on another depth.

        None where nothing stands out, or the moved vectors are dependent.
        """
        few = self.compressed()
        if not few.rows:
            return None
        vectors = np.empty((len(few.change), space.size))
        for v, out in zip(few.rows, vectors, strict=True):
            out[:] = Samples.of(self.space, v).on(space)
        level = self.scale[0] / bulk(self.space)[0]
        return nearly_orthonormal(space, level * bulk(space), vectors, np.diag(few.change))


def outstanding(distance: np.ndarray) -> np.ndarray:
    """Indices of the largest |log λ| above BULK_WIDTH, at most KEPT_PAIRS; ``distance`` is (k,)."""
    chosen = np.argsort(-distance, kind="stable")[:KEPT_PAIRS]
    return chosen[distance[chosen] > BULK_WIDTH]


def bulk(space: ControlSpace) -> Flat:
    """The share of each control's penalty in its metric, flat; 1 where there is no penalty."""
    parts = {}
    for block in space:
        share = (
            0.0
            if block.penalty is None
            else block.penalty.diagonal().sum() / block.metric.diagonal.sum()
        )
        parts[block.name] = np.full(
            (block.layout.count, block.components), share if share > 0 else 1.0
        )
    return space.assemble(parts)


def correction(
    space: ControlSpace,
    coarse: ControlSpace,
    product: Callable[[Flat, Flat], Flat],
    w: Flat,
) -> Correction | None:
    """From the Hessian products ``product(w, d)`` of a coarse level at its controls w.

    None if nothing stands out. Without penalties on every control the bulk is not known beforehand;
    the median Ritz value stands for it.
    """
    scale = bulk(coarse)
    start = coarse.riesz(np.random.default_rng(25).standard_normal(coarse.size) / scale)
    values, vectors, residuals = ritz_pairs(
        partial(product, w),
        lambda r: coarse.riesz(r / scale),
        lambda v: scale * coarse.metric(v),
        start,
        min(COARSE_STEPS, coarse.size),
        enough=LEAST_COUPLING,
    )
    if not len(values) or not np.all(np.isfinite(values)):
        return None
    level = 1.0
    if any(b.penalty is None for b in coarse):
        level = float(np.median(np.abs(values)))
        if level == 0.0:
            return None
    size = np.abs(values) / level
    known = (residuals <= KNOWN_RESIDUAL * np.maximum(np.abs(values), level)) & (size > 0)
    distance = np.where(known, np.abs(np.log(np.where(size > 0, size, 1.0))), 0.0)
    chosen = outstanding(distance)
    if not len(chosen):
        return None
    fine = np.stack([Samples.of(coarse, v).on(space) for v in vectors[chosen]])
    return nearly_orthonormal(space, level * bulk(space), fine, size[chosen] - 1.0)


def products(left: list[Flat], right: list[Flat]) -> np.ndarray:
    """All scalar products, (len(left), len(right)), by blocks that stay in cache."""
    total = np.zeros((len(left), len(right)))
    for i in range(0, len(right[0]), BLOCK_ENTRIES):
        total += (
            np.stack([v[i : i + BLOCK_ENTRIES] for v in left])
            @ np.stack([v[i : i + BLOCK_ENTRIES] for v in right]).T
        )
    return total


def combined(weights: np.ndarray, vectors: list[Flat]) -> np.ndarray:
    """weights @ vectors, (len(weights), size), by blocks that stay in cache."""
    out = np.empty((len(weights), len(vectors[0])))
    for i in range(0, out.shape[1], BLOCK_ENTRIES):
        out[:, i : i + BLOCK_ENTRIES] = weights @ np.stack(
            [v[i : i + BLOCK_ENTRIES] for v in vectors]
        )
    return out


def nearly_orthonormal(
    space: ControlSpace, scale: Flat, vectors: np.ndarray, shifts: np.ndarray
) -> Correction | None:
    """From pairs whose vectors are orthonormal in B but for what moving them did.

    None if they are dependent. Made orthonormal they are C^{-1}X, CCᵀ = XᵀBX, the stiffest
    disturbed least (Cholesky in their order).
    """
    gram = products([scale * space.metric(v) for v in vectors], list(vectors))
    gram = 0.5 * (gram + gram.T)
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(gram))
    except np.linalg.LinAlgError:
        return None
    return Correction(space, scale, (vectors,), gram, inverse.T @ (shifts[:, None] * inverse))


class Preconditioner:
    """A running minimiser's correction: prepared at first use, improved by Newton steps' products.

    One that is not ``used`` only learns from the last steps, for another level: far from a
    minimiser it would lead a cold start to another one.
    """

    def __init__(self, prepare: Callable[[], Correction], used: bool = True) -> None:
        self._prepare: Callable[[], Correction] | None = prepare
        self.used = used
        self._pending: deque[tuple[Seen, ...]] = deque(maxlen=None if used else RECENT_STEPS)
        self._now: Correction | None = None

    def current(self) -> Correction:
        """What is known now."""
        if self._prepare is not None:
            # what it was prepared from need not be kept
            self._now, self._prepare = self._prepare(), None
        now = self._now
        assert now is not None
        for seen in self._pending:
            now = now.learn(seen)
        self._now = now
        self._pending.clear()
        return now

    def branched(self) -> Preconditioner:
        """Another one that begins with what this one knows: for other multipliers, say."""
        return Preconditioner(self.current, self.used)

    def arrays(self) -> dict[str, np.ndarray]:
        """What is known now, to be kept in a file."""
        now = self.current().compressed()
        vectors = np.concatenate([np.zeros((0, now.space.size)), *now.blocks])
        return {"scale": now.scale, "vectors": vectors, "shifts": np.diag(now.change)}

    @staticmethod
    def restored(space: ControlSpace, arrays: Mapping[str, np.ndarray]) -> Preconditioner:
        """From the arrays of another run at the same depth."""
        kept = Correction.diagonal(
            space, *(np.asarray(arrays[k]) for k in ("scale", "vectors", "shifts"))
        )
        return Preconditioner(lambda: kept)

    def add(self, seen: Sequence[Seen]) -> None:
        """Take up the products of a step; the update is made when it is asked for."""
        if seen:
            self._pending.append(tuple(seen))


def empty(space: ControlSpace) -> Correction:
    """The bulk alone."""
    return Correction(space, bulk(space), (), np.zeros((0, 0)), np.zeros((0, 0)))


def learner(space: ControlSpace) -> Preconditioner | None:
    """For a small cold start whose bulk is known: what its last steps tell, for the next level."""
    if (
        space.grid.depth > DEEPEST
        or space.size > LEARNER_SIZE
        or any(b.penalty is None for b in space)
    ):
        return None
    return Preconditioner(lambda: empty(space), used=False)


def coarse_depth(depth: int) -> int | None:
    """Where the pairs are computed: a level that costs little beside a product of the fine one."""
    found = min(max(depth // COARSENING, SHALLOWEST), DEEPEST)
    return found if 2 * found <= depth else None
