"""How a problem is solved: the backend as an object that carries what means something to it.

    Exact    the discrete problem as a nonlinear program, in CasADi
    Adjoint  sweeps and a minimiser in PyTorch, which is a ``method`` object of its own:
             Newton, GaussNewton, LBFGS, Adam, SGD, TorchOptimiser, MSA

An object is checked when it is made, and is passed whole to the backend that it names. Strings
stand for the objects with their defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from dnlcontrol import checks
from dnlcontrol.minimise.outcome import Progress

FORMULATIONS = ("auto", "lifted", "condensed")
DTYPES = ("float64", "float32")
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
EVERY = 60.0  # seconds: a kill costs a minute, and writing costs less than a percent of it


@dataclass(frozen=True)
class MiniBatches:
    """How :class:`Adam`, :class:`SGD` and :class:`TorchOptimiser` go through the samples.

    Parameters
    ----------
    size : samples per batch, about: the batches of an epoch are of equal size up to one.
    epochs : passes over all samples.
    rate : η, the step size of the first epoch; None: 0.05, or a torch optimiser's own.
    decay : epoch e has the rate η/(1 + decay·e).
    momentum : μ in [0, 1), of SGD.
    seed : of the partitions; equal seeds give equal iterates.
    polish : go on with Newton's method on all samples, to the tolerance of the solve; without it
        the result is where the last epoch ended, which is a minimiser only up to the noise of the
        batches.

    Raises
    ------
    InputError : a field is not what it should be.

    >>> MiniBatches(size=64, epochs=5).seed
    0
    """

    size: int = 32
    epochs: int = 20
    rate: float | None = None
    decay: float = 0.1
    momentum: float = 0.9
    seed: int = 0
    polish: bool = True

    def __post_init__(self) -> None:
        checks.whole("MiniBatches.size", self.size)
        checks.whole("MiniBatches.epochs", self.epochs)
        if self.rate is not None:
            checks.positive("MiniBatches.rate", self.rate)
        checks.non_negative("MiniBatches.decay", self.decay)
        if checks.non_negative("MiniBatches.momentum", self.momentum) >= 1:
            checks.reject("MiniBatches.momentum", self.momentum, "a number from 0 to below 1")
        checks.seed("MiniBatches.seed", self.seed)
        checks.flag("MiniBatches.polish", self.polish)


# -- methods of the adjoint backend ----------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A minimiser: ``name`` is its shorthand, ``iterations`` stands for max_iterations=None."""

    name: ClassVar[str]
    iterations: ClassVar[int] = 200

    def decisive(self) -> dict[str, str]:
        """The method and its parameters in words that are the same in every process."""
        found = {f.name: repr(getattr(self, f.name)) for f in fields(self)}
        return {"method": self.name, **found}


@dataclass(frozen=True)
class Newton(Method):
    """Trust-region Newton-CG in the metric of the controls: method="newton"."""

    name = "newton"


@dataclass(frozen=True)
class GaussNewton(Method):
    """The same with the Gauss-Newton matrix, semidefinite for convex costs: "gauss-newton"."""

    iterations: ClassVar[int] = 1000
    name = "gauss-newton"


@dataclass(frozen=True)
class LBFGS(Method):
    """Limited-memory BFGS in the metric of the controls: "lbfgs"."""

    iterations: ClassVar[int] = 5000
    name = "lbfgs"


@dataclass(frozen=True)
class MSA(Method):
    """Successive approximation by Pontryagin's principle, plain ("msa") or ``extended`` ("emsa").

    Takes no constraints but control bounds, and no checkpoint.
    """

    extended: bool = False
    iterations: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        checks.flag("MSA.extended", self.extended)

    @property
    def name(self) -> str:  # type: ignore[override]
        return "emsa" if self.extended else "msa"


@dataclass(frozen=True)
class Adam(Method):
    """Adam on mini-batches, then Newton's method on all samples: "adam". Control bounds only.

    >>> Adam(MiniBatches(size=64)).batches.size
    64
    """

    batches: MiniBatches = field(default_factory=MiniBatches)
    name = "adam"

    def __post_init__(self) -> None:
        _check_batches("Adam.batches", self.batches)


@dataclass(frozen=True)
class SGD(Method):
    """The same with gradient steps in the metric of the controls, with momentum: "sgd"."""

    batches: MiniBatches = field(default_factory=MiniBatches)
    name = "sgd"

    def __post_init__(self) -> None:
        _check_batches("SGD.batches", self.batches)


@dataclass(frozen=True)
class TorchOptimiser(Method):
    """The same with any optimiser of torch that steps from one gradient.

    ``factory`` makes it from a list with one tensor, the flat controls, as
    ``functools.partial(torch.optim.RMSprop, lr=1e-2)``; each step is followed by a projection onto
    the bounds. ``solve(..., method=factory)`` is short for ``TorchOptimiser(factory)``.
    """

    factory: Callable[[list[Any]], Any]
    batches: MiniBatches = field(default_factory=MiniBatches)
    name = "torch"

    def __post_init__(self) -> None:
        checks.takes("TorchOptimiser.factory", self.factory, 1)
        _check_batches("TorchOptimiser.batches", self.batches)

    def decisive(self) -> dict[str, str]:
        """The optimiser by what it says of itself: a factory may be any function."""
        import torch

        made = self.factory([torch.zeros(1, dtype=torch.float64, requires_grad=True)])
        settings = sorted(getattr(made, "defaults", {}).items())
        optimiser = f"{type(made).__module__}.{type(made).__qualname__} {settings}"
        return {"method": self.name, "optimiser": optimiser, "batches": repr(self.batches)}


def _check_batches(argument: str, batches: object) -> None:
    if not isinstance(batches, MiniBatches):
        checks.reject_type(argument, batches, "MiniBatches(size=..., epochs=..., ...)")


METHODS: dict[str, Callable[[], Method]] = {
    "newton": Newton,
    "gauss-newton": GaussNewton,
    "lbfgs": LBFGS,
    "adam": Adam,
    "sgd": SGD,
    "msa": MSA,
    "emsa": lambda: MSA(extended=True),
}


def method_of(value: object) -> Method:
    """The method that a name, an object or a torch optimiser's factory stands for.

    Raises
    ------
    InputError : the name of no method, or nothing that could be one.
    """
    if isinstance(value, Method):
        return value
    if isinstance(value, str):
        return METHODS[checks.choice("method", value, tuple(METHODS))]()
    made = isinstance(value, type) and issubclass(value, Method)  # Newton in place of Newton()
    if callable(value) and not made:
        return TorchOptimiser(value)
    names = " or ".join(repr(name) for name in METHODS)
    allowed = f"{names}, a method such as dnl.Newton(), or a torch optimiser's factory"
    checks.reject_type("method", value, allowed)


# -- backends --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """The exact backend (CasADi): every constraint, small depth.

    Parameters
    ----------
    formulation : "lifted" (states are unknowns, IPOPT), "condensed" (states eliminated, dense exact
        Hessian) or "auto", which takes the cheaper by forecast.
    force : build a program that the forecast calls too large.
    verbose : let IPOPT print.

    Raises
    ------
    InputError : a field is not what it should be.

    >>> Exact(formulation="condensed").name
    'exact'
    """

    formulation: Literal["auto", "lifted", "condensed"] = "auto"
    force: bool = False
    verbose: bool = False
    name: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        checks.choice("formulation", self.formulation, FORMULATIONS)
        checks.flag("force", self.force)
        checks.flag("verbose", self.verbose)

    def record(self) -> dict[str, Any]:
        """What is kept with a solution: the fields, as plain values."""
        return asdict(self)

    def decisive(self) -> dict[str, str]:
        """The fields that the result depends on, in words."""
        return {"formulation": self.formulation}


@dataclass(frozen=True)
class Adjoint:
    """The adjoint backend (PyTorch): large depth, on the CPU or a GPU.

    Parameters
    ----------
    method : a method object, its name, or a torch optimiser's factory.
    device : "cpu", "cuda" or "cuda:k".
    dtype : "float64" or "float32" of the sweeps.
    chunk : samples that a sweep takes at once; None: from the sizes.
    distributed : the problem has this rank's share of the samples, and all ranks of
        torch.distributed solve together (Newton or LBFGS, no constraints but control bounds).
    progress : called with each iterate: iteration, value, stationarity, radius, inner, work, and
        after an epoch of mini-batches the flat controls.
    checkpoint : a directory for the minimiser's state, which a killed solve goes on from.
    every : seconds between two checkpoints at least; 0 writes at each iteration.
    restart : begin anew, whatever the checkpoint's directory holds.

    Raises
    ------
    InputError : a field is not what it should be, or two that do not go together.

    >>> Adjoint(method="lbfgs", chunk=32).method
    LBFGS()
    """

    method: Any = "newton"
    device: str = "cpu"
    dtype: Literal["float64", "float32"] = "float64"
    chunk: int | None = None
    distributed: bool = False
    progress: Progress | None = None
    checkpoint: str | os.PathLike[str] | None = None
    every: float = EVERY
    restart: bool = False
    name: ClassVar[str] = "adjoint"

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", method_of(self.method))
        if not isinstance(self.device, str) or not DEVICE.fullmatch(self.device):
            checks.reject("device", self.device, "'cpu', 'cuda' or 'cuda:k'")
        checks.choice("dtype", self.dtype, DTYPES)
        if self.chunk is not None:
            checks.whole("chunk", self.chunk)
        checks.flag("distributed", self.distributed)
        if self.progress is not None:
            checks.takes("progress", self.progress, 1)
        if self.checkpoint is not None:
            checks.path("checkpoint", self.checkpoint, "the path of a directory or None")
        checks.non_negative("every", self.every)
        checks.flag("restart", self.restart)
        self._check_together()

    def _check_together(self) -> None:
        """Fields that another one would leave without a meaning."""
        if self.every != EVERY and self.checkpoint is None:
            checks.reject(
                "every", f"{self.every!r} without a checkpoint", f"{EVERY}, or checkpoint="
            )
        if self.restart and self.checkpoint is None:
            checks.reject("restart", "True without a checkpoint", "False, or checkpoint=")
        if self.checkpoint is not None and isinstance(self.method, MSA):
            allowed = f"None for method={self.method.name!r}; its steps cannot be continued"
            checks.reject("checkpoint", self.checkpoint, allowed)
        if self.distributed and not isinstance(self.method, (Newton, LBFGS)):
            allowed = "'newton' or 'lbfgs' for a distributed solve"
            checks.reject("method", self.method.name, allowed)

    def record(self) -> dict[str, Any]:
        """What is kept with a solution: the fields, as plain values."""
        batches = getattr(self.method, "batches", None)
        return {
            "method": self.method.name,
            **({} if batches is None else {"batches": asdict(batches)}),
            "device": self.device,
            "dtype": self.dtype,
            "chunk": self.chunk,
            "distributed": self.distributed,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
        }

    def decisive(self) -> dict[str, str]:
        """The fields that the result depends on beyond rounding, in words."""
        return {**self.method.decisive(), "dtype": self.dtype}


@dataclass(frozen=True)
class Goal:
    """When a solve may stop: ``tolerance`` on stationarity, feasibility and complementarity.

    ``max_iterations``: of all phases together, None: the method's own; ``max_seconds``: None: no
    limit.
    """

    tolerance: float = 1e-8
    max_iterations: int | None = None
    max_seconds: float | None = None

    def left(self, iterations: int, seconds: float) -> Goal | None:
        """What remains of it after so much was spent; None where nothing does."""
        most, time = self.max_iterations, self.max_seconds
        if most is not None:
            most -= iterations
        if time is not None:
            time -= seconds
        if (most is not None and most <= 0) or (time is not None and time <= 0):
            return None
        return replace(self, max_iterations=most, max_seconds=time)

    def half(self, most: int | None = None) -> Goal:
        """The same with half of the iterations, at least one and at most ``most``."""
        half = None if self.max_iterations is None else max(self.max_iterations // 2, 1)
        limits = [n for n in (half, most) if n is not None]
        return replace(self, max_iterations=min(limits, default=None))

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", checks.positive("tolerance", self.tolerance))
        if self.max_iterations is not None:
            most = checks.whole("max_iterations", self.max_iterations)
            object.__setattr__(self, "max_iterations", most)
        if self.max_seconds is not None:
            limit = checks.positive("max_seconds", self.max_seconds)
            object.__setattr__(self, "max_seconds", limit)
