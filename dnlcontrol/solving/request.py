"""What a solve is asked for beside the problem and the start: checked once, kept with the
solution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.fingerprint import fingerprint, same_problem
from dnlcontrol.files.checkpoint import Checkpoint

METHODS = ("newton", "gauss-newton", "lbfgs", "adam", "sgd", "msa", "emsa")
BATCHED, SUCCESSIVE = METHODS[3:5], METHODS[5:]
FORMULATIONS = ("auto", "lifted", "condensed")
WARM = ("duals", "controls")
UNRECORDED = ("progress", "every", "batches", "checkpoint")  # not as they are


@dataclass(frozen=True)
class Request:
    """The keywords of :func:`dnlcontrol.solve`; making one checks what does not need the
    problem.
    """

    backend: str
    rule: str
    device: str
    tolerance: float
    max_iterations: int | None
    method: str
    formulation: str
    force: bool
    dtype: str
    chunk: int | None
    verbose: bool
    warm: str
    progress: Callable[[Any], None] | None
    batches: Any
    distributed: bool
    checkpoint: Any
    every: float

    def __post_init__(self) -> None:
        checks.choice("backend", self.backend, ("exact", "adjoint"))
        checks.choice("method", self.method, METHODS)
        checks.choice("warm", self.warm, WARM)
        checks.choice("formulation", self.formulation, FORMULATIONS)
        object.__setattr__(self, "tolerance", checks.positive("tolerance", self.tolerance))
        if self.max_iterations is not None:
            object.__setattr__(
                self, "max_iterations", checks.whole("max_iterations", self.max_iterations)
            )
        if self.progress is not None:
            checks.function("progress", self.progress)
        _check_batches(self.backend, self.method, self.batches)
        if not isinstance(self.distributed, bool):
            checks.reject_type("distributed", self.distributed, "True or False")
        if self.backend == "exact" and self.device != "cpu":
            checks.reject("device", self.device, "'cpu' for the exact backend")
        if self.backend == "adjoint" and self.formulation != "auto":
            checks.reject("formulation", self.formulation, "'auto' for the adjoint backend")

    def record(self) -> dict[str, Any]:
        """What is kept with the solution."""
        kept = {k: v for k, v in vars(self).items() if k not in UNRECORDED}
        return {
            **kept,
            "batches": None if self.batches is None else asdict(self.batches),
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
        }

    def keeper(self, discrete: DiscreteProblem) -> Checkpoint | None:
        """The checkpoint, which serves the same discrete problem and method only."""
        if self.checkpoint is None:
            return None
        if self.backend != "adjoint":
            checks.reject(
                "checkpoint", self.checkpoint, "None for the exact backend; use backend='adjoint'"
            )
        if self.method in SUCCESSIVE:
            allowed = f"None for method={self.method!r}; its steps cannot be continued"
            checks.reject("checkpoint", self.checkpoint, allowed)
        about = {
            **fingerprint(discrete.problem, discrete.grid.rule),
            "depth": discrete.depth,
            "method": self.method,
            "size": discrete.space.size,
        }

        def same(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
            return all(
                theirs.get(k) == mine[k] for k in ("depth", "method", "size")
            ) and same_problem(theirs, mine)

        return Checkpoint(self.checkpoint, self.every, about, same)


def _check_batches(backend: str, method: str, batches: Any) -> None:
    """Mini-batches belong to the adjoint backend and to the methods that use them."""
    if method in BATCHED and backend != "adjoint":
        checks.reject(
            "method", method, "'newton' for the exact backend; mini-batches need backend='adjoint'"
        )
    if method in SUCCESSIVE and backend != "adjoint":
        checks.reject(
            "method",
            method,
            "'newton' for the exact backend; successive approximation needs 'adjoint'",
        )
    if batches is None:
        return
    from dnlcontrol.backends.adjoint.stochastic import MiniBatches

    if not isinstance(batches, MiniBatches):
        checks.reject_type("batches", batches, "MiniBatches(size=..., epochs=..., ...) or None")
    if method not in BATCHED:
        checks.reject(
            "batches", f"{batches} for the method {method!r}", "None, or method='adam' or 'sgd'"
        )


def check_distributed(request: Request, problem: Any) -> None:
    """Sums over ranks are those of the adjoint backend's full gradients; multipliers belong to
    single samples.
    """
    if not request.distributed:
        return
    if request.backend != "adjoint":
        checks.reject("distributed", True, "False for the exact backend; use backend='adjoint'")
    if request.method not in ("newton", "lbfgs"):
        checks.reject("method", request.method, "'newton' or 'lbfgs' for a distributed solve")
    names = [c.name for c in getattr(problem, "constraints", ())]
    if names:
        checks.reject("distributed", True, f"False for a problem with the constraints {names}")
