"""A stack of layers: finite, from arrays, or infinite, from a rule n -> (W_n, b_n).

    plain      x^n = σ(W_n x^(n-1) + b_n)
    residual   z_0 = x,  z_m = σ(W^{n,m} z_{m-1} + b^{n,m}) for m < M,
               x' = σ(x + W^{n,M} z_{M-1} + b^{n,M})
    open       the same without the outer σ

Layers are counted from 1. W_n is a matrix, a Convolution or a Toeplitz map; it may widen (states
are compared after zero padding). σ is ReLU, leaky ReLU of slope 0 <= a <= 1, or any function with a
declared Lipschitz constant. Two numbers describe a layer as a perturbation of σ(x):

    plain      p_n = ‖W_n - I‖,         β_n = ‖b_n‖
    residual   p_n = Π_m ‖W^{n,m}‖,     β_n = Σ_m (Π_{j>m} ‖W^{n,j}‖) ‖b^{n,m}‖

so that the argument of the outer σ is x + e with ‖e‖ <= p_n ‖x‖ + β_n. Without the outer σ this is
x' itself, and everything that is known of the slope a = 1 holds. Idea of the plain form: Xu,
Zhang, arXiv 2107.12530; of the residual form: Huang, Zhang, arXiv 2205.06571.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail, as_tail
from dnlcontrol.limits.infinite_depth.operators import Matrix, Operator, as_operator
from dnlcontrol.limits.infinite_depth.rounding import up, vector_norm

Weight = Operator | ArrayLike
Bias = ArrayLike | None
Rule = Callable[[int], "tuple[Weight | Sequence[Weight], Bias | Sequence[Bias]]"]


@dataclass(frozen=True)
class Activation:
    """max(u, slope u), or a function of arrays, entry by entry, with a Lipschitz constant."""

    slope: float = 0.0
    function: Callable[[np.ndarray], np.ndarray] | None = None
    lipschitz: float = 1.0

    @property
    def piecewise_linear(self) -> bool:
        return self.function is None

    def __call__(self, u: np.ndarray) -> np.ndarray:
        if self.function is not None:
            return np.asarray(self.function(u), dtype=np.float64)
        return np.where(u > 0, u, self.slope * u)

    def derivative(self, u: np.ndarray) -> np.ndarray:
        """1 where u > 0, the slope elsewhere, (rows,): the diagonal of the activation matrix J."""
        return np.where(u > 0, 1.0, self.slope)


@dataclass(frozen=True, eq=False)
class Layer:
    """x -> σ(W x + b)."""

    weight: Operator
    shift: np.ndarray
    _gains: dict[float, float] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        return self.weight.rows

    @property
    def columns(self) -> int:
        return self.weight.columns

    def before(self, x: np.ndarray, sigma: Activation) -> np.ndarray:
        """The argument of the outer σ, (..., columns) -> (..., rows)."""
        return self.weight.apply(x) + self.shift

    def after(self, x: np.ndarray, sigma: Activation) -> np.ndarray:
        """The layer's output, (..., columns) -> (..., rows)."""
        return sigma(self.before(x, sigma))

    def perturbation(self, norm: float) -> float:
        """p_n."""
        return self.weight.off_identity(norm)

    def bias(self, norm: float) -> float:
        """β_n."""
        return vector_norm(self.shift, norm)

    def gain(self, norm: float) -> float:
        """A Lipschitz constant of the argument of the outer σ.

        Also ‖·‖ <= gain ‖x‖ + β_n for it.
        """
        if norm not in self._gains:
            self._gains[norm] = self.weight.norm(norm)
        return self._gains[norm]

    def step_rounding(self, x: np.ndarray, sigma: Activation, norm: float) -> float:
        """A bound of the rounding error of one evaluation at the exact x.

        It is (terms + 6) EPS ‖|W||x| + |b|‖.
        """
        size = self.weight.absolute().apply(np.abs(x)) + np.abs(self.shift)
        return float(
            up(
                (self.weight.terms + 6) * np.finfo(float).eps * vector_norm(size, norm),
                self.weight.terms + 8,
            )
        )


@dataclass(frozen=True, eq=False)
class Block:
    """x -> σ(x + W^M z_{M-1} + b^M) with z_m = σ(W^m z_{m-1} + b^m), z_0 = x.

    ``outer``: whether there is the outer σ.
    """

    inner: tuple[Layer, ...]
    outer: bool = True

    @property
    def rows(self) -> int:
        return self.inner[-1].rows

    @property
    def columns(self) -> int:
        return self.inner[0].columns

    def before(self, x: np.ndarray, sigma: Activation) -> np.ndarray:
        z = x
        for layer in self.inner[:-1]:
            z = sigma(layer.before(z, sigma))
        return x + self.inner[-1].before(z, sigma)

    def after(self, x: np.ndarray, sigma: Activation) -> np.ndarray:
        return sigma(self.before(x, sigma)) if self.outer else self.before(x, sigma)

    def perturbation(self, norm: float) -> float:
        product = 1.0
        for layer in self.inner:
            product = float(up(product * layer.gain(norm)))
        return product

    def bias(self, norm: float) -> float:
        total, product = 0.0, 1.0
        for layer in reversed(self.inner):
            total = float(up(total + product * layer.bias(norm), 2))
            product = float(up(product * layer.gain(norm)))
        return total

    def gain(self, norm: float) -> float:
        return float(up(1.0 + self.perturbation(norm)))

    def increment(self) -> tuple[np.ndarray, np.ndarray]:
        """A = W^M...W^1, (rows, columns), and c = Σ_m W^M...W^{m+1} b^m, (rows,).

        The branch is A x + c where no inner activation cuts.
        """
        A, c = np.eye(self.columns), np.zeros(self.columns)
        for layer in self.inner:
            W = layer.weight.matrix()
            A, c = W @ A, W @ c + layer.shift
        return A, c

    def as_plain(self) -> Layer | None:
        """The plain layer σ((I + W) x + b) that a block with one inner layer is; None for more."""
        if len(self.inner) > 1:
            return None
        A, c = self.increment()
        return Layer(Matrix(np.eye(len(A)) + A), c)

    def step_rounding(self, x: np.ndarray, sigma: Activation, norm: float) -> float:
        z, error = x, 0.0
        for layer in self.inner:
            local = layer.step_rounding(z, sigma, norm)
            error = float(up(layer.gain(norm) * error + local, 2))
            pre = layer.before(z, sigma)
            z = sigma(pre)
        size = vector_norm(x, norm) + vector_norm(pre, norm)
        return float(up(error + 4 * np.finfo(float).eps * size, 4))


class Stack:
    """A stack of layers.

    Parameters
    ----------
    weights : W_1..W_N, each a matrix (rows, columns), Convolution or Toeplitz; for ``residual``
        each is a list of the M inner weights of a block.
    biases : b_1..b_N in the same nesting; None is 0, for one layer or for all.
    residual : whether x is added before the outer activation. A single array (rows, columns),
        Convolution or Toeplitz among the lists is then a plain layer, such as a first layer that
        changes the width.
    slope : a of the leaky activation max(u, a u), 0 <= a <= 1; 0 is ReLU.
    activation, lipschitz : another function of arrays, entry by entry, and its Lipschitz constant.
    outer : False leaves out the outer activation of residual blocks, of all layers.
    tail, minorant : declared bounds of p_k and β_k beyond the last layer (see ``certify``).

    >>> Stack([np.eye(2), 0.5 * np.eye(2)])(np.array([1.0, -1.0]))
    array([0.5, 0. ])
    """

    def __init__(
        self,
        weights: Sequence[Weight | Sequence[Weight]],
        biases: Sequence[Bias | Sequence[Bias]] | None = None,
        *,
        residual: bool = False,
        slope: float = 0.0,
        activation: Callable[[np.ndarray], np.ndarray] | None = None,
        lipschitz: float | None = None,
        outer: bool = True,
        tail: Tail | Bound | None = None,
        minorant: Tail | Bound | None = None,
    ) -> None:
        self._settings(residual, slope, activation, lipschitz, tail, minorant, outer=outer)
        weights = list(weights)
        biases = [None] * len(weights) if biases is None else list(biases)
        if not weights or len(biases) != len(weights):
            checks.reject(
                "weights, biases",
                f"{len(weights)} and {len(biases)}",
                "as many biases as weights, at least 1",
            )
        layers = [
            self._made(n, W, b) for n, (W, b) in enumerate(zip(weights, biases, strict=True), 1)
        ]
        for n, (one, two) in enumerate(pairwise(layers), 1):
            if two.columns != one.rows:
                checks.reject(
                    f"weights of layer {n + 1}",
                    f"{two.columns} columns",
                    f"{one.rows}, the rows of layer {n}",
                )
        self.depth: int | None = len(layers)
        self._layers: dict[int, Layer | Block] = dict(enumerate(layers, 1))
        self._rule: Rule | None = None

    def _settings(
        self,
        residual: bool,
        slope: float,
        activation: Callable[[np.ndarray], np.ndarray] | None,
        lipschitz: float | None,
        tail: Tail | Bound | None,
        minorant: Tail | Bound | None,
        *,
        outer: bool,
    ) -> None:
        self.residual = bool(residual)
        if not isinstance(outer, bool):
            checks.reject_type("outer", outer, "True or False")
        if not (outer or self.residual):
            checks.reject("outer", outer, "True for plain layers; residual=True")
        self.outer = outer
        if not 0 <= checks.real("slope", slope) <= 1:
            checks.reject("slope", slope, "a number from 0 to 1")
        if activation is None:
            if lipschitz is not None:
                checks.reject(
                    "lipschitz", lipschitz, "None without activation=; it is 1 for max(u, slope u)"
                )
            self.activation = Activation(float(slope))
        else:
            if lipschitz is None:
                checks.reject("lipschitz", None, "the Lipschitz constant of activation")
            if self.residual:
                checks.reject("residual", residual, "False with an activation of one's own")
            checks.function("activation", activation)
            self.activation = Activation(
                0.0, activation, checks.non_negative("lipschitz", lipschitz)
            )
        self.tail: Tail = as_tail("tail", tail)
        self.minorant: Tail = as_tail("minorant", minorant)

    def _made(self, n: int, weight: Any, bias: Any) -> Layer | Block:
        name = f"weights of layer {n}"
        if (
            not self.residual
            or isinstance(weight, Operator)
            or (isinstance(weight, np.ndarray) and weight.ndim == 2)
        ):
            if not self.outer:
                checks.reject(name, "a plain layer", "residual blocks alone, with outer=False")
            operator = as_operator(name, weight)
            return Layer(operator, operator.bias(f"bias of layer {n}", bias))
        weights = list(weight)
        biases = [None] * len(weights) if bias is None else list(bias)
        if not weights or len(biases) != len(weights):
            checks.reject(
                name,
                f"{len(weights)} weights, {len(biases)} biases",
                "lists of the M inner weights and biases",
            )
        inner: list[Layer] = []
        for m, (W, b) in enumerate(zip(weights, biases, strict=True), 1):
            operator = as_operator(f"{name}, inner {m}", W)
            if inner and operator.columns != inner[-1].rows:
                checks.reject(
                    f"{name}, inner {m}", f"{operator.columns} columns", f"{inner[-1].rows}"
                )
            inner.append(Layer(operator, operator.bias(f"bias of layer {n}, inner {m}", b)))
        if inner[-1].rows != inner[0].columns:
            checks.reject(
                name, f"{inner[0].columns} -> {inner[-1].rows}", "a block keeps the width"
            )
        return Block(tuple(inner), self.outer)

    def layer(self, n: int) -> Layer | Block:
        """Layer n, n = 1, 2, ... (a rule is called each time).

        Raises
        ------
        InputError beyond a finite stack, and for what the rule may not return.
        """
        if self._rule is None:
            if n not in self._layers:
                checks.reject("layer", n, f"1 to {self.depth}")
            return self._layers[n]
        made = self._rule(n)
        if not isinstance(made, tuple) or len(made) != 2:
            checks.reject_type(
                f"rule({n})", made, "a pair (W, b); for residual stacks (list of W, list of b)"
            )
        return self._made(n, *made)

    @property
    def width(self) -> int:
        """The length of the input."""
        return self.layer(1).columns

    def whole_depth(self, depth: int | None) -> int:
        """A depth this stack has; None is all of a finite stack.

        Raises
        ------
        InputError beyond a finite stack, and for None where a rule gives the layers.
        """
        if depth is None:
            if self.depth is None:
                checks.reject("depth", None, "an integer >= 0, for a stack given by a rule")
            return self.depth
        checks.whole("depth", depth, 0)
        if self.depth is not None and depth > self.depth:
            checks.reject("depth", depth, f"0 to {self.depth}, the layers given")
        return int(depth)

    def __call__(self, x: ArrayLike, depth: int | None = None) -> np.ndarray:
        """N_n(x), n = depth, for x of shape (..., width)."""
        state = np.atleast_1d(checks.numbers("x", x))
        if state.shape[-1] != self.width:
            checks.reject("x", state, f"shape (..., {self.width})")
        for n in range(1, self.whole_depth(depth) + 1):
            layer = self.layer(n)
            if layer.columns != state.shape[-1]:
                checks.reject(
                    f"rule({n})",
                    f"{layer.columns} columns",
                    f"{state.shape[-1]}, the rows of layer {n - 1}",
                )
            state = layer.after(state, self.activation)
        return state


def from_rule(
    rule: Rule,
    *,
    tail: Tail | Bound | None = None,
    minorant: Tail | Bound | None = None,
    residual: bool = False,
    slope: float = 0.0,
    activation: Callable[[np.ndarray], np.ndarray] | None = None,
    lipschitz: float | None = None,
    outer: bool = True,
) -> Stack:
    """The infinite stack of a rule n -> (W_n, b_n), n >= 1.

    Residual: n -> (list of W, list of b). b may be None. ``tail`` declares majorants of p_k and
    β_k, ``minorant`` minorants: a Tail, or one bound for both.

    Raises
    ------
    InputError for bad settings; ``layer`` and ``certify`` raise it for layers of wrong shapes.

    >>> from_rule(lambda n: (1 + 1 / n**2, None))(1.0, depth=3).round(6)
    array([2.777778])
    """
    stack = Stack.__new__(Stack)
    stack._settings(residual, slope, activation, lipschitz, tail, minorant, outer=outer)
    stack.depth = None
    stack._layers = {}
    stack._rule = checks.function("rule", rule)
    return stack
