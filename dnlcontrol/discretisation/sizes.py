"""Size forecast before anything is built: unknowns, nonzeros, bytes, seconds of each way to solve.

The counts follow from the structure; the seconds are flops over rates measured on two cores
(RATES), good to a factor of about three, enough to choose a formulation and to refuse what would
not fit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem

MB = 8 / 2**20  # one float64
ITERATIONS = 30
# flops per second: two-class toy at L = 8 and 16, MUMPS on the lifted system and matrix products of
# the condensed one
RATES = {"lifted": 2.5e10, "condensed": 1e10}
# of one kernel evaluation and state entry inside a lifted symbolic graph with its derivatives
GRAPH_BYTES = 400

CHUNK_BYTES = 24 << 20  # bytes of the states of one chunk of samples


@dataclass(frozen=True)
class Size:
    """Predicted unknowns, rows, nonzeros of the Jacobian, memory and time of one formulation."""

    variables: int
    rows: int
    nonzeros: int
    memory_mb: float
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The lifted and the condensed program, and the adjoint sweep's memory."""

    controls: int
    kernel_evaluations: int
    lifted: Size
    condensed: Size
    adjoint_state_mb: float
    adjoint_control_mb: float
    state_constraints: bool

    @property
    def better(self) -> str:
        """The formulation for "auto": lifted with constraints on states, else the cheaper one.

        Measured with bounds on all states (two-class toy, N = 8 and 32, L = 6 and 10; Bryson-Denham
        at L = 200): lifted takes 0.35 to 0.5 (0.04) of the condensed time, whose interior point
        sees a dense row for every state.
        """
        if self.state_constraints:
            return "lifted"
        return min(("condensed", "lifted"), key=lambda k: getattr(self, k).seconds)

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what "auto" takes."""
        return {**asdict(self), "auto": self.better}


def forecast(discrete: DiscreteProblem) -> Forecast:
    """What solving this discrete problem would take."""
    p = discrete.problem
    L = discrete.depth
    N = discrete.problem.samples
    state, integral = (int(np.prod(s, dtype=int)) for s in (p.state_shape, p.integral_shape))
    side = discrete.grid.side
    pairs = side if p.markov else side * (side + 1) // 2
    chunk = min(N, chunk_size(discrete))
    kinds = {c.kind for c in p.constraints}
    return Forecast(
        controls=discrete.space.size,
        kernel_evaluations=pairs * N,
        lifted=_lifted(discrete, state, pairs),
        condensed=_condensed(discrete, state, pairs),
        # x, z, λ, z̄ of a chunk and the states of all samples; w, gradient and the minimiser's
        # vectors
        adjoint_state_mb=((L + 1) * (2 * chunk * (state + integral) + N * state)) * MB,
        adjoint_control_mb=12 * discrete.space.size * MB,
        state_constraints=bool(kinds & {"state", "path"}),
    )


def chunk_size(discrete: DiscreteProblem, itemsize: int = 8) -> int:
    """Samples per chunk of the adjoint sweep where none are asked for.

    128, or for kernels σ(W y + b) up to 512 in equal chunks of at most CHUNK_BYTES: each chunk
    reads all controls and adds to the whole gradient, and the pieces of a column that stay in cache
    do not depend on the chunk. Measured at L = 128 in float32: d = 64, N = 512, chunks of 128, 256,
    512 take 1.13, 1.06, 1; d = 16, N = 256 1.17, 1, 1.
    """
    p = discrete.problem
    if p.dynamics.affine is None:
        return 128
    width = max(int(np.prod(s, dtype=int)) for s in (p.state_shape, p.integral_shape))
    most = int(np.clip(CHUNK_BYTES // ((discrete.depth + 1) * width * itemsize), 128, 512))
    return -(-p.samples // -(-p.samples // most))


def _reads(discrete: DiscreteProblem) -> int:
    """Entries of the controls that one kernel evaluation reads."""
    f = discrete.problem.formulas
    names = f.kernel.reads | (f.feature.reads if f.feature else frozenset())
    return sum(b.components for b in discrete.space if b.name in names)


def _lifted(discrete: DiscreteProblem, state: int, pairs: int) -> Size:
    """States are unknowns; with memory every control touches all states: the factors fill in."""
    N = discrete.problem.samples
    L = discrete.depth
    n = discrete.space.size
    unknowns, rows = n + (L + 1) * N * state, (L + 1) * N * state + discrete.rows.size
    q = _reads(discrete)
    nonzeros = pairs * N * state * (state + q) + (L + 1) * N * state
    if discrete.problem.markov:
        front = 2 * N * state + q + sum(b.size for b in discrete.space if b.control.on == "const")
        flops, factor = L * front**3 / 3, float(L * front**2)
    else:
        flops, factor = (unknowns + rows) ** 3 / 3, (unknowns + rows) ** 2 / 2
    memory = (factor + 20 * nonzeros) * MB + pairs * N * state * GRAPH_BYTES / 2**20
    return Size(unknowns, rows, int(nonzeros), float(memory), ITERATIONS * flops / RATES["lifted"])


def _condensed(discrete: DiscreteProblem, state: int, pairs: int) -> Size:
    """Controls alone are unknowns; sensitivities, node Hessians and one dense Hessian."""
    N = discrete.problem.samples
    L = discrete.depth
    n = discrete.space.size
    m = discrete.rows.size
    q = _reads(discrete)
    sizes = {
        on: sum(b.size for b in discrete.space if b.control.on == on) for on in ("ts", "t", "const")
    }
    share = np.arange(1, L + 1) / L
    # controls that act up to each layer
    width = sizes["const"] + sizes["t"] * share + sizes["ts"] * share**2
    states = 2 * N * state * np.sum(width**2)
    mixed = 2 * pairs / L * q * N * state * np.sum(width)
    flops = states + mixed + (n + m) ** 3 / 3 + 20 * pairs * N * (state + q) ** 2
    memory = (4 * n * n + m * n + N * (L + 1) * state * n + 3 * pairs * N * (state + q) ** 2) * MB
    return Size(
        n,
        m,
        n * (n + 1) // 2 + m * n,
        float(memory),
        float(ITERATIONS * flops / RATES["condensed"]),
    )
