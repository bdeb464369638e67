"""How fast are ResNet gradients against torchdiffeq, Volterra solves against idesolver and voles?

Part 1: ResNet with tanh, d = 16, N = 256, squared loss: one value and gradient in all weights.
Peers: torchdiffeq's odeint (Euler, one step a layer) differentiated by autograd, and its
odeint_adjoint, which integrates the continuous adjoint equation backwards. "off" is the relative
distance of a gradient from autograd's through our own loop.

Part 2: Volterra equations with known solutions, to a given largest error at the nodes. Ours:
`simulate` by the left rule at L = 4, 8, 12, ..., extrapolated in 1/L, as many levels as are needed;
all of them, tracing and checks are in the time. idesolver: the fastest of its settings (points,
smoothing) that is accurate enough, its tolerances a tenth of the error asked for. voles (linear
convolution equations only, by collocation in compiled code): the fastest of its settings (points,
collocation nodes) that is accurate enough; sampling the kernel and g is in the time.

    python benchmarks/13_forward_peers.py [--tiny] [--peers DIRECTORY]

The peers are optional: pip install --no-deps --target DIRECTORY torchdiffeq idesolver voles
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from problems import f1_cubic_memory

INSTALL = (
    "pip install --no-deps --target DIRECTORY torchdiffeq idesolver voles, then --peers DIRECTORY"
)
FEWEST = 4  # layers of the coarsest level
LINEAR = "linear convolution"
# the value and its gradient in K and b
Gradient = Callable[[], tuple[float, np.ndarray, np.ndarray]]


# -- gradients of a residual network -------------------------------------------------------------
def resnet(depth: int, width: int, samples: int) -> tuple[dnl.DiscreteProblem, np.ndarray]:
    rng = np.random.default_rng(0)
    problem = dnl.ControlProblem(
        name="resnet",
        x0=rng.standard_normal((samples, width)),
        dynamics=dnl.ResNet(width),
        terminal=dnl.losses.squared(rng.standard_normal((samples, width))),
    )
    discrete = dnl.discretise(problem, depth)
    return discrete, rng.standard_normal(discrete.space.size) / np.sqrt(width)


def ours(discrete: dnl.DiscreteProblem, w: np.ndarray) -> Gradient:
    evaluator = Evaluator(discrete)
    K, b = (discrete.space.blocks[k] for k in ("K", "b"))

    def gradient() -> tuple[float, np.ndarray, np.ndarray]:
        value, g = evaluator.value_and_gradient(w)
        return value, K.values(g), b.values(g)

    return gradient


def in_torch(
    discrete: dnl.DiscreteProblem, w: np.ndarray, integrate: Callable[..., Any]
) -> Gradient:
    """A value and gradient by ``integrate(net, x0, nodes)``, which returns x(T)."""
    problem, L = discrete.problem, discrete.depth

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            values = (discrete.space.blocks[k].values(w) for k in ("K", "b"))
            self.K, self.b = (torch.nn.Parameter(torch.tensor(v[:L])) for v in values)

        def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            layer = min(round(float(t.detach()) * L), L - 1)
            return torch.tanh(torch.addmm(self.b[layer], x, self.K[layer].T))

    net = Net()
    x0 = torch.tensor(problem.x0)
    target = torch.tensor(problem.terminal.target)
    nodes = torch.linspace(0.0, 1.0, L + 1, dtype=torch.float64)

    def gradient() -> tuple[float, np.ndarray, np.ndarray]:
        net.zero_grad()
        value = ((integrate(net, x0, nodes) - target) ** 2).sum(1).mean()
        value.backward()
        return float(value.detach()), net.K.grad.numpy(), net.b.grad.numpy()

    return gradient


def own_loop(net: Any, x: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    for t in nodes[:-1]:
        x = x + net(t, x) / (len(nodes) - 1)
    return x


def fastest(methods: dict[str, Gradient], repeats: int) -> dict[str, float]:
    """Processor seconds of each, measured in turn; the least, which other load disturbs least."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats + 2):  # the first two warm up
        for name, run in methods.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: min(t[2:]) for name, t in times.items()}


def compare_gradients(depths: list[int], width: int, samples: int, repeats: int) -> None:
    print(f"one gradient of a residual network, d = {width}, N = {samples}, one thread")
    print(f"{'L':>5} {'':>18} {'ms':>8} {'/ours':>6} {'value':>12} {'off':>8}")
    for depth in depths:
        discrete, w = resnet(depth, width, samples)
        methods = {"ours": ours(discrete, w), "autograd": in_torch(discrete, w, own_loop)}
        if find_spec("torchdiffeq"):
            from torchdiffeq import odeint, odeint_adjoint

            methods["torchdiffeq"] = in_torch(
                discrete, w, lambda *a: odeint(*a, method="euler")[-1]
            )
            methods["torchdiffeq adjoint"] = in_torch(
                discrete, w, lambda *a: odeint_adjoint(*a, method="euler")[-1]
            )
        _, *exact = methods["autograd"]()
        exact = [g.copy() for g in exact]
        seconds = fastest(methods, repeats)
        for name, run in methods.items():
            value, *found = run()
            off = max(
                np.linalg.norm(g[:depth] - e) / np.linalg.norm(e)
                for g, e in zip(found, exact, strict=True)
            )
            print(
                f"{depth:5d} {name:>18} {1e3 * seconds[name]:8.2f} "
                f"{seconds[name] / seconds['ours']:6.2f} "
                f"{value:12.8f} {off:8.1e}",
                flush=True,
            )
    if not find_spec("torchdiffeq"):
        print(f"torchdiffeq is not installed: {INSTALL}")


# -- Volterra equations --------------------------------------------------------------------------
def fading() -> dnl.ControlProblem:
    """x' = c(t) + ∫_0^t e^{-(t-s)} x(s)³ ds with x = e^{-t}.

    Integrated, the kernel is (1 - e^{-(t-s)}) x³.
    """

    def free_term(t, x0):
        exp = dnl.namespace(t).exp
        return x0 - 1.5 * (1 - exp(-t)) + (1 - exp(-3 * t)) / 6

    def kernel(t, s, y, u):
        return (1 - dnl.namespace(y).exp(s - t)) * y**3

    return dnl.ControlProblem(
        name="fading memory", x0=[1.0], dynamics=dnl.Volterra(kernel, free_term)
    )


def convolution_term(t: Any) -> Any:
    """g of x(t) = g(t) + ∫_0^t e^{-(t-s)} x(s) ds with x = cos t."""
    xp = dnl.namespace(t) if not isinstance(t, (float, np.ndarray)) else np
    return xp.cos(t) - 0.5 * (xp.cos(t) + xp.sin(t) - xp.exp(-t))


def convolution() -> dnl.ControlProblem:
    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t) * y

    return dnl.ControlProblem(
        name=LINEAR,
        x0=[1.0],
        horizon=2.0,
        dynamics=dnl.Volterra(kernel, lambda t, x0: convolution_term(t) + 0 * x0),
    )


# name -> ours, the solution, and idesolver's x' = c(t, x) + ∫_0^t k(t, s) F(x(s)) ds with x(0) = 1
EQUATIONS: dict[
    str, tuple[Callable[[], dnl.ControlProblem], Callable[[Any], Any], dict[str, Any]]
] = {
    "cubic memory (F1)": (
        f1_cubic_memory.problem,
        np.exp,
        {
            "c": lambda t, x: np.exp(t) + (1 - np.exp(3 * t)) / 3 - t * np.exp(3 * t) + t * x**3,
            "k": lambda t, s: 1.0,
            "f": lambda x: x**3,
        },
    ),
    "fading memory": (
        fading,
        lambda t: np.exp(-np.asarray(t)),
        {
            "c": lambda t, x: -np.exp(-t) - np.exp(-t) * (1 - np.exp(-2 * t)) / 2,
            "k": lambda t, s: np.exp(s - t),
            "f": lambda x: x**3,
        },
    ),
    LINEAR: (
        convolution,
        np.cos,
        {
            "c": lambda t, x: x - np.sin(t) - 0.5 * (np.cos(t) - np.sin(t) + np.exp(-t)),
            "k": lambda t, s: -np.exp(s - t),
            "f": lambda x: x,
        },
    ),
}


def simulated(name: str, error: float) -> tuple[float, float, str]:
    """Processor seconds, the error reached at the nodes of the coarsest level, and how."""
    make, exact, _ = EQUATIONS[name]
    problem = make()
    t = np.linspace(0.0, problem.horizon, FEWEST + 1)

    def solve(levels: int) -> np.ndarray:
        """Neville's scheme in τ on L = 4, 8, 12 and so on.

        Each step removes one power of the left rule's error.
        """
        table = [
            dnl.simulate(problem, FEWEST * k).reshape(FEWEST * k + 1)[::k]
            for k in range(1, levels + 1)
        ]
        for order in range(1, levels):
            table = [b + (b - a) * k / order for k, (a, b) in enumerate(pairwise(table), start=1)]
        return table[0]

    for levels in range(1, 12):
        reached = float(np.max(np.abs(solve(levels) - exact(t))))
        if reached <= error:
            times = []
            for _ in range(5):
                began = time.process_time()
                solve(levels)
                times.append(time.process_time() - began)
            return min(times), reached, f"L = 4 to {FEWEST * levels}"
    return np.inf, reached, "not reached"


def by_idesolver(name: str, error: float, points: tuple[int, ...]) -> tuple[float, float, str]:
    """The fastest setting that is accurate enough."""
    import idesolver.idesolver as module

    # version 1.1.0 is older than NumPy 2, which moved one name and has another meaning of
    # copy=False
    module.coerce_to_array = np.atleast_1d
    vars(np).setdefault("ComplexWarning", np.exceptions.ComplexWarning)
    problem, exact, terms = EQUATIONS[name]
    t_end = problem().horizon
    accuracy = 0.1 * error
    found = []

    def solve(count: int, smoothing: float) -> tuple[float, float]:
        """Processor seconds and the error reached."""
        t = np.linspace(0.0, t_end, count)
        began = time.process_time()
        solver = module.IDESolver(
            x=t,
            y_0=np.ones(1),
            **terms,
            lower_bound=lambda _: 0.0,
            upper_bound=lambda x: x,
            max_iterations=40,
            smoothing_factor=smoothing,
            global_error_tolerance=accuracy,
            ode_atol=accuracy,
            ode_rtol=accuracy,
            int_atol=accuracy,
            int_rtol=accuracy,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            states = solver.solve()
        return time.process_time() - began, float(np.max(np.abs(states - exact(t))))

    for setting in product(points, (0.5, 0.1)):
        seconds, reached = solve(*setting)
        if reached <= error:
            found.append((seconds, reached, setting))
    if not found:
        return np.inf, np.nan, "not reached"
    seconds, reached, setting = min(found)
    seconds = min(seconds, *(solve(*setting)[0] for _ in range(4)))
    return seconds, reached, f"{setting[0]} points, smoothing {setting[1]}"


def by_voles(error: float, points: tuple[int, ...]) -> tuple[float, float, str]:
    """The fastest setting that is accurate enough, for the linear convolution equation."""
    from voles import solve_VIE_2

    horizon, found = convolution().horizon, []

    def solve(count: int, nodes: int) -> tuple[float, float]:
        """Processor seconds and the error reached."""
        began = time.process_time()
        t = np.linspace(0.0, horizon, count)
        states = solve_VIE_2(
            kernel_values=np.exp(-t),
            g_values=convolution_term(t),
            time_step=horizon / (count - 1),
            coll_divs=nodes,
            show_warnings=False,
        )
        return time.process_time() - began, float(np.max(np.abs(states - np.cos(t))))

    for setting in product(points, (1, 2, 3, 4)):
        seconds, reached = min(solve(*setting) for _ in range(5))
        if reached <= error:
            found.append((seconds, reached, setting))
    if not found:
        return np.inf, np.nan, "not reached"
    seconds, reached, (count, nodes) = min(found)
    return seconds, reached, f"{count} points, {nodes + 1} nodes"


def compare_volterra(errors: list[float], points: tuple[int, ...]) -> None:
    print(
        f"\n{'Volterra equation':>18} {'error':>7} {'':>10} {'reached':>8} {'ms':>9} {'/ours':>7}"
    )
    simulated("fading memory", 1.0)  # loads PyTorch
    for name in EQUATIONS:
        for error in errors:
            seconds, reached, how = simulated(name, error)
            print(
                f"{name:>18} {error:7.0e} {'ours':>10} {reached:8.1e} {1e3 * seconds:9.2f} "
                f"{1:7.1f}  {how}",
                flush=True,
            )
            if find_spec("idesolver"):
                theirs, reached, how = by_idesolver(name, error, points)
                print(
                    f"{'':>26} {'idesolver':>10} {reached:8.1e} {1e3 * theirs:9.2f} "
                    f"{theirs / seconds:7.1f}  {how}",
                    flush=True,
                )
            if name == LINEAR and find_spec("voles"):
                theirs, reached, how = by_voles(error, (7, 13, 25, 49, 97, 193, 385, 769))
                print(
                    f"{'':>26} {'voles':>10} {reached:8.1e} {1e3 * theirs:9.2f} "
                    f"{theirs / seconds:7.3f}  {how}",
                    flush=True,
                )
    if not find_spec("idesolver"):
        print(f"idesolver is not installed: {INSTALL}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--peers", metavar="DIRECTORY", help="where the peers are installed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peers:
        sys.path.append(given.peers)
    if given.tiny:
        compare_gradients([4], 4, 8, 2)
        compare_volterra([1e-2], (6,))
        return
    compare_gradients([16, 64, 256], 16, 256, 20)
    compare_gradients([64], 32, 1024, 10)
    compare_volterra([1e-3, 1e-5, 1e-7], (6, 11, 21, 41, 81))


if __name__ == "__main__":
    main()
