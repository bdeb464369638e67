"""Images classified by a DenseNet: every convolutional layer is fed by all earlier ones.

    scaled   x(t) = x_0 + σ(∫_0^t W(t,s) * x(s) ds + b(t)),
             that is x^l = x_0 + σ(τ Σ_{s<l} W^{l,s} * x^s + b^l),
             penalty (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹} + |head_W|² + |head_c|²)
    plain    x^l = x_0 + σ(Σ_{s<l} W^{l,s} * x^s + b^l), weight decay (α/2) Σ |w|² over all weights

and min (1/N) Σ_n cross-entropy(head_W x_n^L + head_c, y_n) + penalty, with σ = tanh. The plain
network is the same equation on [0, L], where the step τ is 1: give `plain` the depth L that it is
solved at.

The images are averaged over blocks to `side` x `side` pixels, each channel is standardised, and
channels of zeros are added up to `channels`. The first `samples` training images are used. W starts
as a smooth random function (scaled), or entry by entry with the variance 1/(fan-in of a layer)
(plain); the head starts at 0.

Source: the model is that of Huang, Su, Tai, Wu, arXiv 2510.02049, with convolutions; the digits
data are scikit-learn's, other images (an .npz file, CIFAR-10, SVHN) are read from the path `data`,
see dnl.images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks

WINDOW = 3


def problem(
    *,
    data: Any = "digits",
    samples: int | None = 256,
    side: int = 8,
    channels: int = 4,
    plain: int = 0,
    alpha: float = 1e-3,
    seed: int = 0,
) -> dnl.ControlProblem:
    """`plain`: 0 for the scaled network, or the depth L of the plain one."""
    found = data if isinstance(data, dnl.Images) else dnl.images(data)
    found = found.first(samples)
    depth, alpha = checks.whole("plain", plain, 0), checks.non_negative("alpha", alpha)
    names, penalty = ("W", "b", "head_W", "head_c"), dnl.L2 if depth else dnl.H1
    entries = WINDOW**2 * channels  # of one filter
    start = independent(depth, channels, seed) if depth else dnl.smooth_random(seed, entries**-0.5)
    return dnl.ControlProblem(
        name="densenet_images",
        horizon=depth or 1.0,
        x0=found.states(side, channels)[0],
        dynamics=dnl.DenseNet((side, side), channels, WINDOW),
        controls={"W": dnl.Control((channels, entries), on="ts", initial=start)},
        terminal=dnl.losses.cross_entropy(
            found.y_train,
            head=dnl.head(len(found.classes), side * side * channels),
            classes=len(found.classes),
        ),
        regularisers=[penalty(name, alpha) for name in names],
    )


def independent(depth: int, channels: int, seed: int) -> Any:
    """W^{l,s} of the plain network: independent normals, variance 1/(l · entries of a filter).

    A function of the control's position ((l - ½), (s + ½)), since that is how a control is started
    on its grid.
    """
    shape = (depth, depth, channels, WINDOW**2 * channels)
    values = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[-1])

    def start(t: float, s: float) -> np.ndarray:
        later = min(int(t), depth - 1)  # l - 1
        return np.asarray(values[later, min(int(s), depth - 1)] / np.sqrt(later + 1.0))

    return start
