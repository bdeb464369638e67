"""How much memory do the states of one gradient take: the column sweep against plain autograd?

Dense form C, d = 16, N = 256, float64. "beyond the controls" is the peak resident size during one
value and gradient less the size before it and less one gradient. Each measurement runs in a process
of its own. At L = 2048 the controls and one gradient are 9 GB.

    python benchmarks/01_sweep_memory.py [--tiny]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np

WIDTH, SAMPLES = 16, 256
LARGEST = 256  # the depth up to which autograd is measured: there its graph takes 2.5 GB


def measure(kind: str, depth: int, samples: int) -> float:
    """Peak megabytes beyond the controls and one gradient."""
    import torch

    import dnlcontrol as dnl
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    rng = np.random.default_rng(0)

    def made(L: int, N: int):
        problem = dnl.ControlProblem(
            name="memory",
            x0=rng.standard_normal((N, WIDTH)),
            dynamics=dnl.Dense(WIDTH, "C"),
            terminal=dnl.losses.squared(np.zeros((N, WIDTH))),
        )
        discrete = dnl.discretise(problem, L)
        return discrete, 0.1 * rng.standard_normal(discrete.space.size)

    def sweep(L: int, N: int):
        discrete, w = made(L, N)
        evaluator = Evaluator(discrete, stored=False, chunk=128)
        return discrete, lambda: evaluator.value_and_gradient(w)

    def autograd(L: int, N: int):
        discrete, w = made(L, N)
        block_W, block_b = (discrete.space.blocks[k] for k in ("W", "b"))
        W = torch.tensor(block_W.values(w), requires_grad=True)
        b = torch.tensor(block_b.values(w), requires_grad=True)
        x0 = torch.tensor(discrete.problem.x0)
        columns = [block_W.layout.column(s) for s in range(L)]

        def run():
            states, columns_out = [x0], []
            for s in range(L):
                columns_out.append(
                    torch.tanh(
                        states[s] @ W[columns[s]].transpose(1, 2) + b[columns[s]].unsqueeze(1)
                    )
                )
                states.append(x0 + sum(c[s - k] for k, c in enumerate(columns_out)) / L)
            (states[L] ** 2).sum(1).mean().backward()

        return discrete, run

    build = sweep if kind == "sweep" else autograd
    build(4, samples)[1]()  # loads every library
    discrete, run = build(depth, samples)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / 1024 - 8 * discrete.space.size / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        kind, depth, samples = given.measure
        print(json.dumps(measure(kind, int(depth), int(samples))))
        return
    depths, taped, samples = (
        ((8, 16), 16, 32) if given.tiny else ((64, 128, 256, 512, 1024, 2048), LARGEST, SAMPLES)
    )
    print(
        f"states of one gradient, d = {WIDTH}, N = {samples}, MB beyond the controls and one "
        "gradient"
    )
    print("    L    sweep  autograd  autograd/sweep", flush=True)
    found: dict[str, list[float]] = {"sweep": [], "autograd": []}
    for depth in depths:
        for kind, values in found.items():
            if kind == "autograd" and depth > taped:
                continue
            command = [sys.executable, __file__, "--measure", kind, str(depth), str(samples)]
            values.append(
                float(
                    json.loads(
                        subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    )
                )
            )
        ours = found["sweep"][-1]
        theirs = found["autograd"][-1] if depth <= taped else float("nan")
        ratio = f"{theirs / ours:14.1f}" if ours > 0 else "below 1 page  "
        print(f"{depth:5d} {ours:8.1f} {theirs:9.1f} {ratio}", flush=True)
    if not given.tiny:
        for kind, values in found.items():
            slope = np.polyfit(np.log(depths[: len(values)]), np.log(np.maximum(values, 1e-3)), 1)[
                0
            ]
            print(f"{kind}: grows like L^{slope:.2f}")


if __name__ == "__main__":
    main()
