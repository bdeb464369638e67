"""How much cheaper is the nested Newton method than optimisers on autograd? Spirals, α = 1e-2.

All start from the same samples, the minimiser of depth L/2 prolonged to L, and go on to a
stationarity of 1e-8 (dual norm, the library's measure). Peers: torch.optim.LBFGS (strong Wolfe,
history 20) and Adam, with J written in PyTorch (one batched kernel call for each source layer) and
differentiated by autograd. A unit is one value and gradient, of each method's own code; our Hessian
products count their measured cost, at least 2. Seconds are processor time of one thread; the peers'
stopping test is left out. A peer stops at 50 times our units and time; one that was stopped counts
as if it had arrived.

    python benchmarks/07_minimisers.py [--tiny | --full | --depths 32,64]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import dnlcontrol as dnl
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.faces import stationarity
from problems import spirals

ALPHA = 1e-2
TOLERANCE = 1e-8
CAP = 50.0
ASKED = 10.0
RATES = (1e-2, 1e-3)  # of Adam; the better one counts


def autograd_cost(discrete: dnl.DiscreteProblem) -> Callable[[torch.Tensor], torch.Tensor]:
    """J of the flat controls as a user would write it: form C, tanh, squared loss, H¹ penalties."""
    problem = discrete.problem
    space = discrete.space
    L = discrete.depth
    x0, target = torch.tensor(problem.x0), torch.tensor(problem.terminal.target)
    W, b = space.blocks["W"], space.blocks["b"]
    columns = [W.layout.column(s) for s in range(L)]
    site = {(s + 1 + k, s): columns[s].start + k for s in range(L) for k in range(L - s)}
    pairs = [
        (i, site[near])
        for (l, s), i in site.items()
        for near in ((l + 1, s), (l, s + 1))
        if near in site
    ]
    first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
    mass = (
        torch.tensor([0.5 if l == s + 1 else 1.0 for l, s in site], dtype=torch.float64)[:, None]
        / L**2
    )

    def cost(w: torch.Tensor) -> torch.Tensor:
        weights, biases = w[W.part].reshape(-1, 2, 2), w[b.part].reshape(-1, 2)
        x, z = x0, torch.zeros(L, *x0.shape, dtype=torch.float64)
        for s in range(L):  # z: the sums of the layers s+1..L
            z = (
                z
                + torch.tanh(
                    x @ weights[columns[s]].transpose(1, 2) + biases[columns[s]].unsqueeze(1)
                )
                / L
            )
            x, z = x0 + z[0], z[1:]
        penalty = torch.zeros((), dtype=torch.float64)
        for v in (weights.flatten(1), biases):
            penalty = penalty + (mass * v**2).sum() + ((v[first] - v[second]) ** 2).sum()
        return ((x[:, 0] - target) ** 2).mean() + ALPHA / 2 * penalty

    return cost


class Enough(Exception):
    """A peer has arrived, or is too expensive."""


@dataclass
class Peer:
    """Counts what a peer's evaluations cost, and ends it."""

    discrete: dnl.DiscreteProblem
    units: float  # most
    seconds: float
    w: torch.Tensor
    count: int = 0
    spent: float = 0.0
    value: float = np.inf
    norm: float = np.inf
    cost: Callable[[torch.Tensor], torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.cost = autograd_cost(self.discrete)
        self.began = time.process_time()

    def closure(self) -> torch.Tensor:
        self.w.grad = None
        value = self.cost(self.w)
        value.backward()
        self.spent += time.process_time() - self.began
        self.count += 1
        self.value = float(value.detach())
        self.norm = stationarity(self.discrete.space, self.w.detach().numpy(), self.w.grad.numpy())
        if self.norm <= TOLERANCE or (self.count >= self.units and self.spent >= self.seconds):
            raise Enough
        self.began = time.process_time()
        return value

    def run(self, step: Callable[[Callable[[], torch.Tensor]], object]) -> Peer:
        try:
            while True:
                step(self.closure)
        except Enough:
            return self


def peers(
    discrete: dnl.DiscreteProblem, start: np.ndarray, units: float, seconds: float
) -> dict[str, Peer]:
    def fresh() -> Peer:
        return Peer(discrete, units, seconds, torch.tensor(start, requires_grad=True))

    lbfgs = fresh()
    found = {
        "LBFGS": lbfgs.run(
            torch.optim.LBFGS(
                [lbfgs.w],
                max_iter=10**6,
                max_eval=10**6,
                tolerance_grad=0.0,
                tolerance_change=0.0,
                history_size=20,
                line_search_fn="strong_wolfe",
            ).step
        )
    }
    for rate in RATES:
        adam = fresh()
        found[f"Adam {rate:g}"] = adam.run(torch.optim.Adam([adam.w], lr=rate).step)
    return found


def compare(depth: int, samples: int) -> dict[str, tuple[float, float]]:
    """Units and time of each peer over ours."""
    problem = spirals.problem(samples=samples, alpha=ALPHA)
    levels: list[dnl.Solution] = []
    for L in [8 * 2**k for k in range(10) if 8 * 2**k < depth] or [depth // 2]:
        levels.append(dnl.solve(problem, L, "adjoint", start=levels or None))
    coarse, discrete = levels[-1], dnl.discretise(problem, depth)
    layouts, values = (
        {k: f(c) for k, c in coarse.controls.items()}
        for f in (lambda c: c.layout, lambda c: c.values)
    )
    start = np.clip(Samples(layouts, values).on(discrete.space), *discrete.space.bounds)
    began = time.process_time()
    ours = dnl.solve(problem, depth, "adjoint", start=coarse)
    own = time.process_time() - began
    print(
        f"\nL={depth}, {samples} samples, {ours.size} controls, from the minimiser of "
        f"L={coarse.depth}"
    )
    print(
        f"{'':>11} {'value':>13} {'stationarity':>12} {'units':>7} {'seconds':>8} "
        f"{'units/ours':>10} {'time/ours':>9}"
    )
    print(
        f"{'ours':>11} {ours.value:13.10f} {ours.stationarity:12.1e} {ours.work['units']:7.1f} "
        f"{own:8.2f}"
        f"   {ours.nit} Newton steps, {ours.nhev} products of {ours.work['product_cost']:.1f} units"
    )
    ratios = {}
    for name, p in peers(discrete, start, CAP * ours.work["units"], CAP * own).items():
        ratios[name] = (p.count / ours.work["units"], p.spent / own)
        sign, told = (" ", "") if p.norm <= TOLERANCE else (">", "  not reached")
        away = np.sqrt(max(_square(discrete, p.w.detach().numpy(), ours), 0.0))
        print(
            f"{name:>11} {p.value:13.10f} {p.norm:12.1e} {p.count:7d} {p.spent:8.2f} "
            f"{sign}{ratios[name][0]:9.1f} "
            f"{sign}{ratios[name][1]:8.1f}  {away:.1e} from ours in H1{told}",
            flush=True,
        )
    return ratios


def _square(discrete: dnl.DiscreteProblem, w: np.ndarray, ours: dnl.Solution) -> float:
    d = w - discrete.space.assemble({k: c.values for k, c in ours.controls.items()})
    return float(d @ discrete.space.metric(d))


def main() -> None:
    parser = argparse.ArgumentParser()
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    size.add_argument("--full", action="store_true", help="L = 128 too")
    size.add_argument("--depths", help="others than 32,64")
    given = parser.parse_args()
    torch.set_num_threads(1)
    depths, samples = ([8], 12) if given.tiny else ([32, 64, 128] if given.full else [32, 64], 64)
    if given.depths:
        depths = [int(d) for d in given.depths.split(",")]
    found = {L: compare(L, samples) for L in depths}
    print(
        f"\nunits and time over ours, to be at least {ASKED:g} (cap {CAP:g}); Adam with the "
        "better rate"
    )
    for L, ratios in found.items():
        best = min((r for name, r in ratios.items() if name != "LBFGS"), key=max)
        for name, (units, seconds) in (("LBFGS", ratios["LBFGS"]), ("Adam", best)):
            told = "" if min(units, seconds) >= ASKED else "  below"
            print(f"L={L:4d} {name:>6} {units:6.1f} {seconds:6.1f}{told}")


if __name__ == "__main__":
    main()
