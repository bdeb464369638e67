"""How far is the sweep from the speed of its matrix products, and from autograd?

Value and gradient of dense form C (tanh, bias, terminal cost) against

- a lower bound, ``Bound``: the four matrix products per column and two passes of the activation at
  the same shapes, with preallocated outputs, on chunks of samples and pieces of columns of the best
  size; nothing else;
- autograd on samples as stacked rows, ``by_columns`` and ``by_rows`` (the faster counts):
  parameters in the precision and the layout that suit it, gradients left where autograd puts them.

Ours is timed from the flat float64 control to the flat float64 gradient. First comes the same
against one loop in C (fused_sweep.c), where gcc is there to compile it, at small widths too, where
calls cost more than numbers. Form A, whose columns are one product each, against autograd written
in the same two ways. Then a Hessian product over a
gradient, and a user's formula through vmap over the same network's batched version, both as
``dnl.Volterra``. Medians of interleaved runs, sweep and bound, then sweep and autograd; with one
thread seconds are of processor time, which other processes on the machine disturb less.

    python benchmarks/04_sweep_speed.py [--tiny] [--threads 2] [--repeats 5]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import compiled
import numpy as np
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.host.activation import fastest_tanh
from dnlcontrol.backends.adjoint.host.memory import Shared

FLOATS = {"float32": torch.float32, "float64": torch.float64}


class Bound:
    """Four products per column and two passes of tanh."""

    def __init__(self, L: int, d: int, N: int, dtype: torch.dtype, chunk: int, rows: int) -> None:
        self.W = [0.1 * torch.randn((L - s) * d, d, dtype=dtype) for s in range(L)]
        self.gradients = [torch.empty_like(W) for W in self.W]
        self.states = [torch.randn(d, chunk, dtype=dtype) for _ in range(L)]
        self.costate, self.buffer = (
            torch.empty(d, chunk, dtype=dtype),
            torch.empty(rows, chunk, dtype=dtype),
        )
        self.chunks, self.rows = N // chunk, rows

    def __call__(self) -> None:
        for _ in range(self.chunks):
            for W, x in zip(self.W, self.states, strict=True):
                for part in W.split(self.rows):
                    h = self.buffer[: len(part)]
                    self.activations(part, x, h)
            for W, x, gradient in zip(self.W, self.states, self.gradients, strict=True):
                for part, out in zip(W.split(self.rows), gradient.split(self.rows), strict=True):
                    h = self.buffer[: len(part)]
                    self.activations(part, x, h)
                    torch.mm(part.T, h, out=self.costate)
                    torch.mm(h, x.T, out=out)

    def activations(self, W: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> None:
        """h <- tanh(W x), by the fastest tanh of this processor."""
        torch.mm(W, x, out=h)
        shared = Shared(h.numpy())
        fastest_tanh(shared.array.dtype.name)(shared)()


def by_columns(
    L: int, W: list[torch.Tensor], b: list[torch.Tensor], x0: torch.Tensor
) -> torch.Tensor:
    """The final states: column s is one product, what the later layers have so far one tensor."""
    d = x0.shape[1]
    g = x0.T
    z = torch.zeros(L * d, len(x0), dtype=x0.dtype)
    x = g
    for s in range(L):
        z = z.add(torch.tanh(torch.addmm(b[s].unsqueeze(1), W[s], x)), alpha=1 / L)
        head, z = z.split([d, (L - s - 1) * d])
        x = g + head
    return x.T


def by_rows(L: int, W: list[torch.Tensor], b: list[torch.Tensor], x0: torch.Tensor) -> torch.Tensor:
    """The final states: layer l is one batched product with all earlier states.

    W[l] is (l+1, d, d), of layer l + 1.
    """
    states = [x0]
    for l in range(L):
        mixed = torch.baddbmm(b[l].unsqueeze(1), torch.stack(states), W[l])
        states.append(x0 + torch.tanh(mixed).sum(0) / L)
    return states[-1]


def mixing_by_columns(
    L: int, W: list[torch.Tensor], b: list[torch.Tensor], x0: torch.Tensor
) -> torch.Tensor:
    """Form A: column s adds one product to what all later layers have so far; b[l] of layer l."""
    d = x0.shape[1]
    z, x = torch.zeros(L * d, len(x0), dtype=x0.dtype), x0.T + b[0].unsqueeze(1)
    for s in range(L):
        head, z = torch.addmm(z, W[s], torch.tanh(x), alpha=1 / L).split([d, (L - s - 1) * d])
        x = x0.T + head + b[s + 1].unsqueeze(1)
    return x.T


def mixing_by_rows(
    L: int, W: list[torch.Tensor], b: list[torch.Tensor], x0: torch.Tensor
) -> torch.Tensor:
    """Form A: layer l is one product with all earlier features as one row.

    W[l] is ((l+1) d, d), of layer l + 1.
    """
    features, x = [], x0 + b[0]
    for l in range(L):
        features.append(torch.tanh(x))
        x = torch.addmm(x0 + b[l + 1], torch.cat(features, dim=1), W[l], alpha=1 / L)
    return x


def mixing(
    final: Callable[..., torch.Tensor], L: int, d: int, x0: torch.Tensor
) -> Callable[[], None]:
    shapes = [
        ((L - s) * d, d) if final is mixing_by_columns else ((s + 1) * d, d) for s in range(L)
    ]
    W = [(0.1 * torch.randn(shape, dtype=x0.dtype)).requires_grad_() for shape in shapes]
    b = [(0.1 * torch.randn(d, dtype=x0.dtype)).requires_grad_() for _ in range(L + 1)]
    return lambda: _backward(final, L, W, b, x0)


def _backward(
    final: Callable[..., torch.Tensor], L: int, W: list, b: list, x0: torch.Tensor
) -> None:
    for parameter in (*W, *b):
        parameter.grad = None
    (final(L, W, b, x0) ** 2).sum(1).mean().backward()


def autograd(
    final: Callable[..., torch.Tensor], L: int, d: int, x0: torch.Tensor
) -> Callable[[], None]:
    sizes = [L - s if final is by_columns else s + 1 for s in range(L)]
    shape = (
        ((lambda m: (m * d, d)), (lambda m: (m * d,)))
        if final is by_columns
        else ((lambda m: (m, d, d)), (lambda m: (m, d)))
    )
    W, b = (
        [(0.1 * torch.randn(f(m), dtype=x0.dtype)).requires_grad_() for m in sizes] for f in shape
    )

    return lambda: _backward(final, L, W, b, x0)


def dense(L: int, d: int, N: int, dynamics: dnl.Dynamics | None = None, **options: object) -> tuple:
    """An evaluator of the dense network and a control."""
    rng = np.random.default_rng(0)
    controls = (
        {}
        if dynamics is None or dynamics.own_controls
        else {"W": dnl.Control((d, d), on="ts"), "b": dnl.Control((d,), on="ts")}
    )
    problem = dnl.ControlProblem(
        x0=rng.standard_normal((N, d)),
        dynamics=dynamics or dnl.Dense(d),
        controls=controls,
        terminal=dnl.losses.squared(np.zeros((N, d))),
    )
    discrete = dnl.discretise(problem, L)
    return Evaluator(discrete, stored=False, **options), 0.1 * rng.standard_normal(
        discrete.space.size
    )


def timed(run: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    run()
    return clock() - began


def medians(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Seconds of each, run in turn after one run that warms up."""
    for run in runs:
        run()
    seconds = [[timed(run) for run in runs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def best_bound(L: int, d: int, N: int, dtype: torch.dtype) -> tuple[Bound, str]:
    """The fastest size of chunks and pieces."""
    sizes = itertools.product([n for n in (128, 256, 512) if N % n == 0] or [N], (1024, L * d))
    tried = []
    for chunk, rows in sizes:
        bound = Bound(L, d, N, dtype, chunk, min(rows, L * d))
        bound()
        tried.append((timed(bound), f"{chunk} x {min(rows, L * d)}", bound))
    return min(tried, key=lambda t: t[0])[2], min(tried)[1]


def against_the_bound(sizes: list[tuple[int, int, int]], dtype: str, repeats: int) -> None:
    print(
        f"{dtype:8}   L   d    N    bound/s  sweep/s  autograd/s  sweep/bound  autograd/sweep  "
        "bound's pieces"
    )
    for L, d, N in sizes:
        bound, pieces = best_bound(L, d, N, FLOATS[dtype])
        evaluator, w = dense(L, d, N, dtype=dtype)
        x0 = torch.randn(N, d, dtype=FLOATS[dtype])
        peers = [autograd(f, L, d, x0) for f in (by_columns, by_rows)]
        run = lambda e=evaluator, w=w: e.value_and_gradient(w)  # noqa: E731
        # autograd's gigabyte, freed between runs, would slow the next
        lowest, ours = medians(repeats, bound, run)
        beside, *theirs = medians(repeats, run, *peers)
        print(
            f"{'':8} {L:3d} {d:3d} {N:4d} {lowest:10.4f} {ours:8.4f} {min(theirs):11.4f} "
            f"{ours / lowest:12.2f} "
            f"{min(theirs) / beside:15.2f}  {pieces}",
            flush=True,
        )


def against_c(sizes: list[tuple[int, int, int]], repeats: int) -> None:
    """Gradients at two controls in turn, so that nothing is known of the next, and products."""
    print("float64    L   d    N        C/s  gradient/s  product/s  gradient/C  product/gradient")
    for L, d, N in sizes:
        evaluator, w = dense(L, d, N)
        direction = np.random.default_rng(1).standard_normal(len(w))
        controls = itertools.cycle([w, 0.5 * w])
        runs = [
            lambda e=evaluator, c=controls: e.value_and_gradient(next(c)),
            lambda e=evaluator, w=w, v=direction: e.hessian_product(w, v),
        ]
        if compiled.compiler() is None:
            ours, product = medians(repeats, *runs)
            print(
                f"{'':8} {L:3d} {d:3d} {N:4d} {'no gcc':>10} {ours:11.5f} {product:10.5f} "
                f"{'':11} {product / ours:17.2f}"
            )
            continue
        fused = compiled.FusedSweep(evaluator.discrete)
        agree(fused(w), evaluator.value_and_gradient(w))
        theirs, ours, product = medians(repeats, lambda f=fused, w=w: f(w), *runs)
        print(
            f"{'':8} {L:3d} {d:3d} {N:4d} {theirs:10.5f} {ours:11.5f} {product:10.5f} "
            f"{ours / theirs:11.2f} {product / ours:17.2f}",
            flush=True,
        )


def agree(found: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> None:
    """Both are of one problem: sums in another order."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.max(np.abs(b)))


def form_a(sizes: list[tuple[int, int, int]], repeats: int) -> None:
    """Linear mixing of features: one tanh a layer, so that the products are nearly all there is."""
    print("form A      L   d    N  sweep/s  autograd/s  autograd/sweep")
    for (L, d, N), dtype in itertools.product(sizes, FLOATS):
        evaluator, w = dense(L, d, N, dnl.Dense(d, "A"), dtype=dtype)
        x0 = torch.randn(N, d, dtype=FLOATS[dtype])
        peers = [mixing(f, L, d, x0) for f in (mixing_by_columns, mixing_by_rows)]
        ours, *theirs = medians(repeats, lambda e=evaluator, w=w: e.value_and_gradient(w), *peers)
        print(
            f"{dtype:8} {L:4d} {d:3d} {N:4d} {ours:8.4f} {min(theirs):11.4f} "
            f"{min(theirs) / ours:15.2f}",
            flush=True,
        )


def hessian_over_gradient(sizes: list[tuple[int, int, int]], repeats: int) -> None:
    print("form          L   d    N  gradient/s  Hessian product/s  ratio")
    for form, (L, d, N), dtype in itertools.product("CA", sizes, FLOATS):
        evaluator, w = dense(L, d, N, dnl.Dense(d, form), dtype=dtype)
        direction = np.random.default_rng(1).standard_normal(len(w))
        first, second = medians(
            repeats,
            lambda e=evaluator, w=w: e.value_and_gradient(w),
            lambda e=evaluator, w=w, v=direction: e.hessian_product(w, v),
        )
        print(
            f"{form} {dtype:8} {L:4d} {d:3d} {N:4d} {first:10.4f} {second:17.4f} "
            f"{second / first:7.2f}",
            flush=True,
        )


def formula_over_batched(sizes: list[tuple[int, int, int]], repeats: int) -> None:
    """A user's tanh(W y + b), by vmap and by an own batched version, and the built-in one."""

    def kernel(t, s, y, u):
        return dnl.tanh(u.W @ y + u.b)

    def batched(t, s, y, u):
        return torch.tanh(y @ u.W.transpose(1, 2) + u.b.unsqueeze(1))

    print("          L   d    N  formula/s  batched/s  built-in/s  formula/batched")
    for L, d, N in sizes:
        found = [
            dense(L, d, N, k)
            for k in (dnl.Volterra(kernel), dnl.Volterra(kernel, batched=batched), None)
        ]
        runs = [lambda e=e, w=w: e.value_and_gradient(w) for e, w in found]
        mapped, own, built_in = medians(repeats, *runs)
        print(
            f"float64  {L:3d} {d:3d} {N:4d} {mapped:9.4f} {own:10.4f} {built_in:11.4f} "
            f"{mapped / own:16.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    repeats = 1 if given.tiny else given.repeats
    large = [(4, 3, 8)] if given.tiny else [(128, 64, 512), (128, 16, 256)]
    small = [(4, 3, 8)] if given.tiny else [(64, 2, 64), (64, 4, 150), (64, 16, 256)]
    fused = [(4, 3, 8)] if given.tiny else [(64, 2, 64), (256, 2, 64), (64, 4, 150), (128, 16, 256)]
    print(f"{given.threads} threads, medians of {repeats}")
    against_c(fused, repeats)
    against_the_bound(large, "float32", repeats)
    form_a(large, repeats)
    hessian_over_gradient(small, repeats)
    formula_over_batched(small if given.tiny else [*small, (64, 32, 256)], repeats)


if __name__ == "__main__":
    main()
