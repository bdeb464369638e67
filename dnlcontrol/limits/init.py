"""Initialisation on, and projection onto, the summable sets of weights.

For weights of these sets the infinitely deep network converges.

    plain      W_n = I + P_n,  ‖P_n‖ <= c n^-(1+α),             ‖b_n‖ <= c_b n^-(1+α)
    residual   ‖W^{n,m}‖ <= c n^-((1+α)/M), m = 1..M,           ‖b^{n,m}‖ <= c_b n^-(1+α)

The second makes p_n = Π_m ‖W^{n,m}‖ <= c^M n^-(1+α): the parametrisation W~/n^((1+α)/M), b~/n^(1+α)
with bounded W~, b~ of Huang, Zhang, arXiv 2205.06571 [their code]; the first is its counterpart for
the condition of Xu, Zhang, arXiv 2107.12530.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.majorants import PowerLaw, Tail
from dnlcontrol.limits.infinite_depth.rounding import matrix_norm, norm_of, vector_norm

if TYPE_CHECKING:
    from torch import Tensor, nn

    Modules = nn.Module | Iterable[nn.Module]

# projections end a little inside, so that norms that are rounded up stay below the radius
INSIDE = 1 - 1e-12


@dataclass(frozen=True)
class Summable:
    """The summable set of exponent α: see the module. Made by ``summable``."""

    alpha: float
    scale: float
    bias_scale: float
    norm: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.positive("alpha", self.alpha))
        object.__setattr__(self, "scale", checks.positive("scale", self.scale))
        bias = checks.non_negative("bias_scale", self.bias_scale)
        object.__setattr__(self, "bias_scale", bias)
        object.__setattr__(self, "norm", norm_of("norm", self.norm))

    def tail(self, inner: int | None = None) -> Tail:
        """Majorants of p_n and β_n for every n, for ``certify``.

        ``inner`` is M of residual blocks, None is plain.

        Residual: β_n <= Σ_m c^(M-m) n^-((1+α)(M-m)/M) c_b n^-(1+α) <= c_b (1 + c + ... + c^(M-1))
        n^-(1+α).
        """
        if inner is None:
            return Tail(
                PowerLaw(self.scale, 1 + self.alpha), PowerLaw(self.bias_scale, 1 + self.alpha)
            )
        M = checks.size("inner", inner)
        weights = PowerLaw(self.scale**M, 1 + self.alpha)
        return Tail(
            weights,
            PowerLaw(self.bias_scale * sum(self.scale**m for m in range(M)), 1 + self.alpha),
        )

    def radius(self, n: int, inner: int | None = None) -> float:
        """The largest ‖P_n‖ (plain) or ‖W^{n,m}‖ (residual)."""
        M = 1 if inner is None else checks.size("inner", inner)
        return self.scale * checks.at_least("n", n, 1) ** -((1 + self.alpha) / M)

    def bias_radius(self, n: int) -> float:
        """The largest ‖b_n‖."""
        return self.bias_scale * checks.at_least("n", n, 1) ** -(1 + self.alpha)

    def layer(
        self, rng: np.random.Generator, n: int, width: int, inner: int | None = None
    ) -> tuple[Any, Any]:
        """Random weights and biases of layer n on the boundary of the set.

        Residual: lists of M.
        """
        checks.instance("rng", rng, np.random.Generator, "a numpy.random.Generator")
        checks.shape_of("width", (width, width))

        def one() -> tuple[np.ndarray, np.ndarray]:
            W, b = rng.standard_normal((width, width)), rng.standard_normal(width)
            W *= INSIDE * self.radius(n, inner) / matrix_norm(W, self.norm)
            return W, b * (INSIDE * self.bias_radius(n) / vector_norm(b, self.norm))

        if inner is None:
            W, b = one()
            return np.eye(width) + W, b
        made = [one() for _ in range(checks.size("inner", inner))]
        return [W for W, _ in made], [b for _, b in made]

    def plain(
        self, width: int, depth: int, seed: int = 0
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """W_1..W_depth and b_1..b_depth, for ``Stack(weights, biases)``."""
        return self._arrays(width, depth, None, seed)

    def residual(
        self, width: int, depth: int, inner: int = 2, seed: int = 0
    ) -> tuple[list[Any], list[Any]]:
        """Lists of M = ``inner`` weights and biases per block.

        For ``Stack(weights, biases, residual=True)``.
        """
        return self._arrays(width, depth, checks.size("inner", inner), seed)

    def _arrays(
        self, width: int, depth: int, inner: int | None, seed: int
    ) -> tuple[list[Any], list[Any]]:
        rng = np.random.default_rng(checks.seed("seed", seed))
        layers = [
            self.layer(rng, n, width, inner) for n in range(1, checks.size("depth", depth) + 1)
        ]
        return [W for W, _ in layers], [b for _, b in layers]

    def initialise(self, module: Modules, inner: int | None = None, seed: int = 0) -> None:
        """Fill the square Linear layers of a torch module, in order.

        Layer n = 1, 2, ..., M = ``inner`` per block. Layers of other shapes (first, read-out) are
        left as they are.
        """
        rng = np.random.default_rng(checks.seed("seed", seed))
        layers = square_layers(module, inner)
        for n, block in enumerate(layers, 1):
            W, b = self.layer(rng, n, block[0].weight.shape[0], inner)
            for linear, weight, bias in zip(
                block, W if inner else [W], b if inner else [b], strict=True
            ):
                _write(linear.weight, weight)
                _write(linear.bias, bias)

    def project(self, module: Modules, inner: int | None = None) -> int:
        """Replace the square Linear layers by the nearest ones of the set; how many moved.

        Nearest in the Frobenius norm. To be called after each step of an optimiser. In single
        precision W_n = I + P_n is rounded again when it is stored, so that the bound of ‖P_n‖ then
        holds up to 1e-7 times the width.
        """
        moved = 0
        for n, block in enumerate(square_layers(module, inner), 1):
            for linear in block:
                W, centre = (
                    _read(linear.weight),
                    np.eye(linear.weight.shape[0]) if inner is None else 0.0,
                )
                nearest = centre + project_matrix(W - centre, self.radius(n, inner), self.norm)
                changed = _write_if_moved(linear.weight, W, nearest)
                if linear.bias is not None:
                    b = _read(linear.bias)
                    changed |= _write_if_moved(
                        linear.bias, b, project_vector(b, self.bias_radius(n), self.norm)
                    )
                moved += changed
        return moved


def summable(
    alpha: float, *, scale: float = 1.0, bias_scale: float | None = None, norm: float = 2
) -> Summable:
    """The summable set with exponent ``alpha`` > 0, in ``norm``.

    Its radii are ``scale`` and ``bias_scale`` (default: scale).

    Raises
    ------
    InputError for an exponent or scale that is not positive, and for another norm than 1, 2, inf.

    >>> from dnlcontrol.certificates import depth
    >>> scheme = summable(0.5)
    >>> stack = depth.Stack(*scheme.plain(width=4, depth=100), tail=scheme.tail())
    >>> depth.certify(stack, np.ones(4)).network
    'converges'
    """
    return Summable(alpha, scale, scale if bias_scale is None else bias_scale, norm)


def square_layers(module: Modules, inner: int | None = None) -> list[list[nn.Linear]]:
    """The torch.nn.Linear layers with as many inputs as outputs, in order, in groups of ``inner``.

    Groups of 1 for None. ``module`` may also be a list of such layers.

    Raises
    ------
    InputError where there is none, or no multiple of ``inner``.
    """
    from torch import nn

    allowed = "a torch.nn.Module, or a list of its layers"
    leaves: Iterable[object]
    if isinstance(module, nn.Module):
        leaves = module.modules()
    else:
        leaves = checks.listed("module", module, allowed)
    linear = [
        leaf
        for leaf in leaves
        if isinstance(leaf, nn.Linear) and leaf.in_features == leaf.out_features
    ]
    size = 1 if inner is None else checks.size("inner", inner)
    if not linear or len(linear) % size:
        checks.reject(
            "module",
            f"{len(linear)} square Linear layers",
            f"a multiple of {size}, at least {size}",
        )
    return [linear[i : i + size] for i in range(0, len(linear), size)]


def project_matrix(A: np.ndarray, radius: float, norm: float = 2) -> np.ndarray:
    """The nearest matrix (rows, columns) (Frobenius norm) with ‖A‖ <= radius, norm 1, 2 or inf.

    Norm 2: singular values are cut at the radius. Norm inf: each row onto the l1 ball; norm 1: each
    column.
    """
    A = _checked("A", A, 2)
    radius, norm = checks.non_negative("radius", radius), norm_of("norm", norm)
    if norm == 2:
        # above INSIDE * radius, so that projecting twice changes nothing
        accepted = (1 + INSIDE) / 2 * radius
        if np.sqrt(np.sum(A * A)) <= accepted:
            return A
        U, s, V = np.linalg.svd(A, full_matrices=False)
        return A if s[0] <= accepted else U @ (np.minimum(s, INSIDE * radius)[:, None] * V)
    if matrix_norm(A, norm) <= radius:
        return A
    rows = A if norm == np.inf else A.T
    rows = np.stack([project_vector(row, radius, 1) for row in rows])
    return rows if norm == np.inf else rows.T


def project_vector(b: np.ndarray, radius: float, norm: float = 2) -> np.ndarray:
    """The nearest vector (d,) with ‖b‖ <= radius.

    Norm 1: |b_i| is lowered by the θ >= 0 for which Σ max(|b_i| - θ, 0) = radius.
    """
    b = _checked("b", b, 1)
    radius, norm = checks.non_negative("radius", radius), norm_of("norm", norm)
    size = vector_norm(b, norm)
    if size <= radius:
        return b
    if radius == 0:
        return np.zeros_like(b)
    if norm == 2:
        return b * (INSIDE * radius / size)
    if norm == np.inf:
        return np.clip(b, -radius, radius)
    ordered = np.sort(np.abs(b))[::-1]
    excess = (np.cumsum(ordered) - INSIDE * radius) / np.arange(1, b.size + 1)
    theta = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.sign(b) * np.maximum(np.abs(b) - theta, 0)


def _checked(argument: str, value: object, rank: int) -> np.ndarray:
    """Finite numbers of this rank, not empty; an array that is one already is not copied."""
    found = checks.numbers(argument, value)
    if found.ndim != rank or not found.size:
        checks.reject(argument, value, f"finite numbers of rank {rank}, at least one")
    return np.asarray(value, dtype=np.float64)


def _read(parameter: Tensor) -> np.ndarray:
    return np.asarray(parameter.detach().cpu().numpy(), dtype=np.float64)


def _write(parameter: Tensor | None, value: np.ndarray) -> None:
    if parameter is not None:
        import torch

        with torch.no_grad():
            parameter.copy_(torch.as_tensor(value))


def _write_if_moved(parameter: Tensor | None, old: np.ndarray, new: np.ndarray) -> bool:
    if np.array_equal(old, new):
        return False
    _write(parameter, new)
    return True


__all__: Sequence[str] = (
    "Summable",
    "project_matrix",
    "project_vector",
    "square_layers",
    "summable",
)
