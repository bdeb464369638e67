"""What every rank of test_distributed.py runs: iris with this rank's share of the flowers.

torchrun --nproc-per-node 2 tests/backends/adjoint/distributed_iris.py OUT DEPTH METHOD TOLERANCE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

import dnlcontrol as dnl
from problems import iris_dense


def problem(rows: slice) -> dnl.ControlProblem:
    """The rows of iris_dense with 30 flowers."""
    whole = iris_dense.problem(samples=30)
    labels = whole.terminal.target.argmax(1)
    return dnl.ControlProblem(
        name=whole.name,
        x0=whole.x0[rows],
        dynamics=whole.dynamics,
        terminal=dnl.losses.cross_entropy(labels[rows], head=dnl.head(3, 4), classes=3),
        regularisers=list(whole.regularisers),
    )


def main(out: str, depth: str, method: str, tolerance: str) -> None:
    solution = dnl.solve(
        problem(dnl.share(30)),
        int(depth),
        "adjoint",
        method=method,
        tolerance=float(tolerance),
        distributed=True,
    )
    arrays = {k: c.values for k, c in solution.controls.items()}
    np.savez(
        Path(out) / f"{os.environ['RANK']}.npz",
        value=solution.value,
        success=solution.success,
        nit=solution.nit,
        stationarity=solution.stationarity,
        message=solution.message,
        states=solution.states,
        costates=solution.costates,
        **arrays,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
