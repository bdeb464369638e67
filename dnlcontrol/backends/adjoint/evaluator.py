"""Value, gradient, Hessian products, states and costates of a discrete problem, as NumPy
vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.sweep.affine_chain import Chain
from dnlcontrol.backends.adjoint.sweep.affine_columns import side_by_side
from dnlcontrol.backends.adjoint.sweep.affine_tangent import AffineTangent
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.one_step_tape import tapeable, taped, taped_product
from dnlcontrol.backends.adjoint.sweep.stored_jacobians import Linearised
from dnlcontrol.backends.adjoint.sweep.stored_products import StoredProducts
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, Vectorised, value_and_pull
from dnlcontrol.backends.found import Counts
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers

DTYPES = {"float64": torch.float64, "float32": torch.float32}


class Evaluator:
    """The Lagrangian J + μᵀc (or its augmented form) of a discrete problem as a function of a flat
    vector w.

    Parameters
    ----------
    device : "cpu", "cuda" or "cuda:k".
    dtype : "float64" (default) or "float32"; vectors in and out are always float64.
    chunk : samples per chunk, None: from the sizes; results agree to rounding for every chunk.
    batched : False maps the formula itself instead of a dynamics' own batched or affine kernel.
    stored : keep all derivatives at the nodes instead of recomputing them; None: where they are few
        and the columns of the kernel are not written out (columns.py), which is faster than forming
        them.
    """

    def __init__(
        self,
        discrete: DiscreteProblem,
        device: str = "cpu",
        dtype: str = "float64",
        chunk: int | None = None,
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
        few = Linearised.fits(self.sweep) and self.sweep.affine is None
        self._stored = few if stored is None else stored
        self._narrow: tuple[Tensor, Tensor] | None = None  # control and gradient in float32
        self._point: tuple[bytes, Linearised] | None = None
        self._products: tuple[Linearised, Multipliers | None, StoredProducts] | None = None

    def _derivatives(self, w: np.ndarray, multipliers: Multipliers | None) -> StoredProducts:
        """Stored derivatives at w; those of the last control and of the last multipliers
        are kept.
        """
        key = np.asarray(w, dtype=float).tobytes()
        if self._point is None or self._point[0] != key:
            self._point = key, Linearised(self.sweep, self.lagrangian, w)
        at = self._point[1]
        if (
            self._products is None
            or self._products[0] is not at
            or self._products[1] is not multipliers
        ):
            self._products = at, multipliers, StoredProducts(at, multipliers)
        return self._products[2]

    # -- the three products
    # -----------------------------------------------------------------------------------
    def value(self, w: np.ndarray, multipliers: Multipliers | None = None) -> float:
        """J (plus constraint terms), by the forward sweep alone."""
        self.counts.values += 1
        u, total = self._controls(w), 0.0
        with torch.no_grad():
            for data in self.sweep.chunks:
                x = self.sweep.passing_states(u, data)
                total += float(self.lagrangian.value(x, u, data, multipliers))
        return total + self.space.penalty(w)

    def value_and_gradient(
        self, w: np.ndarray, multipliers: Multipliers | None = None
    ) -> tuple[float, np.ndarray]:
        """J and dJ/dw, exact for the discrete problem."""
        self.counts.gradients += 1
        if self._stored:
            stored = self._derivatives(w, multipliers)
            g = stored.gradient.copy()
            return stored.value + self.space.add_penalty_gradient(w, g), g
        u, out, g = self._vectors(w)
        total = 0.0
        with torch.no_grad():
            for data in self.sweep.chunks:
                total += float(self._chunk(u, data, multipliers, out, False)[0])
        self._widen(out, g)
        return total + self.space.add_penalty_gradient(w, g), g

    def hessian_product(
        self, w: np.ndarray, d: np.ndarray, multipliers: Multipliers | None = None
    ) -> np.ndarray:
        """(d²J/dw²) d, the derivative of the gradient sweep along d."""
        self.counts.hessians += 1
        if self._stored:
            product = self._derivatives(w, multipliers).hessian_product(d)
            self.space.add_penalty_gradient(d, product)
            return product
        product = self._tangent(w, d, multipliers)
        self.space.add_penalty_gradient(d, product)
        return product

    def _tangent(self, w: np.ndarray, d: np.ndarray, multipliers: Multipliers | None) -> np.ndarray:
        """The sweep's derivative along d: columns written out where they are, on the tape of a
        one-step problem, else dual numbers throughout."""
        if self.sweep.affine is None and tapeable(self.sweep):
            product = self._zeros()
            with torch.no_grad():
                for data in self.sweep.chunks:
                    taped_product(
                        self.sweep,
                        self._controls(w),
                        self._controls(d),
                        data,
                        self._cost(data, multipliers),
                        self._views(product),
                    )
            return _numpy(product)
        with torch.no_grad(), forward_ad.dual_level():
            if self.sweep.affine is not None:
                product = self._zeros()
                second = AffineTangent(
                    self.sweep, self.lagrangian, self._controls(w), self._controls(d)
                )
                for data in self.sweep.chunks:
                    second.add(data, multipliers, self._views(product))
                return _numpy(product)
            u, total = (
                self._views(forward_ad.make_dual(self._tensor(w), self._tensor(d))),
                self._zeros(),
            )
            for data in self.sweep.chunks:
                self._chunk(u, data, multipliers, self._views(total))
            tangent = forward_ad.unpack_dual(total).tangent
        return np.zeros(self.space.size) if tangent is None else _numpy(tangent)

    def _chunk(
        self,
        u: Tensors,
        data: Data,
        multipliers: Multipliers | None,
        out: Tensors,
        costates: bool = True,
    ) -> tuple[Tensor, ...]:
        """One chunk forward and backward; the gradient is added into ``out``.

        The value, x, λ, z̄ and z. Without ``costates`` some ways return the value alone.
        """
        if self.sweep.chain is not None:
            return self._chained(self.sweep.chain, u, data, multipliers, out, costates)
        if tapeable(self.sweep):
            return taped(self.sweep, u, data, self._cost(data, multipliers), out)
        x, z = self.sweep.states(u, data)
        seen = x[-1:] if self.lagrangian.reads_end_only(multipliers) else x
        value, direct = self._direct(seen, u, data, multipliers, out)
        lam, zbar = self.sweep.pull_back(u, data, x, z, direct, out)
        return value, x, lam, zbar, z

    def _cost(
        self, data: Data, multipliers: Multipliers | None
    ) -> Callable[[Tensor, Tensors], Tensor]:
        """The Lagrangian of one chunk as a function of the states and all controls."""
        return lambda x, u: self.lagrangian.value(x, self.lagrangian.visible(u), data, multipliers)

    def _chained(
        self,
        chain: Chain,
        u: Tensors,
        data: Data,
        multipliers: Multipliers | None,
        out: Tensors,
        costates: bool,
    ) -> tuple[Tensor, ...]:
        """The same for a one-step network, whose layers are written out."""
        layers = chain.forward(u, data.free[0].T, fresh=costates)
        x = layers.states.transpose(1, 2)
        seen = x[-1:] if self.lagrangian.reads_end_only(multipliers) else x
        value, direct = self._direct(seen, u, data, multipliers, out)
        direct = direct.transpose(1, 2)
        if not costates:
            chain.pull_back(u, layers, direct, out)
            return (value,)
        zbar = x.new_empty(layers.states.shape)
        chain.pull_back(u, layers, direct, out, zbar)
        lam = chain.costates(u, layers.hidden, direct)
        return value, x, lam.transpose(1, 2), zbar.transpose(1, 2), x - data.free

    def _direct(
        self, x: Tensor, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors
    ) -> tuple[Tensor, Tensor]:
        """The Lagrangian and its derivative in the states; that in the controls is added into
        ``out``.
        """
        value, pull = value_and_pull(
            lambda x, u: self.lagrangian.value(x, u, data, multipliers),
            x,
            self.lagrangian.visible(u),
        )
        direct, parts = pull(torch.ones_like(value))
        for name, part in parts.items():
            out[name] += part
        return value, direct

    # -- reports
    # ----------------------------------------------------------------------------------------------
    def trajectory(self, w: np.ndarray, multipliers: Multipliers | None = None) -> Trajectory:
        """Everything known at one control, with the multipliers' Lagrangian."""
        gradient = self._zeros()
        u, out = self._controls(w), self._views(gradient)
        pieces: list[tuple[Tensor, ...]] = []
        c = np.zeros(self.rows.size)
        with torch.no_grad():
            for data in self.sweep.chunks:
                *piece, z = self._chunk(u, data, multipliers, out)
                pieces.append((*piece, self.sweep.integrals(u, piece[1], z)))
                for values, index in self.lagrangian.constraints(pieces[-1][1], u, data):
                    c[index.ravel()] = values.reshape(-1).cpu().numpy()
        g = _numpy(gradient)
        penalty = self.space.add_penalty_gradient(w, g)
        x, lam, zbar, integrals = (
            np.concatenate([_numpy(p[i]) for p in pieces], axis=1) for i in (1, 2, 3, 4)
        )
        value = sum(float(p[0]) for p in pieces) + penalty
        return Trajectory(value, g, x, integrals, lam, zbar, c)

    def constraint_values(self, w: np.ndarray) -> np.ndarray:
        """The flat vector c of ``rows``."""
        u, c = self._controls(w), np.zeros(self.rows.size)
        with torch.no_grad():
            for data in self.sweep.chunks:
                x, _ = self.sweep.states(u, data)
                for values, index in self.lagrangian.constraints(x, u, data):
                    c[index.ravel()] = values.reshape(-1).cpu().numpy()
        return c

    def constraint_gradient(self, w: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """d(weightsᵀ c)/dw."""
        multipliers = Multipliers(weights, cost=0.0)
        if self._stored:
            return self._derivatives(w, multipliers).gradient
        gradient = self._zeros()
        with torch.no_grad():
            for data in self.sweep.chunks:
                self._chunk(self._controls(w), data, multipliers, self._views(gradient), False)
        return _numpy(gradient)

    def states(self, w: np.ndarray) -> np.ndarray:
        """(L+1, N, *state shape)."""
        u = self._controls(w)
        with torch.no_grad():
            return np.concatenate(
                [self.sweep.states(u, d)[0].cpu().double().numpy() for d in self.sweep.chunks],
                axis=1,
            )

    def final_parts(
        self, w: np.ndarray, x: np.ndarray, zbar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """ℓ_x and (k(T, T, F(x), u))_xᵀ z̄ per sample, controls at their last samples; both (N,
        *state shape).

        ``x`` and ``zbar`` are x^L and a cotangent of z^L, both (N, *).
        """
        L, p = self.discrete.depth, self.discrete.problem
        f, cells = p.formulas, self.sweep.grid.side == self.discrete.depth
        # at cell centres the last samples stand for T
        u = {
            k: torch.cat([v, v[-1:]]) if cells and p.controls[k].on == "t" else v
            for k, v in self._controls(w).items()
        }
        _, shared, own = self.sweep.inputs(u, L - 1)
        shared, own = (
            {k: u[k][L if p.controls[k].on == "t" else 0] for k in read} for read in (shared, own)
        )
        ts = {k: u[k][-1:] for k in self.sweep.columns if k in f.kernel.reads}
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
                constants, run = self.lagrangian._constants(u, f.running), self.lagrangian.running
                time = self.sweep.nodes[L:]
                value, pull = value_and_pull(
                    lambda x: run(time, x[None], path, constants, *extra).sum(), state
                )
                slope = pull(torch.ones_like(value))[0]
        return _numpy(slope), _numpy(through)

    def outer_pull(self, w: np.ndarray, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """(G_z)ᵀ λ at T, (N, *integral shape); ``z`` is z^L and ``lam`` a cotangent of x^L."""
        L = self.discrete.depth
        u = self._controls(w)
        outer = self.discrete.problem.formulas.outer
        if outer is None:
            return lam
        shared = self.sweep._shared(u, outer, L)
        with torch.no_grad():
            free = self.sweep.everyone.at(L)
            _, pull = value_and_pull(
                lambda z: self.sweep.state(L, free, z, shared), self.sweep.tensor(z)
            )
            return _numpy(pull(self.sweep.tensor(lam))[0])

    # -- vectors
    # ----------------------------------------------------------------------------------------------
    def _tensor(self, w: np.ndarray) -> Tensor:
        """A flat vector on the device; shares memory with w where that is possible."""
        w = np.ascontiguousarray(w, dtype=float)
        return torch.as_tensor(w if w.flags.writeable else w.copy()).to(
            device=self.device, dtype=self.dtype
        )

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        """name -> (sites, *shape), views of a flat vector."""
        return {b.name: flat[b.part].view(b.layout.count, *b.control.shape) for b in self.space}

    def _controls(self, w: np.ndarray) -> dict[str, Tensor]:
        return self._views(self._tensor(w))

    def _vectors(
        self, w: np.ndarray
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], np.ndarray[Any, Any]]:
        """Controls and zeros on the device, by name, and the flat vector that :meth:`_widen` will
        fill.

        Copies in float32 are kept from call to call, since new memory costs time, and lie as suits
        the columns.
        """
        g: np.ndarray[Any, Any] = np.zeros(
            self.space.size
        )  # NumPy asks for large pages: much cheaper to touch than PyTorch's memory
        if self.dtype == torch.float64:
            own = torch.from_numpy(g) if self.device.type == "cpu" else self._zeros()
            return self._controls(w), self._views(own), g
        if self._narrow is None:
            self._narrow = self._zeros(), self._zeros()
        control, gradient = self._narrow
        gradient.zero_()
        u, out = (side_by_side(flat, self.space, self.sweep.affine) for flat in (control, gradient))
        for name, part in self._views(torch.as_tensor(np.asarray(w, dtype=float))).items():
            u[name].copy_(part)
        return u, out, g

    def _widen(self, out: Tensors, g: np.ndarray) -> None:
        """Copy ``out`` into ``g``, unless it lies there."""
        for name, part in self._views(torch.from_numpy(g)).items():
            if out[name].data_ptr() != part.data_ptr():
                part.copy_(out[name])

    def _zeros(self) -> Tensor:
        return torch.zeros(self.space.size, dtype=self.dtype, device=self.device)


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().double())


def torch_device(device: Any) -> torch.device:
    """A usable torch device, or an error that says what is there."""
    if not isinstance(device, str) or device.split(":")[0] not in ("cpu", "cuda"):
        checks.reject("device", device, "'cpu', 'cuda' or 'cuda:k'")
    found = torch.cuda.device_count()
    if device.startswith("cuda") and (not found or int([*device.split(":"), "0"][1]) >= found):
        checks.reject("device", device, f"'cpu' (this machine shows {found} CUDA devices)")
    return torch.device(device)
