"""Convolutions over image patches: a non-local feature map, and DenseNet-style layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.activations import tanh
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import Activation, FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.namespace import namespace


@dataclass(frozen=True)
class Patches:
    """The patches of a signal or image with zero padding.

        P(x)[p, (o, c)] = x[p + o, c],    o over the offsets of the window, 0 outside the image

    x is (positions, channels), P(x) (positions, offsets·channels), so that P(x) Fᵀ with F (out,
    offsets·channels) is a convolution (in torch's orientation). Positions are row-major: one axis
    (length,), two axes (height, width). Built from slices of x as an array (height, width·channels)
    with a margin, so that ranks stay 2.

    Parameters
    ----------
    size : (length,) or (height, width).
    channels : channels of the state.
    window : odd width of the filter, one number for all axes.

    Raises
    ------
    InputError for a size or a number of channels that is not positive, or an even window.
    """

    size: tuple[int, ...]
    channels: int
    window: int = 3

    def __post_init__(self) -> None:
        size = checks.shape_of("Patches.size", self.size)
        if len(size) not in (1, 2) or min(size) < 1:
            checks.reject("Patches.size", self.size, "(length,) or (height, width), each >= 1")
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "channels", checks.size("Patches.channels", self.channels))
        if checks.size("Patches.window", self.window) % 2 == 0:
            checks.reject("Patches.window", self.window, "an odd number")

    @property
    def positions(self) -> int:
        """The number of pixels."""
        return int(np.prod(self.size))

    @property
    def entries(self) -> int:
        """Columns of a patch, offsets·channels."""
        return int(self.window ** len(self.size)) * self.channels

    def rows(self, x: FormulaArray) -> FormulaArray:
        """The state as (positions, channels).

        Raises InputError for a state of another shape.
        """
        shape = (self.positions, self.channels)
        if tuple(x.shape) not in (shape, (self.positions * self.channels,)):
            allowed = f"{shape} or ({self.positions * self.channels},)"
            checks.reject("Patches", f"a state of shape {tuple(x.shape)}", allowed)
        return namespace(x).reshape(x, shape)

    def __call__(self, x: FormulaArray) -> FormulaArray:
        xp = namespace(x)
        c = self.channels
        reach = self.window // 2
        height, width = (*self.size, 1)[:2]
        across = self.window if len(self.size) == 2 else 1
        image = xp.reshape(self.rows(x), (height, width * c))
        if reach:  # a margin of zeros, so that every shifted copy is a slice
            rows = xp.asarray(np.zeros((reach, width * c)))
            image = xp.concat([rows, image, rows])
            if across > 1:
                sides = xp.asarray(np.zeros((height + 2 * reach, reach * c)))
                image = xp.concat([sides, image, sides], axis=1)
        shifted = [
            image[i : i + height, j * c : (j + width) * c]
            for i in range(self.window)
            for j in range(across)
        ]
        return xp.concat([xp.reshape(one, (self.positions, c)) for one in shifted], axis=1)

    def of_all(self, x: FormulaArray) -> FormulaArray:
        """The patches of many states, a tensor (n, *state shape) -> (n, positions, patch)."""
        from torch.nn.functional import pad

        reach, axes = self.window // 2, range(1, 1 + len(self.size))
        y = pad(x.reshape(-1, *self.size, self.channels), (0, 0) + (reach, reach) * len(self.size))
        for axis in axes:
            y = y.unfold(axis, self.window, 1)
        # the axis of the channels, behind which those of the offsets now are
        last = len(self.size) + 1
        y = y.movedim(last, -1)
        return y.reshape(len(x), self.positions, self.entries)


@dataclass(frozen=True)
class Convolution:
    """The feature map F(s, x, u) = σ(P(x) Fᵀ + f), of the shape of x.

    >>> import numpy as np, dnlcontrol as dnl
    >>> convolution = dnl.Convolution((4, 4), channels=1)
    >>> dense = dnl.Dense(16, form="A", feature=convolution, feature_controls=convolution.controls)
    >>> problem = dnl.ControlProblem(x0=np.ones((1, 16)), dynamics=dense)
    >>> problem.controls["F"].shape
    (1, 9)

    Parameters
    ----------
    size, channels, window : as in :class:`Patches`.
    activation : σ.
    """

    size: tuple[int, ...]
    channels: int
    window: int = 3
    activation: Activation = tanh

    def __post_init__(self) -> None:
        self.patches  # noqa: B018  (checks the sizes)
        checks.function("Convolution.activation", self.activation)

    @property
    def patches(self) -> Patches:
        """P."""
        return Patches(self.size, self.channels, self.window)

    @property
    def controls(self) -> Mapping[str, Control]:
        """F starts as the identity (1 at the window's centre), f at 0."""
        return {
            "F": Control((self.channels, self.patches.entries), initial=centre(self.patches)),
            "f": Control((self.channels,)),
        }

    def __call__(self, s: FormulaArray, x: FormulaArray, u: FormulaControls) -> FormulaArray:
        out = self.activation(self.patches(x) @ u.F.T + u.f)
        return namespace(x).reshape(out, tuple(x.shape))


@dataclass(frozen=True)
class DenseNet(Dynamics):
    """Convolutional layers fed by all earlier layers, on states (positions, channels).

        form "B"   x(t) = x0 + σ(∫_0^t W(t,s) * x(s) ds + b(t))
        form "C"   x(t) = x0 + ∫_0^t σ(W(t,s) * x(s) + b(t,s)) ds

    W(t, s) (channels, offsets·channels) on the triangle, * the convolution P(x) Wᵀ of
    :class:`Patches`. A convolution of a concatenation is the sum of convolutions of its parts, so
    form "B" is σ(conv([x^0, ..., x^{l-1}])), the layer of a DenseNet, on top of the input.

    Parameters
    ----------
    size, channels, window : as in :class:`Patches`.
    form : "B" or "C".
    activation : σ.

    Raises
    ------
    InputError for sizes as in :class:`Patches`, a form that is neither, an activation that is no
    function.
    """

    size: tuple[int, ...]
    channels: int
    window: int = 3
    form: str = "B"
    activation: Activation = tanh

    def __post_init__(self) -> None:
        self.patches  # noqa: B018  (checks the sizes)
        checks.choice("DenseNet.form", self.form, ("B", "C"))
        checks.function("DenseNet.activation", self.activation)

    @property
    def patches(self) -> Patches:
        """P."""
        return Patches(self.size, self.channels, self.window)

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """W on the triangle; b on the path (form "B") or the triangle."""
        c = self.channels
        bias = Control((c,), on="t" if self.form == "B" else "ts")
        return {"W": Control((c, self.patches.entries), on="ts"), "b": bias}

    def feature(self, s: FormulaArray, x: FormulaArray, u: FormulaControls) -> FormulaArray:
        """The patches, once for each source layer."""
        return self.patches(x)

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """P(x) Wᵀ, or σ of it with b, (positions, channels)."""
        mixed = y @ u.W.T
        return mixed if self.form == "B" else self.activation(mixed + u.b)

    def batched_feature(self, s: FormulaArray, x: FormulaArray, u: FormulaControls) -> FormulaArray:
        """The patches of all samples, (n, positions, channels) -> (n, positions, patch)."""
        return self.patches.of_all(x)

    @property
    def outer(self) -> UserFormula | None:  # type: ignore[override]
        """g + σ(z + b), (positions, channels), in form "B"."""
        if self.form == "C":
            return None
        return lambda t, g, z, u: g + self.activation(z + u.b)

    def batched(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """All later layers at once.

        y (n, positions, patch), W (m, channels, patch), b (m, channels)
        -> (m, n, positions, channels).

        One product of all m filters with all n patches: products filter by filter have only
        ``channels`` columns, and took 10 times as long (channels = 4, m = 16, 64 images of 8 x 8).
        """
        m, c, patch = u.W.shape
        mixed = u.W.reshape(m * c, patch) @ y.reshape(-1, patch).T
        mixed = mixed.view(m, c, *y.shape[:2]).permute(0, 2, 3, 1)
        return mixed if self.form == "B" else self.activation(mixed + u.b[:, None, None, :])


def centre(patches: Patches) -> np.ndarray:
    """The filter of the identity, (channels, patch)."""
    c = patches.channels
    offsets = patches.entries // c
    return np.concatenate(
        [np.eye(c) if o == offsets // 2 else np.zeros((c, c)) for o in range(offsets)], axis=1
    )
