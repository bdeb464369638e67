"""Data-parallel solves on torch.distributed: every rank holds a share of the samples.

With N_r samples on rank r and N = Σ N_r the cost is the weighted mean of the ranks' own costs,
penalties included:

    J = Σ_r (N_r/N) J_r,    dJ/dw = Σ_r (N_r/N) dJ_r/dw,    (d²J/dw²) d = Σ_r (N_r/N) (d²J_r/dw²) d

Rank 0 runs the minimiser. Each product that it asks for is announced with its control; every rank
forms its own part and the parts are summed. No other rank takes a decision, so rounding cannot make
the ranks disagree.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.outcome import Outcome

STOP, VALUE, GRADIENT, PRODUCT = range(4)


class SharedEvaluator(Evaluator):
    """The evaluator of one rank's samples; value, gradient and Hessian products are those of all.

    States and costates stay with their rank. All ranks call the same method together, or rank 0
    leads: then its calls are announced to the others, who :meth:`serve`.
    """

    def __init__(
        self, discrete: DiscreteProblem, device: str, dtype: str, chunk: int | None
    ) -> None:
        super().__init__(discrete, device, dtype, chunk)
        counts = same_everywhere(discrete)
        self.everyone, self.share = sum(counts), counts[dist.get_rank()] / sum(counts)
        self.leads = False

    def value(self, w: Flat, multipliers: Multipliers | None = None) -> float:
        self._announce(VALUE, w)
        return float(self._sum(np.array([super().value(w)]))[0])

    def value_and_gradient(
        self, w: Flat, multipliers: Multipliers | None = None
    ) -> tuple[float, Flat]:
        self._announce(GRADIENT, w)
        value, g = super().value_and_gradient(w)
        total = self._sum(np.append(g, value))
        return float(total[-1]), total[:-1]

    def hessian_product(
        self, w: Flat, d: Flat, multipliers: Multipliers | None = None
    ) -> np.ndarray:
        self._announce(PRODUCT, w, d)
        return self._sum(super().hessian_product(w, d))

    def trajectory(self, w: Flat, multipliers: Multipliers | None = None) -> Trajectory:
        """Value and gradient of all samples, states and costates of this rank's.

        The costates are N_r λ of the rank's mean, which is N λ of the whole.
        """
        at = super().trajectory(w)
        total = self._sum(np.append(at.gradient, at.value))
        return replace(at, value=float(total[-1]), gradient=total[:-1])

    # -- between the ranks -----------------------------------------------------------------------
    def _sum(self, own: np.ndarray) -> np.ndarray:
        """Σ_r (N_r/N) of the ranks' arrays."""
        total = self._carried(self.share * own)
        dist.all_reduce(total)
        return np.asarray(total.cpu())

    def _carried(self, array: np.ndarray) -> torch.Tensor:
        """A tensor where the process group can reach it."""
        return torch.tensor(
            array,
            dtype=torch.float64,
            device=self.device if dist.get_backend() == "nccl" else "cpu",
        )

    def _announce(self, what: int, w: Flat | None = None, d: Flat | None = None) -> None:
        if self.leads:
            nothing = np.zeros(self.space.size)
            message = np.concatenate([[what], *(nothing if v is None else v for v in (w, d))])
            dist.broadcast(self._carried(message), 0)

    def serve(self) -> None:
        """Take part in what rank 0 announces until it stops."""
        size = self.space.size
        while True:
            carried = self._carried(np.zeros(1 + 2 * size))
            dist.broadcast(carried, 0)
            message = np.asarray(carried.cpu())
            what = int(message[0])
            w = message[1 : 1 + size]
            d = message[1 + size :]
            if what == STOP:
                return
            if what == VALUE:
                self.value(w)
            elif what == GRADIENT:
                self.value_and_gradient(w)
            else:
                self.hessian_product(w, d)

    def stop(self) -> None:
        self._announce(STOP)
        self.leads = False


@dataclass(frozen=True)
class Failure:
    """What went wrong on rank 0."""

    text: str


def minimise(evaluator: SharedEvaluator, minimise_here: Callable[[Objective], Outcome]) -> Outcome:
    """Run a minimiser on rank 0 with the help of all; every rank gets its outcome.

    Raises
    ------
    RuntimeError : on the other ranks where it failed on rank 0, which raises its own error.
    """
    found: list[Outcome | Failure | None] = [None]
    if dist.get_rank() == 0:
        evaluator.leads = True
        try:
            found[0] = minimise_here(Objective(evaluator))
        except Exception as error:
            found[0] = Failure(f"{type(error).__name__}: {error}")
            raise
        finally:
            evaluator.stop()
            dist.broadcast_object_list(found, 0)
    else:
        evaluator.serve()
        dist.broadcast_object_list(found, 0)
    if not isinstance(found[0], Outcome):
        raise RuntimeError(
            f"the minimiser failed on rank 0: {found[0].text if found[0] else 'no outcome'}"
        )
    ranks = dist.get_world_size()
    return replace(
        found[0], message=f"{found[0].message} ({ranks} ranks, {evaluator.everyone} samples)"
    )


def join() -> None:
    """Join the process group: the one there is, or a gloo group from what torchrun says.

    Raises
    ------
    InputError : where there is neither.
    """
    if dist.is_available() and dist.is_initialized():
        return
    if "RANK" not in os.environ or not dist.is_available():
        checks.reject(
            "distributed", True, "processes started by torchrun, or a process group made beforehand"
        )
    dist.init_process_group("gloo")
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def share(samples: int) -> slice:
    """The rows of this rank among ``samples``; all of them where no other rank is.

    >>> share(10)
    slice(0, 10, None)
    """
    if dist.is_available() and dist.is_initialized():
        rank, ranks = dist.get_rank(), dist.get_world_size()
    else:
        rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if checks.whole("samples", samples) < ranks:
        checks.reject("samples", samples, f"at least one for each of the {ranks} ranks")
    return slice(samples * rank // ranks, samples * (rank + 1) // ranks)


def same_everywhere(discrete: DiscreteProblem) -> list[int]:
    """The number of samples of each rank.

    Raises
    ------
    InputError : where the problems differ in anything else that can be compared.
    """
    problem = discrete.problem
    own = (
        problem.name,
        problem.state_shape,
        discrete.depth,
        problem.horizon,
        discrete.space.size,
        tuple(sorted(problem.controls)),
    )
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, (own, problem.samples))
    for rank, (other, _) in enumerate(found):
        if other != found[0][0]:
            checks.reject(
                "problem",
                f"{other} on rank {rank} and {found[0][0]} on rank 0",
                "one problem on all ranks, each with its share of the samples",
            )
    return [samples for _, samples in found]
