"""What each way to solve takes, before anything is built: unknowns, memory, seconds.

A model of what the code allocates and does: for each route a few terms, counted exactly from the
structure (counts.py), times how often each is there or passed (fitted.py, fitted to solves in
processes of their own by benchmarks/18_forecast.py). Memory is what a solve adds to a process that
has the libraries. Seconds assume a typical number of iterations, and the speed of this machine,
which one small timed product tells (pace.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.resources.counts import Structure
from dnlcontrol.discretisation.resources.fitted import MEMORY, SECONDS
from dnlcontrol.discretisation.resources.kept import kept_bytes
from dnlcontrol.discretisation.resources.pace import slowness
from dnlcontrol.discretisation.resources.tapes import taped_layers

MB = 8 / 2**20  # one float64
GRADIENT_VECTORS = 8  # flat vectors of a value and gradient: controls, cotangents, copies of both
# controls up to which the condensed formulation forms and factorises H where there are no rows:
# beyond, a few products cost less
DENSE = 400
CHUNK_BYTES = 24 << 20  # bytes of the states of one chunk of samples


@dataclass(frozen=True)
class Size:
    """Predicted unknowns, rows, nonzeros of the Jacobian, memory and time of one way to solve.

    ``seconds`` on this machine, ``work`` the seconds on the one that the constants are of: what a
    choice depends on, which then is the same everywhere.
    """

    variables: int
    rows: int
    nonzeros: int
    memory_mb: float
    seconds: float
    work: float
    route: str


@dataclass(frozen=True)
class Forecast:
    """The lifted and the condensed program, and the adjoint backend's solve and its parts."""

    depth: int
    controls: int
    kernel_evaluations: int
    lifted: Size
    condensed: Size
    adjoint: Size
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
        return min(("condensed", "lifted"), key=lambda k: getattr(self, k).work)

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what "auto" takes."""
        return {**asdict(self), "auto": self.better}


def forecast(discrete: DiscreteProblem) -> Forecast:
    """What solving this discrete problem would take."""
    return forecast_of(Structure(discrete.problem, discrete.grid))


def forecast_of(c: Structure) -> Forecast:
    """The same from the counts alone: nothing of the discrete problem need be there."""
    states = (c.depth + 1) * c.samples * c.state
    n, m = c.controls, c.rows
    jacobian = c.pairs * c.samples * c.state * (c.state + c.reads) + states
    chunk = min(c.samples, chunk_of(c))
    return Forecast(
        depth=c.depth,
        controls=n,
        kernel_evaluations=c.pairs * c.samples,
        lifted=_size(c, "lifted", (n + states, states + m, jacobian)),
        condensed=_size(
            c,
            condensed_route(c),
            (n, m, n * (n + 1) // 2 + m * n),
        ),
        adjoint=_size(c, c.way, (n, m, 0)),
        # x, z, λ, z̄ of a chunk and the states of all samples; w, gradient and the minimiser's
        # vectors
        adjoint_state_mb=((c.depth + 1) * (2 * chunk * (c.state + c.integral)) + states) * MB,
        adjoint_control_mb=MEMORY[c.way].get("controls", 0.0) * n * MB,
        state_constraints=c.state_rows,
    )


def condensed_route(c: Structure) -> str:
    """Whether the condensed formulation forms the Hessian or takes products with it."""
    return "condensed, dense" if c.rows or c.controls <= DENSE else "condensed, by products"


def _size(c: Structure, route: str, unknowns: tuple[int, int, int]) -> Size:
    work = weighed(SECONDS[route], c)
    return Size(
        *unknowns,
        memory_mb=weighed(MEMORY[route], c),
        seconds=work * slowness(),
        work=work,
        route=route,
    )


def gradient_mb(c: Structure) -> float:
    """MB of one value and gradient of the adjoint backend: no minimiser's vectors."""
    weights = MEMORY[c.way]
    few = min(weights.get("controls", 0.0), GRADIENT_VECTORS)
    return weighed({**weights, "controls": few}, c)


def states_mb(c: Structure) -> float:
    """MB of the states alone, x and z of all samples and once more as they are handed out."""
    return 2 * terms(c)["states"] + c.least_mb


def weighed(weights: dict[str, float], c: Structure) -> float:
    """Σ weight · term."""
    found = terms(c)
    return float(sum(weight * found[name] for name, weight in weights.items()))


def terms(c: Structure) -> dict[str, float]:
    """What the forecast is a sum of, in MB of float64 where it is an array."""
    chunk = min(c.samples, chunk_of(c))
    n, m = float(c.controls), float(c.rows)
    front = 2 * c.samples * c.state + c.reads + c.controls_on("const")
    unknowns = n + (c.depth + 1.0) * c.samples * c.state
    markov, outer = c.problem.markov, c.problem.formulas.outer is not None
    taped = taped_layers(c.problem, c.depth, chunk) if markov else 0
    arrays = {
        "states": c.states,
        "chunk": c.states * chunk / c.samples,
        "first": c.first,
        "second": c.second,
        "curvature": c.curvature,
        "points": c.points,
        "controls": n,
        "matrices": 8.0 * c.penalised_sites,
        "dense": (n + m) ** 2,
        "rows": m * n,
        "sensitivities": c.sensitivities,
        "sensitivities of rows": c.sensitivities if m else 0.0,
        "front": c.depth * front**2.0 if markov else 0.0,
        "fill": 0.0 if markov else 2.0 * unknowns**2,
        "symbols": float(c.pairs) * c.samples * c.state if outer else 0.0,
    }
    return {
        **{name: value * MB for name, value in arrays.items()},
        "taped": taped / 1000,
        "taped with outer map": taped / 1000 if outer else 0.0,
        "taped states": c.states * chunk / c.samples * taped / c.depth * MB,
        "kept": kept_bytes(c) / 2**20 if c.way in ("columns", "chain") else 0.0,
        "layers": c.depth / 1000,
        "layers with outer map": c.depth / 1000 if outer else 0.0,
        "fill work": 0.0 if markov else (unknowns / 1000) ** 3,
        "dense work": ((n + m) / 1000) ** 3,
        "sensitivity work": c.sensitivities * n / 1e9,
        "one": 1.0,
        "one of rows": float(bool(m)),
    }


def chunk_size(discrete: DiscreteProblem, itemsize: int = 8) -> int:
    """Samples per chunk of the adjoint sweep where none are asked for.

    128, or for kernels σ(W y + b) and printed formulas up to 512 in equal chunks of at most
    CHUNK_BYTES: each chunk reads all controls and adds to the whole gradient, and the pieces of a
    column that stay in cache do not depend on the chunk. Measured at L = 128 in float32: d = 64,
    N = 512, chunks of 128, 256, 512 take 1.13, 1.06, 1; d = 16, N = 256 1.17, 1, 1.
    """
    return chunk_of(Structure(discrete.problem, discrete.grid), itemsize)


def chunk_of(c: Structure, itemsize: int = 8) -> int:
    """The same from the counts."""
    if c.problem.dynamics.affine is None and not c.printed:
        return 128
    width = max(c.state, c.integral)
    most = int(np.clip(CHUNK_BYTES // ((c.depth + 1) * width * itemsize), 128, 512))
    return -(-c.samples // -(-c.samples // most))
