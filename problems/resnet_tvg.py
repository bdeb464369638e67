"""Residual network with the Thorpe-van Gennip regularisers and a penalised linear head.

    min Σ_n (W x_n(1) + c - y_n)² + α (∫|K'|² + τ_1 |K(0)|²) + α_b (∫|b'|² + τ_1 |b(0)|²)
        + α_head |W|² + α_c |c|²
    x' = tanh(K(t) x + b(t)),    x_n(0) = the n-th point

with α_b = α and α_c = α_head unless they are given.

The loss is a sum over the data and the penalties carry no ½, so the mean is multiplied by N here
and the weights of the quadratic penalties on the head are doubled. At depth L:
x^{l+1} = x^l + (1/L) tanh(K^l x^l + b^l), and the penalties are L Σ|K^l - K^{l-1}|² + τ_1 |K^0|²
and the same for b.

The data are random points of the square [-1, 1]² with y = x_1 + x_2²: varied labels that no affine
head can give, so that the layers must bend the plane. (With labels that hardly vary, or large α, K
collapses to 0 and rates in the depth mean nothing.) The start is K = I, b = 0, W = (1, 0), c = 0;
it leads to a minimiser with |K| about 1.4 and mean squared error 0.005, J = 0.7905, 0.7719, 0.7617
at L = 4, 8, 16. Other starts find other minimisers.

Source: the model of Thorpe and van Gennip, Research in the Mathematical Sciences 2023 (arXiv
1810.11741); the data are made for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(
    *,
    samples: int = 32,
    alpha: float = 0.1,
    alpha_head: float = 0.1,
    tau1: float = 1.0,
    alpha_b: float | None = None,
    alpha_c: float | None = None,
) -> dnl.ControlProblem:
    x0 = np.random.default_rng(0).uniform(-1.0, 1.0, (checks.whole("samples", samples), 2))

    def loss(x, c, y):
        prediction = c.head_W @ x + c.head_c
        return samples * (prediction - y) ** 2

    return dnl.ControlProblem(
        name="resnet_tvg",
        x0=x0,
        dynamics=dnl.ResNet(2),
        controls={
            "K": dnl.Control((2, 2), initial=np.eye(2)),
            "b": dnl.Control((2,)),
            "head_W": dnl.Control((2,), on="const", initial=[1.0, 0.0]),
            "head_c": dnl.Control((), on="const"),
        },
        terminal=dnl.cost(loss, target=x0[:, 0] + x0[:, 1] ** 2),
        regularisers=[
            dnl.TvG("K", alpha, tau1),
            dnl.TvG("b", alpha if alpha_b is None else alpha_b, tau1),
            dnl.L2("head_W", 2 * alpha_head),
            dnl.L2("head_c", 2 * (alpha_head if alpha_c is None else alpha_c)),
        ],
    )
