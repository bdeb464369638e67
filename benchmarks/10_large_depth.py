"""How does the cost grow with the depth, and what does a minimiser at L = 1024 take?

The time of a value and gradient is fitted by C·L^p between the largest depths, for a dense network,
an ODE network (Markov) and a separable kernel; processor time, the median of seven. Then the
two-spiral toy (N = 64, d = 2, α = 1e-2) is solved from nothing, nested over doubling depths, to
stationarity 1e-8 at the last.

    python benchmarks/10_large_depth.py [--tiny]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.results.environment import peak_memory
from problems import spirals

SAMPLES = 64
WIDTH = 2
REPEATS = 7


def problems(samples: int) -> dict[str, dnl.ControlProblem]:
    """The same size three times: memory of every layer, of none, and of rank 2."""
    rng = np.random.default_rng(0)
    x0, target = rng.standard_normal((samples, WIDTH)), np.zeros((samples, WIDTH))

    def terms(s, x, u):
        hidden = dnl.namespace(x).tanh(u.W @ x + u.b)
        return [hidden, s * hidden]

    controls = {"W": dnl.Control((WIDTH, WIDTH), initial=0.1), "b": dnl.Control((WIDTH,))}
    made = {
        "dense": (dnl.Dense(WIDTH, "C"), None),
        "Markov": (dnl.ResNet(WIDTH), None),
        "separable": (dnl.Separable(lambda t: [1.0 + t, -1.0], terms), controls),
    }
    return {
        name: dnl.ControlProblem(
            name=name,
            x0=x0,
            dynamics=dynamics,
            controls=own,
            terminal=dnl.losses.squared(target),
            regularisers=[dnl.H1("b", 1e-2)],
        )
        for name, (dynamics, own) in made.items()
    }


def gradient_seconds(problem: dnl.ControlProblem, depth: int) -> float:
    """Processor time of one value and gradient."""
    evaluator = Evaluator(dnl.discretise(problem, depth), stored=False)
    w = 0.1 * np.random.default_rng(1).standard_normal(evaluator.space.size)
    evaluator.value_and_gradient(w)
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        evaluator.value_and_gradient(w)
        times.append(time.process_time() - began)
    return float(np.median(times))


def exponents(ladders: dict[str, tuple[int, ...]], samples: int) -> None:
    print("kernel      exponent   seconds (processor) by depth")
    for name, problem in problems(samples).items():
        depths = ladders[name]
        seconds = [gradient_seconds(problem, L) for L in depths]
        slope = np.log(seconds[-1] / seconds[-2]) / np.log(depths[-1] / depths[-2])
        found = ", ".join(f"L={L}: {t:.3f}" for L, t in zip(depths, seconds, strict=True))
        print(f"{name:<12}{slope:8.2f}   {found}", flush=True)


def nested(depths: list[int]) -> None:
    began = time.perf_counter()
    study = dnl.study(spirals.problem(alpha=1e-2), depths, exact_to=0)
    for level in study.levels:
        s = level.adjoint
        print(
            f"L={s.depth:>5}  J={s.value:.10f}  stationarity {s.stationarity:.1e}  steps {s.nit} "
            f" products {s.nhev}"
            f"  {s.seconds:.1f} s"
        )
    last = study.levels[-1].adjoint
    print(
        f"all levels {time.perf_counter() - began:.0f} s, peak memory {peak_memory():.0f} MB, "
        f"{'solved' if last.success else last.message}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    tiny = parser.parse_args().tiny
    if tiny:
        exponents(dict.fromkeys(("dense", "Markov", "separable"), (8, 16)), 8)
        nested([4, 8])
        return
    exponents(
        {
            "dense": (128, 256, 512, 1024),
            "Markov": (512, 1024, 2048, 4096),
            "separable": (512, 1024, 2048, 4096),
        },
        SAMPLES,
    )
    nested([8, 16, 32, 64, 128, 256, 512, 1024])


if __name__ == "__main__":
    main()
