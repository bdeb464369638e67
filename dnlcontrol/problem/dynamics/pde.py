"""An integro-differential equation over the width: depth t and width y both continuous.

Source of the model: Markowich and Portaro, arXiv 2411.06290. The identities below are derived for
this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.problem.activations import tanh
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import Activation, FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.namespace import namespace

RULES = ("midpoint", "gauss")
WORST_CONDITION = 1e12  # condition of a Gram matrix above which four digits or fewer are left


@dataclass(frozen=True)
class WidthPDE(Dynamics):
    """∂_t f(y,t) = σ(∫_0^1 w(y,z,t) f(z,t) dz + b(y,t)), f(., 0) given, on y in [0, 1].

    The integral is a quadrature over N nodes y_i with weights q_i, midpoint or Gauss; the state is
    f(y_i, t), shape (N,). The path controls are scaled so that sums of squares are integrals,

        w_ij = √(q_i q_j) w(y_i, y_j, t),    b_i = √q_i b(y_i, t),    Σ w_ij² ≈ ∫∫ w² dy dz,

    and the equation reads f_i' = σ((Σ_j w_ij √q_j f_j + b_i) / √q_i). Thus ``L2`` and ``H1`` of a
    control are its norms in L²(Y²) and in H¹(0, T; L²(Y²)), the metric of a solve does not depend
    on N, and :meth:`slopes` adds the derivatives in y and z. :meth:`controls` and :meth:`functions`
    go from functions to samples and back.

    Parameters
    ----------
    nodes : N.
    rule : "midpoint" (order N^-2) or "gauss".
    activation : σ, a function of one array.

    Raises
    ------
    InputError for a number of nodes below 1, an unknown rule, an activation that is no function.

    >>> pde = WidthPDE(4)
    >>> pde.y.tolist(), pde.own_controls["w"].shape
    ([0.125, 0.375, 0.625, 0.875], (4, 4))
    """

    nodes: int
    rule: str = "midpoint"
    activation: Activation = tanh
    is_ode = True

    def __post_init__(self) -> None:
        n = checks.whole("WidthPDE.nodes", self.nodes)
        checks.choice("WidthPDE.rule", self.rule, RULES)
        checks.function("WidthPDE.activation", self.activation)
        if self.rule == "midpoint":
            y, q = (np.arange(n) + 0.5) / n, np.full(n, 1.0 / n)
        else:
            x, weights = np.polynomial.legendre.leggauss(n)
            y, q = 0.5 * (1.0 + x), 0.5 * weights
        object.__setattr__(self, "_quadrature", (y, q))

    @property
    def y(self) -> np.ndarray:
        """The nodes, (N,)."""
        return np.array(self._quadrature[0])  # type: ignore[attr-defined]

    @property
    def q(self) -> np.ndarray:
        """The weights, (N,)."""
        return np.array(self._quadrature[1])  # type: ignore[attr-defined]

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """w (N, N) and b (N,), scaled, on the path."""
        n = self.nodes
        return {"w": Control((n, n), on="t"), "b": Control((n,), on="t")}

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """σ(∫ w y dz + b) at the nodes, (N,)."""
        root = namespace(y).asarray(np.sqrt(self.q))
        return self.activation((u.w @ (root * y) + u.b) / root)

    def batched(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """y (n, N) -> (1, n, N)."""
        root = y.new_tensor(np.sqrt(self.q))
        return self.activation(((y * root) @ u.w.T + u.b) / root).unsqueeze(0)

    # -- functions and samples ---------------------------------------------------------------------
    def sample(self, function: Callable[[np.ndarray], ArrayLike]) -> np.ndarray:
        """A function of y at the nodes, (N,)."""
        checks.function("WidthPDE.sample", function)
        return np.array(np.broadcast_to(function(self.y), (self.nodes,)), dtype=float)

    def controls(
        self, w: Callable[..., np.ndarray] | None = None, b: Callable[..., np.ndarray] | None = None
    ) -> dict[str, Callable[[float], np.ndarray]]:
        """Functions w(y, z, t) and b(y, t) as initial guesses, functions of t, of scaled controls.

        They map arrays y (N, 1), z (1, N) and a number t to (N, N), y (N,) to (N,).
        """
        out: dict[str, Callable[[float], np.ndarray]] = {}
        if w is not None:
            checks.function("WidthPDE.controls.w", w)
            out["w"] = partial(self._scaled_w, w)
        if b is not None:
            checks.function("WidthPDE.controls.b", b)
            out["b"] = partial(self._scaled_b, b)
        return out

    def _scaled_w(self, w: Callable[..., np.ndarray], t: float) -> np.ndarray:
        root = np.sqrt(self.q)
        return np.asarray(np.outer(root, root) * w(self.y[:, None], self.y[None, :], t))

    def _scaled_b(self, b: Callable[..., np.ndarray], t: float) -> np.ndarray:
        return np.asarray(np.sqrt(self.q) * b(self.y, t))

    def functions(
        self, w: ArrayLike | None = None, b: ArrayLike | None = None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Samples (..., N, N) and (..., N) of the scaled controls as values w(y_i, z_j), b(y_i)."""
        root = np.sqrt(self.q)
        return (
            None if w is None else np.asarray(w) / np.outer(root, root),
            None if b is None else np.asarray(b) / root,
        )

    # -- costs -------------------------------------------------------------------------------------
    def squared(self, target: ArrayLike) -> Cost:
        """½ ∫ (f(y, T) - g(y))² dy by the quadrature; ``target`` g at the nodes, (samples, N).

        Raises InputError for another shape.
        """
        target = checks.numbers("WidthPDE.squared.target", target)
        if target.ndim != 2 or target.shape[1] != self.nodes:
            checks.reject(
                "WidthPDE.squared.target", target, f"one row of {self.nodes} values per sample"
            )
        return Cost(self._squared_distance, target, name="squared_distance")

    def _squared_distance(
        self, x: FormulaArray, _c: FormulaControls, g: FormulaArray
    ) -> FormulaArray:
        xp = namespace(x)
        return 0.5 * xp.sum(xp.asarray(self.q) * (x - g) ** 2)

    def slopes(self, w: float = 0.0, b: float = 0.0) -> UserFormula:
        """The running cost ½ weight_w ∫∫ |∂_y w|² + |∂_z w|² dy dz + ½ weight_b ∫ |∂_y b|² dy.

        Differences of neighbouring nodes over their distance, the other axis by the quadrature.
        With ``L2`` or ``H1`` of the same weight it makes the H¹ norm in (y, z) or in (y, z, t).
        """
        weight_w, weight_b = checks.non_negative("slopes.w", w), checks.non_negative("slopes.b", b)
        root, gaps = np.sqrt(self.q), np.sqrt(np.diff(self.y))

        def slope_cost(t: FormulaArray, x: FormulaArray, u: FormulaControls) -> FormulaArray:
            xp = namespace(x)
            r, h = xp.asarray(root), xp.asarray(gaps)
            total = 0.0 * xp.sum(x)
            if weight_w and len(gaps):
                along_y, along_z = (xp.asarray(1.0 / root[:, None]) * a for a in (u.w, u.w.T))
                for a in (along_y, along_z):
                    jump = (a[1:] - a[:-1]) / xp.asarray(gaps[:, None])
                    total = total + 0.5 * weight_w * xp.sum(jump**2)
            if weight_b and len(gaps):
                values = u.b / r
                total = total + 0.5 * weight_b * xp.sum(((values[1:] - values[:-1]) / h) ** 2)
            return total

        return slope_cost

    # -- exact answers -----------------------------------------------------------------------------
    def steer(
        self,
        start: ArrayLike,
        end: ArrayLike,
        depth: int,
        inverse: Callable[[np.ndarray], np.ndarray] = np.arctanh,
        horizon: float = 1.0,
    ) -> dict[str, np.ndarray | float]:
        """Controls that move S data from ``start`` to ``end`` (S, N) along straight lines.

            w(y, z, t) = Σ_{r,s} (G^{-1})_{sr} σ^{-1}((f1_r - f0_r)(y)/T) φ_s(z, t)
            b = 0,   G_sr = <φ_s, φ_r>

        with φ_s the line from f0_s to f1_s, at the nodes t_0..t_{L-1} of the left rule: exact for
        Euler's method. ``inverse`` is σ^{-1}. Returns a start for :func:`dnlcontrol.simulate` or
        :func:`dnlcontrol.solve` at that depth, {"w": (L, N, N), "b": 0}.

        Raises InputError where the lines become linearly dependent, or a speed (f1 - f0)/T lies
        outside the range of σ.
        """
        start, end = checks.numbers("steer.start", start), checks.numbers("steer.end", end)
        if start.ndim != 2 or start.shape[1] != self.nodes or end.shape != start.shape:
            seen = f"shapes {start.shape} and {end.shape}"
            checks.reject("steer.start, steer.end", seen, f"two arrays (data, {self.nodes})")
        T, L = checks.positive("steer.horizon", horizon), checks.whole("steer.depth", depth)
        with np.errstate(invalid="ignore", divide="ignore"):
            speed = np.asarray(inverse((end - start) / T))
        if not np.all(np.isfinite(speed)):
            checks.reject(
                "steer.end",
                "speeds (end - start)/horizon outside the activation's range",
                "slower motions",
            )
        path = start + np.arange(L)[:, None, None] / L * (end - start)
        gram = (path * self.q) @ path.transpose(0, 2, 1)
        worst = int(np.argmax(np.linalg.cond(gram)))
        if not np.linalg.cond(gram[worst]) < WORST_CONDITION:
            seen = f"lines that are linearly dependent at t = {worst * T / L:g}"
            checks.reject("steer.start, steer.end", seen, "data that stay independent")
        root = np.sqrt(self.q)
        return {"w": np.outer(root, root) * (speed.T @ np.linalg.solve(gram, path)), "b": 0.0}

    def steady_state(self, w: ArrayLike, b: ArrayLike, zero: float = 0.0) -> np.ndarray:
        """f (N,) with ∫ w(y, z) f(z) dz + b(y) = c at every node, σ(c) = 0.

        ``zero`` is c; w (N, N) and b (N,) are scaled samples. The solution of least norm in L²(Y).
        Where w is singular and b outside its range there is none: an error.
        """
        root = np.sqrt(self.q)
        w, b = checks.numbers("steady_state.w", w), checks.numbers("steady_state.b", b)
        right = zero * root - b
        scaled = np.linalg.lstsq(w, right, rcond=None)[0]
        if np.linalg.norm(w @ scaled - right) > 1e-9 * (1.0 + np.linalg.norm(right)):
            checks.reject(
                "steady_state.w", "a kernel whose range does not hold c - b", "a solvable equation"
            )
        return np.asarray(scaled / root)

    # -- the Hamiltonian ---------------------------------------------------------------------------
    def minimise_hamiltonian(
        self,
        states: ArrayLike,
        costates: ArrayLike,
        weight_w: float,
        weight_b: float | None,
        start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The w and b that minimise H = Σ_s <p_s, σ(∫w f_s + b)> + ½ λ‖w‖² + ½ κ‖b‖².

        Everything separates in y, and there only ξ_s = <w(y, .), f_s> + b(y) matters [derived]:

            min over η of Σ_s p_s(y) σ(ξ_s) + ½ |η|²
            ξ = C η,    C Cᵀ = M,    M_st = <f_s, f_t>/λ + 1/κ

        by damped Newton from the corners of the box that holds all stationary points, η = -Cᵀ(p∘a),
        a = σ'(ξ) (for a 1-Lipschitz, increasing σ: a in [0, 1]^S). Then w(y, .) = -(1/λ) Σ p_s a_s
        f_s, b = -(1/κ) Σ p_s a_s, so that rank w <= S. M may be singular, as with more data than N
        + 1: ξ moves in its range, where ½ |η|² = ½ ξᵀ M^+ ξ is the least cost of (w, b) with these
        ξ. ``weight_b`` None is the equation without b: M_st = <f_s, f_t>/λ.

        ``states`` (S, N); ``costates`` (S, N) as values p_s(y), with the weight of the sample in
        them: for the mean over S data p = ψ / (S q). ``start`` (N, S) adds a start for ξ, projected
        onto the range of M. Returns scaled w (N, N), b (N,), and the minimum per node (N,).

        Raises InputError where states and costates are not both (S, N), or a weight is not
        positive.
        """
        from dnlcontrol.problem.dynamics.reduced import minimise_reduced

        f, p = (
            checks.numbers("minimise_hamiltonian.states", states),
            checks.numbers("costates", costates),
        )
        if f.ndim != 2 or f.shape[1] != self.nodes or p.shape != f.shape:
            checks.reject(
                "minimise_hamiltonian.states",
                f"shapes {f.shape}, {p.shape}",
                f"two (data, {self.nodes})",
            )
        lam, root = checks.positive("weight_w", weight_w), np.sqrt(self.q)
        share = 0.0 if weight_b is None else 1.0 / checks.positive("weight_b", weight_b)
        slopes, value = minimise_reduced(
            self.activation, p.T, (f * self.q) @ f.T / lam + share, start
        )
        w = -np.outer(root, root) * (slopes @ f) / lam
        return w, -root * slopes.sum(1) * share, value
