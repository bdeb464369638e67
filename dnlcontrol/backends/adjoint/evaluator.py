"""Value, derivatives, states and costates of a discrete problem, as NumPy arrays in float64."""

from __future__ import annotations

import numpy as np
import torch

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, Vectorised, value_and_pull
from dnlcontrol.backends.adjoint.vectors import Vectors, to_numpy
from dnlcontrol.backends.adjoint.way import way_of
from dnlcontrol.backends.found import Counts
from dnlcontrol.backends.watch import Watch
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers

DTYPES = {"float64": torch.float64, "float32": torch.float32}


class Evaluator:
    """The Lagrangian J + μᵀc, or its augmented form, as a function of the flat controls w (size,).

    The way to its derivatives is chosen here, once (way.py); the methods go through the samples
    chunk by chunk and add the penalties on controls.

    Parameters
    ----------
    discrete : the problem at one depth.
    device : "cpu", "cuda" or "cuda:k".
    dtype : "float64" (default) or "float32"; vectors in and out are always float64.
    chunk : samples per chunk, None: from the sizes; results agree to rounding for every chunk.
    batched : False maps the formula itself instead of a dynamics' own batched or affine kernel.
    stored : keep all derivatives at the nodes instead of recomputing them; None: where they are few
        and the columns of the kernel are not written out (affine_columns.py), which is faster than
        forming them.

    Raises
    ------
    InputError : for a device or dtype that there is not, and for a dynamics whose batched or affine
        kernel differs from its formula.
    """

    def __init__(
        self,
        discrete: DiscreteProblem,
        device: str = "cpu",
        dtype: str = "float64",
        chunk: int | None = None,
        *,
        batched: bool = True,
        stored: bool | None = None,
    ) -> None:
        self.discrete = discrete
        self.space, self.rows = discrete.space, discrete.rows
        self.device = torch_device(device)
        self.dtype = DTYPES[checks.choice("dtype", dtype, tuple(DTYPES))]
        self.vectorised = Vectorised(discrete, self.device, self.dtype, batched)
        self.sweep = Sweep(
            discrete, self.vectorised, None if chunk is None else checks.whole("chunk", chunk)
        )
        self.lagrangian = Lagrangian(self.sweep)
        self.counts = Counts()
        self.watch = Watch()  # told what is formed; stops a minimiser in time
        self.vectors = Vectors(self.space, self.device, self.dtype, self.sweep.columns)
        self.way = way_of(self.sweep, self.lagrangian, self.vectors, stored)

    # -- the three products ----------------------------------------------------------------------
    def value(self, w: Flat, multipliers: Multipliers | None = None) -> float:
        """J (plus constraint terms), by the forward sweep alone."""
        self.counts.values += 1
        return self.way.value(w, multipliers) + self.space.penalty(w)

    def value_and_gradient(
        self, w: Flat, multipliers: Multipliers | None = None
    ) -> tuple[float, Flat]:
        """J and dJ/dw (size,), exact for the discrete problem."""
        self.counts.gradients += 1
        value, g = self.way.value_and_gradient(w, multipliers)
        return value + self.space.add_penalty_gradient(w, g), g

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None = None) -> Flat:
        """(d²J/dw²) d, the derivative of the gradient along d, (size,)."""
        self.counts.hessians += 1
        product = self.way.hessian_product(w, d, multipliers)
        self.space.add_penalty_gradient(d, product)
        return product

    # -- reports ---------------------------------------------------------------------------------
    def trajectory(self, w: Flat, multipliers: Multipliers | None = None) -> Trajectory:
        """Everything known at one control, with the multipliers' Lagrangian."""
        self.watch.check()
        gradient = self.vectors.zeros()
        u, out = self.vectors.controls(w), self.vectors.views(gradient)
        values: list[float] = []
        pieces: list[tuple[Tensor, ...]] = []
        c = np.zeros(self.rows.size)
        with torch.no_grad():
            for data in self.sweep.chunks:
                value, passed = self.way.pull(u, data, multipliers, out, costates=True)
                assert passed is not None  # costates were asked for
                *piece, z = passed
                values.append(float(value))
                pieces.append((*piece, self.sweep.integrals(u, passed.states, z)))
                self._fill(c, passed.states, u, data)
        g = to_numpy(gradient)
        penalty = self.space.add_penalty_gradient(w, g)
        x, lam, zbar, integrals = (
            np.concatenate([to_numpy(p) for p in parts], axis=1)
            for parts in zip(*pieces, strict=True)
        )
        self.watch.saw(w, sum(values) + penalty, multipliers)
        return Trajectory(
            value=sum(values) + penalty,
            gradient=g,
            states=x,
            integrals=integrals,
            costates=lam,
            integral_costates=zbar,
            constraints=c,
        )

    def constraint_values(self, w: Flat) -> RowVector:
        """c of ``rows``, (rows.size,)."""
        u, c = self.vectors.controls(w), np.zeros(self.rows.size)
        with torch.no_grad():
            for data, x in self.way.states(w):
                self._fill(c, x, u, data)
        return c

    def _fill(self, c: RowVector, x: Tensor, u: Tensors, data: Data) -> None:
        """Write the constraint values of one chunk into c (rows.size,)."""
        for values, index in self.lagrangian.constraints(x, u, data):
            c[index.ravel()] = values.reshape(-1).cpu().numpy()

    def constraint_gradient(self, w: Flat, weights: RowVector) -> Flat:
        """d(weightsᵀ c)/dw, (size,)."""
        return self.way.value_and_gradient(w, Multipliers(weights, cost=0.0))[1]

    def states(self, w: Flat) -> np.ndarray:
        """(L+1, N, *state shape)."""
        # copies, since the next chunk may overwrite what a tensor shows
        pieces = [np.array(to_numpy(x)) for _, x in self.way.states(w)]
        return np.concatenate(pieces, axis=1)

    def final_parts(
        self, w: Flat, x: np.ndarray, zbar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """ℓ_x and (k(T, T, F(x), u))_xᵀ z̄ per sample, both (N, *state shape).

        Controls are at their last samples.

        ``x`` and ``zbar`` are x^L and a cotangent of z^L, both (N, *).
        """
        L, p = self.discrete.depth, self.discrete.problem
        f, cells = p.formulas, self.sweep.grid.side == self.discrete.depth
        # at cell centres the last samples stand for T
        u = {
            k: torch.cat([v, v[-1:]]) if cells and p.controls[k].on == "t" else v
            for k, v in self.vectors.controls(w).items()
        }
        _, shared, own = self.sweep.inputs(u, L - 1)
        shared, own = (
            {k: u[k][L if p.controls[k].on == "t" else 0] for k in read} for read in (shared, own)
        )
        ts = {k: u[k][-1:] for k in self.sweep.triangular if k in f.kernel.reads}
        state = self.sweep.tensor(x)
        slope = torch.zeros_like(state)
        with torch.no_grad():
            _, pull = value_and_pull(lambda x: self.sweep.diagonal(L, x, ts, shared, own), state)
            (through,) = pull(self.sweep.tensor(zbar))
            if self.lagrangian.running is not None and f.running is not None:
                target = self.lagrangian.targets["running"]
                extra = [] if target is None else [target]
                path = {
                    k: v[L : L + 1]
                    for k, v in u.items()
                    if k in f.running.reads and p.controls[k].on == "t"
                }
                constants, run = self.lagrangian.constants(u, f.running), self.lagrangian.running
                time = self.sweep.nodes[L:]
                value, pull = value_and_pull(
                    lambda x: run(time, x[None], path, constants, *extra).sum(), state
                )
                slope = pull(torch.ones_like(value))[0]
        return to_numpy(slope), to_numpy(through)

    def outer_pull(self, w: Flat, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """(G_z)ᵀ λ at T, (N, *integral shape); ``z`` is z^L and ``lam`` a cotangent of x^L."""
        L = self.discrete.depth
        u = self.vectors.controls(w)
        outer = self.discrete.problem.formulas.outer
        if outer is None:
            return lam
        shared = self.sweep.shared(u, outer, L)
        with torch.no_grad():
            free = self.sweep.everyone.at(L)
            _, pull = value_and_pull(
                lambda z: self.sweep.state(L, free, z, shared), self.sweep.tensor(z)
            )
            return to_numpy(pull(self.sweep.tensor(lam))[0])


def torch_device(device: str) -> torch.device:
    """A usable torch device.

    Raises
    ------
    InputError : unless it is "cpu" or a CUDA device of this machine.
    """
    if not isinstance(device, str) or device.split(":")[0] not in ("cpu", "cuda"):
        checks.reject("device", device, "'cpu', 'cuda' or 'cuda:k'")
    found = torch.cuda.device_count()
    if device.startswith("cuda") and (not found or int([*device.split(":"), "0"][1]) >= found):
        checks.reject("device", device, f"'cpu' (this machine shows {found} CUDA devices)")
    return torch.device(device)
