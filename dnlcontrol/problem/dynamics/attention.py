"""Attention over tokens: a feature map, and dense stacks of layers with learned depth weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.activations import tanh
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import Activation, FormulaArray, FormulaControls
from dnlcontrol.problem.namespace import namespace

VARIANCE_FLOOR = 1e-5  # of layer normalisation, torch's default
# added to a score: its exponential is then 0, in float32 too, and unlike -inf it has derivatives 0
MASKED = -1e30


@dataclass(frozen=True)
class Attention:
    """Multi-head scaled dot-product attention F(s, x, u), x (tokens, channels) or flattened.

        F(x) = [A_1, ..., A_H] O,    A_h = softmax(q_h k_hᵀ / √(c/H)) v_h
        q = x Q,  k = x K,  v = x V

    with c channels, H heads and q_h the h-th block of c/H columns of q; softmax along each row. Q,
    K, V, O are (c, c) path controls. Non-local feature maps of dense networks: Huang, Su, Tai, Wu,
    arXiv 2510.02049.

    Parameters
    ----------
    tokens, channels : the state's shape; a flat state has tokens·channels entries.
    heads : H, a divisor of ``channels``.
    causal : token i sees the tokens 0..i alone: the softmax of row i runs over them.

    Raises
    ------
    InputError for sizes that are not positive integers, or heads that do not divide the channels.

    >>> import numpy as np, dnlcontrol as dnl
    >>> attention = dnl.Attention(tokens=3, channels=2)
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones((1, 6)),
    ...     dynamics=dnl.Dense(6, form="A", feature=attention, feature_controls=attention.controls),
    ... )
    >>> sorted(problem.controls)
    ['K', 'O', 'Q', 'V', 'W', 'b']
    """

    tokens: int
    channels: int
    heads: int = 1
    causal: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "channels", "heads"):
            object.__setattr__(self, name, checks.size(f"Attention.{name}", getattr(self, name)))
        checks.flag("Attention.causal", self.causal)
        if self.channels % self.heads:
            checks.reject("Attention.heads", self.heads, f"a divisor of channels = {self.channels}")

    @property
    def controls(self) -> Mapping[str, Control]:
        """Q, K, V and O, which start as identities."""
        c = self.channels
        return {name: Control((c, c), on="t", initial=np.eye(c)) for name in ("Q", "K", "V", "O")}

    def __call__(self, s: FormulaArray, x: FormulaArray, u: FormulaControls) -> FormulaArray:
        xp = namespace(x)
        shape = (self.tokens, self.channels)
        if tuple(x.shape) not in (shape, (self.tokens * self.channels,)):
            checks.reject(
                "Attention",
                f"a state of shape {tuple(x.shape)}",
                f"{shape} or ({self.tokens * self.channels},)",
            )
        rows = xp.reshape(x, shape)
        q = rows @ u.Q
        k = rows @ u.K
        v = rows @ u.V
        width = self.channels // self.heads
        blocks = [slice(h * width, (h + 1) * width) for h in range(self.heads)]
        scores = [q[:, b] @ k[:, b].T / math.sqrt(width) for b in blocks]
        if self.causal:
            later = xp.asarray(MASKED * np.triu(np.ones((self.tokens, self.tokens)), 1))
            scores = [score + later for score in scores]
        parts = [
            xp.softmax(score, axis=1) @ v[:, b] for score, b in zip(scores, blocks, strict=True)
        ]
        return xp.reshape(xp.concat(parts, axis=1) @ u.O, tuple(x.shape))


@dataclass(frozen=True)
class DenseTransformer(Dynamics):
    """A dense stack of attention layers that adds up all earlier ones with learned weights.

        x(t) = x0 + ∫_0^t a(t, s) [A(y(s)) + σ(y(s) M + m) N] ds,    y = normalise(x)

    on states (tokens, channels): A is :class:`Attention`, M (channels, hidden), m (hidden,), N
    (hidden, channels) act on each token, a(t, s) is a number for each pair of times. a = 1 is the
    residual stack x^{l+1} = x^l + τ (A + feed-forward), an O(L) recursion only when a is left out.

    Parameters
    ----------
    tokens, channels, heads : as in :class:`Attention`.
    hidden : width of the feed-forward part; 0 leaves it out.
    activation : σ.
    normalise : subtract each token's mean and divide by its standard deviation, without gain and
        offset; with two channels little more than the sign of their difference, which makes the
        problem stiff.
    depth_weights : False fixes a = 1.
    causal : as in :class:`Attention`; with it, token i of x(t) reads tokens 0..i alone at every
        depth.

    Raises
    ------
    InputError for sizes as in :class:`Attention`, or an activation that is no function.
    """

    tokens: int
    channels: int
    heads: int = 1
    hidden: int = 0
    activation: Activation = tanh
    normalise: bool = False
    depth_weights: bool = True
    causal: bool = False

    def __post_init__(self) -> None:
        self.attention  # noqa: B018  (checks the sizes)
        checks.size("DenseTransformer.hidden", self.hidden, 0)
        checks.function("DenseTransformer.activation", self.activation)
        for name in ("normalise", "depth_weights", "causal"):
            checks.flag(f"DenseTransformer.{name}", getattr(self, name))

    @property
    def attention(self) -> Attention:
        """Its attention, a feature map."""
        return Attention(self.tokens, self.channels, self.heads, self.causal)

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """Q, K, V, O; M, m, N of the feed-forward part; a on the triangle."""
        c, h = self.channels, self.hidden
        controls = dict(self.attention.controls)
        if h:  # N = 0: the feed-forward part starts as zero, M = identity lets its gradient through
            controls |= {
                "M": Control((c, h), initial=np.eye(c, h)),
                "m": Control((h,)),
                "N": Control((h, c)),
            }
        if self.depth_weights:
            controls["a"] = Control((), on="ts", initial=1.0)
        return controls

    def feature(self, s: FormulaArray, x: FormulaArray, u: FormulaControls) -> FormulaArray:
        """A(y) + σ(y M + m) N, (tokens, channels)."""
        y = normalised(x) if self.normalise else x
        out = self.attention(s, y, u)
        return out + self.activation(y @ u.M + u.m) @ u.N if self.hidden else out

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """a(t, s) y, (tokens, channels)."""
        return u.a * y if self.depth_weights else y

    def batched(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """y (n, tokens, channels), a (m,) -> (m, n, tokens, channels)."""
        return u.a.view(-1, 1, 1, 1) * y if self.depth_weights else y.unsqueeze(0)


def normalised(x: FormulaArray) -> FormulaArray:
    """Each row of x (tokens, channels) minus its mean, over √(its variance + 1e-5)."""
    xp = namespace(x)
    centred = x - xp.reshape(xp.mean(x, axis=1), (-1, 1))
    return centred / xp.reshape(xp.sqrt(xp.mean(centred**2, axis=1) + VARIANCE_FLOOR), (-1, 1))
