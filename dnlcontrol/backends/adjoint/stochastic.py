"""Mini-batches: Adam, or gradient steps in the controls' metric, then Newton on all samples.

One epoch draws a random partition of the samples into batches B and makes one step for each with
the unbiased estimate

    g_B = (N/|B|) Σ_{n in B} (share of sample n in dJ/dw) + Q w
    Σ_B (|B|/N) g_B = dJ/dw    at a fixed w

    adam   w <- P(w - η m̂ / (√v̂ + ε)), entry by entry (Kingma and Ba, arXiv 1412.6980)
    sgd    d <- μ d + A_FF^{-1} g_B, w <- P(w - η d), F the entries that no bound holds:
           the same step at every depth

P clips to the bounds; epoch e = 0, 1, ... has the rate η/(1 + decay·e). A sweep holds one chunk of
samples at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.options import SGD, Adam, TorchOptimiser
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.faces import Face, complementarity, stationarity
from dnlcontrol.minimise.newton import newton
from dnlcontrol.minimise.outcome import Iterate, Outcome, Progress, kept_log, lines
from dnlcontrol.minimise.quadratic_model import binding

# the best of 0.02 to 2 after ten epochs on iris (L = 4) and the spirals (L = 8), for Adam and SGD
RATE = 0.05
# β1, β2, ε of the paper's algorithm 1
FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
SMALL_ROOT = 1e-8


def stochastic(
    evaluator: Evaluator,
    start: Flat,
    method: Adam | SGD | TorchOptimiser,
    tolerance: float,
    max_iterations: int,
    *,
    progress: Progress | None = None,
    cold: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Epochs of mini-batches, then (``polish``) Newton's method with ``max_iterations``.

    There is one log through both. A line of an epoch has the mean of its batches' values, the dual
    norm of the mean of their gradients (both while w moves on), its rate and the number of its
    batches. Where values overflow, the result is the start of the best epoch.
    """
    space, batches = evaluator.space, method.batches
    samples = evaluator.discrete.problem.samples
    kept = resumed(checkpoint, "epochs")
    w, log = np.clip(kept.get("w", start), *space.bounds), kept_log(kept, batches.epochs)
    best = (kept.get("lowest", np.inf), kept.get("best", w))
    move = move_of(method, space)
    if kept:
        move.moments, move.steps = kept["moments"], kept["steps"]
    rate = move.rate if batches.rate is None else batches.rate
    rng = np.random.default_rng(batches.seed)
    for _ in log:  # the partitions of finished epochs
        partition(rng, samples, batches.size)
    for e in range(len(log), batches.epochs):
        step = rate / (1.0 + batches.decay * e)
        before, parts = w, partition(rng, samples, batches.size)
        w, value, g = _epoch(evaluator, w, parts, move, step)
        log.append(Iterate(e, value, stationarity(space, w, g), step, len(parts)))
        if progress:
            progress(replace(log[-1], controls=w))
        if not (np.isfinite(value) and np.all(np.isfinite(w))):
            message = (
                f"diverged in epoch {e} at the rate {step:g}; lower MiniBatches.rate "
                f"(first rate: {rate:g})"
            )
            return _ended(evaluator, best[1], tolerance, message, log)
        best = min(best, (value, before), key=lambda pair: pair[0])
        if checkpoint:
            checkpoint.offer(
                "epochs",
                {
                    "w": w,
                    "log": lines(log),
                    "lowest": best[0],
                    "best": best[1],
                    "moments": move.moments,
                    "steps": move.steps,
                },
            )
    if not batches.polish:
        message = f"stopped after {batches.epochs} epochs; polish=True goes on to a minimiser"
        return _ended(evaluator, w, tolerance, message, log)
    shift = len(log)
    follow = (
        None if progress is None else lambda i: progress(replace(i, iteration=i.iteration + shift))
    )
    outcome = newton(
        Objective(evaluator),
        w,
        tolerance,
        max_iterations,
        follow,
        cold=cold,
        checkpoint=checkpoint,
    )
    polish = tuple(replace(i, iteration=i.iteration + shift) for i in outcome.log)
    return replace(outcome, message=f"{shift} epochs, then {outcome.message}", log=(*log, *polish))


def partition(rng: np.random.Generator, samples: int, size: int) -> list[np.ndarray]:
    """A random partition of the samples into batches of about ``size``, equal up to one."""
    return np.array_split(rng.permutation(samples), -(-samples // min(size, samples)))


def batch_gradient(evaluator: Evaluator, w: Flat, rows: np.ndarray) -> tuple[float, Flat]:
    """Unbiased estimates of J and dJ/dw (size,) from the samples ``rows`` (m,), with penalties."""
    evaluator.watch.check()
    u = evaluator.vectors.controls(w)
    flat = evaluator.vectors.zeros()
    total = 0.0
    out = evaluator.vectors.views(flat)
    with torch.no_grad():
        for data in subset(evaluator.sweep, rows):
            total += float(evaluator.way.pull(u, data, None, out, costates=False)[0])
    scale = evaluator.discrete.problem.samples / len(rows)
    g = scale * flat.cpu().double().numpy()
    return scale * total + evaluator.space.add_penalty_gradient(w, g), g


def subset(sweep: Sweep, rows: np.ndarray) -> Iterator[Data]:
    """The samples ``rows`` (m,) in chunks no larger than the sweep's."""
    rows = np.sort(rows)
    starts = np.array([data.index.start for data in sweep.chunks])
    size = sweep.chunks[0].free.shape[1]
    for part in np.split(rows, np.arange(size, len(rows), size)):
        owner = np.searchsorted(starts, part, side="right") - 1
        pieces = [sweep.chunks[k].free[:, part[owner == k] - starts[k]] for k in np.unique(owner)]
        # the cost only indexes its targets with it
        yield Data(torch.cat(pieces, 1), cast(slice, part))


def _epoch(
    evaluator: Evaluator, w: Flat, parts: list[np.ndarray], move: Move, rate: float
) -> tuple[Flat, float, Flat]:
    """One step for each batch; the end, and the means of the values and gradients on the way."""
    samples = evaluator.discrete.problem.samples
    mean, total = np.zeros_like(w), 0.0
    for rows in parts:
        value, g = batch_gradient(evaluator, w, rows)
        total += len(rows) / samples * value
        mean += len(rows) / samples * g
        w = np.clip(move(w, g, rate), *evaluator.space.bounds)
    evaluator.counts.gradients += 1  # the batches of an epoch are one gradient's work
    return w, total, mean


class Move:
    """One step of a method; ``moments`` and ``steps`` are all that it remembers.

    ``rate``: η of the first epoch where :class:`MiniBatches` gives none.
    """

    rate = RATE

    def __init__(self, moments: list[np.ndarray]) -> None:
        self.moments, self.steps = moments, 0

    def __call__(self, w: Flat, g: Flat, rate: float) -> Flat:
        raise NotImplementedError


class AdamMove(Move):
    def __init__(self, size: int) -> None:
        super().__init__([np.zeros(size), np.zeros(size)])

    def __call__(self, w: Flat, g: Flat, rate: float) -> Flat:
        self.steps += 1
        m, v = self.moments
        m, v = self.moments = [
            FIRST_DECAY * m + (1 - FIRST_DECAY) * g,
            SECOND_DECAY * v + (1 - SECOND_DECAY) * g**2,
        ]
        return w - rate * (m / (1 - FIRST_DECAY**self.steps)) / (
            np.sqrt(v / (1 - SECOND_DECAY**self.steps)) + SMALL_ROOT
        )


class SgdMove(Move):
    def __init__(self, space: ControlSpace, momentum: float) -> None:
        super().__init__([np.zeros(space.size)])
        self.space, self.momentum = space, momentum

    def __call__(self, w: Flat, g: Flat, rate: float) -> Flat:
        face = Face(self.space, binding(self.space, w, g))
        d = face.restrict(self.momentum * self.moments[0]) + face.riesz(face.restrict(g))
        self.moments = [d]
        return w - rate * d


class TorchMove(Move):
    """A step of a torch optimiser on one float64 tensor.

    ``rate`` multiplies the learning rates that the factory set, unless MiniBatches.rate replaces
    them. What the optimiser remembers are the tensors of its state, in the order of their names.
    """

    rate = 1.0

    def __init__(self, method: TorchOptimiser, size: int) -> None:
        self.parameter = torch.zeros(size, dtype=torch.float64, requires_grad=True)
        self.optimiser = method.factory([self.parameter])
        if not isinstance(self.optimiser, torch.optim.Optimizer):
            allowed = "a function of a list of tensors that returns a torch.optim.Optimizer"
            checks.reject_type("method", self.optimiser, allowed)
        own = method.batches.rate is None
        self.rates = [group["lr"] if own else 1.0 for group in self.optimiser.param_groups]
        self.steps = 0

    @property
    def moments(self) -> list[np.ndarray]:
        state = self.optimiser.state[self.parameter]
        return [np.asarray(state[k].detach().numpy()).copy() for k in self._tensors()]

    @moments.setter
    def moments(self, kept: list[np.ndarray]) -> None:
        if not kept:
            return
        self(np.zeros(len(self.parameter)), np.zeros(len(self.parameter)), 0.0)  # makes the state
        state = self.optimiser.state[self.parameter]
        for name, values in zip(self._tensors(), kept, strict=True):
            state[name] = torch.as_tensor(values, dtype=state[name].dtype).reshape(
                state[name].shape
            )

    def _tensors(self) -> list[str]:
        state = self.optimiser.state[self.parameter]
        return sorted(k for k, v in state.items() if isinstance(v, torch.Tensor))

    def __call__(self, w: Flat, g: Flat, rate: float) -> Flat:
        self.steps += 1
        for group, own in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = own * rate
        with torch.no_grad():
            self.parameter.copy_(torch.from_numpy(np.ascontiguousarray(w)))
        self.parameter.grad = torch.from_numpy(np.ascontiguousarray(g))
        try:
            self.optimiser.step()
        except TypeError as error:
            name = type(self.optimiser).__name__
            allowed = "an optimiser that steps from one gradient, without a closure"
            raise checks.InputTypeError(
                f"method: got torch.optim.{name}; allowed: {allowed}"
            ) from error
        return self.parameter.detach().numpy().copy()


def move_of(method: Adam | SGD | TorchOptimiser, space: ControlSpace) -> Move:
    """The steps of a method on the flat controls of a space."""
    if isinstance(method, TorchOptimiser):
        return TorchMove(method, space.size)
    return (
        AdamMove(space.size)
        if isinstance(method, Adam)
        else SgdMove(space, method.batches.momentum)
    )


def _ended(
    evaluator: Evaluator, w: Flat, tolerance: float, message: str, log: list[Iterate]
) -> Outcome:
    """The outcome at w, measured on all samples."""
    value, g = evaluator.value_and_gradient(w)
    norm = stationarity(evaluator.space, w, g)
    converged = norm <= tolerance and complementarity(evaluator.space, w, g) <= tolerance
    return Outcome(
        w=w,
        value=value,
        gradient=g,
        stationarity=norm,
        converged=converged,
        message=message,
        log=(*log, Iterate(len(log), value, norm, 0.0, 0)),
    )


def refuse_constraints(evaluator: Evaluator, method: str) -> None:
    """Raise InputError for a problem with constraints: a batch does not see all their samples."""
    names = [block.constraint.name for block in evaluator.rows.blocks]
    if names:
        checks.reject(
            "method",
            method,
            f"'newton' or 'lbfgs' for a problem with the constraints {names}: batches know "
            "control bounds only",
        )
