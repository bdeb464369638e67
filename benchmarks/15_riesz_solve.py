"""Which Riesz solve is faster: cosine transform of the mirrored square, or sparse factorisation?

Both solve A z = r with the H¹ matrix on the triangle, for the six components of a 2 x 2 weight and
its bias; processor time, medians of seven, on one thread. The library takes the transform where
every entry is free; on a face of the bounds, where the matrix loses rows, it factorises.

    python benchmarks/15_riesz_solve.py [--tiny]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import splu

from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import Metric

COMPONENTS, REPEATS = 6, 7
HEADER = (
    "   L      sites   transform [ms]   factorise [ms]   solve [ms]   solve / transform   "
    "entries of L and U   apart"
)


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return float(np.median(times))


def row(depth: int, rule: str) -> str:
    metric = Metric(Layout(Grid(depth, 1.0, rule), "ts"), smooth=True)
    r = np.random.default_rng(0).standard_normal((metric.layout.count, COMPONENTS))
    matrix = metric.matrix
    factor = splu(matrix)
    metric.solve(r)  # its tables are made once
    transform, factorise, solve = (
        seconds(f) for f in (lambda: metric.solve(r), lambda: splu(matrix), lambda: factor.solve(r))
    )
    z = factor.solve(r)
    apart = np.abs(metric.solve(r) - z).max() / np.abs(z).max()
    return (
        f"{depth:4d} {metric.layout.count:10d} {1e3 * transform:16.2f} {1e3 * factorise:16.2f} "
        f"{1e3 * solve:12.2f}"
        f" {solve / transform:19.2f} {factor.nnz:20d} {apart:7.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="two small depths")
    depths = (4, 8) if parser.parse_args().tiny else (64, 128, 256, 512, 1024)
    for rule in ("left", "trapezoid"):
        print(f"{rule} rule\n{HEADER}")
        for depth in depths:
            print(row(depth, rule), flush=True)


if __name__ == "__main__":
    main()
